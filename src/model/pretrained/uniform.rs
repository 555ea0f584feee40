//! Configurations of UDLM and Duo: MDLM's network under noise that changes tokens for any others.

use serde::Deserialize;

use super::described::{dit, only};
use crate::config::ModelConfig;
use crate::model::trunks::Dit;
use crate::process::Noise;

/// alpha_t at t = 1, as both were trained; no configuration says it.
const EPS: f64 = 1e-3;

/// The fields of `config.json` that matter here: MDLM's, with what the two have besides.
#[derive(Deserialize)]
pub(super) struct UniformFields {
    vocab_size: usize,
    #[serde(alias = "length")]
    model_length: usize,
    hidden_dim: usize,
    cond_dim: usize,
    n_blocks: usize,
    n_heads: usize,
    #[serde(default = "yes")]
    time_conditioning: bool,
    #[serde(default)]
    causal: bool,
    /// Labels for guidance by a classifier's rule.
    #[serde(default)]
    cfg: bool,
}

fn yes() -> bool {
    true
}

/// The network and its noise.
pub(super) fn describe(f: &UniformFields) -> Result<(Dit, Noise), String> {
    only(&[
        (f.time_conditioning, "time_conditioning true"),
        (!f.causal, "causal false"),
        (!f.cfg, "cfg false"),
    ])?;
    let sizes = ModelConfig {
        vocab_size: f.vocab_size,
        hidden_size: f.hidden_dim,
        n_blocks: f.n_blocks,
        n_heads: f.n_heads,
        cond_dim: f.cond_dim,
        length: f.model_length,
        time_conditioning: true,
        ..ModelConfig::default()
    };
    Ok((dit("backbone.", sizes)?, Noise::Uniform { eps: EPS }))
}
