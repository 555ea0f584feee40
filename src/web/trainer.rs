//! Training of a small model on one text, within bounds that a browser tab holds.

use serde::Serialize;
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::wasm_bindgen;

use super::arguments::Training;
use super::convert::{object, options};
use super::device::Device;
use super::error::{JsResult, thrown};
use super::model::{Model, Shared};
use super::types::{Perplexity, StepStats, TrainOptions, TrainerInfo};
use crate::data::Unigram;
use crate::train::Trainer as Inner;

/// Trains a `nano` model.
#[wasm_bindgen]
pub struct Trainer(Inner);

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

#[wasm_bindgen]
impl Trainer {
    /// A fresh run on a text; its last tenth is held out.
    pub async fn create(
        device: &Device,
        text: String,
        settings: TrainOptions,
    ) -> JsResult<Trainer> {
        let device = device.0.clone();
        let training: Training = options("training", &settings)?;
        let config = training.config().map_err(thrown)?;
        let corpus = training.corpus(&text).map_err(thrown)?;
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
