//! Networks of other programs: which one a `config.json` describes, its weights, and what its tokens are.

mod bert;
mod described;
#[cfg(not(target_arch = "wasm32"))]
mod gguf;
mod gidd;
mod gpt2;
mod llada;
mod qwen;
mod sdtt;
mod smdm;
mod tokens;
mod uniform;

#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

pub use described::Described;
#[cfg(not(target_arch = "wasm32"))]
pub use gguf::GgufModel;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use gpt2::Gpt2Fields;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use tokens::gguf_tokenizer;
pub(crate) use tokens::tokenizer;

use crate::error::{Error, Result};
use crate::io::files::Files;
use crate::io::keyed;
use crate::model::published::CONFIG;
#[cfg(not(target_arch = "wasm32"))]
use crate::{
    device::Device,
    graph::Storage,
    io::files::{Folder, read_text},
    model::Network,
    model::published::{MAX_CONFIG_BYTES, WEIGHTS},
    program::Element,
};

/// A network with its weights on a device.
#[cfg(not(target_arch = "wasm32"))]
pub struct Pretrained {
    /// Its trunk and layout, to build graphs from.
    pub network: Network,
    /// Its weights, in the arena [`PARAMS`](crate::graph::PARAMS) and no other.
    pub storage: Storage,
    /// What its configuration says.
    pub described: Described,
}

/// Loads a folder in the layout of LLaDA, Dream, a2d-Qwen, a2d-Llama, SDAR, SMDM, DiffuLLaMA, DiffuGPT, GIDD, ModernBERT
/// or BERT, with matrices kept in elements of type `weights`.
///
/// # Errors
/// [`Error::Checkpoint`] that names what is wrong, [`Error::Io`], or what the device refuses.
#[cfg(not(target_arch = "wasm32"))]
pub async fn load(device: &Device, dir: &Path, weights: Element) -> Result<Pretrained> {
    let folder = Folder(dir.to_owned());
    let text = read_text(&folder, CONFIG, MAX_CONFIG_BYTES).await?;
    let described = described(&folder, WEIGHTS, Some(&text), None).await?;
    let trunk = described.trunk.clone();
    let (network, storage) = Network::open(device, trunk, weights, &folder, WEIGHTS).await?;
    Ok(Pretrained {
        network,
        storage,
        described,
    })
}

/// The `model_type` of a `config.json`, or `sdtt` for settings of that program; the error is for people.
///
/// # Errors
/// A sentence about what is missing.
pub fn model_type(text: &str) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Kind {
        model_type: String,
    }
    #[derive(Deserialize)]
    struct Settings {
        parameterization: Program,
    }
    #[derive(Deserialize)]
    struct Program {
        name: String,
    }
    let json = text.as_bytes();
    let found = keyed::parse::<Kind>(json).map(|kind| kind.model_type);
    found.or_else(|problem| match keyed::parse::<Settings>(json) {
        Ok(settings) if settings.parameterization.name == sdtt::PROGRAM => Ok("sdtt".to_owned()),
        _ => Err(problem),
    })
}

/// What is said of the weights `name` by the text of a `config.json`, or by themselves where theirs is a kind that comes
/// without one, read as `as_what` if that is given.
///
/// # Errors
/// [`Error::Checkpoint`] that names what is missing or not supported, [`Error::Io`].
pub(crate) async fn described(
    files: &impl Files,
    name: &str,
    config: Option<&str>,
    as_what: Option<&str>,
) -> Result<Described> {
    let damaged = |problem| Error::checkpoint(&files.path(CONFIG), None, problem);
    let text = config.unwrap_or_default();
    let kind = match as_what {
        Some(given) => given.to_owned(),
        None => model_type(text).map_err(damaged)?,
    };
    match kind.eq_ignore_ascii_case("smdm") {
        true => smdm::describe(files, name, config, &kind).await,
        false => describe(text, Some(&kind)).map_err(damaged),
    }
}

/// Reads the text of a `config.json` as that of `model_type`, or of the one that it names; the error is for people.
///
/// # Errors
/// A sentence about what is missing or not supported.
pub fn describe(text: &str, as_what: Option<&str>) -> Result<Described, String> {
    let json = text.as_bytes();
    let model_type = match as_what {
        Some(given) => given.to_owned(),
        None => model_type(text)?,
    };
    let kind = model_type.to_lowercase();
    let found = match kind.as_str() {
        "llada" => llada::describe(keyed::parse(json)?),
        "dream" => qwen::describe(keyed::parse(json)?, &qwen::DREAM),
        "a2d-qwen2" => qwen::describe(keyed::parse(json)?, &qwen::QWEN2),
        "a2d-qwen3" | "sdar" => qwen::describe(keyed::parse(json)?, &qwen::QWEN3),
        "a2d-llama" => qwen::describe(keyed::parse(json)?, &qwen::LLAMA),
        "diffullama" => qwen::describe(keyed::parse(json)?, &qwen::DIFFULLAMA),
        "dit" | "udlm" | "duo" => {
            let (trunk, noise) = match kind.as_str() {
                "dit" => gidd::describe(&keyed::parse(json)?),
                _ => uniform::describe(&keyed::parse(json)?),
            }?;
            let found = (Arc::new(trunk) as _, None);
            return Ok(Described {
                noise: Some(noise),
                ..Described::new(model_type, found, None)
            });
        }
        "sdtt" => sdtt::describe(&keyed::parse(json)?)
            .map(|(trunk, mask)| (Arc::new(trunk) as _, Some(mask))),
        "diffugpt" => gpt2::diffugpt(&keyed::parse(json)?),
        "modernbert" => bert::modern(&keyed::parse(json)?),
        "bert" => bert::classic(&keyed::parse(json)?),
        other => Err(unknown(other)),
    }?;
    Ok(Described::new(model_type, found, blocks(json)?))
}

/// The blocks that a `config.json` says that its rows see, each with those before it.
fn blocks(json: &[u8]) -> Result<Option<usize>, String> {
    #[derive(Deserialize)]
    struct Blocks {
        bd_size: Option<usize>,
        block_size: Option<usize>,
    }
    let found = keyed::parse::<Blocks>(json)?;
    match found.bd_size.or(found.block_size) {
        Some(block) if block > 1 << 24 => Err(format!("blocks of {block} tokens cannot be")),
        block => Ok(block),
    }
}

/// Why a network is not there.
fn unknown(model_type: &str) -> String {
    let reason = match model_type {
        name if name.contains("moe") || name.starts_with("llada2") || name.contains("gemma") => {
            "a mixture of experts, which is not supported"
        }
        name if name.contains("vl") || name.contains("vision") || name.contains("llava") => {
            "a model of images, which is not supported"
        }
        "qwen2" | "qwen3" | "llama" | "gpt2" => {
            "an autoregressive model as far as that says; load one that was turned into a denoiser as an a2d-qwen2, \
             a2d-qwen3, a2d-llama, diffullama or diffugpt"
        }
        "smdm" => "which its weights describe, not its config.json",
        _ => "not known",
    };
    format!(
        "model_type is {model_type}, {reason}: mdlm, ar, bd3lm, llada, Dream, a2d-qwen2, a2d-qwen3, a2d-llama, sdar, \
         smdm, diffullama, diffugpt, dit (GIDD), udlm, duo, sdtt, modernbert and bert can be loaded"
    )
}
