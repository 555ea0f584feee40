//! Models on disk in the published layout of `kuleshov-group/mdlm-owt`: `config.json` beside
//! `model.safetensors`.
//!
//! Three keys of `config.json` are ours, and may be absent: `mask_index` (the published models have the
//! mask last), `noise` and `objective`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::{ModelConfig, ModelKind, NoiseConfig, ObjectiveConfig};
use crate::device::Device;
use crate::device::program::Arena;
use crate::error::{Error, Result};
use crate::graph::Storage;
use crate::io::checkpoint::read_text;
use crate::model::{Backbone, read_weights};

/// Largest `config.json` that is read.
const MAX_CONFIG_BYTES: u64 = 1 << 16;

/// The fields of a published `config.json` that matter here.
#[derive(Serialize, Deserialize)]
struct Published {
    model_type: ModelType,
    hidden_dim: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cond_dim: Option<usize>,
    n_blocks: usize,
    n_heads: usize,
    model_length: usize,
    vocab_size: usize,
    dropout: f64,
    #[serde(default)]
    time_conditioning: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mask_index: Option<u32>,
    #[serde(default)]
    noise: NoiseConfig,
    #[serde(default)]
    objective: ObjectiveConfig,
}

/// Names of [`ModelKind`] in published files.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ModelType {
    Mdlm,
    Ar,
}

/// What a folder in the published layout describes.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// The network.
    pub model: ModelConfig,
    /// The noise it was trained with.
    pub noise: NoiseConfig,
    /// What it was trained for.
    pub objective: ObjectiveConfig,
}

impl Description {
    /// Reads the text of a `config.json`; the error is for people.
    fn parse(text: &str) -> Result<Self, String> {
        let c: Published = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let model = ModelConfig {
            kind: match c.model_type {
                ModelType::Mdlm => ModelKind::Dit,
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
                (ModelType::Mdlm, None) => return Err("missing field `cond_dim`".into()),
            },
            length: c.model_length,
            dropout: c.dropout,
            time_conditioning: c.time_conditioning,
        };
        Ok(Self {
            model,
            noise: c.noise,
            objective: c.objective,
        })
    }

    /// The text of a `config.json`.
    ///
    /// # Errors
    /// [`Error::Internal`] if it cannot be written as JSON.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let m = &self.model;
        let (model_type, cond_dim) = match m.kind {
            ModelKind::Dit => (ModelType::Mdlm, Some(m.cond_dim)),
            ModelKind::Ar => (ModelType::Ar, None),
        };
        let published = Published {
            model_type,
            hidden_dim: m.hidden_size,
            cond_dim,
            n_blocks: m.n_blocks,
            n_heads: m.n_heads,
            model_length: m.length,
            vocab_size: m.vocab_size,
            dropout: m.dropout,
            time_conditioning: m.time_conditioning,
            mask_index: Some(m.mask_index),
            noise: self.noise.clone(),
            objective: self.objective.clone(),
        };
        serde_json::to_vec_pretty(&published).map_err(|e| Error::Internal(e.to_string()))
    }
}

/// Loads a folder in the published layout.
///
/// # Errors
/// [`Error::Checkpoint`] that names what is wrong, [`Error::Io`], or what the device refuses.
pub async fn load_published(
    device: &Device,
    dir: &Path,
) -> Result<(Description, Backbone, Storage)> {
    let path = dir.join("config.json");
    let text = read_text(&path, MAX_CONFIG_BYTES)?;
    let described = Description::parse(&text).map_err(|e| Error::checkpoint(&path, None, e))?;
    described
        .objective
        .validate(&described.noise, &described.model)?;
    let backbone = Backbone::new(&described.model, device.slab_limit())?;
    let weights = read_weights(&dir.join("model.safetensors"), &backbone.layout)?;
    let mut storage = Storage::new(device, &backbone.layout, &[Arena::Params]).await?;
    storage.fill(Arena::Params, &weights)?;
    Ok((described, backbone, storage))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let text = String::from_utf8(described.to_json().unwrap()).unwrap();
            assert_eq!(Description::parse(&text).unwrap(), described);
        }
    }
}
