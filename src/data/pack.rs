//! From documents to blocks: wrapped, as the reference's `wrap` does, or a block a document.

use std::borrow::Cow;

use super::blocks::Blocks;
use super::origin::in_text;
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::progress::{Event, Flow, Observer};

/// Documents that are joined before they are cut; what is left of a group is dropped. It is also what is in
/// memory at a time.
const GROUP: usize = 1000;
/// Longest block, tokens; no model takes more.
const MAX_LENGTH: usize = 1 << 16;

/// How documents become blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    /// Documents are joined in groups of 1000 and cut into blocks `[BOS] length - 2 tokens [EOS]`, and what
    /// is left of a group is dropped; else each document is a block of its own, truncated to `length` or
    /// padded, as the reference does for LM1B. A vocabulary without a pad is padded with EOS, because the
    /// reference's pad for GPT-2 would have the id of the mask.
    pub wrap: bool,
    /// Whether each wrapped document ends with EOS, as in the reference's code.
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

/// What is packed: `total` documents, with words for people should they be too short for a block.
pub(super) struct Job<'a> {
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) length: usize,
    pub(super) packing: Packing,
    pub(super) total: u64,
    /// Which text it is, such as `the training text`.
    pub(super) text: &'a str,
    /// What helps, such as `take more text`.
    pub(super) help: &'a str,
    /// Whether the length is the model's and cannot be shorter.
    pub(super) fixed: bool,
    /// Whether to count the characters of each block.
    pub(super) counted: bool,
}

/// A block that was packed.
pub(super) struct Packed<'a> {
    pub(super) ids: &'a [u32],
    /// Its tokens that count.
    pub(super) attended: usize,
    /// Characters of its text; 0 if they are not counted.
    pub(super) characters: u32,
}

/// A document's tokens.
struct Encoded {
    ids: Vec<u32>,
    /// The number of characters that each adds; none where they are not counted.
    added: Vec<u32>,
    /// Characters of a document that has no token.
    lost: u32,
}

/// Why documents make no block.
pub(super) struct TooShort(pub(super) String);

impl From<TooShort> for Error {
    fn from(TooShort(problem): TooShort) -> Self {
        in_text(problem)
    }
}

impl Blocks {
    /// Packs documents that are in memory.
    ///
    /// # Errors
    /// [`Error::Corpus`] for text that the tokenizer cannot take or that is too short for a block,
    /// [`Error::Config`] for a length below 3 or above 65,536, [`Error::Cancelled`].
    pub fn pack(
        tokenizer: &Tokenizer,
        documents: &[&str],
        length: usize,
        packing: Packing,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let job = Job {
            tokenizer,
            length,
            packing,
            total: documents.len() as u64,
            text: "the text",
            help: "take more of it",
            fixed: false,
            counted: false,
        };
        let documents = documents.iter().map(|&text| Ok(Cow::Borrowed(text)));
        Ok(Self::collect(&job, documents, observer)??)
    }

    /// Packs documents as they come, the blocks in memory.
    pub(super) fn collect<'a>(
        job: &Job<'_>,
        documents: impl Iterator<Item = Result<Cow<'a, str>>>,
        observer: &mut dyn Observer,
    ) -> Result<Result<Self, TooShort>> {
        let (mut ids, mut attended, mut characters) = (Vec::new(), Vec::new(), Vec::new());
        let made = job.pack(documents, observer, |block| {
            ids.extend_from_slice(block.ids);
            if !job.packing.wrap {
                attended.push(block.attended as u32);
            }
            if job.counted {
                characters.push(block.characters);
            }
            Ok(())
        })?;
        if let Err(too_short) = made {
            return Ok(Err(too_short));
        }
        let blocks = Self::padded(job.length, ids, attended, job.tokenizer.vocab_size())?;
        Ok(Ok(blocks.with_characters(characters)))
    }
}

impl Job<'_> {
    /// Encodes the documents and hands the blocks on, at least one unless they are too short.
    pub(super) fn pack<'a>(
        &self,
        mut documents: impl Iterator<Item = Result<Cow<'a, str>>>,
        observer: &mut dyn Observer,
        mut sink: impl FnMut(Packed<'_>) -> Result<()>,
    ) -> Result<Result<(), TooShort>> {
        let (length, tokenizer) = (self.length, self.tokenizer);
        let Some(inner) = length.checked_sub(2).filter(|&inner| inner > 0) else {
            let problem = "a block needs at least 3 tokens: one between BOS and EOS";
            return Err(Error::config("model.length", length, problem));
        };
        if length > MAX_LENGTH {
            let problem = format!("must be at most {MAX_LENGTH}");
            return Err(Error::config("model.length", length, problem));
        }
        let pad = tokenizer.pad().unwrap_or(tokenizer.eos());
        let mut block = Vec::with_capacity(length);
        let mut emit = |tokens: &[u32], added: &[u32], lost: u32| {
            block.clear();
            block.push(tokenizer.bos());
            block.extend_from_slice(tokens);
            block.push(tokenizer.eos());
            block.resize(length, pad);
            sink(Packed {
                ids: &block,
                attended: tokens.len() + 2,
                characters: lost + added.iter().sum::<u32>(),
            })
        };
        let (mut all, mut longest, mut blocks, mut done) = (0, 0, 0, 0);
        loop {
            let group: Vec<_> = documents.by_ref().take(GROUP).collect::<Result<_>>()?;
            if group.is_empty() {
                break;
            }
            let encoded = self.encode(&group, done)?;
            if self.packing.wrap {
                let (mut stream, mut added) = (Vec::new(), Vec::new());
                for document in encoded {
                    stream.extend(document.ids);
                    added.extend(document.added);
                    if self.packing.insert_eos {
                        stream.push(tokenizer.eos());
                        added.extend(self.counted.then_some(document.lost));
                    } else if let Some(last) = added.last_mut() {
                        *last += document.lost;
                    }
                }
                (all, longest) = (all + stream.len(), longest.max(stream.len()));
                blocks += stream.len() / inner;
                for (i, tokens) in stream.chunks_exact(inner).enumerate() {
                    emit(tokens, part(&added, i * inner, inner), 0)?;
                }
            } else {
                blocks += encoded.len();
                for Encoded { ids, added, lost } in &encoded {
                    let kept = ids.len().min(inner);
                    emit(&ids[..kept], part(added, 0, kept), *lost)?;
                }
            }
            done += group.len() as u64;
            let progress = Event::Progress {
                what: "tokenizing",
                done,
                total: self.total,
            };
            if observer.event(&progress) == Flow::Stop {
                return Err(Error::Cancelled);
            }
        }
        Ok(match blocks {
            0 => Err(TooShort(self.too_short(inner, all, longest))),
            _ => Ok(()),
        })
    }

    fn too_short(&self, inner: usize, all: usize, longest: usize) -> String {
        let Self {
            text, help, length, ..
        } = self;
        let shorter = match longest {
            0 => String::new(),
            _ if self.fixed => String::new(),
            _ => format!("set model.length to at most {}, or ", longest + 2),
        };
        if all >= inner {
            return format!(
                "{text} makes no block: documents are joined {GROUP} at a time, and the {longest} tokens of the longest such \
                 group ({all} in all) are too few for one block of model.length = {length}, which holds {inner}; \
                 {shorter}make documents longer"
            );
        }
        format!(
            "{text} is too short: {all} tokens are too few for one block of model.length = {length}, which holds {inner}; \
             {shorter}{help}"
        )
    }

    /// Encodes documents, of which `before` came before them.
    fn encode(&self, documents: &[Cow<'_, str>], before: u64) -> Result<Vec<Encoded>> {
        let numbered = |(i, text): (usize, &Cow<'_, str>)| {
            let encoded = if self.counted {
                self.tokenizer.encode_counted(text)
            } else {
                self.tokenizer.encode(text).map(|ids| (ids, Vec::new()))
            };
            let lost = |ids: &[u32]| match self.counted && ids.is_empty() {
                true => text.chars().count() as u32,
                false => 0,
            };
            let made = encoded.map(|(ids, added)| Encoded {
                lost: lost(&ids),
                ids,
                added,
            });
            made.map_err(|error| match error {
                Error::Corpus { path, problem } if self.total > 1 => {
                    let number = before + i as u64 + 1;
                    Error::corpus(&path, format!("document {number}: {problem}"))
                }
                other => other,
            })
        };
        #[cfg(not(target_arch = "wasm32"))]
        {
            use rayon::prelude::*;
            documents.par_iter().enumerate().map(numbered).collect()
        }
        #[cfg(target_arch = "wasm32")]
        documents.iter().enumerate().map(numbered).collect()
    }
}

/// `count` of the numbers from `start` on; none if there are none at all.
fn part(numbers: &[u32], start: usize, count: usize) -> &[u32] {
    numbers.get(start..start + count).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

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
    fn groups_that_are_too_short_are_told_from_texts_that_are() {
        let documents = vec!["abc"; 2001];
        let pack = |length| {
            let packing = Packing::default();
            Blocks::pack(&Tokenizer::byte(), &documents, length, packing, &mut Silent)
        };
        let problem = pack(4003).unwrap_err().to_string();
        for part in [
            "1000 at a time",
            "the 4000 tokens of the longest such group (8004 in all)",
            "at most 4002",
        ] {
            assert!(problem.contains(part), "{problem}");
        }
        assert_eq!(pack(4002).unwrap().count(), 2);
    }

    #[test]
    fn every_character_is_counted_once() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora");
        let file = |name: &str| Tokenizer::from_file(&path.join(name)).unwrap();
        let documents = [
            "naïve “quotes” \u{1F469}\u{200D}\u{1F680} stay",
            "The cat, unhappily, sat. ",
            "\u{200B}",
            "",
        ];
        for tokenizer in [
            Tokenizer::byte(),
            Tokenizer::characters(&documents.concat()),
            file("tinystories-bpe2048.tokenizer.json"),
            file("bert-base-uncased.tokenizer.json.gz"),
        ] {
            for (length, wrap) in [(3, true), (4, true), (200, false), (5, false)] {
                let job = Job {
                    tokenizer: &tokenizer,
                    length,
                    packing: Packing {
                        wrap,
                        insert_eos: true,
                    },
                    total: 4,
                    text: "",
                    help: "",
                    fixed: false,
                    counted: true,
                };
                let texts = documents.iter().map(|&text| Ok(Cow::Borrowed(text)));
                let blocks = Blocks::collect(&job, texts, &mut Silent).unwrap();
                let blocks = blocks.unwrap_or_else(|e| panic!("{}", Error::from(e)));
                let counted: usize = (0..blocks.count())
                    .map(|i| blocks.characters(i).unwrap())
                    .sum();
                let all: usize = documents.iter().map(|text| text.chars().count()).sum();
                // blocks of one token leave nothing over, and short ones cut documents
                let whole = length == 3 || length == 200;
                assert!(
                    counted == all || !whole && counted < all,
                    "{tokenizer:?} {length}: {counted} {all}"
                );
            }
        }
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
        for length in [2, (1 << 16) + 1, usize::MAX] {
            let result = pack(&["abc"], length);
            assert!(matches!(result, Err(Error::Config { key, .. }) if key == "model.length"));
        }
        match pack(&["abc", "d"], 9) {
            Err(Error::Corpus { problem, .. }) => {
                assert!(
                    problem.contains("6 tokens")
                        && problem.contains("holds 7")
                        && problem.contains("at most 8"),
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
