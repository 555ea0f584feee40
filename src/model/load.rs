//! Models from files: of a folder, or wherever a program keeps them.

#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;

use crate::data::{SpecialNames, Tokenizer};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::io::files::{Files, read_text};
#[cfg(not(target_arch = "wasm32"))]
use crate::io::{checkpoint::resolve, files::Folder, settings};
use crate::model::family::{Blockwise, Foreign};
use crate::model::pretrained::{self, Described};
use crate::model::published::{CONFIG, MAX_CONFIG_BYTES, TOKENIZER, WEIGHTS};
use crate::model::{Description, Family, Model, Network, Trunk, fitting};
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
        } = found;
        match kind {
            Kind::Own(described) => {
                let made = described.build(device, how.weights, files, weights).await?;
                Ok(Self {
                    tokenizer,
                    noise: described.noise,
                    objective: described.objective,
                    ..Self::from_parts(device, made.0, made.1)
                })
            }
            Kind::Other {
                described,
                mask_index,
                shift,
                block,
            } => {
                let ids = ids(&tokenizer, &*described.trunk);
                let trunk = described.trunk.clone();
                let (network, storage) =
                    Network::open(device, trunk, how.weights, files, weights).await?;
                let family = Family::Other(Foreign {
                    sampling: described.sampling(block),
                    model_type: described.model_type,
                    network,
                    mask_index,
                    shift,
                    blocks: block.map(|size| Blockwise {
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

/// What some files hold, all but the weights read.
pub(super) struct Found {
    pub(super) kind: Kind,
    pub(super) tokenizer: Option<Tokenizer>,
    /// Name of the weights' file.
    pub(super) weights: &'static str,
}

/// Whose model it is.
pub(super) enum Kind {
    Own(Description),
    Other {
        described: Described,
        mask_index: u32,
        shift: bool,
        block: Option<usize>,
    },
}

/// Looks for a model on disk: what [`Model::load_with`] takes, and the folder that it lies in.
#[cfg(not(target_arch = "wasm32"))]
pub(super) async fn find_in(path: &Path, how: &Load) -> Result<(Found, Folder)> {
    let folder = Folder(path.to_owned());
    if folder.has(CONFIG) {
        return Ok((find_published(&folder, how).await?, folder));
    }
    how.refuse_told()?;
    let folder = Folder(resolve(path)?);
    let config = settings::read(&folder.path("config.toml"))?;
    let names = (&config.data).into();
    let described = Description {
        model: config.model,
        noise: config.noise,
        objective: config.objective,
    };
    let found = Found {
        tokenizer: Some(fitted(&folder, &names, &described).await?),
        kind: Kind::Own(described),
        weights: "ema.safetensors",
    };
    Ok((found, folder))
}

/// Looks for a published model.
pub(super) async fn find_published(files: &impl Files, how: &Load) -> Result<Found> {
    let damaged = |problem: String| Error::checkpoint(&files.path(CONFIG), None, problem);
    let text = read_text(files, CONFIG, MAX_CONFIG_BYTES).await?;
    if is_foreign(&text).map_err(damaged)? || how.model_type.is_some() {
        let as_what = how.model_type.as_deref();
        let described = pretrained::describe(&text, as_what).map_err(damaged)?;
        let (tokenizer, mask_index) = pretrained::tokenizer(files, &described, how.mask).await?;
        let shift = how.shift.unwrap_or(described.shift);
        let block = how.block.or(described.block).filter(|&block| block > 0);
        let kind = Kind::Other {
            described,
            mask_index,
            shift,
            block,
        };
        return Ok(Found {
            kind,
            tokenizer,
            weights: WEIGHTS,
        });
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
        weights: WEIGHTS,
    })
}

impl Load {
    /// Refuses what only another program's model leaves open.
    fn refuse_told(&self) -> Result<()> {
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
pub(super) fn ids(tokenizer: &Option<Tokenizer>, trunk: &dyn Trunk) -> usize {
    let rows = trunk.vocab_size();
    tokenizer.as_ref().map_or(rows, |t| t.ids().min(rows))
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

/// Whether a `config.json` is that of another program's model.
fn is_foreign(text: &str) -> Result<bool, String> {
    let model_type = pretrained::model_type(text)?;
    Ok(!matches!(model_type.as_str(), "mdlm" | "ar" | "bd3lm"))
}
