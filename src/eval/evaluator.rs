//! Likelihood of held-out blocks under a model.
//!
//! Autoregressive models: exact. Denoisers: a bound, by one of two estimators.
//!
//! [`EvalMode::Mc`] is the reference's (`val/ppl`): draw t for each sequence, mask tokens with P(mask) at t,
//! weight the loss by the schedule. Its weights 1 / t make it noisy.
//!
//! [`EvalMode::Exact`] takes the integral over t in closed form, for SUBS: the NELBO of L tokens is
//! `sum over m = 1..L of (1 / m) E[sum of nll over m masked positions]`, the positions uniform, whatever
//! the schedule. So a sequence draws m uniformly, and its estimate for a token is the mean nll of its m
//! masked ones. With T steps, `1 / m` becomes
//! `sum over i = 1..T of (1 / i) Binomial(m; L, i / T)`; as `m` times that sums to L, it is again only
//! the law of m that changes. Sums are in f64.
//!
//! What is drawn for a sequence depends on the seed and on its place among the sequences, not on the batch;
//! see [`super::strata`] for how draws are stratified.

use std::sync::Arc;

use crate::config::ModelConfig;
use crate::data::Blocks;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::eval::Perplexity;
use crate::eval::counts::CountLaw;
use crate::eval::perplexity::{Scored, gathered};
use crate::eval::strata::{GROUP, Strata};
use crate::graph::FORWARD;
use crate::graph::PARAMS;
use crate::graph::{Session, Storage};
use crate::model::{EvalGraph, Model, Network, Pass, Trunk};
use crate::objective;
use crate::objective::{Clean, Objective, attention_mask, restore};
use crate::process::mask_exactly;
use crate::program::{Arena, Step};
use crate::ranks::{Alone, Ranks};
use crate::rng::{Rng, Stream};

/// How the bound of a denoiser is estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EvalMode {
    /// Exact in t, sampled in the choice of positions, for SUBS; the other bounds have no closed form and are
    /// sampled as `Mc` does.
    #[default]
    Exact,
    /// Monte Carlo over t as well.
    Mc,
}

/// The estimator of [`perplexity`], its draws, and how much of the text it reads.
///
/// ```
/// use mdlm::{Corpus, Device, EvalConfig, Model, Tokenizer, TrainConfig, blocking::wait, perplexity};
/// # use mdlm::progress::Silent;
/// # let tokenizer = Tokenizer::characters("to be or not");
/// # let corpus = Corpus::from_texts(tokenizer, &["to be or not to be"; 9], &["not to be or to be"; 2], 16, &mut Silent)?;
/// # let mut config = TrainConfig::default();
/// # (config.model.length, config.model.hidden_size, config.model.n_blocks) = (16, 32, 1);
/// # (config.training.steps, config.training.batch) = (2, 4);
/// # config.model.vocab_size = corpus.tokenizer.vocab_size();
/// # config.model.mask_index = corpus.tokenizer.mask_index();
/// let mut model = wait(Model::new(&Device::cpu(), &config.model, 1))?;
/// let settings = EvalConfig { samples: 4, ..EvalConfig::default() };
/// let found = wait(perplexity(&mut model, &corpus.valid, 1, &settings, |_, _| {}))?;
/// assert!(found.ppl > 1.0);
/// # Ok::<(), mdlm::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvalConfig {
    /// The estimator; an autoregressive model has only one.
    pub mode: EvalMode,
    /// Draws for each sequence, 1 to 65536; an autoregressive model needs none.
    pub samples: usize,
    /// Steps T of the discretised bound, up to 1048576, 0: continuous time; `Exact` only.
    pub t_steps: u32,
    /// Smallest diffusion time of `Mc`.
    pub sampling_eps: f64,
    /// Stratify the times of `Mc`.
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

impl EvalConfig {
    /// How many of the blocks are evaluated.
    pub fn count(&self, blocks: &Blocks) -> usize {
        match self.most {
            0 => blocks.count(),
            most => most.min(blocks.count()),
        }
    }
}

/// Evaluates one arena of a model; keeps its graph from call to call.
pub struct Evaluator {
    graph: EvalGraph,
    session: Session,
    objective: Arc<dyn Objective>,
    batch: usize,
    trunk: Arc<dyn Trunk>,
}

/// Perplexity of a model on blocks, in batches of `batch` blocks; see [`Evaluator::perplexity`].
///
/// # Errors
/// As [`Evaluator::new`] and [`Evaluator::perplexity`]; [`Error::Argument`] for batches of no block.
pub async fn perplexity(
    model: &mut Model,
    blocks: &Blocks,
    batch: usize,
    config: &EvalConfig,
    progress: impl FnMut(u64, u64),
) -> Result<Perplexity> {
    if batch == 0 {
        return Err(Error::argument("batch", 0, "must be at least 1"));
    }
    if model.family.hybrid().is_some() {
        let problem = "was trained for noise that also changes tokens, whose bound is not here: it can be sampled only";
        return Err(Error::argument("model_type", model.model_type(), problem));
    }
    let shape = model.family.shape();
    let objective = objective::make(&shape, model.noise(), model.objective())?;
    let (device, network, storage) = model.parts();
    let made = Evaluator::new(
        device,
        network,
        &objective,
        storage,
        PARAMS,
        batch.min(config.count(blocks)),
        blocks.length(),
    );
    let mut evaluator = made.await?;
    evaluator
        .perplexity(&Alone, storage, &shape, blocks, config, progress)
        .await
}

/// Most draws for a sequence.
const MOST_SAMPLES: usize = 1 << 16;
/// Most steps of the discretised bound.
const MOST_STEPS: u32 = 1 << 20;

/// Sequences that are scored together: clean ones, of which the first `real` count, with their generators.
struct Group<'a> {
    clean: Clean<'a>,
    /// Attended and given tokens of each.
    counts: &'a [[usize; 2]],
    real: usize,
    rngs: Vec<Rng>,
}

impl Evaluator {
    /// Builds the graph for batches of `batch` blocks; `weights`: the arena to evaluate.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub async fn new(
        device: &Device,
        network: &Network,
        objective: &Arc<dyn Objective>,
        storage: &Storage,
        weights: Arena,
        batch: usize,
        length: usize,
    ) -> Result<Self> {
        let options = objective.options(batch, length);
        let mut graph = EvalGraph::new(network, options, objective.row_loss())?;
        let outputs = [graph.nll];
        let session = Session::new(device, &mut graph.graph, storage, weights, &outputs).await?;
        Ok(Self {
            graph,
            session,
            objective: objective.clone(),
            trunk: network.trunk.clone(),
            batch,
        })
    }

    /// Evaluates blocks batch by batch, which the ranks share out; neither batch nor rank has an influence on what is
    /// drawn. `progress(done, total)` is called after each batch.
    ///
    /// # Errors
    /// [`Error::Argument`] for a mode that does not fit the model, [`Error::DeviceLost`] and its kin;
    /// [`Error::RankLost`].
    pub async fn perplexity(
        &mut self,
        ranks: &dyn Ranks,
        storage: &mut Storage,
        model: &ModelConfig,
        blocks: &Blocks,
        config: &EvalConfig,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Perplexity> {
        self.check(config)?;
        let count = config.count(blocks);
        if count == 0 {
            let problem = "there is no held-out block";
            return Err(Error::argument("blocks", config.most, problem));
        }
        let exact = self.exact_in_t(config.mode);
        let (samples, stratified) = match (self.objective.autoregressive(), exact) {
            (true, _) => (1, false),
            (_, true) => (config.samples, true),
            _ => (config.samples, config.antithetic_sampling),
        };
        let law = exact.then(|| CountLaw::new(blocks.length(), config.t_steps));
        let rows = self.rows(blocks.length());
        let mut strata = Strata::new(config.seed, count, samples, stratified);
        let mut sequences = Vec::new();
        let turns = (0..count).step_by(self.batch);
        for first in turns.skip(ranks.rank()).step_by(ranks.size()) {
            let real = self.batch.min(count - first);
            let (mut x0, mut counts) = (Vec::new(), Vec::new());
            let (mut rngs, mut quantiles) = (Vec::new(), Vec::new());
            for i in 0..self.batch {
                let index = first + i.min(real - 1);
                x0.extend_from_slice(&blocks.block(index)?);
                counts.push([blocks.attended(index), blocks.given(index)]);
                rngs.push(Rng::new(config.seed, Stream::Validation, index as u64));
                quantiles.extend_from_slice(strata.of(index));
            }
            let attention_mask = attention_mask(&counts, blocks.length());
            let clean = Clean {
                x0: &x0,
                attention_mask: attention_mask.as_deref(),
                total: 1.0,
            };
            let mut group = Group {
                clean,
                counts: &counts,
                real,
                rngs,
            };
            let mut nats = vec![0.0; real];
            for draw in 0..samples {
                let u = quantiles.iter().skip(draw).step_by(samples).copied();
                let u: Vec<f64> = u.collect();
                let passes = match &law {
                    Some(law) => self.exact(model, &mut group, law, &u)?,
                    None => self.sampled(&mut group, config, &u)?,
                };
                for pass in passes.iter().filter(|pass| !pass.rows.is_empty()) {
                    let nll = self.run(storage, pass).await?;
                    for (i, &row) in pass.rows.iter().enumerate() {
                        let sequence = row as usize / rows;
                        nats[sequence] += nll[i] * pass.weights[i] / samples as f64;
                    }
                }
            }
            let scored = |(nats, &counts)| Scored {
                nats,
                tokens: self.objective.scored(counts) as u64,
            };
            sequences.extend(nats.into_iter().zip(&counts).map(scored));
            progress((first + real) as u64, count as u64);
        }
        let sequences = gathered(ranks, sequences, count, self.batch)?;
        let group = if stratified { GROUP } else { 1 };
        Ok(Perplexity::estimate(&sequences, group))
    }

    /// Rows of a sequence in the graph.
    fn rows(&self, length: usize) -> usize {
        self.objective.options(1, length).length
    }

    /// Whether t is integrated out.
    fn exact_in_t(&self, mode: EvalMode) -> bool {
        mode == EvalMode::Exact && self.objective.is_subs()
    }

    fn check(&self, config: &EvalConfig) -> Result<()> {
        if !(1..=MOST_SAMPLES).contains(&config.samples) {
            let problem = format!("must be in 1..={MOST_SAMPLES}");
            return Err(Error::argument("samples", config.samples, problem));
        }
        if config.t_steps > MOST_STEPS {
            let problem = format!("must be in 0..={MOST_STEPS}");
            return Err(Error::argument("T", config.t_steps, problem));
        }
        let eps = config.sampling_eps;
        if !(eps > 0.0 && eps < 1.0) {
            return Err(Error::argument(
                "sampling_eps",
                eps,
                "must be above 0 and below 1",
            ));
        }
        if config.t_steps > 0 && !self.exact_in_t(config.mode) {
            let problem = "a finite T is evaluated by the exact mode, for SUBS models";
            return Err(Error::argument("T", config.t_steps, problem));
        }
        Ok(())
    }

    /// `x0` with a drawn number of masks in each sequence; the weights make the sum over a
    /// sequence its estimate in nats. Pads are masked like tokens, but do not count.
    fn exact(
        &self,
        model: &ModelConfig,
        group: &mut Group<'_>,
        law: &CountLaw,
        u: &[f64],
    ) -> Result<Vec<Pass>> {
        let clean = group.clean;
        let length = clean.x0.len() / self.batch;
        let (mut xt, mut masked_tokens, mut told) = (Vec::new(), Vec::new(), Vec::new());
        let sequences = clean.x0.chunks_exact(length).zip(u).zip(&mut group.rngs);
        for ((x0, &u), rng) in sequences {
            let count = law.draw(u);
            let move_chance = mask_exactly(x0, count, model.mask_index, rng, &mut xt);
            masked_tokens.push(count);
            told.push(self.objective.conditioning_of(move_chance));
        }
        restore(&mut xt, clean.x0, group.counts, length);
        let (x0, end) = (clean.x0, group.real * length);
        let masked = |row: usize| (row < end && xt[row] == model.mask_index).then(|| x0[row]);
        let mut pass = Pass::listing(x0, xt.clone(), model.vocab_size, masked)?;
        let weight = |&row: &u32| {
            let row = row as usize;
            clean.counts(row) * length as f64 / masked_tokens[row / length] as f64
        };
        pass.weights = pass.rows.iter().map(weight).collect();
        pass.conditioning = told;
        Ok(vec![self.objective.arranged(pass, x0, length)])
    }

    /// The passes of the training objective at drawn times.
    fn sampled(&self, group: &mut Group<'_>, config: &EvalConfig, u: &[f64]) -> Result<Vec<Pass>> {
        let clean = group.clean;
        let length = clean.x0.len() / self.batch;
        let (mut xt, mut times) = (Vec::new(), Vec::new());
        let sequences = clean.x0.chunks_exact(length).zip(u).zip(&mut group.rngs);
        for ((x0, u), rng) in sequences {
            let eps = config.sampling_eps;
            let t = self.objective.time((1.0 - eps) * u + eps);
            self.objective.q_xt(x0, t, rng, &mut xt);
            times.push(t);
        }
        restore(&mut xt, clean.x0, group.counts, length);
        let mut passes = self.objective.passes(clean, xt, &times)?;
        let end = (group.real * self.rows(length)) as u32;
        passes.iter_mut().for_each(|pass| pass.truncate(end));
        Ok(passes)
    }

    /// The nll of the listed rows.
    async fn run(&mut self, storage: &mut Storage, pass: &Pass) -> Result<&[f64]> {
        let (graph, session, mut step) = (&self.graph, &mut self.session, Step::default());
        graph.call.write(session, &*self.trunk, pass)?;
        graph.inputs.write(session, pass, &mut step)?;
        session.run(storage, &step, &[FORWARD]).await
    }
}
