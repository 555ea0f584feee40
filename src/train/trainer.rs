//! The trainer: batches in, optimiser steps out.

use std::path::Path;
use std::sync::Arc;

use crate::config::{Moments, Precision, TrainConfig};
use crate::data::{Corpus, Prefetch};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::eval::Evaluator;
use crate::graph::PARAMS;
use crate::graph::{Key, Storage};
#[cfg(not(target_arch = "wasm32"))]
use crate::model::Base;
use crate::model::trunks::unmodulated;
use crate::model::{Backbone, Family, Model, Network, Options};
use crate::objective::{self, Objective};
use crate::ops::{EMA, LOSS_SCALE, TRAINING};
use crate::process::LossScale;
use crate::program::Element;
use crate::progress::StepStats;
use crate::ranks::{Alone, Ranks};
use crate::train::TrainSession;
#[cfg(not(target_arch = "wasm32"))]
use crate::train::agree::Card;
use crate::train::batches::batch_maker;
use crate::train::blame::first_not_finite;
use crate::train::shared::{gather_owned, several, shared, told};
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
    pub(super) objective: Arc<dyn Objective>,
    pub(super) family: Family,
    /// The published model that it is about, if it is no network of this crate's.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) base: Option<Base>,
    pub(super) storage: Storage,
    pub(super) at: Progress,
    pub(super) ranks: Arc<dyn Ranks>,
    steps: Steps,
    pub(super) evaluator: Option<Evaluator>,
}

impl Trainer {
    /// A fresh run. The vocabulary comes from the corpus, the warm-up is resolved.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key, [`Error::Unsupported`] or [`Error::OutOfMemory`] if the
    /// device cannot hold the run.
    pub async fn new(device: &Device, config: &TrainConfig, corpus: Corpus) -> Result<Self> {
        Self::new_among(Arc::new(Alone), device, config, corpus).await
    }

    /// One of several trainers of a fresh run, see [`Ranks`]: each has its share of the micro-batches of a step, whose
    /// global batch is `batch * accumulation` times the number of ranks. All ranks make the same calls.
    ///
    /// # Errors
    /// As [`Trainer::new`]; [`Error::RanksDiffer`] if their programs, settings, corpora or tokenizers do,
    /// [`Error::RankLost`] if one does not come.
    pub async fn new_among(
        ranks: Arc<dyn Ranks>,
        device: &Device,
        config: &TrainConfig,
        corpus: Corpus,
    ) -> Result<Self> {
        let made = Self::begin(ranks.clone(), device, config, corpus).await;
        told(&*ranks, made)
    }

    async fn begin(
        ranks: Arc<dyn Ranks>,
        device: &Device,
        config: &TrainConfig,
        corpus: Corpus,
    ) -> Result<Self> {
        let mut config = config.clone();
        config.model.vocab_size = corpus.tokenizer.vocab_size();
        config.model.mask_index = corpus.tokenizer.mask_index();
        config.resolve();
        let at = Progress {
            loss_scale: (config.training.precision == Precision::F16).then(LossScale::default),
            ..Progress::default()
        };
        let mut trainer = Self::assemble(ranks, device, config, corpus, at, None).await?;
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
        ranks: Arc<dyn Ranks>,
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
        let family = with_moments(family, &config, device)?;
        #[cfg(not(target_arch = "wasm32"))]
        if ranks.size() > 1 {
            let alike = Card::new(&config, &corpus, described, device)?.compare(&*ranks)?;
            if !alike && !config.training.shard && ranks.rank() == 0 {
                log::warn!(
                    "the ranks' devices differ and round differently, so their weights drift apart: take training.shard=true"
                );
            }
        }
        let family = shared(family, &config, &*ranks)?;
        let network = family.network();
        let length = corpus.train.length();
        if length != config.model.length {
            let problem = format!("the corpus is packed to blocks of {length}");
            return Err(Error::config("model.length", config.model.length, problem));
        }
        check_precision(&config, device, network)?;
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
                (ranks.rank(), ranks.size()),
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
            steps: Steps::new(session, batches, ranks.clone(), at.step),
            ranks,
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
        // a page has no room for the search
        let mine = match cfg!(target_arch = "wasm32") {
            true => None,
            false => self.first_not_finite().await.ok().flatten(),
        };
        if let Error::NonFinite { first, .. } = &mut error {
            *first = self.first_of_all(mine);
        }
        error
    }

    /// What the first rank that has found something has found.
    fn first_of_all(&self, mine: Option<String>) -> Option<String> {
        if !several(&*self.ranks) {
            return mine;
        }
        let all = self
            .ranks
            .gather(mine.unwrap_or_default().as_bytes())
            .ok()?;
        let (rank, found) = all
            .iter()
            .enumerate()
            .find(|(_, found)| !found.is_empty())?;
        Some(format!(
            "at rank {rank}: {}",
            String::from_utf8_lossy(found)
        ))
    }

    async fn first_not_finite(&self) -> Result<Option<String>> {
        let (k, config, network) = (self.at.step - 1, &self.config, self.network());
        let (objective, blocks) = (&self.objective, self.corpus.train.clone());
        let frozen = network.trunk.frozen_token();
        let (rank, size) = (self.ranks.rank(), self.ranks.size());
        let turn = k * size as u64 + rank as u64;
        let passes =
            batch_maker(config, objective.clone(), blocks, frozen, (rank, size))(k)?.passes;
        let scale = self.at.loss_scale.map_or(1.0, |scale| scale.last());
        let of = |micro| step_scalars(config, k, micro).with(LOSS_SCALE, scale);
        let scalars = (turn * passes.len() as u64..).map(of);
        first_not_finite(
            &self.device,
            network,
            &self.storage,
            &config.optim,
            objective.row_loss(),
            options(config, &**objective, config.length_at(k)),
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

    /// Drops what no checkpoint holds, so that a run goes on as one that begins there.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn forget(&mut self) {
        self.steps.forget();
    }

    /// Whether no step is on its way.
    pub fn is_settled(&self) -> bool {
        self.steps.is_settled()
    }

    /// The moving average as a model of its own, for sampling. Of ranks that share it out (`training.shard`), all make
    /// this call.
    ///
    /// # Errors
    /// [`Error::Busy`] while a step is on its way, and what the device refuses.
    pub async fn model(&self) -> Result<Model> {
        self.check_settled()?;
        let layout = &self.network().layout;
        let mut storage = Storage::new(&self.device, layout, &[PARAMS]).await?;
        if self.is_shared() {
            let keep = |slab, data: Vec<f32>| storage.write_slab(PARAMS, slab, &data);
            gather_owned(&*self.ranks, &self.storage, EMA, keep).await?;
        }
        for (index, slab) in layout.slabs().iter().enumerate() {
            if self.is_shared() && !slab.frozen {
                continue;
            }
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

/// The network with its moments kept as a configuration says.
pub(super) fn with_moments(
    family: Family,
    config: &TrainConfig,
    device: &Device,
) -> Result<Family> {
    match config.optim.moments {
        Moments::F32 => Ok(family),
        Moments::Bf16 => family.with_state(device, Element::Bf16),
    }
}

/// An error if half precision is asked for where there is none.
pub(super) fn check_precision(
    config: &TrainConfig,
    device: &Device,
    network: &Network,
) -> Result<()> {
    let problem = match config.training.precision {
        Precision::F32 => return Ok(()),
        _ if !network.trunk.rounds() => {
            "is for networks of this crate: train published models in f32"
        }
        _ if !device.has_f16() => {
            "needs 16-bit floats in shaders, which the device has not: train in f32, or on another device"
        }
        _ => return Ok(()),
    };
    Err(Error::config("training.precision", "f16", problem))
}

/// How the training graph over sequences of `length` tokens is built.
pub(super) fn options(config: &TrainConfig, objective: &dyn Objective, length: usize) -> Options {
    let batch = config.training.batch * config.model.length / length;
    Options {
        recompute: config.training.recompute,
        precision: match config.training.precision {
            Precision::F32 => Element::F32,
            Precision::F16 => Element::F16,
        },
        ..objective.options(batch, length)
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
    let options = options(config, &**objective, length);
    let (optim, loss) = (&config.optim, objective.row_loss());
    TrainSession::new(device, network, storage, optim, loss, options, None).await
}
