//! From documents to blocks: wrapped, as the reference's `wrap` does, or a block a document.

use std::borrow::Cow;
use std::path::Path;

use super::blocks::Blocks;
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::progress::{Event, Flow, Observer};

/// Documents that are joined before they are cut; what is left of a group is dropped. It is also what is in
/// memory at a time.
const GROUP: usize = 1000;

/// How documents become blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    /// Documents are joined in groups of 1000 and cut into blocks `[BOS] length - 2 tokens [EOS]`, and what
    /// is left of a group is dropped; else each document is a block of its own, truncated to `length` or
    /// padded, as the reference does for LM1B. A vocabulary without a pad is padded with EOS, because the
    /// reference's pad for GPT-2 would have the id of the mask.
    pub wrap: bool,
    /// Wrapped documents end with EOS.
    pub insert_eos: bool,
}

impl Default for Packing {
    fn default() -> Self {
        Self {
            wrap: true,
            insert_eos: true,
        }
    }
}

impl Blocks {
    /// Packs documents that are in memory.
    ///
    /// # Errors
    /// [`Error::Corpus`] for text that the tokenizer cannot take or that is too short for a block,
    /// [`Error::Config`] for a length below 3, [`Error::Cancelled`].
    pub fn pack(
        tokenizer: &Tokenizer,
        documents: &[&str],
        length: usize,
        packing: Packing,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let total = documents.len() as u64;
        let documents = documents.iter().map(|&text| Ok(Cow::Borrowed(text)));
        Self::collect(tokenizer, documents, total, length, packing, observer)
    }

    /// Packs `total` documents as they come, the blocks in memory.
    pub(super) fn collect<'a>(
        tokenizer: &Tokenizer,
        documents: impl Iterator<Item = Result<Cow<'a, str>>>,
        total: u64,
        length: usize,
        packing: Packing,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let (mut ids, mut attended) = (Vec::new(), Vec::new());
        let sink = |block: &[u32], counted: usize| {
            ids.extend_from_slice(block);
            if !packing.wrap {
                attended.push(counted as u32);
            }
            Ok(())
        };
        pack(tokenizer, documents, total, length, packing, observer, sink)?;
        Self::padded(length, ids, attended, tokenizer.vocab_size())
    }
}

/// Encodes `total` documents and hands the blocks on, each with the number of its tokens that count.
pub(super) fn pack<'a>(
    tokenizer: &Tokenizer,
    mut documents: impl Iterator<Item = Result<Cow<'a, str>>>,
    total: u64,
    length: usize,
    packing: Packing,
    observer: &mut dyn Observer,
    mut sink: impl FnMut(&[u32], usize) -> Result<()>,
) -> Result<()> {
    let Some(inner) = length.checked_sub(2).filter(|&inner| inner > 0) else {
        let problem = "a block needs at least 3 tokens: one between BOS and EOS";
        return Err(Error::config("model.length", length, problem));
    };
    let pad = tokenizer.pad().unwrap_or(tokenizer.eos());
    let mut block = Vec::with_capacity(length);
    let mut emit = |tokens: &[u32]| {
        block.clear();
        block.push(tokenizer.bos());
        block.extend_from_slice(tokens);
        block.push(tokenizer.eos());
        block.resize(length, pad);
        sink(&block, tokens.len() + 2)
    };
    let (mut longest, mut blocks, mut done) = (0, 0, 0);
    loop {
        let group: Vec<_> = documents.by_ref().take(GROUP).collect::<Result<_>>()?;
        if group.is_empty() {
            break;
        }
        let encoded = encode_all(tokenizer, &group)?;
        if packing.wrap {
            let mut stream = Vec::new();
            for tokens in encoded {
                stream.extend(tokens);
                stream.extend(packing.insert_eos.then_some(tokenizer.eos()));
            }
            longest = longest.max(stream.len());
            blocks += stream.len() / inner;
            stream.chunks_exact(inner).try_for_each(&mut emit)?;
        } else {
            blocks += encoded.len();
            encoded
                .iter()
                .try_for_each(|tokens| emit(&tokens[..tokens.len().min(inner)]))?;
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
    if blocks == 0 {
        let problem = format!(
            "{longest} tokens are too few for one block of length {length}, which holds {inner}"
        );
        return Err(Error::corpus(Path::new("text"), problem));
    }
    Ok(())
}

#[cfg(not(target_arch = "wasm32"))]
fn encode_all(tokenizer: &Tokenizer, documents: &[Cow<'_, str>]) -> Result<Vec<Vec<u32>>> {
    use rayon::prelude::*;
    documents
        .par_iter()
        .map(|text| tokenizer.encode(text))
        .collect()
}

#[cfg(target_arch = "wasm32")]
fn encode_all(tokenizer: &Tokenizer, documents: &[Cow<'_, str>]) -> Result<Vec<Vec<u32>>> {
    documents
        .iter()
        .map(|text| tokenizer.encode(text))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    const NO_EOS: Packing = Packing {
        wrap: true,
        insert_eos: false,
    };
    const APART: Packing = Packing {
        wrap: false,
        insert_eos: true,
    };

    fn packed(
        tokenizer: &Tokenizer,
        documents: &[&str],
        length: usize,
        packing: Packing,
    ) -> Blocks {
        Blocks::pack(tokenizer, documents, length, packing, &mut Silent).unwrap()
    }

    fn ids(blocks: &Blocks) -> Vec<u32> {
        (0..blocks.count())
            .flat_map(|i| blocks.block(i).unwrap().into_owned())
            .collect()
    }

    #[test]
    fn a_hand_worked_example() {
        // a = 0, b = 1, c = 2, end of text = 3.
        let tokenizer = Tokenizer::characters("abc");
        let blocks = packed(&tokenizer, &["ab", "c", "ba"], 5, Packing::default());
        // Stream: a b E | c E b | a E, of which the last two tokens are dropped.
        assert_eq!(ids(&blocks), [3, 0, 1, 3, 3, 3, 2, 3, 1, 3]);
        assert_eq!((blocks.count(), blocks.attended(1)), (2, 5));
        // Stream: a b c | b a.
        let blocks = packed(&tokenizer, &["ab", "c", "ba"], 5, NO_EOS);
        assert_eq!(ids(&blocks), [3, 0, 1, 2, 3]);
    }

    #[test]
    fn a_block_a_document() {
        // [BOS] 2, [EOS] 3, [PAD] 5, a = 8.
        let documents = ["ab", "", "abcd"];
        let blocks = packed(&Tokenizer::text8(), &documents, 5, APART);
        let expected = [2, 8, 9, 3, 5, 2, 3, 5, 5, 5, 2, 8, 9, 10, 3];
        assert_eq!(ids(&blocks), expected);
        assert_eq!([0, 1, 2].map(|i| blocks.attended(i)), [4, 2, 5]);
        // Without a pad of its own, the vocabulary's EOS stands in, never the mask.
        let tokenizer = Tokenizer::characters("abcd");
        let blocks = packed(&tokenizer, &documents, 5, APART);
        assert_eq!(ids(&blocks)[..5], [4, 0, 1, 4, 4]);
        assert_eq!(blocks.attended(0), 4);
        assert!(!ids(&blocks).contains(&tokenizer.mask_index()));
    }

    #[test]
    fn each_group_of_documents_drops_its_own_remainder() {
        let tokenizer = Tokenizer::characters("a");
        // Two tokens a document: 2000 in the first group, 6 in the second.
        let documents = vec!["a"; 1003];
        let blocks = packed(&tokenizer, &documents, 9, Packing::default());
        assert_eq!(blocks.count(), 2000 / 7);
        let blocks = packed(&tokenizer, &documents, 8, Packing::default());
        assert_eq!(blocks.count(), 2000 / 6 + 1);
        assert!(ids(&blocks).chunks(8).all(|b| b[0] == 1 && b[7] == 1));
        assert_eq!(packed(&tokenizer, &documents, 8, APART).count(), 1003);
    }

    #[test]
    fn bad_input_is_named() {
        let tokenizer = Tokenizer::byte();
        let pack = |documents: &[&str], length| {
            Blocks::pack(
                &tokenizer,
                documents,
                length,
                Packing::default(),
                &mut Silent,
            )
        };
        let result = pack(&["abc"], 2);
        assert!(matches!(result, Err(Error::Config { key, .. }) if key == "model.length"));
        match pack(&["abc", "d"], 9) {
            Err(Error::Corpus { problem, .. }) => {
                assert!(
                    problem.contains("6 tokens") && problem.contains("holds 7"),
                    "{problem}"
                );
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(pack(&[], 9), Err(Error::Corpus { .. })));
        let mut stop = |_: &Event| Flow::Stop;
        let stopped = Blocks::pack(&tokenizer, &["abcdefgh"], 4, Packing::default(), &mut stop);
        assert!(matches!(stopped, Err(Error::Cancelled)));
    }
}
