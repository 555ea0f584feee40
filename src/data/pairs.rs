//! Prompts with responses: each pair a block, whose prompt is given and never masked, and whose response is learnt up to
//! the block's end.

use std::path::Path;

use super::blocks::Blocks;
use super::chat::{ChatTemplate, Message};
use super::documents::{self, Documents};
use super::origin::with_path;
use super::split::held_out_of;
use super::tokenizer::Tokenizer;
use crate::config::DataConfig;
use crate::error::{Error, Result};
use crate::progress::{Event, Flow, Observer};

/// Pairs between two reports.
const PART: usize = 1000;

/// A prompt and what is to follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pair {
    /// As they stand.
    Plain([String; 2]),
    /// By a chat template: the last message is what is to follow.
    Chat(Vec<Message>),
}

impl Pair {
    /// What is said in it.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        let (plain, chat) = match self {
            Self::Plain(texts) => (&texts[..], &[][..]),
            Self::Chat(messages) => (&[][..], &messages[..]),
        };
        let said = chat.iter().map(|message| message.content.as_str());
        plain.iter().map(String::as_str).chain(said)
    }
}

/// The pairs of a file, in memory.
pub(super) fn read(path: &Path, config: &DataConfig) -> Result<Vec<Pair>> {
    if !config.messages_field.is_empty() {
        let chat = |(row, list): (usize, Result<String>)| {
            let wrong =
                |problem: &str| Error::corpus(path, format!("conversation {}: {problem}", row + 1));
            let messages: Vec<Message> =
                serde_json::from_str(&list?).map_err(|e| wrong(&e.to_string()))?;
            match messages.last() {
                Some(last) if last.role == "assistant" => Ok(Pair::Chat(messages)),
                _ => Err(wrong("does not end with a message of the role assistant")),
            }
        };
        let lists = documents::lists(path, &config.messages_field)?;
        return lists.enumerate().map(chat).collect();
    }
    let open = |field: &str| Documents::open(path, field);
    let (prompts, mut responses) = (open(&config.prompt_field)?, open(&config.field)?);
    let missing = || Error::corpus(path, "has fewer responses than prompts");
    let mut pairs = Vec::new();
    for prompt in prompts {
        let pair = [prompt?, responses.next().ok_or_else(missing)??];
        pairs.push(match config.chat_template.is_empty() {
            true => Pair::Plain(pair),
            false => {
                let [prompt, response] = pair;
                let said = [("user", prompt), ("assistant", response)];
                Pair::Chat(said.map(|(who, what)| Message::new(who, what)).into())
            }
        });
    }
    match responses.next() {
        Some(_) => Err(Error::corpus(path, "has more responses than prompts")),
        None => Ok(pairs),
    }
}

/// All but the last tenth, and the last tenth.
pub(super) fn split(mut pairs: Vec<Pair>) -> [Vec<Pair>; 2] {
    let held_out = held_out_of(pairs.len()).min(pairs.len().saturating_sub(1));
    let valid = pairs.split_off(pairs.len() - held_out);
    [pairs, valid]
}

/// How pairs become tokens.
pub(super) struct Manner<'a> {
    pub(super) tokenizer: &'a Tokenizer,
    /// How chats are put.
    pub(super) template: Option<&'a ChatTemplate>,
}

impl Manner<'_> {
    /// Ids of a pair, and how many of them are given.
    fn ids(&self, pair: &Pair) -> Result<(Vec<u32>, usize)> {
        match (pair, self.template) {
            (Pair::Plain([prompt, response]), _) => {
                let mut ids = vec![self.tokenizer.bos()];
                ids.extend(self.tokenizer.encode_part(prompt, false, true)?);
                let given = ids.len();
                ids.extend(self.tokenizer.encode_part(response, true, false)?);
                Ok((ids, given))
            }
            (Pair::Chat(messages), Some(template)) => {
                // answers have no thoughts before them, and some templates say so in prompts alone
                for more in [r#"{"enable_thinking": false}"#, "{}"] {
                    let more = serde_json::from_str(more).unwrap_or_default();
                    let ids = |messages: &[Message], reply| {
                        let text = template.render(messages, reply, &more)?;
                        self.tokenizer.encode_marked(&text)
                    };
                    let given = ids(&messages[..messages.len() - 1], true)?;
                    let ids = ids(messages, false)?;
                    if ids.starts_with(&given) {
                        return Ok((ids, given.len()));
                    }
                }
                let problem = "its chats do not begin with their prompts";
                Err(Error::config("data.chat_template", "given", problem))
            }
            (Pair::Chat(_), None) => Err(Error::Internal("a chat without a template".into())),
        }
    }
}

impl Blocks {
    /// Blocks `[BOS] prompt response [EOS] ..`, or chats as their template has them, filled up with the token that ends
    /// texts, so that a model learns where answers end. A response that is too long is cut off, without an end; a pair
    /// whose prompt leaves it no room is left out, and how many were is said.
    ///
    /// # Errors
    /// [`Error::Corpus`] for text that the tokenizer cannot take, or if no pair is left; [`Error::Cancelled`].
    pub(super) fn of_pairs(
        path: &Path,
        pairs: &[Pair],
        manner: &Manner<'_>,
        length: usize,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let (mut ids, mut given, mut left_out) = (Vec::new(), Vec::new(), 0);
        let tokenizer = manner.tokenizer;
        for (done, pair) in pairs.iter().enumerate() {
            let progress = Event::Progress {
                what: "tokenizing",
                done: done as u64,
                total: pairs.len() as u64,
            };
            if done.is_multiple_of(PART) && observer.event(&progress) == Flow::Stop {
                return Err(Error::Cancelled);
            }
            let (mut block, prompt) = manner.ids(pair).map_err(|e| with_path(e, path))?;
            if prompt >= length {
                left_out += 1;
                continue;
            }
            block.resize(length, tokenizer.eos());
            ids.extend(block);
            given.push(prompt as u32);
        }
        if given.is_empty() {
            let problem = format!("has no pair whose prompt is shorter than {length} tokens");
            return Err(Error::corpus(path, problem));
        }
        if left_out > 0 {
            let problem = format!("{left_out} prompts of {length} tokens or more were left out");
            observer.event(&Event::Message(problem));
        }
        Ok(Self::new(length, ids, tokenizer.ids())?.with_given(given))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Corpus;
    use crate::progress::Silent;

    #[test]
    fn pairs_become_blocks_with_a_given_part() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pairs.jsonl");
        let row = |i: usize| format!("{{\"ask\": \"{}=\", \"say\": \"ab\"}}\n", "x".repeat(i));
        std::fs::write(&path, (1..=20).map(row).collect::<String>()).unwrap();
        let config = DataConfig {
            train: path.to_str().unwrap().to_owned(),
            valid: path.to_str().unwrap().to_owned(),
            tokenizer: "char".into(),
            field: "say".into(),
            prompt_field: "ask".into(),
            ..DataConfig::default()
        };
        let corpus = Corpus::load(&config, 16, &mut Silent).unwrap();
        // those with prompts of up to 15 tokens, BOS and = among them
        assert_eq!(corpus.train.count(), 13);
        let (t, first) = (&corpus.tokenizer, corpus.train.block(0).unwrap());
        assert_eq!(corpus.train.given(0), 3);
        assert_eq!(t.decode(&first), "x=ab");
        assert_eq!(first[5..], [t.eos(); 11]);
        assert_eq!(corpus.train.attended(0), 16);
        let pair = |i: usize| Pair::Plain([i.to_string(), String::new()]);
        let [train, valid] = split((0..25).map(pair).collect());
        assert_eq!(
            (train.len(), valid[0].texts().next(), valid.len()),
            (23, Some("23"), 2)
        );
        // where the answer does not fit it is cut off
        assert_eq!(
            corpus.train.block(12).unwrap()[15],
            t.encode("a").unwrap()[0]
        );
        let other = DataConfig {
            prompt_field: "say".into(),
            ..config.clone()
        };
        let other = Corpus::load(&other, 16, &mut Silent).unwrap();
        assert_ne!(corpus.digest, other.digest);
        let missing = DataConfig {
            prompt_field: "question".into(),
            ..config
        };
        let problem = Corpus::load(&missing, 16, &mut Silent)
            .unwrap_err()
            .to_string();
        assert!(problem.contains("question"), "{problem}");
    }
}
