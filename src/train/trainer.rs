//! The trainer: batches in, optimiser steps out.

use std::path::Path;
use std::sync::Arc;

use crate::config::TrainConfig;
use crate::data::{Corpus, Prefetch};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::eval::{EvalConfig, Evaluator, Perplexity};
use crate::graph::PARAMS;
use crate::graph::{Key, Storage};
#[cfg(not(target_arch = "wasm32"))]
use crate::model::Base;
use crate::model::trunks::unmodulated;
use crate::model::{Backbone, Family, Model, Network, Options};
use crate::objective::{self, Objective};
use crate::ops::{EMA, TRAINING};
use crate::progress::StepStats;
use crate::train::TrainSession;
use crate::train::batches::batch_maker;
use crate::train::blame::first_not_finite;
use crate::train::steps::{Progress, Steps, step_scalars};

/// Trains a model on a corpus.
///
/// ```
/// use mdlm::{Corpus, Device, Tokenizer, TrainConfig, Trainer, blocking::wait, progress::Silent};
///
/// let tokenizer = Tokenizer::characters("to be or not");
/// let corpus = Corpus::from_texts(tokenizer, &["to be or not to be"; 9], &["not to be or to be"; 2], 16, &mut Silent)?;
/// let mut config = TrainConfig::default();
/// (config.model.length, config.model.hidden_size, config.model.n_blocks) = (16, 32, 1);
/// (config.training.steps, config.training.batch) = (2, 4);
/// let mut trainer = wait(Trainer::new(&Device::cpu(), &config, corpus))?;
/// for _ in 0..2 {
///     println!("{:?}", wait(trainer.step())?);
/// }
/// let mut model = wait(trainer.model())?;
/// # Ok::<(), mdlm::Error>(())
/// ```
pub struct Trainer {
    pub(super) device: Device,
    pub(super) config: TrainConfig,
    pub(super) corpus: Corpus,
    objective: Arc<dyn Objective>,
    pub(super) family: Family,
    /// The published model that it is about, if it is no network of this crate's.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) base: Option<Base>,
    pub(super) storage: Storage,
    pub(super) at: Progress,
    steps: Steps,
    evaluator: Option<Evaluator>,
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
        config.resolve();
        let mut trainer = Self::assemble(device, config, corpus, Progress::default(), None).await?;
        let (seed, storage) = (trainer.config.seed, &mut trainer.storage);
        #[cfg(not(target_arch = "wasm32"))]
        if let Some(base) = &trainer.base {
            base.begin(storage, seed).await?;
            return Ok(trainer);
        }
        let network = trainer.family.network();
        network.initialise(storage, &[PARAMS, EMA], seed)?;
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
        self.check_settled()?;
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
        let conditioned = model.config()?.conditioned();
        for (weights, key) in weights.iter_mut().zip(self.network().layout.keys()) {
            let same = |other: &Key| other.key == key.key && other.shape == key.shape;
            let conditioning = key.key.contains("adaLN") || key.key.contains("sigma_map");
            match model.family.network().layout.keys().iter().position(same) {
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

    /// The network.
    pub(super) fn network(&self) -> &Network {
        self.family.network()
    }

    /// Everything but the weights, which are 0. `described`: the folder that describes a published model, if it is not
    /// the configuration's.
    pub(super) async fn assemble(
        device: &Device,
        config: TrainConfig,
        corpus: Corpus,
        at: Progress,
        described: Option<&Path>,
    ) -> Result<Self> {
        config.validate()?;
        #[cfg(target_arch = "wasm32")]
        let family = own(&config, device, described)?;
        #[cfg(not(target_arch = "wasm32"))]
        let (base, config) = Base::of(device, config, described, &corpus.tokenizer)?;
        #[cfg(not(target_arch = "wasm32"))]
        let family = match &base {
            Some(base) => base.family.clone(),
            None => Family::Own(Backbone::new(&config.model, device.slab_limit())?),
        };
        let network = family.network();
        let length = corpus.train.length();
        if length != config.model.length {
            let problem = format!("the corpus is packed to blocks of {length}");
            return Err(Error::config("model.length", config.model.length, problem));
        }
        let objective = objective::make(&config.model, &config.noise, &config.objective)?;
        let storage = Storage::new(device, &network.layout, &TRAINING).await?;
        let length = config.length_at(at.step);
        let session = session(device, network, &storage, &config, &objective, length).await?;
        let batches = Prefetch::new(
            at.step,
            batch_maker(
                &config,
                objective.clone(),
                corpus.train.clone(),
                network.trunk.frozen_token(),
            ),
        )?;
        Ok(Self {
            device: device.clone(),
            config,
            corpus,
            objective,
            family,
            #[cfg(not(target_arch = "wasm32"))]
            base,
            storage,
            at,
            steps: Steps::new(session, batches, at.step),
            evaluator: None,
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
        let Some(session) = &self.steps.session else {
            return Err(Error::Internal("there is no training graph".into()));
        };
        let graph = &session.graph.graph;
        graph.report(self.device.class(), &TRAINING)
    }

    /// Parameters of the model.
    pub fn parameters(&self) -> u64 {
        self.network().layout.parameters()
    }

    /// Those of them that are trained: with adapters, theirs alone.
    pub fn trained_parameters(&self) -> u64 {
        let layout = &self.network().layout;
        layout.trained_keys().map(|(_, key)| key.len() as u64).sum()
    }

    /// Does one optimiser step.
    ///
    /// # Errors
    /// [`Error::NonFinite`] after ten skipped steps in a row, [`Error::DeviceLost`] and its kin.
    pub async fn step(&mut self) -> Result<StepStats> {
        self.step_ahead(self.at.step + 1).await
    }

    /// [`Trainer::step`] for a caller that goes on until `until` steps are done: on a GPU the next step begins
    /// before this one's numbers are back. Up to there, what looks at the tensors is [`Error::Busy`];
    /// [`Trainer::settle`] ends it early.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub async fn step_ahead(&mut self, until: u64) -> Result<StepStats> {
        let length = self.config.length_at(self.at.step);
        let built = self.steps.session.as_ref();
        if built.map(|session| session.graph.call.options.length) != Some(length) {
            self.steps.session = None;
            let made = session(
                &self.device,
                self.family.network(),
                &self.storage,
                &self.config,
                &self.objective,
                length,
            );
            self.steps.session = Some(made.await?);
        }
        // the other graph is not built while steps of this one are on their way
        let until = match self.config.short_steps() {
            short if self.at.step < short => until.min(short),
            _ => until,
        };
        let Self {
            steps,
            storage,
            config,
            at,
            ..
        } = self;
        match steps.next(storage, config, at, until).await {
            Err(error @ Error::NonFinite { .. }) => Err(self.blamed(error).await),
            other => other,
        }
    }

    /// The error with the first tensor of the last step that was not finite, if there is room to compute it again.
    async fn blamed(&self, mut error: Error) -> Error {
        let first = self.first_not_finite().await;
        if let (Error::NonFinite { first: slot, .. }, Ok(first)) = (&mut error, first) {
            *slot = first;
        }
        error
    }

    async fn first_not_finite(&self) -> Result<Option<String>> {
        let (k, config, network) = (self.at.step - 1, &self.config, self.network());
        let (objective, blocks) = (&self.objective, self.corpus.train.clone());
        let frozen = network.trunk.frozen_token();
        let passes = batch_maker(config, objective.clone(), blocks, frozen)(k)?.passes;
        let scalars = (k * passes.len() as u64..).map(|micro| step_scalars(config, k, micro));
        first_not_finite(
            &self.device,
            network,
            &self.storage,
            &config.optim,
            objective.row_loss(),
            session_options(config, objective, config.length_at(k)),
            &scalars.zip(&passes).collect::<Vec<_>>(),
        )
        .await
    }

    /// Ends the step that [`Trainer::step_ahead`] has begun, if it has.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub async fn settle(&mut self) -> Result<Option<StepStats>> {
        match self.is_settled() {
            true => Ok(None),
            false => self.step().await.map(Some),
        }
    }

    /// An error if the tensors are ahead of [`Trainer::steps_done`].
    pub(super) fn check_settled(&self) -> Result<()> {
        self.steps.check_settled()
    }

    /// Whether no step is on its way.
    pub fn is_settled(&self) -> bool {
        self.steps.is_settled()
    }

    /// Perplexity of the moving average on the held-out blocks.
    ///
    /// # Errors
    /// [`Error::Busy`] while a step is on its way, [`Error::DeviceLost`] and its kin.
    pub async fn validate(&mut self, progress: impl FnMut(u64, u64)) -> Result<Perplexity> {
        self.check_settled()?;
        let (training, model) = (&self.config.training, &self.config.model);
        let evaluator = match &mut self.evaluator {
            Some(made) => made,
            slot => {
                let batch = training.batch.min(self.corpus.valid.count().max(1));
                let made = Evaluator::new(
                    &self.device,
                    self.family.network(),
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
    /// [`Error::Busy`] while a step is on its way, and what the device refuses.
    pub async fn model(&self) -> Result<Model> {
        self.check_settled()?;
        let layout = &self.network().layout;
        let mut storage = Storage::new(&self.device, layout, &[PARAMS]).await?;
        for (index, slab) in layout.slabs().iter().enumerate() {
            // what is not trained has no average
            let arena = if slab.frozen { PARAMS } else { EMA };
            storage
                .copy_slab(PARAMS, index, &self.storage, arena)
                .await?;
        }
        let mut model = Model::of(&self.device, self.family.clone(), storage);
        model.tokenizer = Some(self.corpus.tokenizer.clone());
        model.noise = self.config.noise.clone();
        model.objective = self.config.objective.clone();
        Ok(model)
    }
}

/// The network of a configuration: there are no folders to read another from.
#[cfg(target_arch = "wasm32")]
fn own(config: &TrainConfig, device: &Device, _: Option<&Path>) -> Result<Family> {
    match config.base.path.as_str() {
        "" => Ok(Family::Own(Backbone::new(
            &config.model,
            device.slab_limit(),
        )?)),
        path => {
            let problem = "there are no files here: train on a published model natively";
            Err(Error::config("base.path", path, problem))
        }
    }
}

/// The training graph over sequences of `length` tokens, as many tokens a micro-batch at every length.
async fn session(
    device: &Device,
    network: &Network,
    storage: &Storage,
    config: &TrainConfig,
    objective: &Arc<dyn Objective>,
    length: usize,
) -> Result<TrainSession> {
    let options = session_options(config, objective, length);
    let (optim, loss) = (&config.optim, objective.row_loss());
    TrainSession::new(device, network, storage, optim, loss, options, None).await
}

fn session_options(config: &TrainConfig, objective: &Arc<dyn Objective>, length: usize) -> Options {
    let batch = config.training.batch * config.model.length / length;
    Options {
        recompute: config.training.recompute,
        ..objective.options(batch, length)
    }
}
