//! Texts in which the names of special tokens stand for them: rendered chats.

use super::Tokenizer;
use super::origin::in_text;
use super::tokenizer::Kind;
use crate::error::Result;

/// Names of tokens that end a turn in a chat.
const TURN_ENDS: [&str; 5] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<end_of_turn>",
    "<|end|>",
];

impl Tokenizer {
    /// Ids of a text in which the names of special tokens stand for them: a rendered chat. The mask never comes out.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_marked(&self, text: &str) -> Result<Vec<u32>> {
        match &self.kind {
            Kind::HuggingFace(tokenizer) => {
                let ids = tokenizer.encode_marked(text).map_err(in_text)?;
                match ids.contains(&self.special.mask) {
                    true => Err(in_text("the name of the mask stands in it".into())),
                    false => Ok(ids),
                }
            }
            _ => self.encode(text),
        }
    }

    /// Ids that end what is said: the end of a text, and of a turn in a chat.
    pub fn ends(&self) -> Vec<u32> {
        let mut ends = vec![self.special.eos];
        if let Kind::HuggingFace(tokenizer) = &self.kind {
            ends.extend(TURN_ENDS.iter().filter_map(|name| tokenizer.id_of(name)));
            ends.sort_unstable();
            ends.dedup();
        }
        ends
    }
}
