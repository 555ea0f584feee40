//! The tensors of checkpoints, under the reference's keys.

use std::borrow::Cow;
use std::path::Path;

use crate::error::Result;
use crate::graph::Layout;
use crate::io::safetensors::{Precision, TensorSpec, read_file, write_file};
use crate::ops::inv_freq;

/// A buffer of the reference that its files carry besides the parameters.
const INV_FREQ: &str = "backbone.rotary_emb.inv_freq";
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
pub fn read_weights(path: &Path, layout: &Layout) -> Result<Vec<Vec<f32>>> {
    read_file(path, &specs(layout), &[INV_FREQ])
}

/// Writes tensors in the order of the layout's keys, with the rotary buffer that the reference's
/// loader expects.
///
/// # Errors
/// [`crate::Error::Io`]; [`crate::Error::Config`] that names the tensor whose values are too large for the precision.
pub fn write_weights(
    path: &Path,
    layout: &Layout,
    head_dim: usize,
    values: &[Vec<f64>],
    precision: Precision,
) -> Result<()> {
    let mut specs = specs(layout);
    specs.push(TensorSpec::new(INV_FREQ, vec![head_dim / 2]));
    write_file(path, &specs, precision, |i| {
        Ok(Cow::Owned(match values.get(i) {
            Some(values) => values.iter().map(|&x| x as f32).collect(),
            None => inv_freq(head_dim).collect(),
        }))
    })
}
