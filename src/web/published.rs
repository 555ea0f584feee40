//! Published models from files that the page was given: what they are and need, and opening them.

use js_sys::Function;
use serde::Serialize;
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::wasm_bindgen;

use super::arguments::How;
use super::convert::{object, options};
use super::device::Device;
use super::error::{JsResult, thrown};
use super::files::Given;
use super::model::{Model, Shared};
use super::types::{GivenFiles, Inspection, OpenOptions};
use crate::config::SampleConfig;
use crate::error::{Error, Result};
use crate::io::files::Files;
use crate::model::{Inspected, Model as Inner, inspect_files};
use crate::program::Element;

/// Memory that a module of 32 bits can have, bytes.
const MEMORY: u64 = 1 << 32;
/// What the program itself, a tokenizer and the parts of a file in passing take of it at most.
const BESIDES: u64 = 128 << 20;

#[derive(Serialize)]
struct Found {
    model_type: String,
    parameters: u64,
    vocab_size: usize,
    ids: usize,
    mask_index: u32,
    length: usize,
    shift: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    block: Option<usize>,
    tokenizer: bool,
    sampling: SampleConfig,
    memory: Vec<Need>,
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<String>,
}

/// What a model needs in one precision.
#[derive(Serialize)]
struct Need {
    weights: String,
    bytes: u64,
    with_canvas: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Says what the files of a published model say, their weights apart, and what it needs on a device with a canvas of
/// `length` tokens.
#[wasm_bindgen]
pub async fn inspect(
    device: &Device,
    files: GivenFiles,
    how: OpenOptions,
    length: usize,
) -> JsResult<Inspection> {
    let device = device.0.clone();
    let how: How = options("how", &how)?;
    let given = Given::new(&files, None);
    let load = how.load().map_err(thrown)?;
    let found = inspect_files(&given, &load).await.map_err(thrown)?;
    let damage = match found.check(&given).await {
        Ok(()) => None,
        Err(error @ (Error::Checkpoint { .. } | Error::Io { .. })) => Some(error.to_string()),
        Err(error) => return Err(thrown(error)),
    };
    let memory = Element::WEIGHTS.iter().map(|(weights, name)| {
        let [bytes, with_canvas] = found.bytes(Some(*weights), length.clamp(1, found.length))?;
        Ok(Need {
            weights: (*name).to_owned(),
            bytes,
            with_canvas,
            problem: misfit(&found, &device, *weights, with_canvas),
        })
    });
    let memory: Result<_> = memory.collect();
    let made = object(&Found {
        model_type: found.model_type,
        parameters: found.parameters,
        vocab_size: found.vocab_size,
        ids: found.ids,
        mask_index: found.mask_index,
        length: found.length,
        shift: found.shift,
        block: found.block,
        tokenizer: given.has("tokenizer.json"),
        sampling: found.sampling,
        memory: memory.map_err(thrown)?,
        damage,
    })?;
    Ok(made.unchecked_into())
}

/// Why a model cannot be kept on a device, as far as that is known: browsers do not tell how much memory a GPU has.
fn misfit(
    found: &Inspected,
    device: &crate::device::Device,
    weights: Element,
    bytes: u64,
) -> Option<String> {
    if let Err(problem) = found.fits(device, weights) {
        return Some(problem.to_string());
    }
    let on_cpu = device.context().is_none();
    (on_cpu && bytes > MEMORY - BESIDES)
        .then(|| "more than the 4 GiB of memory that a page's program can have".to_owned())
}

#[wasm_bindgen]
impl Model {
    /// Opens a published model from its files, part by part. `progress` is called with the bytes read so far and may
    /// return `false` to end it.
    pub async fn open(
        device: &Device,
        files: GivenFiles,
        how: OpenOptions,
        progress: Option<Function>,
    ) -> JsResult<Model> {
        let device = device.0.clone();
        let how: How = options("how", &how)?;
        let given = Given::new(&files, progress);
        let load = how.load().map_err(thrown)?;
        let model = Inner::load_files(&device, &given, &load).await;
        Ok(Self(Shared::new(model.map_err(thrown)?)))
    }
}
