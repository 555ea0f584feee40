//! The bound on perplexity, exact in t: only the choice of masked positions is sampled.
//!
//! With P(mask) = t the integral over t of the weighted loss has a closed form,
//! `NELBO = sum over m = 1..L of (1 / m) E[sum of nll over m masked positions]`, the positions
//! uniform. So a sequence draws m, stratified over a batch, and its estimate of the NELBO of a token is
//! the mean nll of its m masked tokens. The reference draws t instead (`val/ppl`), whose weights
//! 1 / t make the same mean noisy. Sums are in f64.

use crate::data::Blocks;
use crate::device::Device;
use crate::device::program::{Arena, Step};
use crate::diffusion::{Noised, Schedule, mask_exactly};
use crate::error::{Error, Result};
use crate::graph::{Session, Storage};
use crate::model::{Backbone, EvalGraph, time_rows};
use crate::rng::{Rng, Stream};

/// An upper bound on perplexity, estimated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Perplexity {
    /// exp of `nats_per_token`.
    pub ppl: f64,
    /// Mean NELBO of a token, nats.
    pub nats_per_token: f64,
    /// Standard error of `nats_per_token`.
    pub nats_std_err: f64,
    /// Tokens evaluated.
    pub tokens: u64,
}

impl Perplexity {
    /// Standard error of the perplexity, to first order.
    pub fn std_err(&self) -> f64 {
        self.ppl * self.nats_std_err
    }

    /// The 95 % confidence interval of the perplexity.
    pub fn interval(&self) -> [f64; 2] {
        [-1.96, 1.96].map(|z: f64| (self.nats_per_token + z * self.nats_std_err).exp())
    }
}

/// Evaluates one arena of a model; keeps its graph from call to call.
pub struct Evaluator {
    graph: EvalGraph,
    session: Session,
    batch: usize,
}

impl Evaluator {
    /// Builds the graph for batches of `batch` blocks; `weights`: the arena to evaluate.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub async fn new(
        device: &Device,
        backbone: &Backbone,
        storage: &Storage,
        weights: Arena,
        batch: usize,
        length: usize,
    ) -> Result<Self> {
        let mut graph = EvalGraph::new(backbone, batch, length)?;
        let outputs = [graph.nll];
        let session = Session::new(device, &mut graph.graph, storage, weights, &outputs).await?;
        Ok(Self {
            graph,
            session,
            batch,
        })
    }

    /// Evaluates the first `most` blocks (0: all), in whole batches; the last one is filled up with
    /// blocks that do not count. `progress(done, total)` is called after each batch. The same seed
    /// gives the same masks, so that two evaluations differ by the weights alone.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] and its kin.
    pub async fn perplexity(
        &mut self,
        backbone: &Backbone,
        storage: &mut Storage,
        blocks: &Blocks,
        most: usize,
        seed: u64,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Perplexity> {
        let count = if most == 0 {
            blocks.count()
        } else {
            most.min(blocks.count())
        };
        if count == 0 {
            return Err(Error::config(
                "training.val_blocks",
                most,
                "there is no held-out block",
            ));
        }
        let length = blocks.length();
        let (mut sequences, mut batches) = (Vec::new(), Vec::new());
        for first in (0..count).step_by(self.batch) {
            let real = self.batch.min(count - first);
            let sums = self
                .batch_nelbo(backbone, storage, blocks, first, real, seed)
                .await?;
            let means = sums.iter().map(|sum| sum / length as f64);
            sequences.extend(means.clone());
            if real == self.batch {
                batches.push(means.sum::<f64>() / real as f64);
            }
            progress((first + real) as u64, count as u64);
        }
        let mean = sequences.iter().sum::<f64>() / sequences.len() as f64;
        // Counts are stratified within a batch, so batches are the independent samples; with few of
        // them the sequences give a wider, still valid, interval.
        let samples = if batches.len() >= 8 {
            &batches
        } else {
            &sequences
        };
        let n = samples.len() as f64;
        let centre = samples.iter().sum::<f64>() / n;
        let squares = samples.iter().map(|x| (x - centre).powi(2)).sum::<f64>();
        let nats_std_err = (squares / (n - 1.0).max(1.0) / n).sqrt();
        let tokens = (count * length) as u64;
        Ok(Perplexity {
            ppl: mean.exp(),
            nats_per_token: mean,
            nats_std_err,
            tokens,
        })
    }

    /// Sum over tokens of the weighted nll, for each of the `real` sequences from `first` on.
    async fn batch_nelbo(
        &mut self,
        backbone: &Backbone,
        storage: &mut Storage,
        blocks: &Blocks,
        first: usize,
        real: usize,
        seed: u64,
    ) -> Result<Vec<f64>> {
        let (length, c) = (blocks.length(), &backbone.config);
        let mut rng = Rng::new(seed, Stream::Validation, first as u64);
        let (mut x0, mut xt, mut sigma) = (Vec::new(), Vec::new(), Vec::new());
        let mut masked = Vec::new();
        for i in 0..self.batch {
            let block = blocks.block(first + i.min(real - 1));
            let share = (rng.uniform() + i as f64) / self.batch as f64;
            let count = (1 + (share * length as f64) as usize).min(length);
            let t = mask_exactly(block, count, c.mask_index, &mut rng, &mut xt);
            x0.extend_from_slice(block);
            masked.push(count);
            sigma.push(Schedule::default().sigma(t));
        }
        let time = time_rows(c, sigma);
        let weight = |row: usize| length as f64 / masked[row / length] as f64;
        let noised = Noised::new(&x0, xt, c.vocab_size, c.mask_index, weight)?;
        let (inputs, s) = (&self.graph.inputs, &mut self.session);
        s.write_uint(self.graph.trunk.xt, &noised.xt)?;
        s.write(self.graph.trunk.time, &time)?;
        s.write_uint(inputs.list.rows, &noised.rows)?;
        s.write_uint(inputs.targets, &noised.targets)?;
        let step = Step {
            rows: noised.rows.len() as u32,
            ..Step::default()
        };
        let nll = s.run(storage, &step, false).await?;
        let mut sums = vec![0.0; real];
        for (i, &row) in noised.rows.iter().enumerate() {
            if let Some(sum) = sums.get_mut(row as usize / length) {
                *sum += nll[i] * noised.weights[i];
            }
        }
        Ok(sums)
    }
}
