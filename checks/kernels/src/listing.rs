//! Machine code: the hottest loop, and what it is made of.

use std::ops::Range;

use crate::{amd, nvidia};

/// What is read of a line of machine code.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Instruction {
    /// Multiply-adds of a lane with sums in 32 bits.
    pub fma: usize,
    /// Turns of the vector unit that it takes, or the matrix unit in its place.
    pub vector: usize,
    /// Whether it is a matrix unit's.
    pub matrix: bool,
    /// Bytes that a lane reads from workgroup memory.
    pub local: usize,
    /// Whether it loads from memory.
    pub load: bool,
    /// How many loads may still be on their way when it is done, if it waits for some.
    pub left: Option<usize>,
}

/// Instructions that are entered at their beginning and left at their end.
#[derive(Default)]
pub struct Block {
    pub name: String,
    pub code: Vec<Instruction>,
    /// Blocks that it jumps to.
    pub jumps: Vec<String>,
}

/// Whose machine code it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    Amd,
    Nvidia,
}

impl Vendor {
    fn blocks(self, listing: &str) -> Vec<Block> {
        match self {
            Self::Amd => amd::blocks(listing),
            Self::Nvidia => nvidia::blocks(listing),
        }
    }
}

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

/// Blocks of each loop: a jump to an earlier block closes one.
fn loops(blocks: &[Block]) -> Vec<Range<usize>> {
    let mut loops = Vec::new();
    for (end, block) in blocks.iter().enumerate() {
        for target in &block.jumps {
            let begin = blocks[..=end].iter().position(|b| b.name == *target);
            loops.extend(begin.map(|begin| begin..end + 1));
        }
    }
    loops
}

impl Loop {
    /// The hottest loop of a listing. Where it turns several times in a turn of the loop around it, that turn; `turns`
    /// tells how often from its multiply-adds.
    pub fn hottest(vendor: Vendor, listing: &str, turns: impl Fn(usize) -> usize) -> Self {
        let blocks = vendor.blocks(listing);
        let code = |range: Range<usize>| {
            blocks[range]
                .iter()
                .flat_map(|block| block.code.iter().copied())
        };
        let fma = |range: &Range<usize>| code(range.clone()).map(|i| i.fma).sum::<usize>();
        let loops = loops(&blocks);
        let within =
            |a: &Range<usize>, b: &Range<usize>| a != b && b.start <= a.start && a.end <= b.end;
        // the loop itself where the one within is not what it turns for
        let innermost = loops.iter().filter(|range| {
            fma(range) > 0
                && !loops
                    .iter()
                    .any(|other| within(other, range) && 16 * fma(other) > fma(range))
        });
        let Some(inner) = innermost.max_by_key(|range| fma(range)) else {
            return Self::of(&code(0..blocks.len()).collect::<Vec<_>>());
        };
        let turns = turns(fma(inner));
        let around = loops.iter().filter(|range| within(inner, range));
        match around.min_by_key(|range| range.len()) {
            Some(outer) if turns > 1 => {
                let mut all: Vec<Instruction> = code(outer.start..inner.start).collect();
                (0..turns).for_each(|_| all.extend(code(inner.clone())));
                all.extend(code(inner.end..outer.end));
                Self::of(&all)
            }
            _ => Self::of(&code(inner.clone()).collect::<Vec<_>>()),
        }
    }

    fn of(code: &[Instruction]) -> Self {
        let sum = |of: fn(&Instruction) -> usize| code.iter().map(of).sum();
        let mut found = Self {
            fma: sum(|i| i.fma),
            vector: sum(|i| i.vector),
            matrix: sum(|i| usize::from(i.matrix)),
            local: sum(|i| i.local),
            stops: 0,
        };
        // twice around, so that a load at the end meets its wait at the beginning
        let mut waiting: Vec<usize> = Vec::new();
        let mut done = 0;
        for turn in 0..2 {
            for instruction in code {
                done += instruction.fma;
                if instruction.load {
                    waiting.push(done);
                }
                if let Some(left) = instruction.left {
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
        assert_eq!(Loop::hottest(Vendor::Amd, LISTING, |_| 1), expected);
        assert!((expected.share() - 2.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_turn_around_it_counts_where_it_has_more_products() {
        let nested = LISTING.replace(
            "\ts_endpgm",
            "\tv_mov_b32 v1, v2\n\ts_cbranch_scc1 BB0\nBB3:\n\ts_endpgm",
        );
        let found = Loop::hottest(Vendor::Amd, &nested, |inner| 6 / inner);
        // once before the loop, three times two in it
        assert_eq!((found.fma, found.vector), (7, 11));
        let inner = Loop::hottest(Vendor::Amd, &nested, |_| 1);
        assert_eq!(inner, Loop::hottest(Vendor::Amd, LISTING, |_| 1));
    }

    #[test]
    fn without_a_loop_all_of_it_counts() {
        let straight = LISTING.replace("\ts_cbranch_scc0 BB1\n", "");
        assert_eq!(Loop::hottest(Vendor::Amd, &straight, |_| 1).fma, 3);
        assert_eq!(Loop::hottest(Vendor::Amd, "", |_| 1), Loop::default());
    }
}
