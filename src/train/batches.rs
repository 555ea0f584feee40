//! What an optimiser step works on: a pure function of seed and step.

use std::sync::Arc;

use crate::config::{LossWeights, TrainConfig};
use crate::data::{Blocks, Loader};
use crate::error::Result;
use crate::model::Pass;
use crate::objective::{Clean, Objective, attention_mask, restore};
use crate::rng::{Rng, Stream};

/// What masked rows weigh in plain cross-entropy: under `loglinear`, the mean of the bound's weights of a sequence's
/// tokens is 1, and half of them are masked.
const FLAT: f64 = 2.0;

/// What a step works on.
pub(super) struct Prepared {
    pub passes: Vec<Pass>,
    /// Tokens of the global batch, without padding.
    pub tokens: u64,
}

/// Makes the passes of a step. Times are stratified over the global batch and dealt out so that every
/// micro-batch sees early and late ones. The embedding of the token `frozen` is not trained. Of the micro-batches of all
/// ranks, `(rank, size)`, this one's are made.
pub(super) fn batch_maker(
    config: &TrainConfig,
    objective: Arc<dyn Objective>,
    blocks: Arc<Blocks>,
    frozen: Option<u32>,
    (rank, size): (usize, usize),
) -> impl FnMut(u64) -> Result<Prepared> + Send + 'static {
    let config = config.clone();
    let (seed, training) = (config.seed, config.training.clone());
    let full = config.model.length;
    let mut loader = Loader::new(blocks, seed, size * training.global_batch());
    let all = size * training.accumulation;
    let own = rank * training.accumulation..(rank + 1) * training.accumulation;
    let (mut x0, mut xt, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    move |k| {
        loader.batch(k, &mut x0, &mut whole)?;
        let length = config.length_at(k);
        let counts = cut(&whole, full, length);
        let (n, batch) = (counts.len(), training.batch * full / length);
        let mut rng = Rng::new(seed, Stream::Time, k);
        let t = objective.times(
            &mut rng,
            n,
            training.sampling_eps,
            training.antithetic_sampling,
        );
        let mut rng = Rng::new(seed, Stream::Mask, k);
        xt.clear();
        for (x0, &t) in x0.chunks_exact(length).zip(&t) {
            objective.q_xt(x0, t, &mut rng, &mut xt);
        }
        restore(&mut xt, &x0, &counts, length);
        let scored = counts.iter().map(|&counts| objective.scored(counts));
        let total = scored.sum::<usize>() as f64;
        let mut passes = Vec::new();
        for j in own.clone() {
            let members = (0..batch).map(|s| s * all + j);
            let pick = |ids: &[u32]| -> Vec<u32> {
                members
                    .clone()
                    .flat_map(|i| &ids[i * length..(i + 1) * length])
                    .copied()
                    .collect()
            };
            let t: Vec<f64> = members.clone().map(|i| t[i]).collect();
            let counts: Vec<[usize; 2]> = members.clone().map(|i| counts[i]).collect();
            let attention_mask = attention_mask(&counts, length);
            let clean = Clean {
                x0: &pick(&x0),
                attention_mask: attention_mask.as_deref(),
                total,
            };
            let mut made = objective.training_passes(clean, pick(&xt), &t, frozen)?;
            if training.loss_weights == Some(LossWeights::Flat) {
                for Pass { rows, weights, .. } in &mut made {
                    let token = |row: u32| objective.token_of(row as usize, length);
                    let weight = |&row: &u32| FLAT * clean.share(token(row));
                    *weights = rows.iter().map(weight).collect();
                }
            }
            passes.extend(made);
        }
        Ok(Prepared {
            passes,
            tokens: counts.iter().map(|[attended, _]| attended).sum::<usize>() as u64,
        })
    }
}

/// Attended and given tokens of each piece of `length` tokens, for blocks of `full` tokens.
fn cut(counts: &[[usize; 2]], full: usize, length: usize) -> Vec<[usize; 2]> {
    let pieces = |&counts: &[usize; 2]| {
        let piece = move |i| counts.map(|n| n.saturating_sub(i * length).min(length));
        (0..full / length).map(piece)
    };
    counts.iter().flat_map(pieces).collect()
}
