//! Models from files: of a folder, or wherever a program keeps them.

#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;

use crate::config::LoraConfig;
use crate::data::{SpecialNames, Tokenizer};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::graph::Storage;
use crate::io::files::{Files, read_text};
#[cfg(not(target_arch = "wasm32"))]
use crate::io::{
    checkpoint::{self, EMA, resolve},
    files::Folder,
    settings,
};
use crate::model::family::{Blockwise, Foreign};
use crate::model::pretrained::{self, Described};
use crate::model::published::{CONFIG, MAX_CONFIG_BYTES, TOKENIZER, WEIGHTS};
use crate::model::{Description, Family, Model, Network, Trunk, fitting};
use crate::process::Hybrid;
use crate::program::Element;
#[cfg(not(target_arch = "wasm32"))]
use crate::{
    config::{ModelKind, TrainConfig},
    model::adapters,
    model::pretrained::GgufModel,
};

/// How to load a model, where its files leave it open or say something else.
///
/// ```no_run
/// use mdlm::{Device, Model, blocking::wait, model::Load};
///
/// let half = Load { weights: Some("f16".parse()?), ..Load::default() };
/// let model = wait(Model::load_with(&Device::cpu(), "models/llada".as_ref(), &half))?;
/// println!("a {} of {} bytes", model.model_type(), model.info().bytes);
/// # Ok::<(), mdlm::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// How matrices are kept on the device; `None`: those of a GGUF file as the file keeps them, others in f32.
    pub weights: Option<Element>,
    /// Id of another program's mask.
    pub mask: Option<u32>,
    /// Whether the logits of another program's model are about the token behind their row.
    pub shift: Option<bool>,
    /// Positions of the blocks of another program's model whose rows do not see the blocks behind theirs (block
    /// diffusion); 0: every row sees all.
    pub block: Option<usize>,
    /// What another program's model is, where its `model_type` says something else: `a2d-qwen2` for a Qwen2 that was
    /// turned into a denoiser under its old name.
    pub model_type: Option<String>,
    /// Folder of low-rank adapters on another program's model, as PEFT writes it.
    pub adapter: Option<std::path::PathBuf>,
}

impl Model {
    /// Loads a model from disk: one of our checkpoints (its moving average), a run's folder (the checkpoint
    /// that [`crate::io::checkpoint::resolve`] takes), or a folder in the published layout of this crate's family or of
    /// those that [`pretrained`](crate::model::pretrained) knows.
    ///
    /// # Errors
    /// [`crate::Error::Checkpoint`] that names file and tensor, [`crate::Error::Io`], or what the device refuses.
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn load(device: &Device, path: &Path) -> Result<Self> {
        Self::load_with(device, path, &Load::default()).await
    }

    /// As [`Model::load`], in another precision, or with another mask or shift than its files tell.
    ///
    /// # Errors
    /// As [`Model::load`]; [`crate::Error::Argument`] for a mask, shift, block or type of this crate's family, whose files tell.
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn load_with(device: &Device, path: &Path, how: &Load) -> Result<Self> {
        let (found, folder) = find_in(path, how).await?;
        Self::build(device, &folder, found, how).await
    }

    /// As [`Model::load_with`], from the files of a published model, wherever they lie.
    ///
    /// # Errors
    /// As [`Model::load_with`]; [`crate::Error::Cancelled`] where whoever gave the files wants it to end.
    pub async fn load_files(device: &Device, files: &impl Files, how: &Load) -> Result<Self> {
        let found = find_published(files, how).await?;
        Self::build(device, files, found, how).await
    }

    /// Reads the weights of what was found.
    async fn build(device: &Device, files: &impl Files, found: Found, how: &Load) -> Result<Self> {
        let Found {
            kind,
            tokenizer,
            weights,
            #[cfg(not(target_arch = "wasm32"))]
            adapters,
        } = found;
        #[cfg(target_arch = "wasm32")]
        let lora = LoraConfig::default();
        #[cfg(not(target_arch = "wasm32"))]
        let lora = adapters
            .as_ref()
            .map(|found| found.config.clone())
            .unwrap_or_default();
        match kind {
            Kind::Own(described) => {
                let element = how.weights.unwrap_or_default();
                let made = described.build(device, element, files, &weights).await?;
                Ok(Self {
                    tokenizer,
                    noise: described.noise,
                    objective: described.objective,
                    ..Self::from_parts(device, made.0, made.1)
                })
            }
            Kind::Other(other) => {
                let opened = other.open(device, files, &weights, how.weights, &lora);
                #[cfg_attr(target_arch = "wasm32", expect(unused_mut))]
                let (network, mut storage) = opened.await?;
                #[cfg(not(target_arch = "wasm32"))]
                if let Some(found) = &adapters {
                    adapters::load(&network, &found.weights, &mut storage).await?;
                }
                let family = Family::Other(other.model(tokenizer.as_ref(), network).into());
                Ok(Self {
                    tokenizer,
                    ..Self::of(device, family, storage)
                })
            }
        }
    }
}

/// What some files hold, all but the weights read.
pub(super) struct Found {
    pub(super) kind: Kind,
    pub(super) tokenizer: Option<Tokenizer>,
    /// Name of the weights' file.
    pub(super) weights: String,
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) adapters: Option<Adapters>,
}

/// Adapters on a model: what they are, and the file of their matrices.
#[cfg(not(target_arch = "wasm32"))]
pub(super) struct Adapters {
    pub(super) config: LoraConfig,
    weights: std::path::PathBuf,
}

/// Whose model it is.
pub(super) enum Kind {
    Own(Description),
    Other(Other),
}

/// What is known of another program's model before its weights are read.
pub(super) struct Other {
    pub(super) described: Described,
    pub(super) mask_index: u32,
    pub(super) shift: bool,
    pub(super) block: Option<usize>,
    /// Its file, if it is one of that kind.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) gguf: Option<Box<GgufModel>>,
}

impl Other {
    fn new(mut described: Described, mask_index: u32, how: &Load) -> Self {
        if let Some(trunk) = described.trunk.for_mask(mask_index) {
            described.trunk = trunk;
        }
        Self {
            mask_index,
            shift: how.shift.unwrap_or(described.shift),
            block: how.block.or(described.block).filter(|&block| block > 0),
            described,
            #[cfg(not(target_arch = "wasm32"))]
            gguf: None,
        }
    }

    /// The network with its weights, room for adapters included.
    async fn open(
        &self,
        device: &Device,
        files: &impl Files,
        name: &str,
        weights: Option<Element>,
        lora: &LoraConfig,
    ) -> Result<(Network, Storage)> {
        #[cfg(not(target_arch = "wasm32"))]
        if let Some(model) = &self.gguf {
            return model.load(device, weights).await;
        }
        let trunk = self.described.trunk.clone();
        let room = device.room();
        let network = Network::adapted(trunk, room, weights.unwrap_or_default(), lora);
        let network = network.map_err(|error| match error {
            Error::Shape { .. } => {
                let problem = format!("its sizes cannot be: {error}");
                Error::checkpoint(&files.path(CONFIG), None, problem)
            }
            other => other,
        })?;
        let storage = network.stored(device, files, name).await?;
        Ok((network, storage))
    }

    /// The model over a network.
    pub(super) fn model(self, tokenizer: Option<&Tokenizer>, network: Network) -> Foreign {
        let ids = ids(tokenizer, &*network.trunk);
        let hybrid = |noise| Hybrid::new(noise, ids, self.mask_index);
        Foreign {
            ids,
            hybrid: self.described.noise.map(hybrid),
            sampling: self.described.sampling(self.block),
            model_type: self.described.model_type,
            network,
            mask_index: self.mask_index,
            shift: self.shift,
            blocks: self.block.map(|size| Blockwise {
                size,
                from_start: self.described.from_start,
            }),
        }
    }
}

/// Looks for a model on disk: what [`Model::load_with`] takes, and the folder that it lies in.
#[cfg(not(target_arch = "wasm32"))]
pub(super) async fn find_in(path: &Path, how: &Load) -> Result<(Found, Folder)> {
    if path.is_file() {
        let (folder, name) = Folder::of(path)?;
        return Ok((in_file(path, &folder, name, how).await?, folder));
    }
    let folder = Folder(path.to_owned());
    if as_published(&folder) {
        let mut found = find_published(&folder, how).await?;
        if let Some(dir) = &how.adapter {
            found.adapters = Some(Adapters {
                config: adapters::read_config(dir)?,
                weights: dir.join(adapters::WEIGHTS),
            });
        }
        return Ok((found, folder));
    }
    how.refuse_told()?;
    let folder = Folder(resolve(path)?);
    let config = settings::read(&folder.path(checkpoint::CONFIG))?;
    if config.model.kind == ModelKind::Published {
        return of_run(folder, &config).await;
    }
    let names = (&config.data).into();
    let described = Description {
        model: config.model,
        noise: config.noise,
        objective: config.objective,
    };
    let found = Found {
        tokenizer: Some(fitted(&folder, &names, &described).await?),
        kind: Kind::Own(described),
        weights: EMA.to_owned(),
        adapters: None,
    };
    Ok((found, folder))
}

/// Looks for a model in one file.
#[cfg(not(target_arch = "wasm32"))]
async fn in_file(path: &Path, folder: &Folder, name: &str, how: &Load) -> Result<Found> {
    if let Some(dir) = &how.adapter {
        let problem = "adapters are for the folders of published models, not for single files";
        return Err(Error::argument("adapter", dir.display(), problem));
    }
    let as_what = how.model_type.as_deref();
    if path.extension().is_some_and(|e| e == "safetensors") {
        if !as_what.is_some_and(|kind| kind.eq_ignore_ascii_case("smdm")) {
            let problem = "weights alone are no model: give the folder that they lie in, with its config.json, or say \
                           by model_type (--model-type smdm) that it is SMDM's, whose files have none";
            return Err(Error::checkpoint(path, None, problem));
        }
        return described(folder, name, None, how).await;
    }
    let model = GgufModel::open(path, how.model_type.as_deref())?;
    let (m, described) = (&model.file.metadata, model.described.clone());
    let (tokenizer, mask) = pretrained::gguf_tokenizer(path, m, &described, how.mask)?;
    let other = Other {
        gguf: Some(Box::new(model)),
        ..Other::new(described, mask, how)
    };
    Ok(Found {
        kind: Kind::Other(other),
        tokenizer,
        weights: WEIGHTS.to_owned(),
        adapters: None,
    })
}

/// What a checkpoint of a run on a published model holds: all of its weights, or adapters alone.
#[cfg(not(target_arch = "wasm32"))]
pub(super) async fn of_run(folder: Folder, config: &TrainConfig) -> Result<(Found, Folder)> {
    let how = Load {
        mask: Some(config.model.mask_index),
        shift: Some(config.objective.shift),
        block: Some(config.objective.block_size),
        model_type: config.base.model_type.clone(),
        ..Load::default()
    };
    // its own copy of the description, so that the model's folder is needed for the weights alone
    let mut found = find_published(&folder, &how).await?;
    if config.lora.is_none() {
        found.weights = EMA.to_owned();
        return Ok((found, folder));
    }
    found.adapters = Some(Adapters {
        config: config.lora.clone(),
        weights: folder.path(EMA),
    });
    Ok((found, Folder((&config.base.path).into())))
}

/// Looks for a published model.
pub(super) async fn find_published(files: &impl Files, how: &Load) -> Result<Found> {
    let damaged = |problem: String| Error::checkpoint(&files.path(CONFIG), None, problem);
    let text = read_text(files, CONFIG, MAX_CONFIG_BYTES).await?;
    if is_foreign(&text).map_err(damaged)? || how.model_type.is_some() {
        return described(files, WEIGHTS, Some(&text), how).await;
    }
    how.refuse_told()?;
    let (described, names) = Description::parse(&text).map_err(damaged)?;
    let tokenizer = match files.has(TOKENIZER) {
        true => Some(fitted(files, &names, &described).await?),
        false => None,
    };
    Ok(Found {
        kind: Kind::Own(described),
        tokenizer,
        weights: WEIGHTS.to_owned(),
        #[cfg(not(target_arch = "wasm32"))]
        adapters: None,
    })
}

/// Another program's model, from the text of its `config.json` if it has one.
async fn described(
    files: &impl Files,
    name: &str,
    config: Option<&str>,
    how: &Load,
) -> Result<Found> {
    let as_what = how.model_type.as_deref();
    let described = pretrained::described(files, name, config, as_what).await?;
    if let (Some(given), Some(own)) = (how.mask, described.trunk.mask_index())
        && given != own
        && described.trunk.for_mask(given).is_none()
    {
        let problem = format!("the mask of such a model is {own}, which its head does not have");
        return Err(Error::argument("mask", given, problem));
    }
    let (tokenizer, mask_index) = pretrained::tokenizer(files, &described, how.mask).await?;
    Ok(Found {
        kind: Kind::Other(Other::new(described, mask_index, how)),
        tokenizer,
        weights: name.to_owned(),
        #[cfg(not(target_arch = "wasm32"))]
        adapters: None,
    })
}

impl Load {
    /// Refuses what only another program's model leaves open.
    fn refuse_told(&self) -> Result<()> {
        if let Some(dir) = &self.adapter {
            let problem = "adapters are for published models of the Llama family";
            return Err(Error::argument("adapter", dir.display(), problem));
        }
        if self.mask.is_none()
            && self.shift.is_none()
            && self.block.is_none()
            && self.model_type.is_none()
        {
            return Ok(());
        }
        let problem = "are for models of other programs; this one's files tell";
        Err(Error::argument(
            "mask, shift, block or model_type",
            "given",
            problem,
        ))
    }
}

/// How many of a network's rows stand for something.
pub(super) fn ids(tokenizer: Option<&Tokenizer>, trunk: &dyn Trunk) -> usize {
    let rows = trunk.vocab_size();
    tokenizer.map_or(rows, |t| t.ids().min(rows))
}

/// The tokenizer among some files, whose ids must be the model's.
async fn fitted(
    files: &impl Files,
    names: &SpecialNames,
    described: &Description,
) -> Result<Tokenizer> {
    described.model.validate()?;
    let tokenizer = Tokenizer::from_files(files, TOKENIZER, names).await?;
    fitting(&files.path(TOKENIZER), tokenizer, &described.model)
}

/// Whether a folder is laid out as models are published: checkpoints of runs on these hold a `config.json` too.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn as_published(folder: &Folder) -> bool {
    folder.has(CONFIG) && !folder.has(checkpoint::CONFIG)
}

/// Whether a folder holds another program's model, as it was published.
///
/// # Errors
/// [`Error::Checkpoint`] for a `config.json` that is damaged, [`Error::Io`].
#[cfg(not(target_arch = "wasm32"))]
pub fn is_published(dir: &Path) -> Result<bool> {
    let folder = Folder(dir.to_owned());
    if !as_published(&folder) {
        return Ok(false);
    }
    let text = crate::blocking::wait(read_text(&folder, CONFIG, MAX_CONFIG_BYTES))?;
    is_foreign(&text).map_err(|problem| Error::checkpoint(&folder.path(CONFIG), None, problem))
}

/// Whether a `config.json` is that of another program's model.
fn is_foreign(text: &str) -> Result<bool, String> {
    let model_type = pretrained::model_type(text)?;
    Ok(!matches!(model_type.as_str(), "mdlm" | "ar" | "bd3lm"))
}
