//! AMD's machine code: the hottest loop, and what it is made of.

use std::ops::Range;

/// What the loop with the most multiply-adds is made of; of the whole kernel where no loop has any.
#[derive(Debug, Default, PartialEq)]
pub struct Loop {
    /// Multiply-adds of a lane with sums in 32 bits, those of matrix units among them.
    pub fma: usize,
    /// Instructions of the vector unit, those among them; of a matrix unit as many as fit its time.
    pub vector: usize,
    /// Instructions of matrix units.
    pub matrix: usize,
    /// Bytes that a lane reads from workgroup memory.
    pub local: usize,
    /// Loads from memory that are waited for before 32 multiply-adds have been issued behind them.
    pub stops: usize,
}

/// A piece of code that is entered at its beginning and left at its end.
struct Block<'a> {
    name: &'a str,
    code: Vec<&'a str>,
}

fn blocks(listing: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    for line in listing.lines() {
        if let Some(name) = line.strip_suffix(':').filter(|name| name.starts_with("BB")) {
            blocks.push(Block {
                name,
                code: Vec::new(),
            });
            continue;
        }
        let code = line.split(';').next().unwrap_or_default().trim();
        let begins = |c: char| c.is_ascii_lowercase();
        if let Some(block) = blocks.last_mut()
            && code.starts_with(begins)
        {
            block.code.push(code);
        }
    }
    blocks
}

/// Blocks of each loop: a jump to an earlier block closes one.
fn loops(blocks: &[Block<'_>]) -> Vec<Range<usize>> {
    let mut loops = Vec::new();
    for (end, block) in blocks.iter().enumerate() {
        for code in &block.code {
            let mut words = code.split_whitespace();
            let jump = words
                .next()
                .is_some_and(|name| name.starts_with("s_branch") || name.starts_with("s_cbranch"));
            let target = words.next().filter(|_| jump);
            let begin = blocks[..=end].iter().position(|b| Some(b.name) == target);
            loops.extend(begin.map(|begin| begin..end + 1));
        }
    }
    loops
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

impl Loop {
    /// The hottest loop of a listing. Where it turns several times in a turn of the loop around it, that turn; `turns`
    /// tells how often from its multiply-adds.
    pub fn hottest(listing: &str, turns: impl Fn(usize) -> usize) -> Self {
        let blocks = blocks(listing);
        let code = |range: Range<usize>| {
            blocks[range]
                .iter()
                .flat_map(|block| block.code.iter().copied())
        };
        let fma = |range: &Range<usize>| code(range.clone()).map(multiply_adds).sum::<usize>();
        let loops = loops(&blocks);
        let within =
            |a: &Range<usize>, b: &Range<usize>| a != b && b.start <= a.start && a.end <= b.end;
        let innermost = loops.iter().filter(|range| {
            fma(range) > 0
                && !loops
                    .iter()
                    .any(|other| within(other, range) && fma(other) > 0)
        });
        let Some(inner) = innermost.max_by_key(|range| fma(range)) else {
            return Self::of(&code(0..blocks.len()).collect::<Vec<_>>());
        };
        let turns = turns(fma(inner));
        let around = loops.iter().filter(|range| within(inner, range));
        match around.min_by_key(|range| range.len()) {
            Some(outer) if turns > 1 => {
                let mut all: Vec<&str> = code(outer.start..inner.start).collect();
                (0..turns).for_each(|_| all.extend(code(inner.clone())));
                all.extend(code(inner.end..outer.end));
                Self::of(&all)
            }
            _ => Self::of(&code(inner.clone()).collect::<Vec<_>>()),
        }
    }

    fn of(code: &[&str]) -> Self {
        let count = |holds: fn(&str) -> bool| code.iter().filter(|line| holds(line)).count();
        let mut found = Self {
            fma: code.iter().map(|line| multiply_adds(line)).sum(),
            vector: code.iter().map(|line| issued(line)).sum(),
            matrix: count(is_matrix),
            local: code.iter().map(|line| local_bytes(line)).sum(),
            stops: 0,
        };
        // twice around, so that a load at the end meets its wait at the beginning
        let mut waiting: Vec<usize> = Vec::new();
        let mut done = 0;
        for turn in 0..2 {
            for line in code {
                done += multiply_adds(line);
                if is_load(line) {
                    waiting.push(done);
                }
                if let Some(left) = left_waiting(line) {
                    let met = waiting.len().saturating_sub(left);
                    let early = waiting.drain(..met).any(|since| done - since < 32);
                    found.stops += usize::from(early && turn == 1);
                }
            }
        }
        found
    }

    /// Share of multiply-adds among the vector unit's instructions.
    pub fn share(&self) -> f64 {
        self.fma as f64 / self.vector.max(1) as f64
    }
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
    use super::*;

    const LISTING: &str = "\
BB0:
\ts_mov_b32 s0, 0 ; BE800080
\tv_fma_f32 v9, v1, v2, v3
BB1:
\tbuffer_load_b128 v[0:3], v4, s[0:3], 0 offen
\tbuffer_load_b32 v5, v4, s[0:3], 0 offen
\ts_waitcnt vmcnt(1)
\tv_fmac_f32_e32 v6, v0, v1
\tv_add_nc_u32_e32 v7, 1, v7
\ts_waitcnt vmcnt(0)
\tv_dual_fmac_f32 v8, v5, v1 :: v_dual_mov_b32 v3, v4
\ts_cbranch_scc0 BB1
BB2:
\ts_endpgm
";

    #[test]
    fn the_loop_is_found() {
        let expected = Loop {
            fma: 2,
            vector: 3,
            matrix: 0,
            local: 0,
            stops: 2,
        };
        assert_eq!(Loop::hottest(LISTING, |_| 1), expected);
        assert!((expected.share() - 2.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_turn_around_it_counts_where_it_has_more_products() {
        let nested = LISTING.replace(
            "\ts_endpgm",
            "\tv_mov_b32 v1, v2\n\ts_cbranch_scc1 BB0\nBB3:\n\ts_endpgm",
        );
        let found = Loop::hottest(&nested, |inner| 6 / inner);
        // once before the loop, three times two in it
        assert_eq!((found.fma, found.vector), (7, 11));
        let inner = Loop::hottest(&nested, |_| 1);
        assert_eq!(inner, Loop::hottest(LISTING, |_| 1));
    }

    #[test]
    fn reads_of_workgroup_memory_have_their_width() {
        let bytes = |line| local_bytes(line);
        assert_eq!(bytes("ds_load_b128 v[0:3], v4"), 16);
        assert_eq!(bytes("ds_read2_b64 v[0:3], v4 offset1:2"), 16);
        assert_eq!(bytes("ds_load_2addr_stride64_b32 v[0:1], v4"), 8);
        assert_eq!(bytes("ds_read_b32 v0, v4"), 4);
        assert_eq!(bytes("ds_store_b128 v0, v[1:4]"), 0);
    }

    #[test]
    fn without_a_loop_all_of_it_counts() {
        let straight = LISTING.replace("\ts_cbranch_scc0 BB1\n", "");
        assert_eq!(Loop::hottest(&straight, |_| 1).fma, 3);
        assert_eq!(Loop::hottest("", |_| 1), Loop::default());
    }
}
