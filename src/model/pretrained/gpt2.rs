//! Configurations of GPT-2, and of DiffuGPT, which is one that sees both ways.

use std::sync::Arc;

use serde::Deserialize;

use super::described::{Found, only};
use crate::model::trunks::Gpt2Trunk;

/// The fields of `config.json` that matter here.
#[derive(Deserialize)]
pub(crate) struct Gpt2Fields {
    #[cfg_attr(target_arch = "wasm32", expect(dead_code))]
    pub(crate) model_type: String,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    n_positions: Option<usize>,
    n_ctx: Option<usize>,
    n_inner: Option<usize>,
    vocab_size: usize,
    activation_function: Option<String>,
    layer_norm_epsilon: Option<f64>,
    tie_word_embeddings: Option<bool>,
    scale_attn_weights: Option<bool>,
    scale_attn_by_inverse_layer_idx: Option<bool>,
    add_cross_attention: Option<bool>,
    mask_token_id: Option<u32>,
}

impl Gpt2Fields {
    /// The causal network; the error is for people.
    pub(crate) fn trunk(&self) -> Result<Gpt2Trunk, String> {
        let n_positions = match (self.n_positions, self.n_ctx) {
            (Some(a), Some(b)) if a != b => {
                return Err(format!("n_positions is {a} but n_ctx is {b}"));
            }
            (a, b) => a.or(b).ok_or("it has neither n_positions nor n_ctx")?,
        };
        let (width, heads) = (self.n_embd, self.n_head);
        let sizes = [width, self.n_layer, heads, n_positions, self.vocab_size];
        if sizes.iter().any(|&n| n == 0 || n > 1 << 20) || !width.is_multiple_of(heads) {
            return Err("its sizes cannot be".into());
        }
        if !(4..=256).contains(&(width / heads)) || !(width / heads).is_multiple_of(4) {
            return Err("n_embd / n_head must be 4, 8 .. 256".into());
        }
        // what would change the numbers, with the only value that is computed here
        let gelu = self.activation_function.as_deref();
        only(&[
            (
                gelu.is_none_or(|name| name == "gelu_new"),
                "activation_function = gelu_new",
            ),
            (
                self.layer_norm_epsilon.is_none_or(|eps| eps == 1e-5),
                "layer_norm_epsilon = 1e-5",
            ),
            (
                self.n_inner.is_none_or(|inner| inner == 4 * width),
                "n_inner = 4 n_embd",
            ),
            (
                self.tie_word_embeddings != Some(false),
                "tie_word_embeddings = true",
            ),
            (
                self.scale_attn_weights != Some(false),
                "scale_attn_weights = true",
            ),
            (
                self.scale_attn_by_inverse_layer_idx != Some(true),
                "scale_attn_by_inverse_layer_idx = false",
            ),
            (
                self.add_cross_attention != Some(true),
                "add_cross_attention = false",
            ),
        ])?;
        Ok(Gpt2Trunk {
            vocab_size: self.vocab_size,
            n_embd: width,
            n_layer: self.n_layer,
            n_head: heads,
            n_positions,
            prefix: String::new(),
            table: "wte.weight".to_owned(),
            causal: true,
        })
    }
}

/// DiffuGPT's, under the names that its files have.
pub(super) fn diffugpt(fields: &Gpt2Fields) -> Result<Found, String> {
    let trunk = Gpt2Trunk {
        prefix: "denoise_model.".to_owned(),
        table: "embed_tokens.weight".to_owned(),
        causal: false,
        ..fields.trunk()?
    };
    Ok((Arc::new(trunk), fields.mask_token_id))
}
