//! The SUBS parameterisation: row log-softmax without the mask, and carry-over of unmasked tokens.

use crate::cpu::{Float, Io, for_rows, math};
use crate::device::program::Extent;
use crate::error::Result;
use crate::gpu::{Grid, Source};
use crate::graph::{Graph, Launch, Lower, Op, Operand, Tensor};
use crate::{shader, twin};

const NEG_INFINITY: f64 = -1e6;

/// Reads logits `[rows, vocab]` and xt `[rows]`; writes log-probabilities `[rows, vocab]`.
#[derive(Clone, Debug)]
struct Subs {
    rows: usize,
    vocab: usize,
    mask_index: u32,
}

impl Graph {
    /// `log p(x0 | xt)` of every row and token.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shapes do not agree.
    pub fn subs(
        &mut self,
        name: &str,
        logits: Tensor,
        xt: Tensor,
        mask_index: u32,
    ) -> Result<Tensor> {
        let &[rows, vocab] = self.shape(logits) else {
            return Err(self.misfit("subs", logits, "[rows, vocab]"));
        };
        self.require(
            "subs",
            logits,
            (mask_index as usize) < vocab,
            &format!("more than {mask_index} columns"),
        )?;
        self.require(
            "subs",
            xt,
            self.len(xt) == rows,
            &format!("{rows} elements"),
        )?;
        let y = self.activation(name, &[rows, vocab]);
        self.push(
            Subs {
                rows,
                vocab,
                mask_index,
            },
            &[logits, xt],
            &[y],
            &[],
            Extent::Fixed(rows),
        );
        Ok(y)
    }
}

impl Subs {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (logits, xt, n) = (io.read(0), io.read_uint(1), self.vocab);
        let low = F::of(NEG_INFINITY);
        for_rows(io.write(0), n, |first, out| {
            for (i, out) in out.chunks_exact_mut(n).enumerate() {
                let token = xt[first + i];
                if token != self.mask_index {
                    out.fill(low);
                    out[token as usize] = F::ZERO;
                    continue;
                }
                out.copy_from_slice(&logits[(first + i) * n..][..n]);
                out[self.mask_index as usize] += low;
                let top = math::maximum(n, |v| out[v]);
                let lse = top + math::sum(n, |v| (out[v] - top).exp()).ln();
                out.iter_mut().for_each(|x| *x -= lse);
            }
        });
    }
}

twin!(Subs);

impl Op for Subs {
    fn name(&self) -> &'static str {
        "subs"
    }

    fn integers(&self) -> &'static [usize] {
        &[1]
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Launch> {
        let threads = lower.row_threads(self.vocab);
        vec![Launch {
            source: Source::new(shader!("subs")).constant("THREADS", threads),
            operands: vec![
                Some(Operand::Read(0)),
                Some(Operand::Read(1)),
                Some(Operand::Write(0)),
            ],
            params: vec![self.rows as u32, self.vocab as u32, self.mask_index, 0],
            grid: Grid::groups(self.rows),
            flops: 0,
        }]
    }
}
