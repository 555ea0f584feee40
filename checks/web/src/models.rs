//! Small models that the page is tested with, trained for a moment and written as it expects them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use mdlm::blocking::wait;
use mdlm::config::{ModelConfig, ModelKind, Recipe, TrainConfig};
use mdlm::data::{Corpus, Tokenizer, split_documents, split_held_out};
use mdlm::device::Device;
use mdlm::io::checkpoint::measure;
use mdlm::io::safetensors::Precision;
use mdlm::model::{Model, Published};
use mdlm::progress::Silent;
use mdlm::train::Trainer;
use serde_json::json;

/// Text that the models of the tests are trained on.
pub const TEXT: &str = include_str!("text.txt");

/// Positions of a test model.
pub const LENGTH: usize = 48;

fn config(kind: ModelKind, steps: u64) -> TrainConfig {
    let mut config = TrainConfig {
        model: ModelConfig {
            kind,
            hidden_size: 64,
            n_blocks: 2,
            n_heads: 2,
            cond_dim: 32,
            length: LENGTH,
            ..ModelConfig::default()
        },
        ..TrainConfig::default()
    };
    (config.optim.recipe, config.optim.lr) = (Recipe::Reference, Some(3e-3));
    config.training.steps = steps;
    config.training.batch = 8;
    config.training.ema = 0.9;
    config
}

/// Folder of a published model of the library's fixtures.
pub fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden_llm");
    folder.join(name)
}

/// Trains a model for some steps on the twin.
pub fn trained(kind: ModelKind, steps: u64) -> Result<Model> {
    let (train, valid) = split_held_out(split_documents(TEXT));
    let tokenizer = Tokenizer::characters(TEXT);
    let corpus = Corpus::from_texts(tokenizer, &train, &valid, LENGTH, &mut Silent)?;
    let mut trainer = wait(Trainer::new(&Device::cpu(), &config(kind, steps), corpus))?;
    for _ in 0..steps {
        wait(trainer.step())?;
    }
    Ok(wait(trainer.model())?)
}

/// A model of the demo's size with random weights, for figures.
pub fn random(kind: ModelKind, tokenizer: &[u8]) -> Result<Published> {
    let ids = Tokenizer::from_json(tokenizer)?;
    let config = ModelConfig {
        kind,
        vocab_size: ids.vocab_size(),
        mask_index: ids.mask_index(),
        ..ModelConfig::preset("mini")?
    };
    let model = wait(Model::new(&Device::cpu(), &config, 1))?;
    let files = wait(model.publish(Precision::F16))?;
    Ok(Published {
        tokenizer: Some(tokenizer.to_vec()),
        ..files
    })
}

/// Writes a model's folder with its card.
pub fn write(files: &Published, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let mut digests = json!({});
    let tokenizer = files.tokenizer.as_deref().unwrap_or_default();
    for (name, bytes) in [
        ("config.json", &files.config[..]),
        ("model.safetensors", &files.weights),
        ("tokenizer.json", tokenizer),
    ] {
        let path = folder.join(name);
        fs::write(&path, bytes)?;
        digests[name] = serde_json::to_value(measure(&path)?)?;
    }
    let card = json!({
        "data": "a page of text that came with the tests",
        "licence": "MIT OR Apache-2.0",
        "steps": 0,
        "files": digests,
    });
    Ok(fs::write(folder.join("card.json"), card.to_string())?)
}
