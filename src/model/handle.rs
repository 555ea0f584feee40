//! A model ready for use: weights on a device, tokenizer, and the graphs it has been asked for.

use crate::config::{ModelConfig, NoiseConfig, ObjectiveConfig, SampleConfig};
use crate::data::Tokenizer;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::graph::FORWARD;
use crate::graph::PARAMS;
use crate::graph::{Session, Storage};
use crate::model::pass::check_tokens;
use crate::model::{
    Backbone, Blockwise, Drawer, Family, LogitsGraph, Network, Options, Pass, Sights, Vision,
};
use crate::ops::visibility;
use crate::program::Step;

/// Size of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// Number of parameters.
    pub parameters: u64,
    /// Bytes of the weights on the device, gaps between tensors included.
    pub bytes: u64,
}

/// A denoiser, or an autoregressive model, with its weights on a device.
///
/// ```
/// use mdlm::{Device, Model, ModelConfig, blocking::wait};
///
/// let config = ModelConfig {
///     vocab_size: 20,
///     mask_index: 19,
///     length: 16,
///     ..ModelConfig::preset("nano")?
/// };
/// // random weights; Model::load reads a checkpoint or a published model
/// let mut model = wait(Model::new(&Device::cpu(), &config, 1))?;
/// let logits = wait(model.logits(&[19; 16], &[0.0]))?;
/// assert_eq!(logits.len(), 16 * 20);
/// # Ok::<(), mdlm::Error>(())
/// ```
pub struct Model {
    pub(crate) device: Device,
    pub(crate) family: Family,
    pub(crate) storage: Storage,
    pub(crate) tokenizer: Option<Tokenizer>,
    pub(crate) noise: NoiseConfig,
    pub(crate) objective: ObjectiveConfig,
    pub(crate) drawer: Option<Drawer>,
    pub(super) logits: Option<([usize; 2], LogitsGraph, Session)>,
}

impl Model {
    /// A model with random weights, which depend on the seed and not on the device.
    ///
    /// # Errors
    /// [`Error::Config`], or what the device refuses.
    pub async fn new(device: &Device, config: &ModelConfig, seed: u64) -> Result<Self> {
        let backbone = Backbone::new(config, device.slab_limit())?;
        let mut storage = Storage::new(device, &backbone.layout, &[PARAMS]).await?;
        backbone.network.initialise(&mut storage, &[PARAMS], seed)?;
        Ok(Self::from_parts(device, backbone, storage))
    }

    pub(crate) fn from_parts(device: &Device, backbone: Backbone, storage: Storage) -> Self {
        Self::of(device, Family::Own(backbone), storage)
    }

    pub(crate) fn of(device: &Device, family: Family, storage: Storage) -> Self {
        Self {
            device: device.clone(),
            objective: family.objective(),
            family,
            storage,
            tokenizer: None,
            noise: NoiseConfig::default(),
            drawer: None,
            logits: None,
        }
    }

    /// What a graph over the model is built from.
    pub(crate) fn parts(&mut self) -> (&Device, &Network, &mut Storage) {
        (&self.device, self.family.network(), &mut self.storage)
    }

    /// Shape of a model of this crate's family.
    ///
    /// # Errors
    /// [`Error::Argument`] for another program's model.
    pub fn config(&self) -> Result<&ModelConfig> {
        Ok(&self.family.own()?.config)
    }

    /// What it is: `mdlm` and `ar` are this crate's family, else the `model_type` of its configuration.
    pub fn model_type(&self) -> &str {
        match &self.family {
            Family::Own(backbone) if backbone.config.autoregressive() => "ar",
            Family::Own(_) => "mdlm",
            Family::Other(foreign) => &foreign.model_type,
        }
    }

    /// How another program's model is sampled unless told otherwise; the library's defaults for this crate's family.
    pub fn sampling(&self) -> SampleConfig {
        match &self.family {
            Family::Own(_) => SampleConfig::default(),
            Family::Other(foreign) => foreign.sampling.clone(),
        }
    }

    /// Logits of a row; a tokenizer may have fewer ids.
    pub fn vocab_size(&self) -> usize {
        self.family.network().trunk.vocab_size()
    }

    /// Id of the mask token.
    pub fn mask_index(&self) -> u32 {
        self.family.mask_index()
    }

    /// Tokens of the longest sequence.
    pub fn length(&self) -> usize {
        self.family.network().trunk.length()
    }

    /// Whether a token is predicted from those before it only.
    pub fn autoregressive(&self) -> bool {
        matches!(&self.family, Family::Own(backbone) if backbone.config.autoregressive())
    }

    /// The noise it was trained with, or what [`Model::set_noise`] has put in its place.
    pub fn noise(&self) -> &NoiseConfig {
        &self.noise
    }

    /// Writes the model in the published layout: a folder with `config.json`, `model.safetensors` and, if
    /// it has a tokenizer, `tokenizer.json`; see [`Published::save`](crate::model::Published::save).
    ///
    /// # Errors
    /// As [`Published::save`](crate::model::Published::save); [`Error::Argument`] for values too large for the precision.
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn save(
        &self,
        dir: &std::path::Path,
        precision: crate::io::safetensors::Precision,
    ) -> Result<()> {
        self.publish(precision).await?.save(dir, None, None)
    }

    /// Takes another noise schedule, which must go with the model's objective: a network that does not
    /// see time is good under any.
    ///
    /// # Errors
    /// [`Error::Config`] for values that cannot be or do not go together, [`Error::Argument`] for another program's
    /// model.
    pub fn set_noise(&mut self, noise: NoiseConfig) -> Result<()> {
        self.objective.validate(&noise, self.config()?)?;
        self.noise = noise;
        Ok(())
    }

    /// Parameterisation and loss that it was trained with.
    pub fn objective(&self) -> &ObjectiveConfig {
        &self.objective
    }

    /// Its tokenizer, if it came with one.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
    }

    /// What stands before and behind a text: what begins and ends one in this crate's family, what the tokenizer itself
    /// puts there in another program's model.
    pub fn frame(&self) -> [Option<u32>; 2] {
        match (&self.family, &self.tokenizer) {
            (_, None) => [None; 2],
            (Family::Own(_), Some(tokenizer)) => [Some(tokenizer.bos()), Some(tokenizer.eos())],
            (Family::Other(_), Some(tokenizer)) => tokenizer.frame(),
        }
    }

    /// How many parameters it has, and how many bytes they take.
    pub fn info(&self) -> ModelInfo {
        let layout = &self.family.network().layout;
        let slabs = layout.slabs().iter();
        ModelInfo {
            parameters: layout.parameters(),
            bytes: slabs.map(|slab| slab.bytes_in(PARAMS)).sum(),
        }
    }

    /// The blocks that it was trained to fill one after the other, if that is how.
    pub(crate) fn blocks(&self) -> Option<Blockwise> {
        match &self.family {
            Family::Own(_) => match self.objective.block_size {
                0 => None,
                size => Some(Blockwise {
                    size,
                    from_start: true,
                }),
            },
            Family::Other(foreign) => foreign.blocks,
        }
    }

    /// What its rows see.
    pub(crate) fn vision(&self) -> Vision {
        match self.blocks() {
            _ if self.autoregressive() => Vision::Causal,
            Some(_) => Vision::Blocks,
            None => Vision::All,
        }
    }

    /// Raw logits `[batch, length, V]` of noisy sequences `xt` `[batch, length]`, one sigma for each
    /// sequence (ignored without time conditioning). A model of block diffusion has its blocks from the beginning on.
    ///
    /// # Errors
    /// [`Error::Token`], [`Error::Shape`], [`Error::Argument`] for a length above the model's.
    pub async fn logits(&mut self, xt: &[u32], sigma: &[f64]) -> Result<Vec<f32>> {
        let batch = sigma.len();
        if batch == 0 || xt.is_empty() || !xt.len().is_multiple_of(batch) {
            let expected = format!("a positive multiple of {batch} sequences");
            return Err(Error::Shape {
                op: "logits",
                tensor: "xt".into(),
                expected,
                got: vec![xt.len()],
            });
        }
        check_tokens(xt, self.vocab_size())?;
        let key = [batch, xt.len() / batch];
        let blocks = self.blocks();
        let sights = blocks.map(|blocks| visibility::blocks(key[1], blocks.size));
        let (_, graph, session) = match &mut self.logits {
            Some(made) if made.0 == key => made,
            slot => {
                let mut options = Options::of(batch, key[1]);
                if blocks.is_some() {
                    options.sights = Sights::Given { rows: key[1] };
                }
                let mut g = LogitsGraph::new(self.family.network(), options)?;
                let outputs = [g.logits];
                let session =
                    Session::new(&self.device, &mut g.graph, &self.storage, PARAMS, &outputs)
                        .await?;
                slot.insert((key, g, session))
            }
        };
        let pass = Pass {
            conditioning: sigma.to_vec(),
            sights: sights.unwrap_or_default(),
            ..Pass::of(xt)
        };
        let trunk = &*self.family.network().trunk;
        graph.call.write(session, trunk, &pass)?;
        let logits = session
            .run(&mut self.storage, &Step::default(), &[FORWARD])
            .await?;
        Ok(logits.iter().map(|&x| x as f32).collect())
    }

    /// Negative log-likelihood of each token but the first given those before it, nats, under an
    /// autoregressive model.
    ///
    /// # Errors
    /// [`Error::Argument`] for a denoiser, and all of [`Model::logits`].
    pub async fn next_token_nll(&mut self, tokens: &[u32]) -> Result<Vec<f64>> {
        if !self.autoregressive() {
            let problem = "only an autoregressive model gives text a likelihood token by token";
            return Err(Error::argument("model.kind", "dit", problem));
        }
        if tokens.len() < 2 {
            return Ok(Vec::new());
        }
        let (vocab, mask) = (self.vocab_size(), self.mask_index() as usize);
        let logits = self.logits(tokens, &[0.0]).await?;
        let rows = logits.chunks_exact(vocab).zip(&tokens[1..]);
        let nll = |(row, &next): (&[f32], &u32)| {
            let z = || {
                let kept = row.iter().enumerate().filter(|&(v, _)| v != mask);
                kept.map(|(_, &z)| f64::from(z))
            };
            let top = z().fold(f64::MIN, f64::max);
            let lse = top + z().map(|z| (z - top).exp()).sum::<f64>().ln();
            lse - f64::from(row[next as usize])
        };
        Ok(rows.map(nll).collect())
    }
}

/// An error that names the file unless the tokenizer's ids are the model's.
pub(crate) fn fitting(
    path: &std::path::Path,
    tokenizer: Tokenizer,
    config: &ModelConfig,
) -> Result<Tokenizer> {
    let ids = (tokenizer.vocab_size(), tokenizer.mask_index());
    if ids != (config.vocab_size, config.mask_index) {
        let problem = format!(
            "has {} ids with the mask at {}, the model {} with the mask at {}",
            ids.0, ids.1, config.vocab_size, config.mask_index
        );
        return Err(Error::checkpoint(path, None, problem));
    }
    Ok(tokenizer)
}
