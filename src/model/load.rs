//! Models from folders.

use std::path::Path;

use crate::data::{SpecialNames, Tokenizer};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::graph::Storage;
use crate::io::checkpoint::{read_text, resolve};
use crate::io::safetensors::Precision;
use crate::io::settings;
use crate::model::family::Foreign;
use crate::model::{Description, Family, Model, Network, describe, fitting, pretrained};

/// How to load a model, where its files leave it open or say something else.
///
/// ```no_run
/// use mdlm::io::safetensors::Precision;
/// use mdlm::{Device, Model, blocking::wait, model::Load};
///
/// let half = Load { weights: Precision::F16, ..Load::default() };
/// let model = wait(Model::load_with(&Device::cpu(), "models/llada".as_ref(), &half))?;
/// println!("a {} of {} bytes", model.model_type(), model.info().bytes);
/// # Ok::<(), mdlm::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// How matrices are kept on the device.
    pub weights: Precision,
    /// Id of another program's mask.
    pub mask: Option<u32>,
    /// Whether the logits of another program's model are about the token behind their row.
    pub shift: Option<bool>,
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
    /// As [`Model::load`]; [`crate::Error::Argument`] for a mask or shift of this crate's family, whose files tell.
    pub async fn load_with(device: &Device, path: &Path, how: &Load) -> Result<Self> {
        let published = path.join("config.json").is_file();
        if published && !own(path)? {
            return foreign(device, path, how).await;
        }
        if how.mask.is_some() || how.shift.is_some() {
            let problem = "is for models of other programs; this one's files tell";
            return Err(Error::argument("mask or shift", "given", problem));
        }
        if published {
            let (described, names) = describe(path)?;
            let file = path.join("tokenizer.json");
            let tokenizer = match file.is_file() {
                true => Some(fitted(&file, &names, &described)?),
                false => None,
            };
            let weights = path.join("model.safetensors");
            return of_family(device, described, tokenizer, &weights, how).await;
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
        let weights = dir.join("ema.safetensors");
        of_family(device, described, Some(tokenizer), &weights, how).await
    }
}

/// The tokenizer of a file, whose ids must be the model's.
fn fitted(path: &Path, names: &SpecialNames, described: &Description) -> Result<Tokenizer> {
    described.model.validate()?;
    let tokenizer = Tokenizer::from_file_named(path, names)?;
    fitting(path, tokenizer, &described.model)
}

/// A model of this crate's family.
async fn of_family(
    device: &Device,
    described: Description,
    tokenizer: Option<Tokenizer>,
    weights: &Path,
    how: &Load,
) -> Result<Model> {
    let load = |network: &Network, storage: &mut Storage| network.load(weights, storage);
    let (backbone, storage) = described.build(device, how.weights.element(), load).await?;
    Ok(Model {
        tokenizer,
        noise: described.noise,
        objective: described.objective,
        ..Model::from_parts(device, backbone, storage)
    })
}

/// Whether a folder's `config.json` is that of a model of this crate's family.
fn own(dir: &Path) -> Result<bool> {
    let path = dir.join("config.json");
    let text = read_text(&path, pretrained::MAX_CONFIG_BYTES)?;
    let model_type =
        pretrained::model_type(&text).map_err(|e| Error::checkpoint(&path, None, e))?;
    Ok(matches!(model_type.as_str(), "mdlm" | "ar"))
}

/// A model of another program.
async fn foreign(device: &Device, dir: &Path, how: &Load) -> Result<Model> {
    let loaded = pretrained::load(device, dir, how.weights.element()).await?;
    let (tokenizer, mask_index) = pretrained::tokenizer(dir, &loaded.described, how.mask)?;
    let rows = loaded.described.trunk.vocab_size();
    let family = Family::Other(Foreign {
        model_type: loaded.described.model_type,
        network: loaded.network,
        mask_index,
        shift: how.shift.unwrap_or(loaded.described.shift),
        ids: tokenizer.as_ref().map_or(rows, |t| t.ids().min(rows)),
    });
    Ok(Model {
        tokenizer,
        ..Model::of(device, family, loaded.storage)
    })
}
