//! Optimiser steps at the level of sessions: a small model with given numbers, and batches whose
//! count of masked rows differs from step to step.

use mdlm::config::{ModelConfig, ModelKind, NoiseConfig, ObjectiveConfig, OptimConfig};
use mdlm::device::Device;
use mdlm::error::Result;
use mdlm::model::Pass;
use mdlm::model::{Backbone, Options};
use mdlm::objective;
use mdlm::objective::Clean;
use mdlm::process::q_xt;
use mdlm::train::{StepOutcome, TrainSession};
use mdlm_engine::graph::Storage;
use mdlm_engine::graph::{GRADS, PARAMS};
use mdlm_engine::ops::RowLoss;
use mdlm_engine::ops::{ADAM_M, ADAM_V, EMA, TRAINING};
use mdlm_engine::ops::{BIAS1, BIAS2, DROPOUT_KEY, EMA_DECAY, LR};
use mdlm_engine::program::Step;
use mdlm_engine::rng::{Rng, Stream, stream_key};
use pollster::block_on;

use super::case::random;

/// A model of two blocks; every size is odd where it may be.
pub fn model(time_conditioning: bool, dropout: f64) -> ModelConfig {
    ModelConfig {
        kind: ModelKind::Dit,
        vocab_size: 131,
        mask_index: 130,
        hidden_size: 64,
        n_blocks: 2,
        n_heads: 2,
        cond_dim: 24,
        length: 41,
        dropout,
        time_conditioning,
        vocab_multiple: 1,
        adaln: true,
    }
}

/// The one pass of SUBS with the log-linear schedule.
pub fn subs_batch(
    model: &ModelConfig,
    x0: &[u32],
    xt: Vec<u32>,
    t: &[f64],
    attention_mask: Option<&[f64]>,
    total: f64,
) -> Result<Pass> {
    let objective = objective::make(model, &NoiseConfig::default(), &ObjectiveConfig::default())?;
    let clean = Clean {
        x0,
        attention_mask,
        total,
    };
    Ok(objective.training_passes(clean, xt, t, None)?.remove(0))
}

pub struct Training {
    pub backbone: Backbone,
    pub storage: Storage,
    pub session: TrainSession,
    batch: usize,
}

impl Training {
    /// Parameters in slabs of at most `limit` elements, the output head in chunks of 64 rows.
    pub fn new(device: &Device, config: &ModelConfig, batch: usize, limit: usize) -> Result<Self> {
        let backbone = Backbone::new(config, limit.min(device.slab_limit()))?;
        let mut storage = block_on(Storage::new(device, &backbone.layout, &TRAINING))?;
        for arena in [PARAMS, EMA] {
            let mut index = 0;
            let keys = backbone.layout.keys();
            storage.write(arena, |_, key| {
                index = keys.iter().position(|k| k.key == key.key).unwrap();
                Ok(if key.key.contains("norm") {
                    vec![1.0; key.len()]
                } else {
                    random(index as u64, key.len(), 0.2)
                })
            })?;
        }
        let session = block_on(TrainSession::new(
            device,
            &backbone.network,
            &storage,
            &OptimConfig::default(),
            RowLoss::Subs,
            Options::of(batch, config.length),
            Some(64),
        ))?;
        Ok(Self {
            backbone,
            storage,
            session,
            batch,
        })
    }

    /// The k-th optimiser step.
    pub fn step(&mut self, k: u64) -> Result<StepOutcome> {
        self.run(k, true)
    }

    /// A micro-step, with the update or without.
    pub fn run(&mut self, k: u64, update: bool) -> Result<StepOutcome> {
        let batch = self.batch(k);
        let run = self
            .session
            .run(&mut self.storage, &batch, values(k), update);
        block_on(run)
    }

    /// As [`Training::step`], with the gradients taken out and put back between backward and update.
    pub fn step_in_phases(&mut self, k: u64) -> Result<StepOutcome> {
        let outcome = self.run(k, false)?;
        for slab in 0..self.backbone.layout.slabs().len() {
            let grads = block_on(self.storage.read_slab(GRADS, slab))?;
            self.storage.write_slab(GRADS, slab, &grads)?;
        }
        let updated = block_on(self.session.update(&mut self.storage, &values(k)))?;
        let loss = outcome.loss;
        Ok(StepOutcome { loss, ..updated })
    }

    /// As several [`Training::step`]s, each submitted before the last one's numbers are read.
    pub fn steps_ahead(&mut self, steps: std::ops::Range<u64>) -> Result<Vec<StepOutcome>> {
        let (mut outcomes, mut running) = (Vec::new(), None);
        for k in steps {
            let batch = self.batch(k);
            let submit = self
                .session
                .submit(&mut self.storage, &batch, values(k), true);
            if let Some(last) = running.replace(block_on(submit)?) {
                outcomes.push(block_on(self.session.finish(last))?);
            }
        }
        if let Some(last) = running {
            outcomes.push(block_on(self.session.finish(last))?);
        }
        Ok(outcomes)
    }

    /// What the k-th micro-step works on.
    pub fn batch(&self, k: u64) -> Pass {
        let c = &self.backbone.config;
        let mut rng = Rng::new(4, Stream::Mask, k);
        let n = self.batch * c.length;
        let x0: Vec<u32> = (0..n)
            .map(|_| rng.below(u64::from(c.mask_index)) as u32)
            .collect();
        let t: Vec<f64> = (0..self.batch)
            .map(|_| 0.05 + 0.9 * rng.uniform())
            .collect();
        let mut xt = Vec::new();
        for (x0, &t) in x0.chunks(c.length).zip(&t) {
            q_xt(x0, t, c.mask_index, &mut rng, &mut xt);
        }
        subs_batch(c, &x0, xt, &t, None, n as f64).unwrap()
    }

    /// Every arena but the gradients.
    pub fn state(&self) -> Vec<Vec<Vec<f64>>> {
        [PARAMS, ADAM_M, ADAM_V, EMA]
            .map(|arena| block_on(self.storage.read(arena)).unwrap())
            .into()
    }
}

/// The scalars of the k-th step.
pub fn values(k: u64) -> Step {
    let (n, optim) = (k as i32 + 1, OptimConfig::default());
    Step::default()
        .with(DROPOUT_KEY, stream_key(3, Stream::Dropout, k))
        .with(LR, 1e-2)
        .with(BIAS1, 1.0 - optim.beta1.powi(n))
        .with(BIAS2, 1.0 - optim.beta2.powi(n))
        .with(EMA_DECAY, 0.9)
}
