//! How far predictions have moved since they were made last: the Kullback-Leibler divergence of a row's distribution
//! from the one before it, which is kept on the device.

use crate::cpu::{Float, Io, math};
use crate::error::Result;
use crate::gpu::Grid;
use crate::graph::{Graph, Kernel, Lower, Op, Role, Tensor};
use crate::program::Extent;
use crate::{params, shader, twin};

/// The last distributions, for [`Graph::categorical`].
#[derive(Clone, Copy, Debug)]
pub struct Last {
    /// Log-probabilities, a state `[places, vocab]`; each draw leaves its own there.
    pub logs: Tensor,
    /// The place of each row, u32 `[rows]`, different for different rows.
    pub places: Tensor,
}

/// Reads logits, their log-sum-exps and places; updates log-probabilities, writes divergences.
#[derive(Clone, Debug)]
struct Drift {
    vocab: usize,
    absent: u32,
    base: usize,
    most: usize,
}

params! {
    struct DriftParams {
        vocab: u32,
        /// Token that the softmax leaves out.
        absent: u32,
        base: u32,
        most: u32,
    }
}

impl Graph {
    /// Writes the divergence, nats, of `softmax(logits [rows, vocab])` without `absent`, whose log-sum-exps are
    /// `log_total [rows]`, from the last distributions, and puts these in their place.
    pub(super) fn drift(
        &mut self,
        [logits, log_total]: [Tensor; 2],
        absent: u32,
        last: Last,
        drift: Tensor,
        base: usize,
        extent: Extent,
    ) -> Result<()> {
        let &[most, vocab] = self.shape(logits) else {
            return Err(self.misfit("drift", logits, "[rows, vocab]"));
        };
        let fits = matches!(self.shape(last.logs), &[_, columns] if columns == vocab);
        self.require("drift", last.logs, fits, &format!("[places, {vocab}]"))?;
        let places = self.view(last.places, base, &[most])?;
        let op = Drift {
            vocab,
            absent,
            base,
            most,
        };
        let reads = [logits, log_total, places];
        self.push(op, &reads, &[last.logs, drift], &[], extent)
    }
}

impl Drift {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (logits, log_total, places) = (io.read(0), io.read(1), io.read_uint(2));
        let (n, absent) = (self.vocab, self.absent as usize);
        let (rows, logs, drift) = (io.rows, io.write(0), io.write(1));
        for row in 0..rows {
            let log_p = |v: usize| logits[row * n + v] - log_total[row];
            let last = &mut logs[places[row] as usize * n..][..n];
            drift[row] = math::sum(n, |v| match v == absent {
                true => F::ZERO,
                false => log_p(v).exp() * (log_p(v) - last[v]),
            });
            last.iter_mut()
                .enumerate()
                .for_each(|(v, last)| *last = log_p(v));
        }
    }
}

twin!(Drift);

impl Op for Drift {
    fn name(&self) -> &'static str {
        "drift"
    }

    fn role(&self, input: usize) -> Role {
        if input == 2 {
            Role::Index
        } else {
            Role::Number
        }
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Kernel> {
        let params = DriftParams {
            vocab: self.vocab as u32,
            absent: self.absent,
            base: self.base as u32,
            most: self.most as u32,
        };
        vec![
            Kernel::new(shader!("drift"))
                .constant("THREADS", lower.row_threads(self.vocab))
                .counted(lower.extent())
                .read(0)
                .read(1)
                .read(2)
                .write(0)
                .write(1)
                .params(params)
                .grid(Grid::items(lower.extent(), 1)),
        ]
    }
}
