//! A model that answers: by its chat template, or, without one, by going on with the text.

use std::path::{Path, PathBuf};

use anyhow::Context;
use mdlm::data::{ChatTemplate, Message};
use mdlm::{Canvas, Error, Model, SampleConfig, Tokenizer};

use super::{DeviceArgs, ModelArgs, SampleArgs};

/// How models of this crate's answer, as the page does: by confidence with noise. Without noise the surest tokens come
/// first, which are those of an end that nothing leads to yet, or what stands there already.
const TO_ANSWER: [&str; 4] = [
    "sampler=confidence",
    "order_noise=4",
    "steps=64",
    "temperature=0.8",
];

/// What turns a chat into a canvas and a canvas into an answer.
pub struct Speaker {
    pub tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    ends: Vec<u32>,
    begin: Option<u32>,
    /// Tokens of the longest canvas.
    pub length: usize,
}

/// A model that answers, loaded as the flags of an example say.
pub struct Opened {
    pub model: Model,
    /// Where it lies.
    pub path: PathBuf,
    pub speaker: Speaker,
    /// Settings that suit it, with an end where an answer ends.
    pub config: SampleConfig,
}

/// Opens the device and loads the model.
pub fn open(
    model: &ModelArgs,
    sampling: &SampleArgs,
    device: &DeviceArgs,
) -> anyhow::Result<Opened> {
    let config = sampling.to_read()?;
    let (model, path) = model.load_from(&device.open()?)?;
    let mut config = sampling.suited(config, &model)?;
    let speaker = Speaker::new(&model, &path)?;
    let own = model.config().is_ok() && !model.autoregressive();
    if speaker.chats() && own && !sampling.says_order() {
        config = sampling.onto(SampleConfig::default(), &TO_ANSWER)?;
    }
    Ok(Opened {
        config: SampleConfig {
            ends: speaker.ends.clone(),
            ..config
        },
        model,
        path,
        speaker,
    })
}

impl Speaker {
    /// Of a model and the folder that it was loaded from.
    pub fn new(model: &Model, dir: &Path) -> anyhow::Result<Self> {
        let tokenizer = model.tokenizer().cloned();
        let tokenizer = tokenizer.context("the model comes without a tokenizer.json")?;
        Ok(Self {
            template: ChatTemplate::read(dir)?,
            ends: tokenizer.ends(),
            begin: model.frame()[0],
            length: model.length(),
            tokenizer,
        })
    }

    /// Whether it was made to chat.
    pub fn chats(&self) -> bool {
        self.template.is_some()
    }

    /// The tokens of a chat up to where the answer begins.
    pub fn prompt(&self, messages: &[Message]) -> mdlm::Result<Vec<u32>> {
        let Some(template) = &self.template else {
            let last = messages.last().map_or("", |message| &message.content);
            return self.plain(last);
        };
        let mut more = serde_json::Map::new();
        more.insert("enable_thinking".into(), false.into());
        let text = template.render(messages, true, &more)?;
        self.tokenizer.encode_marked(&text)
    }

    /// The tokens of a text that is to be continued.
    pub fn plain(&self, text: &str) -> mdlm::Result<Vec<u32>> {
        let mut tokens = Vec::from_iter(self.begin);
        tokens.extend(self.tokenizer.encode_part(text, false, true)?);
        Ok(tokens)
    }

    /// A canvas for an answer of at most `reply` tokens, as many as the model has room for.
    pub fn canvas(&self, prompt: &[u32], reply: usize) -> mdlm::Result<Canvas> {
        let room = self.length.saturating_sub(prompt.len());
        if room == 0 {
            let problem = format!("leaves no room in the model's {}: say less", self.length);
            return Err(Error::argument("prompt tokens", prompt.len(), problem));
        }
        Canvas::prompt(prompt, prompt.len() + reply.min(room))
    }

    /// What has been written behind the prompt, up to its end; masks are dots. Says whether it has ended.
    pub fn answer(&self, canvas: &Canvas, prompt: usize) -> (String, bool) {
        let tokens = canvas.tokens(self.tokenizer.mask_index());
        self.text(&tokens[prompt.min(tokens.len())..])
    }

    /// The text of written tokens up to their end, and whether there is one.
    pub fn text(&self, written: &[u32]) -> (String, bool) {
        let end = written.iter().position(|id| self.ends.contains(id));
        let text = self
            .tokenizer
            .decode_with(&written[..end.unwrap_or(written.len())], "░");
        (text, end.is_some())
    }
}
