//! What JavaScript may give to the classes, read and bounded; without JavaScript, so that tests can try it natively.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::config::{LrSchedule, ModelConfig, TrainConfig};
use crate::data::{Corpus, Tokenizer, split_documents, split_held_out};
use crate::error::{Error, Result};
use crate::io::keyed;
use crate::model::Load;
use crate::progress::Silent;
use crate::sample::Canvas;

/// Longest canvas, tokens; longer ones are no text that a page can show.
const MAX_LENGTH: usize = 1 << 12;
/// Longest text to train on, bytes.
const MAX_TEXT: usize = 8 << 20;
/// Most tokens of a step, which decide how much memory the activations take.
const MAX_TOKENS: usize = 1 << 13;
/// Most distinct characters for a vocabulary of them.
const MAX_CHARACTERS: usize = 2000;

/// Reads an object of options, as JSON; unknown keys are refused.
///
/// # Errors
/// [`Error::Argument`] about `name` with the key that is wrong.
pub fn options<T: DeserializeOwned>(name: &'static str, json: &str) -> Result<T> {
    let refused = |problem| Error::argument(name, "the object given", problem);
    keyed::parse(json.as_bytes()).map_err(refused)
}

/// How to read another program's model.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct How {
    weights: Option<String>,
    mask: Option<u32>,
    shift: Option<bool>,
    block: Option<usize>,
    model_type: Option<String>,
}

impl How {
    /// The library's.
    ///
    /// # Errors
    /// [`Error::Argument`] for weights of no known kind.
    pub fn load(self) -> Result<Load> {
        let weights = self.weights.map(|name| name.parse()).transpose()?;
        Ok(Load {
            weights,
            mask: self.mask,
            shift: self.shift,
            block: self.block,
            model_type: self.model_type,
            adapter: None,
        })
    }
}

/// A canvas that begins with `begin`, if that is a token, then holds what a template says, and is open from there to
/// `length`; a model takes `most` tokens.
///
/// # Errors
/// [`Error::Argument`] for lengths that no page shows, and templates that are none or too long.
pub fn canvas(
    template: &str,
    length: usize,
    tokenizer: &Tokenizer,
    begin: Option<u32>,
    most: usize,
) -> Result<Canvas> {
    if !(1..=MAX_LENGTH).contains(&length) {
        let problem = format!("must be in 1..={MAX_LENGTH}");
        return Err(Error::argument("length", length, problem));
    }
    let template_alone = Canvas::parse(template, tokenizer)?;
    let before = usize::from(begin.is_some());
    let tokens = template_alone.len() + before;
    let most = most.max(length);
    if tokens > most {
        let problem = format!("makes {tokens} tokens; at most {most} fit");
        return Err(Error::argument("prompt", "the text", problem));
    }
    let canvas = match tokens < length {
        true => Canvas::begin(template, tokenizer, length - before)?,
        false => template_alone,
    };
    Ok(canvas.framed([begin, None]))
}

/// Settings of a run.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Training {
    steps: u64,
    batch: usize,
    length: usize,
    lr: Option<f64>,
    seed: u64,
    tokenizer: String,
}

impl Default for Training {
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

impl Training {
    /// A text, tokenised and packed; its last tenth is held out.
    ///
    /// # Errors
    /// [`Error::Config`] for a text that is too long or empty, or has too many characters; [`Error::Corpus`] for one
    /// that is too short.
    pub fn corpus(&self, text: &str) -> Result<Corpus> {
        if text.len() > MAX_TEXT {
            let problem = format!("{} bytes; at most {MAX_TEXT} are read here", text.len());
            return Err(Error::config("text", "the text", problem));
        }
        let tokenizer = match self.tokenizer.as_str() {
            "char" => Tokenizer::characters(text),
            "byte" => Tokenizer::byte(),
            other => {
                let problem = "must be char or byte";
                return Err(Error::config("tokenizer", other, problem));
            }
        };
        if tokenizer.vocab_size() > MAX_CHARACTERS {
            let problem = format!("more than {MAX_CHARACTERS} distinct characters: use byte");
            return Err(Error::config("tokenizer", &self.tokenizer, problem));
        }
        let documents = split_documents(text);
        if documents.is_empty() {
            return Err(Error::config("text", "the text", "is empty"));
        }
        let (train, valid) = split_held_out(documents);
        Corpus::from_texts(tokenizer, &train, &valid, self.length, &mut Silent)
    }

    /// The configuration of a run of a `nano` model.
    ///
    /// # Errors
    /// [`Error::Config`] for steps that no tab holds.
    pub fn config(&self) -> Result<TrainConfig> {
        let tokens = self.batch.saturating_mul(self.length);
        if tokens > MAX_TOKENS {
            let problem = format!("batch x length must be at most {MAX_TOKENS} here");
            return Err(Error::config("batch", self.batch, problem));
        }
        let mut config = TrainConfig {
            seed: self.seed,
            model: ModelConfig {
                length: self.length,
                ..ModelConfig::preset("nano")?
            },
            ..TrainConfig::default()
        };
        config.optim.lr = self.lr;
        config.optim.schedule = LrSchedule::Cosine;
        config.training.steps = self.steps;
        config.training.batch = self.batch;
        config.training.ema = 0.99;
        Ok(config)
    }
}
