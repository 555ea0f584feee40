//! Tokens that may be drawn at a row: the logits of all others are put out of reach, in place, so that whatever is
//! computed from the row (softmax, top-k, top-p, draws) is that of the allowed tokens alone.

use crate::cpu::{Float, Io, for_rows};
use crate::error::Result;
use crate::gpu::Grid;
use crate::graph::{Graph, Kernel, Lower, Op, Role, Tensor};
use crate::program::Extent;
use crate::{params, shader, twin};

/// The logit of a token that is not allowed: its probability is 0, and it loses every race.
const BARRED: f64 = -1e30;

/// Which tokens may be drawn, for [`Graph::categorical`].
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// Sets of tokens, u32, `[sets, vocab / 32 rounded up]`: bit `v % 32` of word `v / 32` says whether v is in a set.
    pub sets: Tensor,
    /// The set of each row, u32, `[rows]`; below the number of sets.
    pub choice: Tensor,
}

/// Reads sets and choices; writes logits.
#[derive(Clone, Debug)]
struct Restrict {
    vocab: usize,
    base: usize,
    most: usize,
}

params! {
    struct RestrictParams {
        vocab: u32,
        words: u32,
        base: u32,
        most: u32,
    }
}

impl Graph {
    /// Bars what `allowed` does not have from `logits [rows, vocab]`, rows `base` and on of its choices.
    pub(super) fn restrict(
        &mut self,
        logits: Tensor,
        allowed: Allowed,
        base: usize,
        extent: Extent,
    ) -> Result<()> {
        let &[most, vocab] = self.shape(logits) else {
            return Err(self.misfit("restrict", logits, "[rows, vocab]"));
        };
        let words = vocab.div_ceil(32);
        let fits = matches!(self.shape(allowed.sets), &[_, columns] if columns == words);
        self.require("restrict", allowed.sets, fits, &format!("[sets, {words}]"))?;
        let choice = self.view(allowed.choice, base, &[most])?;
        self.push(
            Restrict { vocab, base, most },
            &[allowed.sets, choice],
            &[logits],
            &[],
            extent,
        )
    }
}

impl Restrict {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (sets, choice, n) = (io.read_uint(0), io.read_uint(1), self.vocab);
        let words = n.div_ceil(32);
        for_rows(&mut io.write(0)[..io.rows * n], n, |first, logits| {
            for (i, logits) in logits.chunks_exact_mut(n).enumerate() {
                let set = &sets[choice[first + i] as usize * words..][..words];
                for (logits, &word) in logits.chunks_mut(32).zip(set) {
                    if word == u32::MAX {
                        continue;
                    }
                    for (bit, logit) in logits.iter_mut().enumerate() {
                        if word >> bit & 1 == 0 {
                            *logit = F::of(BARRED);
                        }
                    }
                }
            }
        });
    }
}

twin!(Restrict);

impl Op for Restrict {
    fn name(&self) -> &'static str {
        "restrict"
    }

    fn role(&self, _: usize) -> Role {
        Role::Index
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Kernel> {
        let params = RestrictParams {
            vocab: self.vocab as u32,
            words: self.vocab.div_ceil(32) as u32,
            base: self.base as u32,
            most: self.most as u32,
        };
        vec![
            Kernel::new(shader!("restrict"))
                .constant("THREADS", lower.row_threads(self.vocab))
                .counted(lower.extent())
                .read(0)
                .read(1)
                .write(0)
                .params(params)
                .grid(Grid::items(lower.extent(), 1)),
        ]
    }
}
