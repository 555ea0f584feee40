//! Configurations of LLaDA.

use std::sync::Arc;

use serde::Deserialize;

use super::described::{Found, only, possible};
use crate::model::trunks::{Llama, Names};

#[derive(Deserialize)]
pub(super) struct LladaFields {
    d_model: usize,
    n_layers: usize,
    n_heads: usize,
    n_kv_heads: Option<usize>,
    mlp_hidden_size: Option<usize>,
    mlp_ratio: Option<usize>,
    vocab_size: usize,
    embedding_size: Option<usize>,
    max_sequence_length: usize,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    mask_token_id: Option<u32>,
    activation_type: Option<String>,
    block_type: Option<String>,
    layer_norm_type: Option<String>,
    weight_tying: Option<bool>,
    include_bias: Option<bool>,
    include_qkv_bias: Option<bool>,
    alibi: Option<bool>,
    rope: Option<bool>,
    attention_layer_norm: Option<bool>,
    input_emb_norm: Option<bool>,
    scale_logits: Option<bool>,
}

pub(super) fn describe(f: LladaFields) -> Result<Found, String> {
    let off = |switch: Option<bool>| switch != Some(true);
    let is = |value: &Option<String>, only: &str| value.as_deref().is_none_or(|v| v == only);
    only(&[
        (is(&f.activation_type, "silu"), "activation_type = silu"),
        (is(&f.block_type, "llama"), "block_type = llama"),
        (is(&f.layer_norm_type, "rms"), "layer_norm_type = rms"),
        (off(f.include_bias), "include_bias = false"),
        (off(f.alibi), "alibi = false"),
        (f.rope != Some(false), "rope = true"),
        (off(f.attention_layer_norm), "attention_layer_norm = false"),
        (off(f.input_emb_norm), "input_emb_norm = false"),
        (off(f.scale_logits), "scale_logits = false"),
    ])?;
    let kv_heads = f.n_kv_heads.unwrap_or(f.n_heads);
    let mlp_size = f
        .mlp_hidden_size
        .or(f.mlp_ratio.map(|ratio| ratio * f.d_model))
        .ok_or("it has neither mlp_hidden_size nor mlp_ratio")?;
    let head_dim = f.d_model / f.n_heads.max(1);
    let sizes = [f.n_layers, mlp_size, f.vocab_size, f.max_sequence_length];
    possible(&sizes, f.d_model, f.n_heads, kv_heads, head_dim)?;
    let trunk = Llama {
        vocab_size: f.embedding_size.unwrap_or(f.vocab_size),
        hidden_size: f.d_model,
        n_blocks: f.n_layers,
        n_heads: f.n_heads,
        n_kv_heads: kv_heads,
        head_dim,
        mlp_size,
        length: f.max_sequence_length,
        eps: f.rms_norm_eps.unwrap_or(1e-5),
        rotary_base: f.rope_theta.unwrap_or(10000.0),
        rotary_dim: head_dim,
        qkv_bias: f.include_qkv_bias.unwrap_or(false),
        qk_norm: false,
        tied: f.weight_tying.unwrap_or(false),
        causal: false,
        windows: Vec::new(),
        frozen_token: None,
        blind_pads: false,
        names: Names::Llada,
    };
    Ok((Arc::new(trunk), f.mask_token_id))
}
