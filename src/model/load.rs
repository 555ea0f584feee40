//! Models from folders.

use std::path::{Path, PathBuf};

use crate::config::{LoraConfig, ModelKind, TrainConfig};
use crate::data::{SpecialNames, Tokenizer};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::graph::{PARAMS, Storage};
use crate::io::checkpoint::{CONFIG, EMA, read_text, resolve};
use crate::io::settings;
use crate::model::family::{Blockwise, Foreign};
use crate::model::pretrained::{self, Described};
use crate::model::published::MAX_CONFIG_BYTES;
use crate::model::{Description, Family, Model, Network, Trunk, adapters, fitting};
use crate::program::Element;

/// How to load a model, where its files leave it open or say something else.
///
/// ```no_run
/// use mdlm::{Device, Model, blocking::wait, model::Load};
///
/// let half = Load { weights: "f16".parse()?, ..Load::default() };
/// let model = wait(Model::load_with(&Device::cpu(), "models/llada".as_ref(), &half))?;
/// println!("a {} of {} bytes", model.model_type(), model.info().bytes);
/// # Ok::<(), mdlm::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// How matrices are kept on the device.
    pub weights: Element,
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
    pub adapter: Option<PathBuf>,
}

impl Model {
    /// Loads a model from disk: one of our checkpoints (its moving average), a run's folder (the checkpoint
    /// that [`crate::io::checkpoint::resolve`] takes), or a folder in the published layout of this crate's family or of
    /// those that [`pretrained`](crate::model::pretrained) knows.
    ///
    /// # Errors
    /// [`crate::Error::Checkpoint`] that names file and tensor, [`crate::Error::Io`], or what the device refuses.
    pub async fn load(device: &Device, path: &Path) -> Result<Self> {
        Self::load_with(device, path, &Load::default()).await
    }

    /// As [`Model::load`], in another precision, or with another mask or shift than its files tell.
    ///
    /// # Errors
    /// As [`Model::load`]; [`crate::Error::Argument`] for a mask, shift, block or type of this crate's family, whose files tell.
    pub async fn load_with(device: &Device, path: &Path, how: &Load) -> Result<Self> {
        let Found {
            kind,
            tokenizer,
            weights,
            adapters,
        } = find(path, how)?;
        match kind {
            Kind::Own(described) => {
                let load = |n: &Network, storage: &mut Storage| n.load(&weights, storage);
                let made = described.build(device, how.weights, load).await?;
                Ok(Self {
                    tokenizer,
                    noise: described.noise,
                    objective: described.objective,
                    ..Self::from_parts(device, made.0, made.1)
                })
            }
            Kind::Other(other) => {
                let (trunk, limit) = (other.described.trunk.clone(), device.slab_limit());
                let lora = adapters.as_ref().map(|adapters| adapters.config.clone());
                let network =
                    Network::adapted(trunk, limit, how.weights, &lora.unwrap_or_default())?;
                let mut storage = Storage::new(device, &network.layout, &[PARAMS]).await?;
                network.load(&weights, &mut storage)?;
                if let Some(found) = &adapters {
                    adapters::load(&network, &found.weights, &mut storage)?;
                }
                let family = Family::Other(other.model(tokenizer.as_ref(), network));
                Ok(Self {
                    tokenizer,
                    ..Self::of(device, family, storage)
                })
            }
        }
    }
}

/// What a folder holds, all but the weights read.
pub(super) struct Found {
    pub(super) kind: Kind,
    pub(super) tokenizer: Option<Tokenizer>,
    pub(super) weights: PathBuf,
    pub(super) adapters: Option<Adapters>,
}

/// Adapters on a model: what they are, and the file of their matrices.
pub(super) struct Adapters {
    pub(super) config: LoraConfig,
    weights: PathBuf,
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
}

impl Other {
    /// The model over a network.
    pub(super) fn model(self, tokenizer: Option<&Tokenizer>, network: Network) -> Foreign {
        Foreign {
            ids: ids(tokenizer, &*network.trunk),
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

/// Looks for a model: what [`Model::load_with`] takes.
pub(super) fn find(path: &Path, how: &Load) -> Result<Found> {
    let weights = path.join("model.safetensors");
    let file = path.join("config.json");
    let text = match file.is_file() {
        true => Some(read_text(&file, MAX_CONFIG_BYTES)?),
        false => None,
    };
    let damaged = |problem| Error::checkpoint(&file, None, problem);
    let foreign = text.as_deref().map(is_foreign).transpose();
    let foreign = foreign
        .map_err(damaged)?
        .map(|foreign| foreign || how.model_type.is_some());
    if let (Some(text), Some(true)) = (&text, foreign) {
        let as_what = how.model_type.as_deref();
        let described = pretrained::describe(text, as_what).map_err(damaged)?;
        let (tokenizer, mask_index) = pretrained::tokenizer(path, &described, how.mask)?;
        let kind = Kind::Other(Other {
            mask_index,
            shift: how.shift.unwrap_or(described.shift),
            block: how.block.or(described.block).filter(|&block| block > 0),
            described,
        });
        let adapters = match &how.adapter {
            None => None,
            Some(dir) => Some(Adapters {
                config: adapters::read_config(dir)?,
                weights: dir.join(adapters::WEIGHTS),
            }),
        };
        return Ok(Found {
            kind,
            tokenizer,
            weights,
            adapters,
        });
    }
    if let Some(dir) = &how.adapter {
        let problem = "adapters are for published models of the Llama family";
        return Err(Error::argument("adapter", dir.display(), problem));
    }
    if how.mask.is_some() || how.shift.is_some() || how.block.is_some() || how.model_type.is_some()
    {
        let problem = "are for models of other programs; this one's files tell";
        return Err(Error::argument(
            "mask, shift, block or model_type",
            "given",
            problem,
        ));
    }
    if let Some(text) = text {
        let (described, names) = Description::parse(&text).map_err(damaged)?;
        let file = path.join("tokenizer.json");
        let tokenizer = match file.is_file() {
            true => Some(fitted(&file, &names, &described)?),
            false => None,
        };
        return Ok(Found {
            kind: Kind::Own(described),
            tokenizer,
            weights,
            adapters: None,
        });
    }
    let dir = resolve(path)?;
    let config = settings::read(&dir.join(CONFIG))?;
    if config.model.kind == ModelKind::Published {
        return of_run(&dir, &config, how.weights);
    }
    let names = (&config.data).into();
    let described = Description {
        model: config.model,
        noise: config.noise,
        objective: config.objective,
    };
    let tokenizer = fitted(&dir.join("tokenizer.json"), &names, &described)?;
    Ok(Found {
        kind: Kind::Own(described),
        tokenizer: Some(tokenizer),
        weights: dir.join(EMA),
        adapters: None,
    })
}

/// What a checkpoint of a run on a published model holds: all of its weights, or adapters alone.
pub(super) fn of_run(dir: &Path, config: &TrainConfig, weights: Element) -> Result<Found> {
    let how = Load {
        weights,
        mask: Some(config.model.mask_index),
        shift: Some(config.objective.shift),
        block: Some(config.objective.block_size),
        model_type: config.base.model_type.clone(),
        adapter: None,
    };
    // its own copy of the description, so that the model's folder is needed for the weights alone
    let found = find(dir, &how)?;
    Ok(match config.lora.is_none() {
        true => Found {
            weights: dir.join(EMA),
            ..found
        },
        false => Found {
            weights: Path::new(&config.base.path).join("model.safetensors"),
            adapters: Some(Adapters {
                config: config.lora.clone(),
                weights: dir.join(EMA),
            }),
            ..found
        },
    })
}

/// How many of a network's rows stand for something.
pub(super) fn ids(tokenizer: Option<&Tokenizer>, trunk: &dyn Trunk) -> usize {
    let rows = trunk.vocab_size();
    tokenizer.map_or(rows, |t| t.ids().min(rows))
}

/// The tokenizer of a file, whose ids must be the model's.
fn fitted(path: &Path, names: &SpecialNames, described: &Description) -> Result<Tokenizer> {
    described.model.validate()?;
    let tokenizer = Tokenizer::from_file_named(path, names)?;
    fitting(path, tokenizer, &described.model)
}

/// Whether a folder holds another program's model, as it was published.
///
/// # Errors
/// [`Error::Checkpoint`] for a `config.json` that is damaged, [`Error::Io`].
pub fn is_published(dir: &Path) -> Result<bool> {
    let file = dir.join("config.json");
    if !file.is_file() || dir.join(CONFIG).is_file() {
        return Ok(false);
    }
    let text = read_text(&file, MAX_CONFIG_BYTES)?;
    is_foreign(&text).map_err(|problem| Error::checkpoint(&file, None, problem))
}

/// Whether a `config.json` is that of another program's model.
fn is_foreign(text: &str) -> Result<bool, String> {
    let model_type = pretrained::model_type(text)?;
    Ok(!matches!(model_type.as_str(), "mdlm" | "ar" | "bd3lm"))
}
