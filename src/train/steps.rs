//! Optimiser steps: micro-batches are submitted while the ones before them are still computed.

use std::collections::VecDeque;

use crate::config::TrainConfig;
use crate::data::Prefetch;
use crate::error::{Error, Result};
use crate::graph::{Running, Storage};
use crate::model::Pass;
use crate::ops::{BIAS1, BIAS2, DROPOUT_KEY, EMA_DECAY, LR};
use crate::program::Step;
use crate::progress::StepStats;
use crate::rng::{Stream, stream_key};
use crate::train::batches::Prepared;
use crate::train::{TrainSession, ema_decay, learning_rate};

/// Steps in a row that may be skipped before training gives up.
const MOST_SKIPPED: u64 = 10;

/// Where training stands, apart from the tensors: after the last step whose numbers have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub step: u64,
    pub tokens: u64,
    pub skipped: u64,
    pub skipped_in_a_row: u64,
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
}

/// The training graph, what feeds it, and what is on its way through it.
pub(super) struct Steps {
    /// None while another length's is made, so that the two are not in memory at once.
    pub session: Option<TrainSession>,
    batches: Prefetch<Result<Prepared>>,
    feeding: Option<Feeding>,
    flights: VecDeque<Flight>,
    /// Steps that are wholly submitted.
    submitted: u64,
    /// Loss of the micro-batches of the current step whose numbers have come.
    loss: f64,
}

impl Steps {
    /// Goes on after `done` steps; `batches` begins with that step.
    pub fn new(session: TrainSession, batches: Prefetch<Result<Prepared>>, done: u64) -> Self {
        Self {
            session: Some(session),
            batches,
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
        let until = until.max(at.step + 1);
        loop {
            let runs = self.session()?.runs();
            while self.flights.len() < runs && (self.feeding.is_some() || self.submitted < until) {
                self.submit(storage, config).await?;
            }
            let Some(Flight { running, closes }) = self.flights.pop_front() else {
                return Err(Error::Internal("no step was submitted".into()));
            };
            let outcome = self.session()?.finish(running).await?;
            self.loss += outcome.loss;
            let Some(tokens) = closes else { continue };
            let loss = std::mem::take(&mut self.loss);
            let lr = learning_rate(&config.optim, config.training.steps, at.step);
            at.step += 1;
            at.tokens += tokens;
            at.skipped_in_a_row = match outcome.finite {
                true => 0,
                false => at.skipped_in_a_row + 1,
            };
            at.skipped += u64::from(!outcome.finite);
            if at.skipped_in_a_row >= MOST_SKIPPED {
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

    /// Submits the next micro-batch.
    async fn submit(&mut self, storage: &mut Storage, config: &TrainConfig) -> Result<()> {
        let feeding = match &mut self.feeding {
            Some(begun) => begun,
            slot => {
                let Prepared { passes, tokens } = self.batches.next()??;
                slot.insert(Feeding {
                    count: passes.len() as u64,
                    passes: passes.into_iter(),
                    tokens,
                })
            }
        };
        let k = self.submitted;
        let micro = (k + 1) * feeding.count - feeding.passes.len() as u64;
        let Some(pass) = feeding.passes.next() else {
            return Err(Error::Internal("a step without micro-batches".into()));
        };
        let tokens = feeding.tokens;
        let last = feeding.passes.len() == 0;
        let step = step_scalars(config, k, micro);
        let session = self.session()?;
        let running = session.submit(storage, &pass, step, last).await?;
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
        .with(DROPOUT_KEY, stream_key(config.seed, Stream::Dropout, micro))
}
