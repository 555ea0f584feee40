//! Configurations of BERT and ModernBERT.

use std::sync::Arc;

use serde::Deserialize;

use super::described::{Found, only, possible};
use crate::model::trunks::{Bert, BertKind};

#[derive(Deserialize)]
pub(super) struct BertFields {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: Option<usize>,
    layer_norm_eps: Option<f64>,
    hidden_act: Option<String>,
    position_embedding_type: Option<String>,
    tie_word_embeddings: Option<bool>,
    mask_token_id: Option<u32>,
}

pub(super) fn classic(f: &BertFields) -> Result<Found, String> {
    let is = |value: &Option<String>, only: &str| value.as_deref().is_none_or(|v| v == only);
    only(&[
        (is(&f.hidden_act, "gelu"), "hidden_act = gelu"),
        (
            is(&f.position_embedding_type, "absolute"),
            "position_embedding_type = absolute",
        ),
        (
            f.tie_word_embeddings != Some(false),
            "tie_word_embeddings = true",
        ),
    ])?;
    let kind = BertKind::Classic {
        types: f.type_vocab_size.unwrap_or(2),
    };
    let eps = f.layer_norm_eps.unwrap_or(1e-12);
    encoder(f, kind, eps)
}

fn encoder(f: &BertFields, kind: BertKind, eps: f64) -> Result<Found, String> {
    let heads = f.num_attention_heads;
    let sizes = [
        f.num_hidden_layers,
        f.intermediate_size,
        f.vocab_size,
        f.max_position_embeddings,
    ];
    possible(
        &sizes,
        f.hidden_size,
        heads,
        heads,
        f.hidden_size / heads.max(1),
    )?;
    let trunk = Bert {
        vocab_size: f.vocab_size,
        hidden_size: f.hidden_size,
        n_blocks: f.num_hidden_layers,
        n_heads: heads,
        mlp_size: f.intermediate_size,
        length: f.max_position_embeddings,
        eps,
        kind,
    };
    Ok((Arc::new(trunk), f.mask_token_id))
}

#[derive(Deserialize)]
pub(super) struct ModernFields {
    #[serde(flatten)]
    common: BertFields,
    global_attn_every_n_layers: usize,
    local_attention: usize,
    global_rope_theta: f64,
    local_rope_theta: Option<f64>,
    norm_eps: Option<f64>,
    hidden_activation: Option<String>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    norm_bias: Option<bool>,
    classifier_bias: Option<bool>,
    decoder_bias: Option<bool>,
}

pub(super) fn modern(f: &ModernFields) -> Result<Found, String> {
    let gelu = f
        .hidden_activation
        .as_deref()
        .is_none_or(|act| act == "gelu");
    let off = |switch: Option<bool>| switch != Some(true);
    only(&[
        (gelu, "hidden_activation = gelu"),
        (off(f.attention_bias), "attention_bias = false"),
        (off(f.mlp_bias), "mlp_bias = false"),
        (off(f.norm_bias), "norm_bias = false"),
        (off(f.classifier_bias), "classifier_bias = false"),
        (f.decoder_bias != Some(false), "decoder_bias = true"),
        (
            f.common.tie_word_embeddings != Some(false),
            "tie_word_embeddings = true",
        ),
        (
            f.global_attn_every_n_layers > 0,
            "global_attn_every_n_layers above 0",
        ),
    ])?;
    let kind = BertKind::Modern {
        global_every: f.global_attn_every_n_layers,
        reach: f.local_attention / 2,
        bases: [
            f.global_rope_theta,
            f.local_rope_theta.unwrap_or(f.global_rope_theta),
        ],
    };
    encoder(&f.common, kind, f.norm_eps.unwrap_or(1e-5))
}
