//! Models in the published layout, written by hand.

use std::path::Path;

use mdlm::config::{ModelConfig, ModelKind};
use mdlm::data::Tokenizer;
use mdlm::device::Device;
use mdlm::io::safetensors::Precision;
use mdlm::model::{Backbone, Model, write_weights};
use mdlm_engine::rng::{Rng, Stream};
use pollster::block_on;
use serde_json::{Value, json};

/// The letters a to e, the end of text, the mask.
pub fn tokenizer() -> Tokenizer {
    Tokenizer::characters("abcde")
}

/// A model of one block for [`tokenizer`].
pub fn small(length: usize) -> ModelConfig {
    let tokenizer = tokenizer();
    ModelConfig {
        kind: ModelKind::Dit,
        vocab_size: tokenizer.vocab_size(),
        mask_index: tokenizer.mask_index(),
        hidden_size: 32,
        n_blocks: 1,
        n_heads: 2,
        cond_dim: 16,
        length,
        dropout: 0.0,
        time_conditioning: false,
        vocab_multiple: 1,
        adaln: true,
    }
}

/// `config.json` of the published layout.
pub fn published(c: &ModelConfig) -> Value {
    let model_type = match c.kind {
        ModelKind::Ar => "ar",
        _ => "mdlm",
    };
    json!({
        "model_type": model_type,
        "vocab_size": c.vocab_size,
        "hidden_dim": c.hidden_size,
        "cond_dim": c.cond_dim,
        "n_blocks": c.n_blocks,
        "n_heads": c.n_heads,
        "model_length": c.length,
        "dropout": c.dropout,
        "time_conditioning": c.time_conditioning,
    })
}

/// Writes a folder with weights of about 0.5; `bias`: the logits of every position instead.
pub fn write(dir: &Path, c: &ModelConfig, bias: Option<&[f64]>) {
    let backbone = Backbone::new(c, usize::MAX).unwrap();
    let mut rng = Rng::new(8, Stream::Init, 0);
    let values = backbone.layout.keys().iter().map(|key| {
        let random = (0..key.len()).map(|_| rng.uniform() - 0.5);
        match (bias, key.key.ends_with("output_layer.linear.bias")) {
            (Some(bias), true) => bias.to_vec(),
            (Some(_), false) if key.key.ends_with("output_layer.linear.weight") => {
                vec![0.0; key.len()]
            }
            _ => random.collect(),
        }
    });
    let values: Vec<Vec<f64>> = values.collect();
    let path = dir.join("model.safetensors");
    write_weights(
        &path,
        &backbone.layout,
        c.head_dim(),
        &values,
        Precision::F32,
    )
    .unwrap();
    std::fs::write(dir.join("config.json"), published(c).to_string()).unwrap();
    std::fs::write(dir.join("tokenizer.json"), tokenizer().to_json()).unwrap();
}

/// A model on a device; see [`write`].
pub fn load(device: &Device, c: &ModelConfig, bias: Option<&[f64]>) -> Model {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), c, bias);
    block_on(Model::load(device, dir.path())).unwrap()
}
