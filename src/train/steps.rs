//! Optimiser steps: micro-batches are submitted while the ones before them are still computed.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::config::{TrainConfig, Wire};
use crate::data::Prefetch;
use crate::error::{Error, Result};
use crate::graph::{Running, Storage};
use crate::model::Pass;
use crate::ops::{BIAS1, BIAS2, DROPOUT_KEY, EMA_DECAY, LOSS_SCALE, LR, ROUNDING_KEY};
use crate::process::LossScale;
use crate::program::Step;
use crate::progress::StepStats;
use crate::ranks::{Narrow, Ranks};
use crate::rng::{Stream, stream_key};
use crate::train::batches::Prepared;
use crate::train::shared::{several, spread_weights, sum_gradients, sum_owned_gradients};
use crate::train::{StepOutcome, TrainSession, ema_decay, learning_rate};

/// Steps in a row that may be skipped before training gives up.
const MOST_SKIPPED: u64 = 10;

/// Where training stands, apart from the tensors: after the last step whose numbers have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub step: u64,
    pub tokens: u64,
    pub skipped: u64,
    pub skipped_in_a_row: u64,
    /// In runs in half precision.
    pub loss_scale: Option<LossScale>,
}

impl Progress {
    /// What the loss is multiplied by in the step after `ahead` ones that are on their way.
    fn loss_scale(&self, ahead: u64) -> f64 {
        self.loss_scale.map_or(1.0, |scale| scale.of(ahead))
    }
}

/// A submitted micro-batch, and the tokens of its step if it is the last one of it.
struct Flight {
    running: Running,
    closes: Option<u64>,
}

/// The passes of a step that are not all submitted.
struct Feeding {
    passes: std::vec::IntoIter<Pass>,
    /// How many it began with.
    count: u64,
    tokens: u64,
    loss_scale: f64,
}

/// The training graph, what feeds it, and what is on its way through it.
pub(super) struct Steps {
    /// None while another length's is made, so that the two are not in memory at once.
    pub session: Option<TrainSession>,
    batches: Prefetch<Result<Prepared>>,
    ranks: Arc<dyn Ranks>,
    /// What rounding has taken from gradients that travel in half precision.
    narrow: Vec<Narrow>,
    feeding: Option<Feeding>,
    flights: VecDeque<Flight>,
    /// Steps that are wholly submitted.
    submitted: u64,
    /// Loss of the micro-batches of the current step whose numbers have come.
    loss: f64,
}

impl Steps {
    /// Goes on after `done` steps; `batches` begins with that step.
    pub fn new(
        session: TrainSession,
        batches: Prefetch<Result<Prepared>>,
        ranks: Arc<dyn Ranks>,
        done: u64,
    ) -> Self {
        Self {
            session: Some(session),
            batches,
            ranks,
            narrow: Vec::new(),
            feeding: None,
            flights: VecDeque::new(),
            submitted: done,
            loss: 0.0,
        }
    }

    /// An error if the tensors are ahead of the progress.
    pub fn check_settled(&self) -> Result<()> {
        match self.is_settled() {
            true => Ok(()),
            false => Err(Error::Busy { what: "training" }),
        }
    }

    /// Drops what rounding has taken from gradients, which no checkpoint holds.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn forget(&mut self) {
        self.narrow.clear();
    }

    pub fn is_settled(&self) -> bool {
        self.flights.is_empty() && self.feeding.is_none()
    }

    /// The training graph.
    pub fn session(&mut self) -> Result<&mut TrainSession> {
        let missing = || Error::Internal("there is no training graph".into());
        self.session.as_mut().ok_or_else(missing)
    }

    /// Does the step after `at` and lets later ones begin, as long as they end at most `until` steps.
    pub async fn next(
        &mut self,
        storage: &mut Storage,
        config: &TrainConfig,
        at: &mut Progress,
        until: u64,
    ) -> Result<StepStats> {
        let until = match self.shared() {
            // the update waits for the others' gradients
            true => at.step + 1,
            false => until.max(at.step + 1),
        };
        loop {
            let runs = self.session()?.runs();
            while self.flights.len() < runs && (self.feeding.is_some() || self.submitted < until) {
                self.submit(storage, config, at).await?;
            }
            let Some(Flight { running, closes }) = self.flights.pop_front() else {
                return Err(Error::Internal("no step was submitted".into()));
            };
            let outcome = self.session()?.finish(running).await?;
            self.loss += outcome.loss;
            let Some(tokens) = closes else { continue };
            let mut loss = std::mem::take(&mut self.loss);
            let outcome = match self.shared() {
                true => {
                    let loss_scale = at.loss_scale(0);
                    self.update(storage, config, at.step, loss_scale, &mut loss)
                        .await?
                }
                false => outcome,
            };
            let lr = learning_rate(&config.optim, config.training.steps, at.step);
            at.step += 1;
            at.tokens += tokens;
            // a loss that is not finite has no finite gradients either, whatever a driver makes of such numbers
            let finite = outcome.finite && loss.is_finite();
            at.skipped_in_a_row = match finite {
                true => 0,
                false => at.skipped_in_a_row + 1,
            };
            at.skipped += u64::from(!finite);
            if let Some(scale) = &mut at.loss_scale {
                scale.note(finite);
            }
            // a smaller scale may end the overflows
            let hopeless = at.loss_scale.is_none_or(|scale| !scale.can_shrink());
            if at.skipped_in_a_row >= MOST_SKIPPED && hopeless {
                return Err(Error::NonFinite {
                    step: at.step,
                    quantity: "gradient",
                    skipped: at.skipped_in_a_row,
                    first: None,
                });
            }
            return Ok(StepStats {
                step: at.step,
                loss,
                lr,
                grad_norm: outcome.grad_norm,
                tokens: at.tokens,
                skipped: at.skipped,
            });
        }
    }

    /// Whether gradients of others belong to a step.
    fn shared(&self) -> bool {
        several(&*self.ranks)
    }

    /// Sums gradients and loss of step `k` over the ranks, and updates.
    async fn update(
        &mut self,
        storage: &mut Storage,
        config: &TrainConfig,
        k: u64,
        loss_scale: f64,
        loss: &mut f64,
    ) -> Result<StepOutcome> {
        let (ranks, shard) = (self.ranks.clone(), config.training.shard);
        match (shard, config.training.wire) {
            (true, _) => sum_owned_gradients(&*ranks, storage).await?,
            (false, Wire::F32) => sum_gradients(&*ranks, storage, None).await?,
            (false, Wire::F16) => {
                sum_gradients(&*ranks, storage, Some(&mut self.narrow)).await?;
            }
        }
        // also tells that all ranks have all gradients: what a dying one has sent may be cut short
        ranks.sum_few(std::slice::from_mut(loss))?;
        // nothing of an update reads a micro-batch's key
        let step = step_scalars(config, k, 0).with(LOSS_SCALE, loss_scale);
        let outcome = self.session()?.update(storage, &step).await?;
        if shard {
            spread_weights(&*ranks, storage).await?;
        }
        Ok(outcome)
    }

    /// Submits the next micro-batch.
    async fn submit(
        &mut self,
        storage: &mut Storage,
        config: &TrainConfig,
        at: &Progress,
    ) -> Result<()> {
        let k = self.submitted;
        let feeding = match &mut self.feeding {
            Some(begun) => begun,
            slot => {
                let Prepared { passes, tokens } = self.batches.next()??;
                slot.insert(Feeding {
                    count: passes.len() as u64,
                    passes: passes.into_iter(),
                    tokens,
                    loss_scale: at.loss_scale(k - at.step),
                })
            }
        };
        // the number of the pass among those of all ranks in all steps
        let turn = k * self.ranks.size() as u64 + self.ranks.rank() as u64;
        let micro = (turn + 1) * feeding.count - feeding.passes.len() as u64;
        let Some(pass) = feeding.passes.next() else {
            return Err(Error::Internal("a step without micro-batches".into()));
        };
        let tokens = feeding.tokens;
        let last = feeding.passes.len() == 0;
        let step = step_scalars(config, k, micro).with(LOSS_SCALE, feeding.loss_scale);
        let update = last && !self.shared();
        let session = self.session()?;
        let running = session.submit(storage, &pass, step, update).await?;
        self.flights.push_back(Flight {
            running,
            closes: last.then_some(tokens),
        });
        if last {
            self.feeding = None;
            self.submitted += 1;
        }
        Ok(())
    }
}

/// What a micro-batch, counted from the run's beginning, and the update of its step `k` (0-based) read.
pub(super) fn step_scalars(config: &TrainConfig, k: u64, micro: u64) -> Step {
    let (optim, training) = (&config.optim, &config.training);
    let n = (k + 1) as f64;
    Step::default()
        .with(LR, learning_rate(optim, training.steps, k))
        .with(BIAS1, 1.0 - optim.beta1.powf(n))
        .with(BIAS2, 1.0 - optim.beta2.powf(n))
        .with(EMA_DECAY, ema_decay(training.ema, k + 1))
        .with(ROUNDING_KEY, stream_key(config.seed, Stream::Rounding, k))
        .with(DROPOUT_KEY, stream_key(config.seed, Stream::Dropout, micro))
}
