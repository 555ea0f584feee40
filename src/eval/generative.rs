//! Generative perplexity: how likely a judge, another model, finds generated text.

use crate::data::Tokenizer;
use crate::error::{Error, Result};
use crate::eval::Perplexity;
use crate::eval::perplexity::Scored;
use crate::model::{Gpt2, Model};

/// A model that scores text.
pub enum Judge {
    /// An autoregressive model of this crate; its tokenizer comes with it.
    Autoregressive(Box<Model>),
    /// A GPT-2 and its tokenizer.
    Gpt2(Box<Gpt2>, Tokenizer),
}

impl Judge {
    /// Perplexity of samples, which `tokenizer` has the words of, under the judge: exp of all nats over all
    /// tokens but the first of each sample, which is context.
    ///
    /// A judge with the same tokenizer scores the tokens as they were drawn. Any other one reads their text,
    /// in which its own end of text stands where a sample has one. Ends count like other tokens (the reference's
    /// `compute_generative_perplexity` counts the first of a window only). Samples longer than the judge are
    /// scored in windows, the last token of one being the context of the next.
    ///
    /// # Errors
    /// [`Error::Argument`] for a judge that is no autoregressive model or carries no tokenizer and for samples of
    /// no token, what the judge's tokenizer refuses, or what the device refuses.
    pub async fn perplexity(
        &mut self,
        samples: &[Vec<u32>],
        tokenizer: &Tokenizer,
    ) -> Result<Perplexity> {
        let (own, length) = match self {
            Self::Gpt2(model, tokenizer) => (tokenizer.clone(), model.length().max(2)),
            Self::Autoregressive(model) => {
                let missing = "the judge carries no tokenizer";
                let missing = || Error::argument("judge", "", missing);
                let tokenizer = model.tokenizer().cloned().ok_or_else(missing)?;
                (tokenizer, model.length().max(2))
            }
        };
        let same = own.to_json() == tokenizer.to_json()
            && own.special_names() == tokenizer.special_names();
        let mut scored = Vec::new();
        for sample in samples {
            let mut tokens = if same {
                sample.clone()
            } else {
                translated(sample, tokenizer, &own)?
            };
            if tokens.first() != Some(&own.bos()) {
                tokens.insert(0, own.bos());
            }
            let mut nats = 0.0;
            let mut rest = &tokens[..];
            while rest.len() > 1 {
                let window = &rest[..rest.len().min(length)];
                nats += self.nll(window).await?.iter().sum::<f64>();
                rest = &rest[window.len() - 1..];
            }
            if tokens.len() > 1 {
                scored.push(Scored {
                    nats,
                    tokens: tokens.len() as u64 - 1,
                });
            }
        }
        if scored.is_empty() {
            let problem = "hold no text to judge";
            return Err(Error::argument("samples", samples.len(), problem));
        }
        Ok(Perplexity::estimate(&scored, 1))
    }

    /// Nats of each token but the first.
    async fn nll(&mut self, tokens: &[u32]) -> Result<Vec<f64>> {
        match self {
            Self::Gpt2(model, _) => model.nll(tokens).await,
            Self::Autoregressive(model) => model.next_token_nll(tokens).await,
        }
    }
}

/// A sample in the tokens of another vocabulary: its text, with beginnings and ends where it has them.
fn translated(sample: &[u32], from: &Tokenizer, to: &Tokenizer) -> Result<Vec<u32>> {
    let mut tokens = vec![to.bos()];
    let sample = sample.strip_prefix(&[from.bos()]).unwrap_or(sample);
    let boundary = |&id: &u32| id == from.bos() || id == from.eos();
    for piece in sample.split_inclusive(boundary) {
        let (text, end) = match piece.split_last() {
            Some((last, text)) if boundary(last) => (text, Some(last)),
            _ => (piece, None),
        };
        let text = from.decode(text);
        if !text.is_empty() {
            tokens.extend(to.encode(&text)?);
        }
        tokens.extend(end.map(|&end| {
            if end == from.eos() {
                to.eos()
            } else {
                to.bos()
            }
        }));
    }
    Ok(tokens)
}
