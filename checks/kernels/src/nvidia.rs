//! Machine code of NVIDIA's GPUs, as Mesa's compiler for them prints it.

use crate::listing::{Block, Instruction};

/// What runs beside the vector unit: uniform registers, jumps, barriers.
const BESIDE: [&str; 8] = [
    "bra", "bssy", "bsync", "bclear", "nop", "exit", "bar", "warpsync",
];

pub fn blocks(listing: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    // loads on their way, by the scoreboard that tells when they have come
    let mut waiting: Vec<u32> = Vec::new();
    for line in listing.lines() {
        if line.starts_with("block") {
            blocks.push(Block {
                name: line.split(' ').nth(2).unwrap_or_default().to_owned(),
                ..Block::default()
            });
            continue;
        }
        let Some(block) = blocks.last_mut() else {
            continue;
        };
        let (code, told) = line.split_once("//").unwrap_or((line, ""));
        let (to, code) = code.split_once(" = ").unwrap_or(("", code));
        let mut words = code
            .split_whitespace()
            .skip_while(|word| word.starts_with('@'));
        let Some(name) = words.next() else { continue };
        if name.starts_with('}') {
            continue;
        }
        let uniform = to.trim().starts_with("ur") || to.trim().starts_with("up");
        let first = name.split('.').next().unwrap_or_default();
        let load = name.starts_with("ld.global");
        let waits = told
            .split_once("wt=")
            .and_then(|(_, mask)| u32::from_str_radix(mask.split_whitespace().next()?, 2).ok());
        let left = waits.map(|mask| {
            let met = waiting.iter().rposition(|board| mask >> board & 1 == 1);
            met.map_or(waiting.len(), |last| waiting.len() - last - 1)
        });
        if let Some(left) = left {
            waiting.drain(..waiting.len() - left);
        }
        if load {
            let board = told.split_once("wr:").and_then(|(_, board)| {
                let board: Option<u32> = board.split_whitespace().next()?.parse().ok();
                board
            });
            waiting.push(board.unwrap_or(0));
        }
        let matrix = first == "hmma";
        block.code.push(Instruction {
            fma: match first {
                // 16 x 8 x 16 by 32 lanes
                "hmma" if name.contains("m16n8k16") => 64,
                "hmma" => 32,
                "ffma" => 1,
                _ => 0,
            },
            // a GA102 makes products of 16 x 8 x 16 with sums in f32 in the time of 32 of the vector unit's instructions
            vector: match first {
                "hmma" if name.contains("m16n8k16") => 32,
                "hmma" => 16,
                _ => usize::from(!uniform && !BESIDE.contains(&first)),
            },
            matrix,
            local: 0,
            load,
            left: left.filter(|_| waits.is_some()),
        });
        if first == "bra" {
            block.jumps.extend(words.last().map(str::to_owned));
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::blocks;

    const LISTING: &str = "\
block.u 0 L2 [] -> {
      ur0     = s2r sr[0x25]                               // delay=1 wr:0
} -> [1]
block 1 L4 [0, 1] -> {
      r1      = ld.global.a64.constant.b32 [r2..4], p0     // delay=2 wr:2 yld
      r3      = ffma r1 r4 r3                              // delay=8 wt=000100
      r8..12  = hmma.m16n8k16.f32 r4..8 r2..4 r8..12       // delay=9
@!p0            bra pT L4                                  // delay=1
} -> [1]
";

    #[test]
    fn a_loop_is_a_jump_back() {
        let found = blocks(LISTING);
        let [first, second] = &found[..] else {
            panic!("{} blocks", found.len());
        };
        assert_eq!((first.code[0].vector, first.code[0].load), (0, false));
        assert_eq!(second.jumps, std::slice::from_ref(&second.name));
        let sums = |of: fn(&crate::listing::Instruction) -> usize| -> usize {
            second.code.iter().map(of).sum()
        };
        assert_eq!(sums(|i| i.fma), 65);
        assert_eq!(sums(|i| usize::from(i.matrix)), 1);
        assert_eq!((second.code[0].load, second.code[1].left), (true, Some(0)));
    }
}
