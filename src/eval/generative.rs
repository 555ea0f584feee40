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
    /// Perplexity of the texts under the judge: exp of all nats over all tokens, each text cut to
    /// windows of the judge's length, whose first token is only context (reference
    /// `compute_generative_perplexity`: of the end-of-text tokens only the first of a window counts;
    /// windows are not padded here).
    ///
    /// # Errors
    /// [`Error::Config`] for a judge that is no autoregressive model or carries no tokenizer, what the
    /// tokenizer refuses, or what the device refuses.
    pub async fn perplexity(&mut self, texts: &[String]) -> Result<Perplexity> {
        let (tokenizer, length) = match self {
            Self::Gpt2(model, tokenizer) => (tokenizer.clone(), model.length()),
            Self::Autoregressive(model) => {
                let missing = "the judge carries no tokenizer";
                let missing = || Error::config("judge", "", missing);
                let tokenizer = model.tokenizer().cloned().ok_or_else(missing)?;
                (tokenizer, model.config().length)
            }
        };
        let mut scored = Vec::new();
        for text in texts {
            let mut tokens = vec![tokenizer.bos()];
            tokens.extend(tokenizer.encode(text)?);
            let (mut nats, mut count) = (0.0, 0.0);
            for window in tokens.chunks(length) {
                let nll = self.nll(window).await?;
                let mut ends = usize::from(window[0] == tokenizer.eos());
                for (&token, nll) in window[1..].iter().zip(nll) {
                    let end = token == tokenizer.eos();
                    ends += usize::from(end);
                    if !end || ends == 1 {
                        nats += nll;
                        count += 1.0;
                    }
                }
            }
            if count > 0.0 {
                scored.push(Scored {
                    nats,
                    tokens: count,
                });
            }
        }
        if scored.is_empty() {
            return Err(Error::config(
                "samples",
                texts.len(),
                "hold no text to judge",
            ));
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
