//! The SUBS parameterisation: row log-softmax without the mask, and carry-over of unmasked tokens.

use crate::cpu::{Float, Io, for_rows, math};
use crate::error::Result;
use crate::graph::{Graph, Kernel, Lower, Op, Role, Tensor};
use crate::program::Extent;
use crate::{params, shader, twin};

const NEG_INFINITY: f64 = -1e6;

/// Reads logits `[rows, vocab]` and xt `[rows]`; writes log-probabilities `[rows, vocab]`.
#[derive(Clone, Debug)]
struct Subs {
    rows: usize,
    vocab: usize,
    mask_index: u32,
}

params! {
    struct SubsParams {
        rows: u32,
        vocab: u32,
        mask_index: u32,
    }
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
        )?;
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

    fn role(&self, input: usize) -> Role {
        if input == 1 {
            Role::Index
        } else {
            Role::Number
        }
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Kernel> {
        let threads = lower.row_threads(self.vocab);
        let params = SubsParams {
            rows: self.rows as u32,
            vocab: self.vocab as u32,
            mask_index: self.mask_index,
        };
        vec![
            Kernel::new(shader!("subs"))
                .constant("THREADS", threads)
                .read(0)
                .read(1)
                .write(0)
                .params(params)
                .groups(self.rows),
        ]
    }
}
