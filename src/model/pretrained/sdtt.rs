//! Configurations of SDTT: MDLM's network, described by the settings of the program that distilled it.

use serde::Deserialize;

use super::described::{dit, only};
use crate::config::ModelConfig;
use crate::model::trunks::Dit;

/// What the program was, in `parameterization.name`; its files have no `model_type`.
pub(super) const PROGRAM: &str = "multi-round-sdtt";
/// Ids of GPT-2's tokenizer, behind which the mask comes.
const GPT2: usize = 50257;

/// The settings that matter here.
#[derive(Deserialize)]
pub(super) struct SdttFields {
    model: Sizes,
    tokenizer: Named,
    #[serde(default)]
    time_conditioning: bool,
}

#[derive(Deserialize)]
struct Sizes {
    #[serde(rename = "type")]
    kind: String,
    hidden_size: usize,
    cond_dim: usize,
    length: usize,
    n_blocks: usize,
    n_heads: usize,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// The network, and the mask's id.
pub(super) fn describe(f: &SdttFields) -> Result<(Dit, u32), String> {
    let m = &f.model;
    only(&[
        (m.kind == "ddit-orig", "model.type ddit-orig"),
        (f.tokenizer.name == "gpt2", "tokenizer.name gpt2"),
    ])?;
    let sizes = ModelConfig {
        vocab_size: GPT2 + 1,
        hidden_size: m.hidden_size,
        n_blocks: m.n_blocks,
        n_heads: m.n_heads,
        cond_dim: m.cond_dim,
        length: m.length,
        time_conditioning: f.time_conditioning,
        ..ModelConfig::default()
    };
    Ok((dit("backbone.", sizes)?, GPT2 as u32))
}
