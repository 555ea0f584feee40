//! The output head and the loss on listed rows only, in chunks of rows: the `[rows, vocab]` logits of a
//! batch never exist.
//!
//! Per chunk: logits = h W^T + b; nll_i and dz_i in place by the rows' loss (`row_loss.rs`);
//! dW += dz^T h; db += sum of dz; dh = dz W. The loss is the sum of weight_i nll_i, so weights carry the
//! schedule's weight, the attention mask and the mean over tokens (the reference's is over all
//! tokens, masked or not).

use crate::error::Result;
use crate::graph::{Graph, Tensor};
use crate::ops::matmul::{Form, Matmul};
use crate::ops::row_loss::{COEFFICIENTS, RowLosses};
use crate::ops::{ROWS, RowLoss};
use crate::program::Extent;

/// Operands of [`Graph::head_loss`].
#[derive(Clone, Copy, Debug)]
pub struct HeadLoss {
    /// What the rows are scored by.
    pub loss: RowLoss,
    /// Listed rows of the last hidden states, `[rows, width]`.
    pub hidden: Tensor,
    /// Output weight, `[vocab, width]`.
    pub weight: Tensor,
    /// Output bias, `[vocab]`, if there is one.
    pub bias: Option<Tensor>,
    /// Clean token of each listed row, `[rows]`.
    pub targets: Tensor,
    /// Weight of each listed row in the loss, `[rows]`.
    pub weights: Tensor,
    /// Coefficients of each listed row, `[rows, 4]`, for losses that have them.
    pub coefficients: Option<Tensor>,
    /// Id of the mask, if it takes no part in the softmax; D3PM and SEDD have one.
    pub mask_index: Option<u32>,
    /// Rows of a chunk; rounded up to a multiple of 64.
    pub chunk: usize,
    /// Whether to make the gradients of hidden states, weight and bias along with the loss.
    pub gradient: bool,
}

/// Rows of a chunk such that every chunk of a tensor begins at a binding's alignment.
pub(super) fn aligned_chunk(rows: usize) -> usize {
    rows.max(1).next_multiple_of(64)
}

impl Graph {
    /// `[loss [1], nll [rows]]` of the listed rows, nats; with `gradient`, also the gradients. Such a loss may be summed
    /// with others ([`Graph::add`]); it is scaled by the weights of its rows.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shapes do not agree.
    pub fn head_loss(&mut self, head: &HeadLoss) -> Result<[Tensor; 2]> {
        let &[rows, width] = self.shape(head.hidden) else {
            return Err(self.misfit("head_loss", head.hidden, "[rows, width]"));
        };
        let vocab = self.shape(head.weight)[0];
        self.expect("head_loss", head.weight, &[vocab, width])?;
        if let Some(bias) = head.bias {
            self.expect("head_loss", bias, &[vocab])?;
        }
        self.expect("head_loss", head.targets, &[rows])?;
        self.expect("head_loss", head.weights, &[rows])?;
        self.require(
            "head_loss",
            head.weight,
            head.mask_index.is_none_or(|mask| (mask as usize) < vocab),
            &format!("more than {} rows", head.mask_index.unwrap_or(0)),
        )?;
        if let Some(c) = head.coefficients {
            self.expect("head_loss", c, &[rows, COEFFICIENTS])?;
        }
        if head.coefficients.is_some() != head.loss.has_coefficients() {
            let problem = "coefficients belong to D3PM and SEDD, and only there";
            return Err(crate::Error::Internal(problem.into()));
        }
        if head.mask_index.is_none() && head.loss != RowLoss::Subs {
            let problem = "D3PM and SEDD need the mask's id";
            return Err(crate::Error::Internal(problem.into()));
        }
        let nll = self.activation("nll", &[rows]);
        let dhidden = head
            .gradient
            .then(|| self.gradient_of(head.hidden))
            .flatten();
        let chunk = aligned_chunk(head.chunk);
        for base in (0..rows).step_by(chunk) {
            let max = chunk.min(rows - base);
            let extent = Extent::counted(ROWS, base, max);
            let hidden = self.view(head.hidden, base * width, &[max, width])?;
            let targets = self.view(head.targets, base, &[max])?;
            let weights = self.view(head.weights, base, &[max])?;
            let part = self.view(nll, base, &[max])?;
            let logits = self.linear_rows("logits", hidden, head.weight, head.bias, extent)?;
            let HeadLoss {
                loss,
                mask_index,
                gradient,
                ..
            } = *head;
            let mut reads = vec![targets, weights];
            if let Some(c) = head.coefficients {
                reads.push(self.view(c, base * COEFFICIENTS, &[max, COEFFICIENTS])?);
            }
            let op = RowLosses {
                loss,
                vocab,
                mask_index,
                base,
                most: max,
                gradient,
            };
            self.push(op, &reads, &[logits, part], &[], extent)?;
            if !gradient {
                continue;
            }
            if let Some((dw, _)) = self.gradient_of(head.weight) {
                let db = head
                    .bias
                    .and_then(|bias| self.gradient_of(bias))
                    .map(|g| g.0);
                let writes: Vec<_> = [dw].into_iter().chain(db).collect();
                let mut dw = Matmul::new(Form::Tn, vocab, width, max);
                (dw.accumulate, dw.column_sum) = (true, db.is_some());
                dw.push(self, [logits, hidden], &writes, extent)?;
            }
            if let Some((dhidden, _)) = dhidden {
                let dhidden = self.view(dhidden, base * width, &[max, width])?;
                let dh = Matmul::new(Form::Nn, max, width, vocab);
                dh.push(self, [logits, head.weight], &[dhidden], extent)?;
            }
        }
        // the gradients are complete: the backward walk must not look behind the row losses
        self.detach(nll);
        let loss = self.weighted_sum("loss", nll, head.weights, Extent::counted(ROWS, 0, rows))?;
        if head.gradient {
            self.terminal(loss);
        }
        Ok([loss, nll])
    }
}
