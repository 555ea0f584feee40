//! Models from folders and files.

use std::path::{Path, PathBuf};

use crate::data::{SpecialNames, Tokenizer};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::graph::Storage;
use crate::io::checkpoint::{read_text, resolve};
use crate::io::settings;
use crate::model::family::{Blockwise, Foreign};
use crate::model::pretrained::{self, Described, GgufModel};
use crate::model::published::MAX_CONFIG_BYTES;
use crate::model::{Description, Family, Model, Network, Trunk, fitting};
use crate::program::Element;

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
}

impl Model {
    /// Loads a model from disk: one of our checkpoints (its moving average), a run's folder (the checkpoint
    /// that [`crate::io::checkpoint::resolve`] takes), a folder in the published layout of this crate's family or of
    /// those that [`pretrained`](crate::model::pretrained) knows, or a GGUF file of one of these.
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
        let Found { kind, tokenizer } = find(path, how)?;
        let weights = how.weights.unwrap_or_default();
        match kind {
            Kind::Own(described, file) => {
                let load = |n: &Network, storage: &mut Storage| n.load(&file, storage);
                let made = described.build(device, weights, load).await?;
                Ok(Self {
                    tokenizer,
                    noise: described.noise,
                    objective: described.objective,
                    ..Self::from_parts(device, made.0, made.1)
                })
            }
            Kind::Other(other) => {
                let described = other.files.described();
                let ids = ids(&tokenizer, &*described.trunk);
                let (network, storage) = match &other.files {
                    Files::Folder(described, file) => {
                        Network::open(device, described.trunk.clone(), weights, file).await?
                    }
                    Files::Gguf(model) => model.load(device, how.weights).await?,
                };
                let family = Family::Other(Foreign {
                    sampling: described.sampling(other.block),
                    model_type: described.model_type.clone(),
                    network,
                    mask_index: other.mask_index,
                    shift: other.shift,
                    blocks: other.block.map(|size| Blockwise {
                        size,
                        from_start: described.from_start,
                    }),
                    ids,
                });
                Ok(Self {
                    tokenizer,
                    ..Self::of(device, family, storage)
                })
            }
        }
    }
}

/// What a folder or a file holds, all but the weights read.
pub(super) struct Found {
    pub(super) kind: Kind,
    pub(super) tokenizer: Option<Tokenizer>,
}

/// Whose model it is.
pub(super) enum Kind {
    /// This crate's, and its weights.
    Own(Description, PathBuf),
    Other(Other),
}

/// Another program's model.
pub(super) struct Other {
    pub(super) files: Files,
    pub(super) mask_index: u32,
    pub(super) shift: bool,
    pub(super) block: Option<usize>,
}

/// How it lies on disk.
pub(super) enum Files {
    /// What the configuration says, and the weights.
    Folder(Described, PathBuf),
    Gguf(Box<GgufModel>),
}

impl Files {
    pub(super) fn described(&self) -> &Described {
        match self {
            Self::Folder(described, _) => described,
            Self::Gguf(model) => &model.described,
        }
    }
}

impl Other {
    fn new(files: Files, mask_index: u32, how: &Load) -> Self {
        let described = files.described();
        Self {
            mask_index,
            shift: how.shift.unwrap_or(described.shift),
            block: how.block.or(described.block).filter(|&block| block > 0),
            files,
        }
    }
}

/// Looks for a model: what [`Model::load_with`] takes.
pub(super) fn find(path: &Path, how: &Load) -> Result<Found> {
    if path.is_file() {
        if path.extension().is_some_and(|e| e == "safetensors") {
            let problem = "weights alone are no model: give the folder that they lie in, with its config.json; \
                           SMDM's files, which have none, are not supported";
            return Err(Error::checkpoint(path, None, problem));
        }
        let model = GgufModel::open(path, how.model_type.as_deref())?;
        let (m, described) = (&model.file.metadata, &model.described);
        let (tokenizer, mask) = pretrained::gguf_tokenizer(path, m, described, how.mask)?;
        let other = Other::new(Files::Gguf(Box::new(model)), mask, how);
        return Ok(Found {
            kind: Kind::Other(other),
            tokenizer,
        });
    }
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
        let other = Other::new(Files::Folder(described, weights), mask_index, how);
        return Ok(Found {
            kind: Kind::Other(other),
            tokenizer,
        });
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
            kind: Kind::Own(described, weights),
            tokenizer,
        });
    }
    let dir = resolve(path)?;
    let config = settings::read(&dir.join("config.toml"))?;
    let names = (&config.data).into();
    let described = Description {
        model: config.model,
        noise: config.noise,
        objective: config.objective,
    };
    let tokenizer = fitted(&dir.join("tokenizer.json"), &names, &described)?;
    Ok(Found {
        kind: Kind::Own(described, dir.join("ema.safetensors")),
        tokenizer: Some(tokenizer),
    })
}

/// How many of a network's rows stand for something.
pub(super) fn ids(tokenizer: &Option<Tokenizer>, trunk: &dyn Trunk) -> usize {
    let rows = trunk.vocab_size();
    tokenizer.as_ref().map_or(rows, |t| t.ids().min(rows))
}

/// The tokenizer of a file, whose ids must be the model's.
fn fitted(path: &Path, names: &SpecialNames, described: &Description) -> Result<Tokenizer> {
    described.model.validate()?;
    let tokenizer = Tokenizer::from_file_named(path, names)?;
    fitting(path, tokenizer, &described.model)
}

/// Whether a `config.json` is that of another program's model.
fn is_foreign(text: &str) -> Result<bool, String> {
    let model_type = pretrained::model_type(text)?;
    Ok(!matches!(model_type.as_str(), "mdlm" | "ar" | "bd3lm"))
}
