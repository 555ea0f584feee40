//! Models on disk in the published layout of `kuleshov-group/mdlm-owt`: `config.json` beside
//! `model.safetensors`.
//!
//! `bd3lm`, block diffusion's (Arriola et al. 2025), is the same network with blocks of `block_size`.
//!
//! Five keys of `config.json` are ours, and may be absent: `mask_index` (the published models have the
//! mask last), `vocab_multiple` (1: tables of `vocab_size` rows), `noise`, `objective` and `special_tokens` (names of a
//! tokenizer's that are not the usual ones).

use std::io::ErrorKind;
#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{ModelConfig, ModelKind, NoiseConfig, ObjectiveConfig};
#[cfg(not(target_arch = "wasm32"))]
use crate::data::ChatTemplate;
use crate::data::{SpecialNames, Tokenizer};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::graph::PARAMS;
use crate::graph::Storage;
use crate::io::files::{Files, InMemory, Source};
#[cfg(not(target_arch = "wasm32"))]
use crate::io::files::{Folder, read_text};
use crate::io::keyed;
use crate::io::safetensors::Precision;
use crate::model::{Backbone, Model, weights_to_bytes};
use crate::program::Element;

/// Names of a published model's files.
pub(super) const CONFIG: &str = "config.json";
pub(super) const WEIGHTS: &str = "model.safetensors";
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// Largest `config.json` that is read.
pub(super) const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The fields of a published `config.json` that matter here.
#[derive(Serialize, Deserialize)]
struct Fields {
    model_type: ModelType,
    hidden_dim: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    cond_dim: Option<usize>,
    n_blocks: usize,
    n_heads: usize,
    model_length: usize,
    vocab_size: usize,
    dropout: f64,
    // what may be absent may also be null
    time_conditioning: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mask_index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vocab_multiple: Option<usize>,
    noise: Option<NoiseConfig>,
    objective: Option<ObjectiveConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    special_tokens: Option<SpecialNames>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adaln: Option<bool>,
    // BD3-LM's
    #[serde(skip_serializing)]
    block_size: Option<usize>,
    #[serde(skip_serializing)]
    causal: Option<bool>,
}

/// Names of [`ModelKind`] in published files.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ModelType {
    Mdlm,
    Ar,
    /// The denoiser's network, block by block.
    Bd3lm,
}

/// What a folder in the published layout describes.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// Shape of the network.
    pub model: ModelConfig,
    /// The noise it was trained with; the default where `config.json` does not say.
    pub noise: NoiseConfig,
    /// Parameterisation and loss; the default where `config.json` does not say.
    pub objective: ObjectiveConfig,
}

impl Description {
    /// Reads the text of a `config.json`, with the names of the tokenizer's special tokens; the error is for people.
    pub(super) fn parse(text: &str) -> Result<(Self, SpecialNames), String> {
        let c: Fields = keyed::parse(text.as_bytes())?;
        let model = ModelConfig {
            kind: match c.model_type {
                ModelType::Mdlm | ModelType::Bd3lm => ModelKind::Dit,
                ModelType::Ar => ModelKind::Ar,
            },
            vocab_size: c.vocab_size,
            mask_index: c
                .mask_index
                .unwrap_or((c.vocab_size as u32).saturating_sub(1)),
            hidden_size: c.hidden_dim,
            n_blocks: c.n_blocks,
            n_heads: c.n_heads,
            cond_dim: match (c.model_type, c.cond_dim) {
                (_, Some(cond_dim)) => cond_dim,
                (ModelType::Ar, None) => ModelConfig::default().cond_dim,
                (_, None) => return Err("missing field `cond_dim`".into()),
            },
            length: c.model_length,
            dropout: c.dropout,
            time_conditioning: c.time_conditioning.unwrap_or_default(),
            vocab_multiple: c.vocab_multiple.unwrap_or(1),
            adaln: c.adaln.unwrap_or(true),
        };
        let mut objective = c.objective.unwrap_or_default();
        if let ModelType::Bd3lm = c.model_type {
            if c.causal == Some(true) {
                return Err("only causal = false is supported".into());
            }
            objective.block_size = c.block_size.ok_or("missing field `block_size`")?;
        }
        let described = Self {
            model,
            noise: c.noise.unwrap_or_default(),
            objective,
        };
        Ok((described, c.special_tokens.unwrap_or_default()))
    }

    /// Checks what goes together, and makes the network with the weights of a file.
    pub(crate) async fn build(
        &self,
        device: &Device,
        weights: Element,
        files: &impl Files,
        name: &str,
    ) -> Result<(Backbone, Storage)> {
        self.objective.validate(&self.noise, &self.model)?;
        let backbone = Backbone::with_weights(&self.model, device.room(), weights)?;
        let storage = backbone.network.stored(device, files, name).await?;
        Ok((backbone, storage))
    }

    /// The text of a `config.json`.
    ///
    /// # Errors
    /// [`Error::Internal`] if it cannot be written as JSON.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        self.to_json_named(&SpecialNames::default())
    }

    /// As [`Description::to_json`], with the names of special tokens that are not the usual ones.
    fn to_json_named(&self, names: &SpecialNames) -> Result<Vec<u8>> {
        let m = &self.model;
        let (model_type, cond_dim) = match m.kind {
            ModelKind::Dit | ModelKind::Published => (ModelType::Mdlm, Some(m.cond_dim)),
            ModelKind::Ar => (ModelType::Ar, None),
        };
        let fields = Fields {
            model_type,
            hidden_dim: m.hidden_size,
            cond_dim,
            n_blocks: m.n_blocks,
            n_heads: m.n_heads,
            model_length: m.length,
            vocab_size: m.vocab_size,
            dropout: m.dropout,
            time_conditioning: Some(m.time_conditioning),
            mask_index: Some(m.mask_index),
            vocab_multiple: Some(m.vocab_multiple).filter(|&multiple| multiple != 1),
            noise: Some(self.noise.clone()),
            objective: Some(self.objective.clone()),
            special_tokens: Some(names.clone()).filter(|names| *names != SpecialNames::default()),
            adaln: Some(false).filter(|_| !m.adaln),
            block_size: None,
            causal: None,
        };
        serde_json::to_vec_pretty(&fields).map_err(|e| Error::Internal(e.to_string()))
    }
}

/// The files of a model in the published layout, in memory.
#[derive(Clone, Debug)]
pub struct Published {
    /// `config.json`.
    pub config: Vec<u8>,
    /// `model.safetensors`.
    pub weights: Vec<u8>,
    /// `tokenizer.json`, if it comes with one.
    pub tokenizer: Option<Vec<u8>>,
}

impl Published {
    fn file(&self, name: &str) -> Option<&[u8]> {
        match name {
            CONFIG => Some(&self.config),
            WEIGHTS => Some(&self.weights),
            TOKENIZER => self.tokenizer.as_deref(),
            _ => None,
        }
    }
}

impl Files for Published {
    fn path(&self, name: &str) -> PathBuf {
        name.into()
    }

    fn has(&self, name: &str) -> bool {
        self.file(name).is_some()
    }

    fn open(&self, name: &str) -> Result<impl Source> {
        let none = || Error::io(&self.path(name), "open")(ErrorKind::NotFound.into());
        self.file(name).map(InMemory).ok_or_else(none)
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Published {
    /// Writes the files into a folder, with what the page shows of the model as `card.json` if there is a
    /// `card`, and with how it is told a `chat`. The folder appears whole or not at all. One that is there is replaced if it holds nothing but a
    /// model that was written in this way.
    ///
    /// # Errors
    /// [`Error::Argument`] that names what else stands at the target, and leaves it as it is; [`Error::Io`] that
    /// names path and action.
    pub fn save(&self, dir: &Path, card: Option<&[u8]>, chat: Option<&ChatTemplate>) -> Result<()> {
        use crate::io::{
            atomic,
            checkpoint::{place_for, write_bytes},
        };
        let (parent, name) = place_for(dir)?;
        atomic::commit_directory(parent, name, &exported, |dir| {
            write_bytes(&dir.join("config.json"), &self.config)?;
            if let Some(tokenizer) = &self.tokenizer {
                write_bytes(&dir.join("tokenizer.json"), tokenizer)?;
            }
            if let Some(card) = card {
                write_bytes(&dir.join("card.json"), card)?;
            }
            if let Some(chat) = chat {
                chat.write(dir)?;
            }
            write_bytes(&dir.join("model.safetensors"), &self.weights)
        })?;
        Ok(())
    }
}

/// Refuses a folder that holds anything but a model that [`Published::save`] has written; an empty one holds
/// nothing.
#[cfg(not(target_arch = "wasm32"))]
fn exported(folder: &Path) -> Result<()> {
    const FILES: [&str; 6] = [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "card.json",
        "chat_template.jinja",
        "tokenizer_config.json",
    ];
    crate::io::atomic::only(folder, &FILES)?;
    let path = folder.join("config.json");
    // the keys that other programs do not write
    let own = |config: serde_json::Value| {
        let keys = ["mask_index", "noise", "objective"];
        keys.iter().all(|key| config.get(key).is_some())
    };
    let written = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).is_ok_and(own),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            !FILES.iter().any(|name| folder.join(name).exists())
        }
        Err(e) => return Err(Error::io(&path, "read")(e)),
    };
    if !written {
        let problem =
            "holds a model that was not exported from here: it is left as it is; take another name";
        return Err(Error::argument("out", folder.display(), problem));
    }
    Ok(())
}

impl Model {
    /// Its files in the published layout.
    ///
    /// # Errors
    /// [`Error::Argument`] for weights too large for the precision, or another program's model; [`Error::DeviceLost`]
    /// and its kin.
    pub async fn publish(&self, precision: Precision) -> Result<Published> {
        let backbone = self.family.own()?;
        let description = Description {
            model: backbone.config.clone(),
            noise: self.noise.clone(),
            objective: self.objective.clone(),
        };
        let names = self.tokenizer.as_ref().map(Tokenizer::special_names);
        let names = names.cloned().unwrap_or_default();
        let values = self.storage.read(PARAMS).await?;
        let head_dim = backbone.config.head_dim();
        Ok(Published {
            config: description.to_json_named(&names)?,
            weights: weights_to_bytes(&backbone.layout, head_dim, &values, precision)?,
            tokenizer: self.tokenizer.as_ref().map(Tokenizer::to_json),
        })
    }
}

/// Loads a folder in the published layout.
///
/// # Errors
/// [`Error::Checkpoint`] that names what is wrong, [`Error::Io`], or what the device refuses.
#[cfg(not(target_arch = "wasm32"))]
pub async fn load_published(
    device: &Device,
    dir: &Path,
) -> Result<(Description, Backbone, Storage)> {
    let folder = Folder(dir.to_owned());
    let text = read_text(&folder, CONFIG, MAX_CONFIG_BYTES).await?;
    let damaged = |problem| Error::checkpoint(&folder.path(CONFIG), None, problem);
    let (described, _) = Description::parse(&text).map_err(damaged)?;
    let (backbone, storage) = described
        .build(device, Element::F32, &folder, WEIGHTS)
        .await?;
    Ok((described, backbone, storage))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Load;

    #[test]
    fn a_model_survives_its_files() {
        for vocab_multiple in [1, 8] {
            survives_its_files(vocab_multiple);
        }
    }

    fn survives_its_files(vocab_multiple: usize) {
        use crate::blocking::wait;
        let config = ModelConfig {
            vocab_multiple,
            vocab_size: 5,
            mask_index: 4,
            hidden_size: 16,
            n_blocks: 1,
            n_heads: 1,
            cond_dim: 8,
            length: 6,
            ..ModelConfig::default()
        };
        let device = Device::cpu();
        let mut model = wait(Model::new(&device, &config, 3)).unwrap();
        model.tokenizer = Some(Tokenizer::characters("abc"));
        let files = wait(model.publish(Precision::F32)).unwrap();
        let mut again = wait(Model::load_files(&device, &files, &Load::default())).unwrap();
        assert_eq!(again.config().unwrap(), &config);
        let logits = |model: &mut Model| wait(model.logits(&[0, 1, 4, 4, 2, 3], &[0.0])).unwrap();
        assert_eq!(logits(&mut model).len(), 6 * config.vocab_size);
        assert_eq!(logits(&mut again), logits(&mut model));

        // the same files in a folder
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes);
        write("config.json", &files.config).unwrap();
        write("model.safetensors", &files.weights).unwrap();
        write("tokenizer.json", files.tokenizer.as_deref().unwrap()).unwrap();
        let mut loaded = wait(Model::load(&device, dir.path())).unwrap();
        assert_eq!(logits(&mut loaded), logits(&mut model));

        let refused = |files: Published, code: &str, part: &str| {
            let error = wait(Model::load_files(&device, &files, &Load::default()))
                .err()
                .unwrap();
            assert_eq!(error.code(), code, "{error}");
            assert!(error.to_string().contains(part), "{error}");
        };
        let mut torn = files.clone();
        torn.weights.truncate(500);
        refused(torn, "checkpoint", "model.safetensors");
        let other = Tokenizer::characters("abcd").to_json();
        let tokenizer = Some(other);
        refused(
            Published {
                tokenizer,
                ..files.clone()
            },
            "checkpoint",
            "tokenizer.json",
        );
        let config = vec![b' '; (1 << 20) + 1];
        refused(Published { config, ..files }, "io", "config.json");
    }

    #[test]
    fn descriptions_round_trip() {
        for kind in [ModelKind::Dit, ModelKind::Ar] {
            let described = Description {
                model: ModelConfig {
                    kind,
                    vocab_size: 35,
                    mask_index: 4,
                    ..ModelConfig::default()
                },
                noise: NoiseConfig::default(),
                objective: ObjectiveConfig::default(),
            };
            let names = SpecialNames {
                eos_token: "</doc>".to_owned(),
                ..SpecialNames::default()
            };
            for names in [names, SpecialNames::default()] {
                let text = described.to_json_named(&names).unwrap();
                let text = String::from_utf8(text).unwrap();
                assert_eq!(
                    Description::parse(&text).unwrap(),
                    (described.clone(), names)
                );
            }
        }
    }
}
