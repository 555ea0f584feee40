//! Configurations of GIDD: MDLM's network, told the time, under noise that also changes tokens for others.

use serde::Deserialize;

use super::described::dit;
use crate::config::ModelConfig;
use crate::model::trunks::Dit;
use crate::process::Noise;

/// The fields of `config.json` that matter here, with the values that it leaves out.
#[derive(Deserialize)]
#[serde(default)]
pub(super) struct GiddFields {
    vocab_size: usize,
    max_seq_len: usize,
    hidden_size: usize,
    timestep_cond_dim: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    p_uniform: f64,
    t_eps: f64,
}

impl Default for GiddFields {
    fn default() -> Self {
        Self {
            vocab_size: 50258,
            max_seq_len: 1024,
            hidden_size: 768,
            timestep_cond_dim: 128,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            p_uniform: 0.0,
            t_eps: 1e-4,
        }
    }
}

/// The network and its noise.
pub(super) fn describe(f: &GiddFields) -> Result<(Dit, Noise), String> {
    let possible = (0.0..1.0).contains(&f.p_uniform) && f.t_eps > 0.0 && f.t_eps < 0.5;
    if !possible {
        return Err("p_uniform must be in [0, 1), and t_eps above 0 and below 0.5".into());
    }
    let sizes = ModelConfig {
        vocab_size: f.vocab_size,
        hidden_size: f.hidden_size,
        n_blocks: f.num_hidden_layers,
        n_heads: f.num_attention_heads,
        cond_dim: f.timestep_cond_dim,
        length: f.max_seq_len,
        time_conditioning: true,
        ..ModelConfig::default()
    };
    let trunk = dit("", sizes)?;
    let noise = Noise::Hybrid {
        p_uniform: f.p_uniform,
        t_eps: f.t_eps,
    };
    Ok((trunk, noise))
}
