//! AMD's machine code, as Mesa prints it.

use crate::listing::{Block, Instruction};

pub fn blocks(listing: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for line in listing.lines() {
        if let Some(name) = line.strip_suffix(':').filter(|name| name.starts_with("BB")) {
            blocks.push(Block {
                name: name.to_owned(),
                ..Block::default()
            });
            continue;
        }
        let code = line.split(';').next().unwrap_or_default().trim();
        let Some(block) = blocks.last_mut() else {
            continue;
        };
        if !code.starts_with(|c: char| c.is_ascii_lowercase()) {
            continue;
        }
        block.code.push(Instruction {
            fma: multiply_adds(code),
            vector: issued(code),
            matrix: is_matrix(code),
            local: local_bytes(code),
            load: is_load(code),
            left: left_waiting(code),
        });
        let mut words = code.split_whitespace();
        let jump = words
            .next()
            .is_some_and(|name| name.starts_with("s_branch") || name.starts_with("s_cbranch"));
        block
            .jumps
            .extend(words.next().filter(|_| jump).map(str::to_owned));
    }
    blocks
}

/// 16 x 16 x 16 products by a wave of 64 lanes.
fn is_matrix(code: &str) -> bool {
    code.starts_with("v_wmma_f32_16x16x16")
}

/// Multiply-adds of a lane.
fn multiply_adds(code: &str) -> usize {
    if is_matrix(code) {
        16 * 16 * 16 / 64
    } else {
        usize::from(is_fma(code))
    }
}

/// Turns of the vector unit: two clocks each, where a matrix unit takes 32.
fn issued(code: &str) -> usize {
    if is_matrix(code) {
        16
    } else {
        usize::from(code.starts_with("v_"))
    }
}

fn is_fma(code: &str) -> bool {
    let name = code.split_whitespace().next().unwrap_or_default();
    let plain = [
        "v_fma_f32",
        "v_fmac_f32",
        "v_mac_f32",
        "v_mad_f32",
        "v_dual_fmac_f32",
        // operands in f16 or f32, converted on the way
        "v_fma_mix_f32",
        "v_mad_mix_f32",
    ];
    plain.iter().any(|known| name.starts_with(known))
        || ["v_fmaak", "v_fmamk", "v_madak", "v_madmk"]
            .iter()
            .any(|known| name.starts_with(known))
}

fn is_load(code: &str) -> bool {
    ["buffer_load", "global_load", "flat_load"]
        .iter()
        .any(|name| code.starts_with(name))
}

/// Bytes that a lane reads from workgroup memory.
fn local_bytes(code: &str) -> usize {
    let name = code.split_whitespace().next().unwrap_or_default();
    let Some(load) = name.strip_prefix("ds_load_").or_else(|| {
        name.strip_prefix("ds_read_")
            .or(name.strip_prefix("ds_read"))
    }) else {
        return 0;
    };
    let numbers = if load.starts_with("2") { 2 } else { 1 };
    let bits = load
        .rsplit('b')
        .next()
        .and_then(|bits| bits.parse::<usize>().ok());
    numbers * bits.unwrap_or(32) / 8
}

/// How many loads may still be on their way after a wait for some.
fn left_waiting(code: &str) -> Option<usize> {
    let (_, rest) = code.strip_prefix("s_waitcnt")?.split_once("vmcnt(")?;
    rest.split(')').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::local_bytes;

    #[test]
    fn reads_of_workgroup_memory_have_their_width() {
        let bytes = |line| local_bytes(line);
        assert_eq!(bytes("ds_load_b128 v[0:3], v4"), 16);
        assert_eq!(bytes("ds_read2_b64 v[0:3], v4 offset1:2"), 16);
        assert_eq!(bytes("ds_load_2addr_stride64_b32 v[0:1], v4"), 8);
        assert_eq!(bytes("ds_read_b32 v0, v4"), 4);
        assert_eq!(bytes("ds_store_b128 v0, v[1:4]"), 0);
    }
}
