//! The trainer: batches in, optimiser steps out.

use std::sync::Arc;

use crate::config::{ModelKind, TrainConfig};
use crate::data::{Blocks, Corpus, Loader, Prefetch};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::eval::{EvalConfig, Evaluator, Perplexity};
use crate::graph::PARAMS;
use crate::graph::{Key, Storage};
use crate::model::trunks::unmodulated;
use crate::model::{Backbone, Model, Pass};
use crate::objective;
use crate::objective::{Clean, Objective, attention_mask};
use crate::ops::{BIAS1, BIAS2, DROPOUT_KEY, EMA_DECAY, LR};
use crate::ops::{EMA, TRAINING};
use crate::program::Step;
use crate::progress::StepStats;
use crate::rng::{Rng, Stream, stream_key};
use crate::train::{TrainSession, ema_decay, learning_rate};

/// Steps in a row that may be skipped before training gives up.
const MOST_SKIPPED: u64 = 10;

/// Where training stands, apart from the tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) step: u64,
    pub(super) tokens: u64,
    pub(super) skipped: u64,
    pub(super) skipped_in_a_row: u64,
}

/// What a step works on.
struct Prepared {
    batches: Vec<Pass>,
    /// Tokens of it, without padding.
    tokens: u64,
}

/// Trains a model on a corpus.
pub struct Trainer {
    pub(super) device: Device,
    pub(super) config: TrainConfig,
    pub(super) corpus: Corpus,
    objective: Arc<dyn Objective>,
    pub(super) backbone: Backbone,
    pub(super) storage: Storage,
    pub(super) at: Progress,
    session: TrainSession,
    evaluator: Option<Evaluator>,
    batches: Prefetch<Result<Prepared>>,
}

impl Trainer {
    /// A fresh run. The vocabulary comes from the corpus, the warm-up is resolved.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key, [`Error::Unsupported`] or [`Error::OutOfMemory`] if the
    /// device cannot hold the run.
    pub async fn new(device: &Device, config: &TrainConfig, corpus: Corpus) -> Result<Self> {
        let mut config = config.clone();
        config.model.vocab_size = corpus.tokenizer.vocab_size();
        config.model.mask_index = corpus.tokenizer.mask_index();
        config.resolve_warmup();
        let mut trainer = Self::assemble(device, config, corpus, Progress::default()).await?;
        let seed = trainer.config.seed;
        let network = &trainer.backbone.network;
        network.initialise(&mut trainer.storage, &[PARAMS, EMA], seed)?;
        Ok(trainer)
    }

    /// Lets a fresh run begin with the weights of `model` instead of random ones: fine-tuning, or longer
    /// sequences after shorter ones. Length, dropout and objective may differ. A denoiser can begin with an
    /// autoregressive model, which learns much faster from little text: its blocks are then unmodulated,
    /// and attend both ways from the first step.
    ///
    /// # Errors
    /// [`Error::Argument`] if the run has begun, or the two models differ in a tensor or in the tokenizer.
    pub async fn start_from(&mut self, model: &Model) -> Result<()> {
        let refuse = |problem: String| Err(Error::argument("init", "the other model", problem));
        if self.at.step > 0 {
            return refuse(format!("the run has done {} steps", self.at.step));
        }
        if let Some(tokenizer) = model.tokenizer()
            && tokenizer.to_json() != self.corpus.tokenizer.to_json()
        {
            return refuse("its tokenizer is another one".to_owned());
        }
        let theirs = model.storage.read(PARAMS).await?;
        let mut weights = self.storage.read(PARAMS).await?;
        let conditioned = model.config().kind == ModelKind::Dit;
        for (weights, key) in weights.iter_mut().zip(self.backbone.layout.keys()) {
            let same = |other: &Key| other.key == key.key && other.shape == key.shape;
            let conditioning = key.key.contains("adaLN") || key.key.contains("sigma_map");
            match model.backbone.layout.keys().iter().position(same) {
                Some(at) => weights.clone_from(&theirs[at]),
                None if conditioning && !conditioned => {
                    if let Some(bias) = unmodulated(key) {
                        *weights = bias;
                    }
                }
                None => {
                    return refuse(format!("it has no {} of shape {:?}", key.key, key.shape));
                }
            }
        }
        self.storage.fill(PARAMS, &weights)?;
        self.storage.fill(EMA, &weights)
    }

    /// Everything but the weights, which are 0.
    pub(super) async fn assemble(
        device: &Device,
        config: TrainConfig,
        corpus: Corpus,
        at: Progress,
    ) -> Result<Self> {
        config.validate()?;
        let length = corpus.train.length();
        if length != config.model.length {
            let problem = format!("the corpus is packed to blocks of {length}");
            return Err(Error::config("model.length", config.model.length, problem));
        }
        let objective = objective::make(&config.model, &config.noise, &config.objective)?;
        let backbone = Backbone::new(&config.model, device.slab_limit())?;
        let storage = Storage::new(device, &backbone.layout, &TRAINING).await?;
        let batch = config.training.batch;
        let session = TrainSession::new(
            device,
            &backbone,
            &storage,
            &config.optim,
            objective.row_loss(),
            batch,
            length,
            None,
        )
        .await?;
        let batches = Prefetch::new(
            at.step,
            batch_maker(&config, objective.clone(), corpus.train.clone()),
        )?;
        Ok(Self {
            device: device.clone(),
            config,
            corpus,
            objective,
            backbone,
            storage,
            at,
            session,
            evaluator: None,
            batches,
        })
    }

    /// The resolved configuration.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The corpus.
    pub fn corpus(&self) -> &Corpus {
        &self.corpus
    }

    /// Optimiser steps done.
    pub fn steps_done(&self) -> u64 {
        self.at.step
    }

    /// What the training graph costs on the device.
    ///
    /// # Errors
    /// [`Error::Internal`] if the graph cannot be planned.
    pub fn report(&self) -> Result<crate::graph::Report> {
        self.session
            .graph
            .graph
            .report(self.device.class(), &TRAINING)
    }

    /// Parameters of the model.
    pub fn parameters(&self) -> usize {
        self.backbone.layout.parameters()
    }

    /// Does one optimiser step.
    ///
    /// # Errors
    /// [`Error::NonFinite`] after ten skipped steps in a row, [`Error::DeviceLost`] and its kin.
    pub async fn step(&mut self) -> Result<StepStats> {
        let k = self.at.step;
        let (optim, training) = (&self.config.optim, &self.config.training);
        let Prepared { batches, tokens } = self.batches.next()??;
        let lr = learning_rate(optim, training.steps, k);
        let n = (k + 1) as f64;
        let (mut loss, mut norm, mut finite) = (0.0, 0.0, true);
        for (j, batch) in batches.iter().enumerate() {
            let micro = k * batches.len() as u64 + j as u64;
            let key = stream_key(self.config.seed, Stream::Dropout, micro);
            let step = Step::default()
                .with(DROPOUT_KEY, key)
                .with(LR, lr)
                .with(BIAS1, 1.0 - optim.beta1.powf(n))
                .with(BIAS2, 1.0 - optim.beta2.powf(n))
                .with(EMA_DECAY, ema_decay(training.ema, k + 1));
            let last = j + 1 == batches.len();
            let outcome = self
                .session
                .run(&mut self.storage, batch, step, last)
                .await?;
            loss += outcome.loss;
            if last {
                (norm, finite) = (outcome.grad_norm, outcome.finite);
            }
        }
        self.at.step += 1;
        self.at.tokens += tokens;
        self.at.skipped_in_a_row = if finite {
            0
        } else {
            self.at.skipped_in_a_row + 1
        };
        self.at.skipped += u64::from(!finite);
        if self.at.skipped_in_a_row >= MOST_SKIPPED {
            let (step, skipped) = (self.at.step, self.at.skipped_in_a_row);
            return Err(Error::NonFinite {
                step,
                quantity: "gradient",
                skipped,
            });
        }
        let Progress {
            step,
            tokens,
            skipped,
            ..
        } = self.at;
        Ok(StepStats {
            step,
            loss,
            lr,
            grad_norm: norm,
            tokens,
            skipped,
        })
    }

    /// Perplexity of the moving average on the held-out blocks.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] and its kin.
    pub async fn validate(&mut self, progress: impl FnMut(u64, u64)) -> Result<Perplexity> {
        let (training, model) = (&self.config.training, &self.config.model);
        let evaluator = match &mut self.evaluator {
            Some(made) => made,
            slot => {
                let batch = training.batch.min(self.corpus.valid.count().max(1));
                let made = Evaluator::new(
                    &self.device,
                    &self.backbone,
                    &self.objective,
                    &self.storage,
                    EMA,
                    batch,
                    model.length,
                );
                slot.insert(made.await?)
            }
        };
        let eval = EvalConfig {
            // other bounds than SUBS' are sampled in t as well
            samples: if self.objective.is_subs() { 1 } else { 4 },
            most: training.val_blocks,
            seed: self.config.seed,
            ..EvalConfig::default()
        };
        let blocks = &self.corpus.valid;
        evaluator
            .perplexity(&mut self.storage, model, blocks, &eval, progress)
            .await
    }

    /// The moving average as a model of its own, for sampling.
    ///
    /// # Errors
    /// What the device refuses.
    pub async fn model(&self) -> Result<Model> {
        let mut storage = Storage::new(&self.device, &self.backbone.layout, &[PARAMS]).await?;
        let weights = self.storage.read(EMA).await?;
        storage.fill(PARAMS, &weights)?;
        let mut model = Model::from_parts(&self.device, self.backbone.clone(), storage);
        model.tokenizer = Some(self.corpus.tokenizer.clone());
        model.noise = self.config.noise.clone();
        model.objective = self.config.objective.clone();
        Ok(model)
    }
}

/// Makes the passes of a step: a pure function of seed and step. Times are stratified over the global
/// batch and dealt out so that every micro-batch sees early and late ones.
fn batch_maker(
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
            batches: passes,
            tokens: attended.iter().sum::<usize>() as u64,
        })
    }
}
