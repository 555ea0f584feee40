//! Configurations of Dream and SDAR, and of Llama, Qwen2 and Qwen3 turned into denoisers.

use std::sync::Arc;

use serde::Deserialize;

use super::described::{Found, only, possible};
use crate::model::trunks::{Llama, Names};

#[derive(Deserialize)]
pub(super) struct QwenFields {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    hidden_act: Option<String>,
    tie_word_embeddings: Option<bool>,
    use_sliding_window: Option<bool>,
    rope_scaling: Option<serde_json::Value>,
    /// `rope_theta` and the kind of scaling, as newer files have them.
    rope_parameters: Option<Rope>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    mask_token_id: Option<u32>,
    pad_token_id: Option<u32>,
}

#[derive(Deserialize)]
struct Rope {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
}

/// What a family's configurations leave out.
pub(super) struct Family {
    qkv_bias: bool,
    qk_norm: bool,
    /// Dream's embedding knows its pad, and its mask is of rows and columns.
    dream: bool,
    names: Names,
}

pub(super) const LLAMA: Family = Family {
    qkv_bias: false,
    qk_norm: false,
    dream: false,
    names: Names::HuggingFace,
};
pub(super) const QWEN2: Family = Family {
    qkv_bias: true,
    ..LLAMA
};
pub(super) const QWEN3: Family = Family {
    qk_norm: true,
    ..LLAMA
};
pub(super) const DREAM: Family = Family {
    dream: true,
    ..QWEN2
};
pub(super) const DIFFULLAMA: Family = Family {
    names: Names::Diffu,
    ..LLAMA
};

/// The decoder of a family.
pub(super) fn describe(f: QwenFields, family: &Family) -> Result<Found, String> {
    let silu = f.hidden_act.as_deref().is_none_or(|act| act == "silu");
    let scaling = f
        .rope_parameters
        .as_ref()
        .and_then(|rope| rope.rope_type.as_deref());
    let plain = scaling.is_none_or(|scaling| scaling == "default");
    only(&[
        (silu, "hidden_act = silu"),
        (
            f.use_sliding_window != Some(true),
            "use_sliding_window = false",
        ),
        (f.rope_scaling.is_none(), "rope_scaling = null"),
        (plain, "rope_parameters.rope_type = default"),
        (f.mlp_bias != Some(true), "mlp_bias = false"),
        (
            f.attention_bias != Some(true) || family.qkv_bias,
            "attention_bias = false",
        ),
    ])?;
    let theta = f.rope_parameters.and_then(|rope| rope.rope_theta);
    let heads = f.num_attention_heads;
    let kv_heads = f.num_key_value_heads.unwrap_or(heads);
    let head_dim = f.head_dim.unwrap_or(f.hidden_size / heads.max(1));
    let sizes = [
        f.num_hidden_layers,
        f.intermediate_size,
        f.vocab_size,
        f.max_position_embeddings,
    ];
    possible(&sizes, f.hidden_size, heads, kv_heads, head_dim)?;
    let trunk = Llama {
        vocab_size: f.vocab_size,
        hidden_size: f.hidden_size,
        n_blocks: f.num_hidden_layers,
        n_heads: heads,
        n_kv_heads: kv_heads,
        head_dim,
        mlp_size: f.intermediate_size,
        length: f.max_position_embeddings,
        eps: f.rms_norm_eps.unwrap_or(1e-6),
        rotary_base: f.rope_theta.or(theta).unwrap_or(10000.0),
        rotary_dim: head_dim,
        qkv_bias: family.qkv_bias,
        qk_norm: family.qk_norm,
        tied: f.tie_word_embeddings.unwrap_or(false),
        causal: false,
        windows: Vec::new(),
        frozen_token: f.pad_token_id.filter(|_| family.dream),
        blind_pads: family.dream,
        names: family.names,
    };
    Ok((Arc::new(trunk), f.mask_token_id))
}
