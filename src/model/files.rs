//! Models on disk: the published layout (`config.json` + `model.safetensors`) and the tensors of our own
//! checkpoints, which have the same keys.

use std::borrow::Cow;
use std::path::Path;

use serde::Deserialize;

use crate::config::{ModelConfig, ModelKind};
use crate::device::Device;
use crate::device::program::Arena;
use crate::error::{Error, Result};
use crate::graph::{Layout, Storage};
use crate::io::checkpoint::read_text;
use crate::io::safetensors::{TensorSpec, read_file, write_file};
use crate::model::Backbone;
use crate::ops::inv_freq;

/// A buffer of the reference that its files carry besides the parameters.
const INV_FREQ: &str = "backbone.rotary_emb.inv_freq";
/// Largest `config.json` that is read.
const MAX_CONFIG_BYTES: u64 = 1 << 16;

/// The fields of a published `config.json` that matter here.
#[derive(Deserialize)]
struct Published {
    model_type: String,
    hidden_dim: usize,
    cond_dim: usize,
    n_blocks: usize,
    n_heads: usize,
    model_length: usize,
    vocab_size: usize,
    dropout: f64,
    time_conditioning: bool,
}

fn specs(layout: &Layout) -> Vec<TensorSpec> {
    layout
        .keys()
        .iter()
        .map(|k| TensorSpec::new(k.key.clone(), k.shape.clone()))
        .collect()
}

/// Reads the tensors of a layout, strictly: every one of them and nothing else.
///
/// # Errors
/// [`Error::Checkpoint`] that names the tensor, [`Error::Io`].
pub fn read_weights(path: &Path, layout: &Layout) -> Result<Vec<Vec<f32>>> {
    read_file(path, &specs(layout), &[INV_FREQ])
}

/// Writes tensors in the order of the layout's keys, with the rotary buffer that the reference's
/// loader expects.
///
/// # Errors
/// [`Error::Io`].
pub fn write_weights(
    path: &Path,
    layout: &Layout,
    head_dim: usize,
    values: &[Vec<f64>],
) -> Result<()> {
    let mut specs = specs(layout);
    specs.push(TensorSpec::new(INV_FREQ, vec![head_dim / 2]));
    write_file(path, &specs, |i| {
        Ok(Cow::Owned(match values.get(i) {
            Some(values) => values.iter().map(|&x| x as f32).collect(),
            None => inv_freq(head_dim).collect(),
        }))
    })
}

/// Loads a folder in the published layout of `kuleshov-group/mdlm-owt`. The mask is the last id.
///
/// # Errors
/// [`Error::Checkpoint`] that names what is wrong, [`Error::Io`], or what the device refuses.
pub async fn load_published(device: &Device, dir: &Path) -> Result<(Backbone, Storage)> {
    let path = dir.join("config.json");
    let text = read_text(&path, MAX_CONFIG_BYTES)?;
    let damaged = |problem: String| Error::checkpoint(&path, None, problem);
    let c: Published = serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
    if c.model_type != "mdlm" {
        return Err(damaged(format!("model_type is {}, not mdlm", c.model_type)));
    }
    let config = ModelConfig {
        kind: ModelKind::Dit,
        vocab_size: c.vocab_size,
        mask_index: (c.vocab_size as u32).saturating_sub(1),
        hidden_size: c.hidden_dim,
        n_blocks: c.n_blocks,
        n_heads: c.n_heads,
        cond_dim: c.cond_dim,
        length: c.model_length,
        dropout: c.dropout,
        time_conditioning: c.time_conditioning,
    };
    let backbone = Backbone::new(&config, device.slab_limit())?;
    let weights = read_weights(&dir.join("model.safetensors"), &backbone.layout)?;
    let mut storage = Storage::new(device, &backbone.layout, &[Arena::Params]).await?;
    storage.fill(Arena::Params, &weights)?;
    Ok((backbone, storage))
}
