//! Low-rank adapters in files as PEFT has them: a folder of `adapter_config.json` and `adapter_model.safetensors`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::LoraConfig;
use crate::error::{Error, Result};
use crate::graph::{Key, PARAMS, Storage};
use crate::io::checkpoint::{read_text, write_bytes};
use crate::io::files::Folder;
use crate::io::keyed;
use crate::io::safetensors::{Precision, TensorSpec, read_each, write_file};
use crate::model::Network;
use crate::program::Arena;

/// File that says which projections have adapters, and of what rank.
pub const CONFIG: &str = "adapter_config.json";
/// File of their matrices.
pub const WEIGHTS: &str = "adapter_model.safetensors";
/// What stands before the name of a module in it.
const WRAPPER: &str = "base_model.model.";
/// Largest configuration that is read.
const MAX_BYTES: u64 = 1 << 20;

/// What is read of `adapter_config.json`.
#[derive(Deserialize)]
struct Fields {
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    target_modules: Value,
    bias: Option<String>,
    use_dora: Option<bool>,
    use_rslora: Option<bool>,
    fan_in_fan_out: Option<bool>,
    modules_to_save: Option<Value>,
    layers_to_transform: Option<Value>,
    rank_pattern: Option<Value>,
    alpha_pattern: Option<Value>,
}

/// What is written into it.
#[derive(Serialize)]
struct Written<'a> {
    peft_type: &'a str,
    base_model_name_or_path: &'a str,
    r: usize,
    lora_alpha: f64,
    lora_dropout: f64,
    target_modules: &'a [String],
    bias: &'a str,
    fan_in_fan_out: bool,
    inference_mode: bool,
    task_type: Option<&'a str>,
}

/// Reads the configuration of a folder of PEFT's.
///
/// # Errors
/// [`Error::Checkpoint`] for adapters of another kind, by the key that says so; [`Error::Io`].
pub fn read_config(dir: &Path) -> Result<LoraConfig> {
    let path = dir.join(CONFIG);
    let text = read_text(&path, MAX_BYTES)?;
    let damaged = |problem: String| Error::checkpoint(&path, None, problem);
    let f: Fields = keyed::parse(text.as_bytes()).map_err(damaged)?;
    let nothing = |value: &Option<Value>| match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(_) => false,
    };
    let off = |switch: Option<bool>| switch != Some(true);
    for (holds, only) in [
        (f.peft_type == "LORA", "peft_type = LORA"),
        (
            f.bias.as_deref().is_none_or(|bias| bias == "none"),
            "bias = none",
        ),
        (off(f.use_dora), "use_dora = false"),
        (off(f.use_rslora), "use_rslora = false"),
        (off(f.fan_in_fan_out), "fan_in_fan_out = false"),
        (nothing(&f.modules_to_save), "modules_to_save = null"),
        (
            nothing(&f.layers_to_transform),
            "layers_to_transform = null",
        ),
        (nothing(&f.rank_pattern), "rank_pattern = {}"),
        (nothing(&f.alpha_pattern), "alpha_pattern = {}"),
    ] {
        if !holds {
            return Err(damaged(format!("only {only} is supported")));
        }
    }
    let targets = serde_json::from_value(f.target_modules).map_err(|_| {
        damaged("target_modules: expected a list of names, such as q_proj".to_owned())
    })?;
    let lora = LoraConfig {
        rank: f.r,
        alpha: f.lora_alpha,
        targets,
    };
    lora.validate().map_err(|e| damaged(e.to_string()))?;
    match lora.is_none() {
        true => Err(damaged("r is 0".to_owned())),
        false => Ok(lora),
    }
}

/// Writes the configuration of adapters on the model `base`.
///
/// # Errors
/// [`Error::Io`].
pub fn write_config(dir: &Path, lora: &LoraConfig, base: &str) -> Result<()> {
    let written = Written {
        peft_type: "LORA",
        base_model_name_or_path: base,
        r: lora.rank,
        lora_alpha: lora.alpha,
        lora_dropout: 0.0,
        target_modules: &lora.targets,
        bias: "none",
        fan_in_fan_out: false,
        inference_mode: true,
        task_type: None,
    };
    let text = serde_json::to_vec_pretty(&written).map_err(|e| Error::Internal(e.to_string()))?;
    write_bytes(&dir.join(CONFIG), &text)
}

/// The matrices of adapters: places among the layout's keys, and what files call them.
fn specs(network: &Network) -> (Vec<usize>, Vec<TensorSpec>) {
    let spec = |key: &Key| TensorSpec::new(format!("{WRAPPER}{}", key.key), key.shape.clone());
    let adapters = network.layout.trained_keys();
    adapters.map(|(place, key)| (place, spec(key))).unzip()
}

/// Reads the matrices of all adapters of a network, and gives their parts to `sink` with their places among the layout's
/// keys and the place of each part's first element.
///
/// # Errors
/// [`Error::Checkpoint`] that names the tensor, [`Error::Io`], and what `sink` says.
pub(crate) async fn read(
    network: &Network,
    path: &Path,
    sink: &mut impl FnMut(usize, usize, &[f32]) -> Result<()>,
) -> Result<()> {
    let (places, specs) = specs(network);
    let (folder, name) = Folder::of(path)?;
    let mut place = |i: usize, first: usize, values: &[f32]| sink(places[i], first, values);
    read_each(&folder, name, &specs, &[], &mut place).await
}

/// Reads the matrices of all adapters into the weights.
///
/// # Errors
/// As [`Network::load`].
pub async fn load(network: &Network, path: &Path, storage: &mut Storage) -> Result<()> {
    let mut keep =
        |index: usize, first: usize, values: &[f32]| storage.set_part(PARAMS, index, first, values);
    read(network, path, &mut keep).await
}

/// Writes the matrices of all adapters; `values` are those of every key of the layout.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn write(network: &Network, path: &Path, values: &[Vec<f64>]) -> Result<()> {
    let (places, specs) = specs(network);
    write_file(path, &specs, Precision::F32, |i| {
        Ok(values[places[i]].iter().map(|&x| x as f32).collect())
    })
}

/// Writes the first values of all adapters to each of `arenas`: they add nothing.
///
/// # Errors
/// [`Error::Internal`] if the storage does not have the arena; what the device refuses.
pub(crate) fn initialise(
    network: &Network,
    storage: &mut Storage,
    arenas: &[Arena],
    seed: u64,
) -> Result<()> {
    for index in specs(network).0 {
        for &arena in arenas {
            storage.set(arena, index, &network.initial(index, seed)?)?;
        }
    }
    Ok(())
}
