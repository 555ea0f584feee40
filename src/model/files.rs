//! The tensors of checkpoints, under the reference's keys.

use std::borrow::Cow;
use std::path::Path;

use crate::error::Result;
use crate::graph::Layout;
use crate::io::safetensors::{Precision, TensorSpec, write_to};
#[cfg(not(target_arch = "wasm32"))]
use crate::io::safetensors::{read_file, write_file};
use crate::ops::inv_freq;

/// A buffer of the reference that its files carry besides the parameters.
const INV_FREQ: &str = "backbone.rotary_emb.inv_freq";
/// What files of such networks may hold that is no parameter. `logit_bias` is GIDD's (von Rütte et al. 2025): a scalar
/// that is added to the logit of the token that a row holds already. It is 0 and never trained; and where a row holds
/// the mask, which takes no part in the softmax, no value of it changes a prediction.
/// The ends of BD3-LM's range of times are about its training.
pub(super) const BUFFERS: [&str; 4] = [
    INV_FREQ,
    "backbone.logit_bias",
    "sampling_eps_min",
    "sampling_eps_max",
];

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
/// [`crate::Error::Checkpoint`] that names the tensor, [`crate::Error::Io`].
#[cfg(not(target_arch = "wasm32"))]
pub fn read_weights(path: &Path, layout: &Layout) -> Result<Vec<Vec<f32>>> {
    read_file(path, &specs(layout), &BUFFERS)
}

/// Writes tensors in the order of the layout's keys, with the rotary buffer that the reference's
/// loader expects.
///
/// # Errors
/// [`crate::Error::Io`]; [`crate::Error::Argument`] that names the tensor whose values are too large for the precision.
#[cfg(not(target_arch = "wasm32"))]
pub fn write_weights(
    path: &Path,
    layout: &Layout,
    head_dim: usize,
    values: &[Vec<f64>],
    precision: Precision,
) -> Result<()> {
    let specs = specs_with_rotary(layout, head_dim);
    write_file(path, &specs, precision, |i| {
        Ok(written(values, i, head_dim))
    })
}

/// What `write_weights` would write.
///
/// # Errors
/// [`crate::Error::Argument`] that names the tensor whose values are too large for the precision.
pub(crate) fn weights_to_bytes(
    layout: &Layout,
    head_dim: usize,
    values: &[Vec<f64>],
    precision: Precision,
) -> Result<Vec<u8>> {
    let specs = specs_with_rotary(layout, head_dim);
    let mut bytes = Vec::new();
    write_to(&mut bytes, Path::new("memory"), &specs, precision, |i| {
        Ok(written(values, i, head_dim))
    })?;
    Ok(bytes)
}

fn specs_with_rotary(layout: &Layout, head_dim: usize) -> Vec<TensorSpec> {
    let mut specs = specs(layout);
    specs.push(TensorSpec::new(INV_FREQ, vec![head_dim / 2]));
    specs
}

fn written(values: &[Vec<f64>], index: usize, head_dim: usize) -> Cow<'static, [f32]> {
    Cow::Owned(match values.get(index) {
        Some(values) => values.iter().map(|&x| x as f32).collect(),
        None => inv_freq(head_dim).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;
    use crate::model::Backbone;

    #[test]
    fn buffers_are_passed_over() {
        let config = ModelConfig {
            vocab_size: 5,
            mask_index: 4,
            vocab_multiple: 4,
            ..ModelConfig::default()
        };
        let layout = Backbone::new(&config, usize::MAX / 8).unwrap().layout;
        let mut specs = specs(&layout);
        assert_eq!(specs[0].shape, [8, 128]);
        specs.push(TensorSpec::new("backbone.logit_bias", vec![1, 1, 1]));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let zeros = |i: usize| Ok(Cow::Owned(vec![0.0; specs[i].shape.iter().product()]));
        write_file(&path, &specs, Precision::F32, zeros).unwrap();
        let read = read_weights(&path, &layout).unwrap();
        assert_eq!(read.len() + 1, specs.len());
    }
}
