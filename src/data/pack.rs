//! Blocks of equal length cut from the stream of all documents, as the reference's `wrap` does.

use std::path::Path;

use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::progress::{Event, Flow, Observer};

/// Documents that are joined before they are cut; what is left of a group is dropped.
const GROUP: usize = 1000;

/// Token ids in blocks of equal length.
#[derive(Clone, Debug, PartialEq)]
pub struct Blocks {
    length: usize,
    ids: Vec<u32>, // [n, length]
}

impl Blocks {
    /// Takes `ids` as consecutive blocks of `length`, every id below `vocab_size`.
    pub fn new(length: usize, ids: Vec<u32>, vocab_size: usize) -> Result<Self> {
        if length == 0 || ids.is_empty() || !ids.len().is_multiple_of(length) {
            return Err(Error::Shape {
                op: "blocks",
                tensor: "ids".to_owned(),
                expected: format!("[n, {length}] with n > 0"),
                got: vec![ids.len()],
            });
        }
        match ids.iter().position(|&id| id as usize >= vocab_size) {
            Some(position) => Err(Error::Token {
                id: ids[position],
                vocab_size,
                position,
            }),
            None => Ok(Self { length, ids }),
        }
    }

    /// Tokens of a block.
    pub fn length(&self) -> usize {
        self.length
    }

    /// All ids, block after block.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Number of blocks; at least one.
    pub fn count(&self) -> usize {
        self.ids.len() / self.length
    }

    /// The ids of one block. `index` must be below [`Blocks::count`].
    pub fn block(&self, index: usize) -> &[u32] {
        &self.ids[index * self.length..][..self.length]
    }
}

/// Encodes documents, ends each with EOS, joins groups of 1000 of them and cuts each group to
/// blocks `[BOS] length - 2 tokens [EOS]`.
pub(super) fn pack(
    tokenizer: &Tokenizer,
    documents: &[&str],
    length: usize,
    observer: &mut dyn Observer,
) -> Result<Blocks> {
    let Some(inner) = length.checked_sub(2).filter(|&inner| inner > 0) else {
        let problem = "a block needs at least 3 tokens: one between BOS and EOS";
        return Err(Error::config("model.length", length, problem));
    };
    let (mut ids, mut longest, mut done) = (Vec::new(), 0, 0);
    let total = documents.len() as u64;
    for group in documents.chunks(GROUP) {
        let mut stream = Vec::new();
        for tokens in encode_all(tokenizer, group)? {
            stream.extend(tokens);
            stream.push(tokenizer.eos());
        }
        longest = longest.max(stream.len());
        for chunk in stream.chunks_exact(inner) {
            ids.push(tokenizer.bos());
            ids.extend(chunk);
            ids.push(tokenizer.eos());
        }
        done += group.len() as u64;
        let progress = Event::Progress {
            what: "tokenizing",
            done,
            total,
        };
        if observer.event(&progress) == Flow::Stop {
            return Err(Error::Cancelled);
        }
    }
    if ids.is_empty() {
        let problem = format!(
            "{longest} tokens are too few for one block of length {length}, which holds {inner}"
        );
        return Err(Error::corpus(Path::new("text"), problem));
    }
    Blocks::new(length, ids, tokenizer.vocab_size())
}

#[cfg(not(target_arch = "wasm32"))]
fn encode_all(tokenizer: &Tokenizer, documents: &[&str]) -> Result<Vec<Vec<u32>>> {
    use rayon::prelude::*;
    documents
        .par_iter()
        .map(|text| tokenizer.encode(text))
        .collect()
}

#[cfg(target_arch = "wasm32")]
fn encode_all(tokenizer: &Tokenizer, documents: &[&str]) -> Result<Vec<Vec<u32>>> {
    documents
        .iter()
        .map(|text| tokenizer.encode(text))
        .collect()
}

/// Token frequencies: the model that knows nothing of order, to compare perplexities with.
#[derive(Clone, Debug)]
pub struct Unigram {
    log_p: Vec<f64>,
}

impl Unigram {
    /// Counts every token of `blocks`, one added to each count.
    pub fn from_blocks(blocks: &Blocks, vocab_size: usize) -> Self {
        let mut counts = vec![1u64; vocab_size];
        for &id in blocks.ids() {
            if let Some(count) = counts.get_mut(id as usize) {
                *count += 1;
            }
        }
        let total = counts.iter().sum::<u64>() as f64;
        Self {
            log_p: counts
                .into_iter()
                .map(|count| (count as f64 / total).ln())
                .collect(),
        }
    }

    /// exp of the mean negative log-likelihood over all tokens of `blocks`; infinite where a
    /// token is outside the vocabulary.
    pub fn perplexity(&self, blocks: &Blocks) -> f64 {
        let log_p = |&id: &u32| {
            self.log_p
                .get(id as usize)
                .copied()
                .unwrap_or(f64::NEG_INFINITY)
        };
        let sum: f64 = blocks.ids().iter().map(log_p).sum();
        (-sum / blocks.ids().len() as f64).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    #[test]
    fn a_hand_worked_example() {
        // a = 0, b = 1, c = 2, end of text = 3.
        let tokenizer = Tokenizer::characters("abc");
        let blocks = pack(&tokenizer, &["ab", "c", "ba"], 5, &mut Silent).unwrap();
        // Stream: a b E | c E b | a E, of which the last two tokens are dropped.
        assert_eq!(blocks.ids(), [3, 0, 1, 3, 3, 3, 2, 3, 1, 3]);
        assert_eq!((blocks.count(), blocks.block(1)), (2, &[3, 2, 3, 1, 3][..]));
    }

    #[test]
    fn each_group_of_documents_drops_its_own_remainder() {
        let tokenizer = Tokenizer::characters("a");
        // Two tokens a document: 2000 in the first group, 6 in the second.
        let documents = vec!["a"; 1003];
        let blocks = pack(&tokenizer, &documents, 9, &mut Silent).unwrap();
        assert_eq!(blocks.count(), 2000 / 7);
        let blocks = pack(&tokenizer, &documents, 8, &mut Silent).unwrap();
        assert_eq!(blocks.count(), 2000 / 6 + 1);
        assert!(blocks.ids().chunks(8).all(|b| b[0] == 1 && b[7] == 1));
    }

    #[test]
    fn bad_input_is_named() {
        let tokenizer = Tokenizer::byte();
        let result = pack(&tokenizer, &["abc"], 2, &mut Silent);
        assert!(matches!(result, Err(Error::Config { key, .. }) if key == "model.length"));
        let result = pack(&tokenizer, &["abc", "d"], 9, &mut Silent);
        match result {
            Err(Error::Corpus { problem, .. }) => {
                assert!(
                    problem.contains("6 tokens") && problem.contains("holds 7"),
                    "{problem}"
                );
            }
            other => panic!("{other:?}"),
        }
        let result = pack(&tokenizer, &[], 9, &mut Silent);
        assert!(matches!(result, Err(Error::Corpus { .. })));
        let mut stop = |_: &Event| Flow::Stop;
        assert!(matches!(
            pack(&tokenizer, &["abcdefgh"], 4, &mut stop),
            Err(Error::Cancelled)
        ));
        let result = Blocks::new(2, vec![0, 1, 2, 5], 5);
        assert!(matches!(
            result,
            Err(Error::Token {
                id: 5,
                position: 3,
                ..
            })
        ));
        assert!(matches!(
            Blocks::new(3, vec![0, 1], 5),
            Err(Error::Shape { .. })
        ));
    }

    #[test]
    fn unigram_counts_add_one() {
        let train = Blocks::new(3, vec![0, 0, 1], 3).unwrap();
        let valid = Blocks::new(2, vec![0, 2], 3).unwrap();
        let unigram = Unigram::from_blocks(&train, 3);
        // p = 3/6, 2/6, 1/6, so the two tokens have 1/2 and 1/6.
        assert!((unigram.perplexity(&valid) - 12f64.sqrt()).abs() < 1e-12);
    }
}
