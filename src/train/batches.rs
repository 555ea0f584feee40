//! What an optimiser step works on: a pure function of seed and step.

use std::sync::Arc;

use crate::config::TrainConfig;
use crate::data::{Blocks, Loader};
use crate::error::Result;
use crate::model::Pass;
use crate::objective::{Clean, Objective, attention_mask};
use crate::rng::{Rng, Stream};

/// What a step works on.
pub(super) struct Prepared {
    pub passes: Vec<Pass>,
    /// Tokens of it, without padding.
    pub tokens: u64,
}

/// Makes the passes of a step. Times are stratified over the global batch and dealt out so that every
/// micro-batch sees early and late ones.
pub(super) fn batch_maker(
    config: &TrainConfig,
    objective: Arc<dyn Objective>,
    blocks: Arc<Blocks>,
) -> impl FnMut(u64) -> Result<Prepared> + Send + 'static {
    let (seed, training) = (config.seed, config.training.clone());
    let (n, length) = (training.global_batch(), config.model.length);
    let mut loader = Loader::new(blocks, seed, n);
    let (mut x0, mut xt, mut attended) = (Vec::new(), Vec::new(), Vec::new());
    move |k| {
        loader.batch(k, &mut x0, &mut attended)?;
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
        let total = attended
            .iter()
            .map(|&n| objective.counted(n))
            .sum::<usize>() as f64;
        let mut passes = Vec::new();
        for j in 0..training.accumulation {
            let members = (0..training.batch).map(|s| s * training.accumulation + j);
            let pick = |ids: &[u32]| -> Vec<u32> {
                members
                    .clone()
                    .flat_map(|i| &ids[i * length..(i + 1) * length])
                    .copied()
                    .collect()
            };
            let t: Vec<f64> = members.clone().map(|i| t[i]).collect();
            let attended: Vec<usize> = members.clone().map(|i| attended[i]).collect();
            let attention_mask = attention_mask(&attended, length);
            let clean = Clean {
                x0: &pick(&x0),
                attention_mask: attention_mask.as_deref(),
                total,
            };
            passes.extend(objective.training_passes(clean, pick(&xt), &t)?);
        }
        Ok(Prepared {
            passes,
            tokens: attended.iter().sum::<usize>() as u64,
        })
    }
}
