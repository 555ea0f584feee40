//! Likelihood of held-out blocks under a model.
//!
//! Autoregressive models: exact. Denoisers: a bound, by one of two estimators.
//!
//! [`EvalMode::Mc`] is the reference's (`val/ppl`): draw t for each sequence, stratified over a batch,
//! mask tokens with P(mask) at t, weight the loss by the schedule. Its weights 1 / t make it noisy.
//!
//! [`EvalMode::Exact`] takes the integral over t in closed form, for SUBS: the NELBO of L tokens is
//! `sum over m = 1..L of (1 / m) E[sum of nll over m masked positions]`, the positions uniform, whatever
//! the schedule. So a sequence draws m, uniformly and stratified over a batch, and its estimate for
//! a token is the mean nll of its m masked ones. With T steps, `1 / m` becomes
//! `sum over i = 1..T of (1 / i) Binomial(m; L, i / T)`; as `m` times that sums to L, it is again only
//! the law of m that changes. Sums are in f64.

use crate::config::ModelConfig;
use crate::data::Blocks;
use crate::device::Device;
use crate::device::program::{Arena, Step};
use crate::diffusion::{Clean, Noised, Objective, attention_mask, mask_exactly};
use crate::error::{Error, Result};
use crate::eval::Perplexity;
use crate::eval::counts::CountLaw;
use crate::eval::perplexity::Scored;
use crate::graph::{Session, Storage};
use crate::model::{Backbone, EvalGraph, Model, time_rows};
use crate::rng::{Rng, Stream};

/// How the bound of a denoiser is estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EvalMode {
    /// Exact in t, sampled in the choice of positions; SUBS only.
    #[default]
    Exact,
    /// Monte Carlo over t as well.
    Mc,
}

/// How to evaluate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvalConfig {
    /// The estimator; an autoregressive model has only one.
    pub mode: EvalMode,
    /// Draws for each sequence.
    pub samples: usize,
    /// Steps T of the discretised bound, 0: continuous time; `Exact` only.
    pub t_steps: u32,
    /// Smallest diffusion time of `Mc`.
    pub sampling_eps: f64,
    /// Stratify the times of `Mc` over a batch.
    pub antithetic_sampling: bool,
    /// Most blocks; 0: all.
    pub most: usize,
    /// Seed of times and masks: the same one gives the same, so that two evaluations differ by the
    /// weights alone.
    pub seed: u64,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self {
            mode: EvalMode::Exact,
            samples: 1,
            t_steps: 0,
            sampling_eps: 1e-3,
            antithetic_sampling: true,
            most: 0,
            seed: 1,
        }
    }
}

/// Evaluates one arena of a model; keeps its graph from call to call.
pub struct Evaluator {
    graph: EvalGraph,
    session: Session,
    objective: Objective,
    batch: usize,
}

/// Perplexity of a model on blocks, in batches of `batch` blocks; see [`Evaluator::perplexity`].
///
/// # Errors
/// As [`Evaluator::new`] and [`Evaluator::perplexity`].
pub async fn perplexity(
    model: &mut Model,
    blocks: &Blocks,
    batch: usize,
    config: &EvalConfig,
    progress: impl FnMut(u64, u64),
) -> Result<Perplexity> {
    let objective = Objective::new(model.config(), model.noise(), model.objective())?;
    let shape = model.config().clone();
    let (device, backbone, storage) = model.parts();
    let made = Evaluator::new(
        device,
        backbone,
        &objective,
        storage,
        Arena::Params,
        batch.min(blocks.count()).max(1),
        blocks.length(),
    );
    let mut evaluator = made.await?;
    evaluator
        .perplexity(storage, &shape, blocks, config, progress)
        .await
}

/// A pass with the place of each listed row's loss: which sequence it belongs to, and its weight.
struct Pass {
    noised: Noised,
    time: Vec<f64>,
}

impl Evaluator {
    /// Builds the graph for batches of `batch` blocks; `weights`: the arena to evaluate.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub async fn new(
        device: &Device,
        backbone: &Backbone,
        objective: &Objective,
        storage: &Storage,
        weights: Arena,
        batch: usize,
        length: usize,
    ) -> Result<Self> {
        let mut graph = EvalGraph::new(backbone, objective.row_loss(), batch, length)?;
        let outputs = [graph.nll];
        let session = Session::new(device, &mut graph.graph, storage, weights, &outputs).await?;
        Ok(Self {
            graph,
            session,
            objective: objective.clone(),
            batch,
        })
    }

    /// Evaluates blocks in whole batches; the last one is filled up with blocks that do not count.
    /// `progress(done, total)` is called after each batch.
    ///
    /// # Errors
    /// [`Error::Config`] for a mode that does not fit the model, [`Error::DeviceLost`] and its kin.
    pub async fn perplexity(
        &mut self,
        storage: &mut Storage,
        model: &ModelConfig,
        blocks: &Blocks,
        config: &EvalConfig,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Perplexity> {
        self.check(config)?;
        let count = match config.most {
            0 => blocks.count(),
            most => most.min(blocks.count()),
        };
        if count == 0 {
            let problem = "there is no held-out block";
            return Err(Error::config("blocks", config.most, problem));
        }
        let law = CountLaw::new(blocks.length(), config.t_steps);
        let mut sequences = Vec::new();
        for first in (0..count).step_by(self.batch) {
            let real = self.batch.min(count - first);
            let (mut x0, mut attended) = (Vec::new(), Vec::new());
            for i in 0..self.batch {
                let index = first + i.min(real - 1);
                x0.extend_from_slice(&blocks.block(index)?);
                attended.push(blocks.attended(index));
            }
            let mut rng = Rng::new(config.seed, Stream::Validation, first as u64);
            let attention_mask = attention_mask(&attended, blocks.length());
            let batch = Clean {
                x0: &x0,
                attention_mask: attention_mask.as_deref(),
                total: 1.0,
            };
            let nats = self
                .score(storage, model, batch, config, &law, &mut rng)
                .await?;
            sequences.extend(
                nats.into_iter()
                    .zip(attended)
                    .take(real)
                    .map(|(nats, attended)| Scored {
                        nats,
                        tokens: self.objective.counted(attended) as f64,
                    }),
            );
            progress((first + real) as u64, count as u64);
        }
        Ok(Perplexity::estimate(&sequences, self.batch))
    }

    /// Nats of each sequence of a batch, a mean over the configured draws.
    async fn score(
        &mut self,
        storage: &mut Storage,
        model: &ModelConfig,
        clean: Clean<'_>,
        config: &EvalConfig,
        law: &CountLaw,
        rng: &mut Rng,
    ) -> Result<Vec<f64>> {
        let length = clean.x0.len() / self.batch;
        let samples = if self.objective.autoregressive() {
            1
        } else {
            config.samples
        };
        let n = samples * self.batch;
        let offset = |i: usize| {
            if config.antithetic_sampling {
                i as f64
            } else {
                0.0
            }
        };
        let width = if config.antithetic_sampling {
            n as f64
        } else {
            1.0
        };
        let strata: Vec<f64> = (0..n)
            .map(|i| (rng.uniform() + offset(i)) / width)
            .collect();
        let mut nats = vec![0.0; self.batch];
        for strata in strata.chunks_exact(self.batch) {
            let passes = match config.mode {
                EvalMode::Exact if self.objective.is_subs() => {
                    self.exact(model, clean, law, strata, rng)?
                }
                _ => self.sampled(model, clean, config, strata, rng)?,
            };
            for pass in passes {
                let nll = self.run(storage, &pass).await?;
                for (i, &row) in pass.noised.rows.iter().enumerate() {
                    nats[row as usize / length] += nll[i] * pass.noised.weights[i] / samples as f64;
                }
            }
        }
        Ok(nats)
    }

    fn check(&self, config: &EvalConfig) -> Result<()> {
        if config.samples == 0 {
            return Err(Error::config("samples", 0, "must be at least 1"));
        }
        let eps = config.sampling_eps;
        if !(eps > 0.0 && eps < 1.0) {
            return Err(Error::config(
                "sampling_eps",
                eps,
                "must be above 0 and below 1",
            ));
        }
        let exact = config.mode == EvalMode::Exact;
        if config.t_steps > 0 && !(exact && self.objective.is_subs()) {
            let problem = "a finite T is evaluated by the exact mode, for SUBS models";
            return Err(Error::config("T", config.t_steps, problem));
        }
        Ok(())
    }

    /// `x0` with a drawn number of masks in each sequence; the weights make the sum over a
    /// sequence its estimate in nats. Pads are masked like tokens, but do not count.
    fn exact(
        &self,
        model: &ModelConfig,
        clean: Clean<'_>,
        law: &CountLaw,
        strata: &[f64],
        rng: &mut Rng,
    ) -> Result<Vec<Pass>> {
        let x0 = clean.x0;
        let length = x0.len() / self.batch;
        let (mut xt, mut masked_tokens, mut told) = (Vec::new(), Vec::new(), Vec::new());
        for (i, block) in x0.chunks_exact(length).enumerate() {
            let count = law.draw(strata[i]);
            let move_chance = mask_exactly(block, count, model.mask_index, rng, &mut xt);
            masked_tokens.push(count);
            told.push(self.objective.conditioning_of(move_chance));
        }
        let masked = |row: usize| (xt[row] == model.mask_index).then(|| x0[row]);
        let mut noised = Noised::new(x0, xt.clone(), model.vocab_size, masked)?;
        let counts = |row: u32| clean.attention_mask.map_or(1.0, |a| a[row as usize]);
        let weight =
            |&row: &u32| counts(row) * length as f64 / masked_tokens[row as usize / length] as f64;
        noised.weights = noised.rows.iter().map(weight).collect();
        let time = time_rows(model, told);
        Ok(vec![Pass { noised, time }])
    }

    /// The passes of the training objective at drawn times.
    fn sampled(
        &self,
        model: &ModelConfig,
        clean: Clean<'_>,
        config: &EvalConfig,
        strata: &[f64],
        rng: &mut Rng,
    ) -> Result<Vec<Pass>> {
        let length = clean.x0.len() / self.batch;
        let (mut xt, mut times) = (Vec::new(), Vec::new());
        for (block, u) in clean.x0.chunks_exact(length).zip(strata) {
            let eps = config.sampling_eps;
            let t = self.objective.time((1.0 - eps) * u + eps);
            self.objective.q_xt(block, t, rng, &mut xt);
            times.push(t);
        }
        let passes = self.objective.passes(clean, xt, &times)?.into_iter();
        let prepare = |noised: Noised| {
            let time = time_rows(model, noised.conditioning.iter().copied());
            Pass { noised, time }
        };
        Ok(passes.map(prepare).collect())
    }

    /// The nll of the listed rows.
    async fn run(&mut self, storage: &mut Storage, pass: &Pass) -> Result<&[f64]> {
        let (noised, inputs, s) = (&pass.noised, &self.graph.inputs, &mut self.session);
        self.graph.trunk.write(s, &noised.xt, &pass.time)?;
        s.write_uint(inputs.list.rows, &noised.rows)?;
        s.write_uint(inputs.targets, &noised.targets)?;
        if let Some(coefficients) = inputs.coefficients {
            s.write(coefficients, &noised.coefficients)?;
        }
        let step = Step {
            rows: noised.rows.len() as u32,
            ..Step::default()
        };
        s.run(storage, &step, false).await
    }
}
