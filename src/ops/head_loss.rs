//! The output head and the SUBS loss on masked rows only, in chunks of rows: the `[rows, vocab]`
//! logits of a batch never exist.
//!
//! Per chunk: logits = h W^T + b; nll_i = lse(z_i without the mask) - z_i`[x0_i]`;
//! dz_i = weight_i (softmax(z_i) - onehot(x0_i)) in place; dW += dz^T h; db += sum of dz; dh = dz W.
//! The loss is the sum of weight_i nll_i, so weights carry sigma' / expm1(sigma), the attention mask
//! and the mean over tokens (SPEC of the reference: a mean over all tokens, masked or not).

use crate::cpu::{Float, Io, for_rows2, math};
use crate::device::program::Extent;
use crate::error::Result;
use crate::gpu::{Grid, Source};
use crate::graph::{Graph, Launch, Lower, Op, Operand, Tensor};
use crate::ops::matmul::{Form, Matmul};
use crate::{shader, twin};

/// Reads targets and weights; updates logits; writes nll.
#[derive(Clone, Debug)]
struct HeadLossRows {
    vocab: usize,
    mask_index: u32,
    base: usize,
    most: usize,
    gradient: bool,
}

/// Operands of [`Graph::head_loss`].
#[derive(Clone, Copy, Debug)]
pub struct HeadLoss {
    /// Listed rows of the last hidden states, `[rows, width]`.
    pub hidden: Tensor,
    /// Output weight, `[vocab, width]`.
    pub weight: Tensor,
    /// Output bias, `[vocab]`.
    pub bias: Tensor,
    /// Clean token of each listed row, `[rows]`.
    pub targets: Tensor,
    /// Weight of each listed row in the loss, `[rows]`.
    pub weights: Tensor,
    /// Id of the mask.
    pub mask_index: u32,
    /// Rows of a chunk; rounded up to a multiple of 64.
    pub chunk: usize,
    /// Whether to make gradients.
    pub gradient: bool,
}

/// Rows of a chunk such that every chunk of a tensor begins at a binding's alignment.
pub(super) fn aligned_chunk(rows: usize) -> usize {
    rows.max(1).next_multiple_of(64)
}

impl Graph {
    /// `[loss [1], nll [rows]]` of the listed rows, nats; with `gradient`, also the gradients.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shapes do not agree.
    pub fn head_loss(&mut self, head: &HeadLoss) -> Result<[Tensor; 2]> {
        let &[rows, width] = self.shape(head.hidden) else {
            return Err(self.misfit("head_loss", head.hidden, "[rows, width]"));
        };
        let vocab = self.len(head.bias);
        self.expect("head_loss", head.weight, &[vocab, width])?;
        self.expect("head_loss", head.targets, &[rows])?;
        self.expect("head_loss", head.weights, &[rows])?;
        self.require(
            "head_loss",
            head.bias,
            (head.mask_index as usize) < vocab,
            &format!("more than {} elements", head.mask_index),
        )?;
        let nll = self.activation("nll", &[rows]);
        let dhidden = head
            .gradient
            .then(|| self.gradient_of(head.hidden))
            .flatten();
        let chunk = aligned_chunk(head.chunk);
        for base in (0..rows).step_by(chunk) {
            let max = chunk.min(rows - base);
            let extent = Extent::Rows { base, max };
            let hidden = self.view(head.hidden, base * width, &[max, width])?;
            let targets = self.view(head.targets, base, &[max])?;
            let weights = self.view(head.weights, base, &[max])?;
            let part = self.view(nll, base, &[max])?;
            let logits =
                self.linear_rows("logits", hidden, head.weight, Some(head.bias), extent)?;
            let HeadLoss {
                mask_index,
                gradient,
                ..
            } = *head;
            let op = HeadLossRows {
                vocab,
                mask_index,
                base,
                most: max,
                gradient,
            };
            self.push(op, &[targets, weights], &[logits, part], &[], extent);
            if !gradient {
                continue;
            }
            if let Some((dw, _)) = self.gradient_of(head.weight) {
                let db = self.gradient_of(head.bias).map(|g| g.0);
                let writes: Vec<_> = [dw].into_iter().chain(db).collect();
                let mut dw = Matmul::new(Form::Tn, vocab, width, max);
                (dw.accumulate, dw.column_sum) = (true, db.is_some());
                self.push(dw, &[logits, hidden], &writes, &[], extent);
            }
            if let Some((dhidden, _)) = dhidden {
                let dhidden = self.view(dhidden, base * width, &[max, width])?;
                let dh = Matmul::new(Form::Nn, max, width, vocab);
                self.push(dh, &[logits, head.weight], &[dhidden], &[], extent);
            }
        }
        // the gradients are complete: the backward walk must not look behind the row losses
        self.detach(nll);
        let loss = self.weighted_sum(
            "loss",
            nll,
            head.weights,
            Extent::Rows { base: 0, max: rows },
        )?;
        Ok([loss, nll])
    }
}

impl HeadLossRows {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (targets, weights, n) = (io.read_uint(0), io.read(1), self.vocab);
        let mask = self.mask_index as usize;
        let logits = &mut io.write(0)[..io.rows * n];
        let nll = &mut io.write(1)[..io.rows];
        for_rows2(logits, n, nll, 1, |first, logits, nll| {
            for (i, (z, nll)) in logits.chunks_exact_mut(n).zip(nll).enumerate() {
                let x0 = targets[first + i] as usize;
                let target_logit = z[x0];
                z[mask] = F::LOWEST;
                let top = math::maximum(n, |v| z[v]);
                if !self.gradient {
                    let sum = math::sum(n, |v| (z[v] - top).exp()) - (z[mask] - top).exp();
                    *nll = sum.ln() + (top - target_logit);
                    continue;
                }
                for x in z.iter_mut() {
                    *x = (*x - top).exp();
                }
                z[mask] = F::ZERO;
                let sum = math::sum(n, |v| z[v]);
                *nll = sum.ln() + (top - target_logit);
                let weight = weights[first + i];
                let scale = weight / sum;
                for x in z.iter_mut() {
                    *x *= scale;
                }
                z[x0] -= weight;
            }
        });
    }
}

twin!(HeadLossRows);

impl Op for HeadLossRows {
    fn name(&self) -> &'static str {
        "head_loss"
    }

    fn integers(&self) -> &'static [usize] {
        &[0]
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Launch> {
        let threads = lower.row_threads(self.vocab);
        vec![Launch {
            source: Source::new(shader!("head_loss"))
                .flag("GRADIENT", self.gradient)
                .constant("THREADS", threads),
            operands: vec![
                Some(Operand::Read(0)),
                self.gradient.then_some(Operand::Read(1)),
                Some(Operand::Write(0)),
                Some(Operand::Write(1)),
            ],
            params: vec![
                self.vocab as u32,
                self.mask_index,
                self.base as u32,
                self.most as u32,
            ],
            grid: Grid::items(lower.extent(), 1),
            flops: 0,
        }]
    }
}
