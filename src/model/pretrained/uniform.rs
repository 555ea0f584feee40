//! Configurations of UDLM and Duo: MDLM's network under noise that changes tokens for any others.

use serde::Deserialize;

use super::described::only;
use crate::config::{ModelConfig, ModelKind};
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
    let config = ModelConfig {
        kind: ModelKind::Dit,
        vocab_size: f.vocab_size,
        mask_index: (f.vocab_size as u32).saturating_sub(1),
        hidden_size: f.hidden_dim,
        n_blocks: f.n_blocks,
        n_heads: f.n_heads,
        cond_dim: f.cond_dim,
        length: f.model_length,
        dropout: 0.0,
        time_conditioning: true,
        vocab_multiple: 1,
        adaln: true,
    };
    config
        .validate()
        .map_err(|error| format!("its sizes cannot be: {error}"))?;
    Ok((Dit::new(config), Noise::Uniform { eps: EPS }))
}
