//! Training of a small model on one text, within bounds that a browser tab holds.

use serde::{Deserialize, Serialize};
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::wasm_bindgen;

use super::convert::{object, options};
use super::device::Device;
use super::error::{JsResult, thrown};
use super::model::{Model, Shared};
use super::types::{Perplexity, StepStats, TrainOptions, TrainerInfo};
use crate::config::{LrSchedule, ModelConfig, TrainConfig};
use crate::data::{Corpus, Tokenizer, Unigram, split_documents, split_held_out};
use crate::error::{Error, Result};
use crate::progress::Silent;
use crate::train::Trainer as Inner;

/// Longest text, bytes.
const MAX_TEXT: usize = 8 << 20;
/// Most tokens of a step, which decide how much memory the activations take.
const MAX_TOKENS: usize = 1 << 13;
/// Most distinct characters for a vocabulary of them.
const MAX_CHARACTERS: usize = 2000;

/// Trains a `nano` model.
#[wasm_bindgen]
pub struct Trainer(Inner);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    steps: u64,
    batch: usize,
    length: usize,
    lr: Option<f64>,
    seed: u64,
    tokenizer: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            steps: 1000,
            batch: 8,
            length: 64,
            lr: None,
            seed: 1,
            tokenizer: "char".into(),
        }
    }
}

#[derive(Serialize)]
struct Info {
    parameters: u64,
    vocab_size: usize,
    length: usize,
    batch: usize,
    steps: u64,
    train_blocks: usize,
    valid_blocks: usize,
    unigram_perplexity: f64,
}

#[derive(Serialize)]
struct Bound {
    perplexity: f64,
    std_err: Option<f64>,
    tokens: u64,
}

fn corpus(text: &str, options: &Options) -> Result<Corpus> {
    if text.len() > MAX_TEXT {
        let problem = format!("{} bytes; at most {MAX_TEXT} are read here", text.len());
        return Err(Error::config("text", "the text", problem));
    }
    let tokenizer = match options.tokenizer.as_str() {
        "char" => Tokenizer::characters(text),
        "byte" => Tokenizer::byte(),
        other => {
            let problem = "must be char or byte";
            return Err(Error::config("tokenizer", other, problem));
        }
    };
    if tokenizer.vocab_size() > MAX_CHARACTERS {
        let problem = format!("more than {MAX_CHARACTERS} distinct characters: use byte");
        return Err(Error::config("tokenizer", &options.tokenizer, problem));
    }
    let documents = split_documents(text);
    if documents.is_empty() {
        return Err(Error::config("text", "the text", "is empty"));
    }
    let (train, valid) = split_held_out(documents);
    Corpus::from_texts(tokenizer, &train, &valid, options.length, &mut Silent)
}

fn config(options: &Options) -> Result<TrainConfig> {
    let tokens = options.batch.saturating_mul(options.length);
    if tokens > MAX_TOKENS {
        let problem = format!("batch x length must be at most {MAX_TOKENS} here");
        return Err(Error::config("batch", options.batch, problem));
    }
    let mut config = TrainConfig {
        seed: options.seed,
        model: ModelConfig {
            length: options.length,
            ..ModelConfig::preset("nano")?
        },
        ..TrainConfig::default()
    };
    config.optim.lr = options.lr;
    config.optim.schedule = LrSchedule::Cosine;
    config.training.steps = options.steps;
    config.training.batch = options.batch;
    config.training.ema = 0.99;
    Ok(config)
}

#[wasm_bindgen]
impl Trainer {
    /// A fresh run on a text; its last tenth is held out.
    pub async fn create(
        device: &Device,
        text: String,
        settings: TrainOptions,
    ) -> JsResult<Trainer> {
        let device = device.0.clone();
        let options: Options = options("training", &settings)?;
        let config = config(&options).map_err(thrown)?;
        let corpus = corpus(&text, &options).map_err(thrown)?;
        let made = Inner::new(&device, &config, corpus).await;
        Ok(Self(made.map_err(thrown)?))
    }

    /// Lets a fresh run begin with the weights of `model`, which has the same tokenizer, instead of random ones.
    #[wasm_bindgen(js_name = startFrom)]
    pub async fn start_from(&mut self, model: &Model) -> JsResult<()> {
        let shared = model.0.clone();
        let mut loan = shared.lend();
        let model = loan.model().map_err(thrown)?;
        self.0.start_from(model).await.map_err(thrown)
    }

    /// Sizes, and what to beat.
    pub fn info(&self) -> JsResult<TrainerInfo> {
        let (config, corpus) = (self.0.config(), self.0.corpus());
        let unigram = Unigram::from_blocks(&corpus.train, config.model.vocab_size)
            .and_then(|unigram| unigram.perplexity(&corpus.valid))
            .map_err(thrown)?;
        let made = object(&Info {
            parameters: self.0.parameters(),
            vocab_size: config.model.vocab_size,
            length: config.model.length,
            batch: config.training.batch,
            steps: config.training.steps,
            train_blocks: corpus.train.count(),
            valid_blocks: corpus.valid.count(),
            unigram_perplexity: unigram,
        })?;
        Ok(made.unchecked_into())
    }

    /// Does one optimiser step. With `until`, later ones may begin, up to that many; to validate or to make a model
    /// earlier than that, `settle` first.
    pub async fn step(&mut self, until: Option<f64>) -> JsResult<StepStats> {
        let until = until.unwrap_or_default() as u64;
        let stats = self.0.step_ahead(until).await.map_err(thrown)?;
        Ok(object(&stats)?.unchecked_into())
    }

    /// Ends a step that has begun; nothing if none has.
    pub async fn settle(&mut self) -> JsResult<Option<StepStats>> {
        match self.0.settle().await.map_err(thrown)? {
            Some(stats) => Ok(Some(object(&stats)?.unchecked_into())),
            None => Ok(None),
        }
    }

    /// Perplexity of the moving average on the held-out text.
    pub async fn validate(&mut self) -> JsResult<Perplexity> {
        let found = self.0.validate(|_, _| {}).await.map_err(thrown)?;
        let made = object(&Bound {
            perplexity: found.ppl,
            std_err: found.std_err(),
            tokens: found.tokens,
        })?;
        Ok(made.unchecked_into())
    }

    /// The moving average of the weights as a model of its own, to sample from or to save.
    pub async fn model(&self) -> JsResult<Model> {
        let model = self.0.model().await.map_err(thrown)?;
        Ok(Model(Shared::new(model)))
    }
}
