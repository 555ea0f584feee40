//! Networks of published folders: which one a `config.json` describes, and its weights.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::graph::{PARAMS, Storage};
use crate::io::checkpoint::read_text;
use crate::io::keyed;
use crate::model::trunks::{Bert, BertKind, Llama, Names};
use crate::model::{Network, Trunk};
use crate::program::Element;

/// A network with its weights on a device.
pub struct Pretrained {
    /// Its trunk and layout, to build graphs from.
    pub network: Network,
    /// Its weights, in the arena [`PARAMS`] and no other.
    pub storage: Storage,
    /// The mask's id, if the configuration names it; some leave it to the tokenizer.
    pub mask_token: Option<u32>,
}

/// Loads a folder in the layout of LLaDA, Dream, a2d-Qwen, ModernBERT or BERT, with matrices kept in elements of type
/// `weights`.
///
/// # Errors
/// [`Error::Checkpoint`] that names what is wrong, [`Error::Io`], or what the device refuses.
pub async fn load(device: &Device, dir: &Path, weights: Element) -> Result<Pretrained> {
    let path = dir.join("config.json");
    let text = read_text(&path, 1 << 20)?;
    let described = describe(&text).map_err(|e| Error::checkpoint(&path, None, e))?;
    let network = Network::new(described.trunk, device.slab_limit(), weights)?;
    let values = network.read(&dir.join("model.safetensors"))?;
    let mut storage = Storage::new(device, &network.layout, &[PARAMS]).await?;
    storage.fill(PARAMS, &values)?;
    Ok(Pretrained {
        network,
        storage,
        mask_token: described.mask_token,
    })
}

/// What a `config.json` says.
#[derive(Debug)]
pub struct Described {
    /// The network that it describes.
    pub trunk: Arc<dyn Trunk>,
    /// The mask's id; `None` where that is left to the tokenizer.
    pub mask_token: Option<u32>,
}

/// Reads the text of a `config.json`; the error is for people.
///
/// # Errors
/// A sentence about what is missing or not supported.
pub fn describe(text: &str) -> Result<Described, String> {
    #[derive(Deserialize)]
    struct Kind {
        model_type: String,
    }
    let kind: Kind = keyed::parse(text.as_bytes())?;
    match kind.model_type.to_lowercase().as_str() {
        "llada" => llada(keyed::parse(text.as_bytes())?),
        "dream" => qwen(keyed::parse(text.as_bytes())?, true, false),
        "a2d-qwen2" => qwen(keyed::parse(text.as_bytes())?, true, false),
        "a2d-qwen3" => qwen(keyed::parse(text.as_bytes())?, false, true),
        "modernbert" => modern_bert(&keyed::parse(text.as_bytes())?),
        "bert" => bert(&keyed::parse(text.as_bytes())?),
        other => Err(format!(
            "model_type is {other}: llada, Dream, a2d-qwen2, a2d-qwen3, modernbert and bert are known"
        )),
    }
}

/// An error unless every switch has the value that is computed here.
fn only(switches: &[(bool, &str)]) -> Result<(), String> {
    match switches.iter().find(|(holds, _)| !holds) {
        Some((_, only)) => Err(format!("only {only} is supported")),
        None => Ok(()),
    }
}

/// An error for sizes that cannot be.
fn possible(
    sizes: &[usize],
    width: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
) -> Result<(), String> {
    let large = |&n: &usize| n == 0 || n > 1 << 24;
    if sizes.iter().chain(&[width, heads, kv_heads]).any(large)
        || !heads.is_multiple_of(kv_heads)
        || !(4..=256).contains(&head_dim)
        || !head_dim.is_multiple_of(4)
        || !width.is_multiple_of(4)
    {
        return Err("its sizes cannot be: heads are 4, 8 .. 256 wide, and those of keys divide those of queries".into());
    }
    Ok(())
}

#[derive(Deserialize)]
struct LladaFields {
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

fn llada(f: LladaFields) -> Result<Described, String> {
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
    Ok(Described {
        trunk: Arc::new(trunk),
        mask_token: f.mask_token_id,
    })
}

#[derive(Deserialize)]
struct QwenFields {
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
    mask_token_id: Option<u32>,
    pad_token_id: Option<u32>,
    model_type: String,
}

/// Dream, and Qwen2 and Qwen3 turned into denoisers.
fn qwen(f: QwenFields, qkv_bias: bool, qk_norm: bool) -> Result<Described, String> {
    let silu = f.hidden_act.as_deref().is_none_or(|act| act == "silu");
    only(&[
        (silu, "hidden_act = silu"),
        (
            f.use_sliding_window != Some(true),
            "use_sliding_window = false",
        ),
        (f.rope_scaling.is_none(), "rope_scaling = null"),
    ])?;
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
        rotary_base: f.rope_theta.unwrap_or(10000.0),
        rotary_dim: head_dim,
        qkv_bias,
        qk_norm,
        tied: f.tie_word_embeddings.unwrap_or(false),
        causal: false,
        windows: Vec::new(),
        // Dream's embedding knows its pad, and its mask is of rows and columns
        frozen_token: f.pad_token_id.filter(|_| f.model_type == "Dream"),
        blind_pads: f.model_type == "Dream",
        names: Names::HuggingFace,
    };
    Ok(Described {
        trunk: Arc::new(trunk),
        mask_token: f.mask_token_id,
    })
}

#[derive(Deserialize)]
struct BertFields {
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

fn bert(f: &BertFields) -> Result<Described, String> {
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

fn encoder(f: &BertFields, kind: BertKind, eps: f64) -> Result<Described, String> {
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
    Ok(Described {
        trunk: Arc::new(trunk),
        mask_token: f.mask_token_id,
    })
}

#[derive(Deserialize)]
struct ModernFields {
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

fn modern_bert(f: &ModernFields) -> Result<Described, String> {
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
