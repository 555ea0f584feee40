//! Documents: reading them, splitting some off for validation, and the packed result.

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::pack::{Blocks, pack};
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::progress::Observer;

/// The line between two documents.
pub const SEPARATOR: &str = "<|endoftext|>";

/// Largest text that is read, unpacked; it is held in memory.
#[cfg(not(target_arch = "wasm32"))]
const MAX_TEXT_BYTES: u64 = 4 << 30;

/// A tokenizer with packed training and held-out text.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// What made the ids.
    pub tokenizer: Tokenizer,
    /// Training blocks.
    pub train: Arc<Blocks>,
    /// Held-out blocks.
    pub valid: Blocks,
    /// SHA-256 over the block length and all ids, in hexadecimal.
    pub digest: String,
}

/// Documents and where they came from.
struct Source<'a> {
    name: &'a Path,
    documents: &'a [&'a str],
}

impl Corpus {
    /// Reads the files of a configuration and packs them to blocks of `length`. Without a
    /// validation file, the last tenth of the training text is held out.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn load(
        config: &crate::config::DataConfig,
        length: usize,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        config.validate()?;
        let train_path = Path::new(&config.train);
        let text = read_text(train_path)?;
        let tokenizer = Tokenizer::from_spec(&config.tokenizer, &text)?;
        let documents = split_documents(&text);
        if documents.is_empty() {
            return Err(Error::corpus(train_path, "holds no text"));
        }
        if config.valid.is_empty() {
            let (train, valid) = split_held_out(documents);
            let train = Source {
                name: train_path,
                documents: &train,
            };
            let valid = Source {
                name: train_path,
                documents: &valid,
            };
            return Self::build(tokenizer, train, valid, length, observer);
        }
        let valid_path = Path::new(&config.valid);
        let valid_text = read_text(valid_path)?;
        let train = Source {
            name: train_path,
            documents: &documents,
        };
        let valid = Source {
            name: valid_path,
            documents: &split_documents(&valid_text),
        };
        Self::build(tokenizer, train, valid, length, observer)
    }

    /// Packs documents that are already in memory.
    pub fn from_texts(
        tokenizer: Tokenizer,
        train: &[&str],
        valid: &[&str],
        length: usize,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let train = Source {
            name: Path::new("training text"),
            documents: train,
        };
        let valid = Source {
            name: Path::new("held-out text"),
            documents: valid,
        };
        Self::build(tokenizer, train, valid, length, observer)
    }

    fn build(
        tokenizer: Tokenizer,
        train: Source<'_>,
        valid: Source<'_>,
        length: usize,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let mut blocks = |source: Source<'_>| {
            pack(&tokenizer, source.documents, length, observer)
                .map_err(|e| with_path(e, source.name))
        };
        let (train, valid) = (blocks(train)?, blocks(valid)?);
        let digest = digest(&train, &valid);
        Ok(Self {
            tokenizer,
            train: Arc::new(train),
            valid,
            digest,
        })
    }
}

/// Puts the file's name into an error about its text.
pub(super) fn with_path(error: Error, path: &Path) -> Error {
    match error {
        Error::Corpus { problem, .. } => Error::corpus(path, problem),
        other => other,
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn read_text(path: &Path) -> Result<String> {
    let bytes = crate::io::read::read_unpacked(path, MAX_TEXT_BYTES)?;
    if bytes.is_empty() {
        return Err(Error::corpus(path, "the file is empty"));
    }
    String::from_utf8(bytes).map_err(|e| {
        let position = e.utf8_error().valid_up_to();
        Error::corpus(path, format!("not UTF-8 at byte {position}"))
    })
}

/// The documents between lines that read `<|endoftext|>`. The line ending before such a line
/// belongs to it; documents of white space alone are dropped.
pub fn split_documents(text: &str) -> Vec<&str> {
    let mut documents = Vec::new();
    let (mut start, mut position) = (0, 0);
    for line in text.split_inclusive('\n') {
        let next = position + line.len();
        if line.trim_end_matches(['\r', '\n']) == SEPARATOR {
            let document = &text[start..position];
            let document = document.strip_suffix('\n').unwrap_or(document);
            documents.push(document.strip_suffix('\r').unwrap_or(document));
            start = next;
        }
        position = next;
    }
    documents.push(&text[start..]);
    documents.retain(|document| !document.trim().is_empty());
    documents
}

/// Splits the last tenth off for validation: of the documents (at least one), or of the text of
/// the only document.
pub fn split_held_out(mut documents: Vec<&str>) -> (Vec<&str>, Vec<&str>) {
    if let [only] = documents[..] {
        // Without overflow on 32 bits.
        let mut cut = only.len() - only.len().div_ceil(10);
        while !only.is_char_boundary(cut) {
            cut -= 1;
        }
        let (train, valid) = only.split_at(cut);
        return (vec![train], vec![valid]);
    }
    let held_out = (documents.len() / 10).max(1);
    let valid = documents.split_off(documents.len().saturating_sub(held_out));
    (documents, valid)
}

fn digest(train: &Blocks, valid: &Blocks) -> String {
    let mut hash = Sha256::new();
    for blocks in [train, valid] {
        hash.update((blocks.length() as u64).to_le_bytes());
        hash.update((blocks.ids().len() as u64).to_le_bytes());
        for id in blocks.ids() {
            hash.update(id.to_le_bytes());
        }
    }
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DataConfig;
    use crate::data::Unigram;
    use crate::progress::{Event, Flow, Silent};

    fn bundled(name: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpora")
            .join(name);
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn documents_end_at_separator_lines() {
        let split = split_documents(
            "one\ntwo\n<|endoftext|>\r\nthree\r\n<|endoftext|>\n\n<|endoftext|>\n a <|endoftext|> b\n",
        );
        assert_eq!(split, ["one\ntwo", "three", " a <|endoftext|> b\n"]);
        assert_eq!(split_documents("alone\n"), ["alone\n"]);
        assert!(split_documents("<|endoftext|>\n<|endoftext|>").is_empty());
    }

    #[test]
    fn a_tenth_is_held_out() {
        let documents: Vec<&str> = "abcdefghijklmnopqrstu"
            .split("")
            .filter(|d| !d.is_empty())
            .collect();
        let (train, valid) = split_held_out(documents);
        assert_eq!((train.len(), valid), (19, vec!["t", "u"]));
        assert_eq!(split_held_out(vec!["a", "b"]), (vec!["a"], vec!["b"]));
        assert_eq!(
            split_held_out(vec!["0123456789ABCDEFGHIJ"]),
            (vec!["0123456789ABCDEFGH"], vec!["IJ"])
        );
        // The cut falls inside a character.
        assert_eq!(split_held_out(vec!["ééééé"]), (vec!["éééé"], vec!["é"]));
    }

    #[test]
    fn the_story_corpus_packs_to_the_expected_size() {
        let config = DataConfig {
            train: bundled("tinystories-train.txt.gz"),
            valid: bundled("tinystories-valid.txt.gz"),
            tokenizer: bundled("tinystories-bpe2048.tokenizer.json"),
        };
        let mut last = 0;
        let corpus = Corpus::load(&config, 128, &mut |event: &Event| {
            if let Event::Progress { done, .. } = event {
                last = *done;
            }
            Flow::Continue
        })
        .unwrap();
        assert_eq!(last, 950);
        // About 941 thousand tokens, less what five groups of documents leave over.
        assert!(
            (7_400..7_500).contains(&corpus.train.count()),
            "{}",
            corpus.train.count()
        );
        let unigram = Unigram::from_blocks(&corpus.train, corpus.tokenizer.vocab_size());
        let perplexity = unigram.perplexity(&corpus.valid);
        assert!((150.0..500.0).contains(&perplexity), "{perplexity}");

        let again = Corpus::load(&config, 128, &mut Silent).unwrap();
        assert_eq!(
            (again.digest, again.train),
            (corpus.digest.clone(), corpus.train)
        );
    }

    #[test]
    fn the_digest_tells_corpora_apart() {
        let digest = |train: &str, length: usize| {
            let corpus = Corpus::from_texts(
                Tokenizer::byte(),
                &[train],
                &["held-out"],
                length,
                &mut Silent,
            );
            corpus.unwrap().digest
        };
        let first = digest("some text", 4);
        assert_eq!(first.len(), 64);
        assert_eq!(first, digest("some text", 4));
        assert_ne!(first, digest("same text", 4));
        assert_ne!(first, digest("some text", 5));
    }

    #[test]
    fn shakespeare_splits_where_it_always_has() {
        let text = std::fs::read_to_string(bundled("tinyshakespeare.txt")).unwrap();
        let (train, valid) = split_held_out(split_documents(&text));
        assert_eq!((train[0].len(), valid[0].len()), (1_003_854, 111_540));
        let config = DataConfig {
            train: bundled("tinyshakespeare.txt"),
            valid: String::new(),
            tokenizer: "char".to_owned(),
        };
        let corpus = Corpus::load(&config, 256, &mut Silent).unwrap();
        assert_eq!(corpus.tokenizer.vocab_size(), 67);
        assert_eq!(corpus.train.count(), 1_003_855 / 254);
        assert_eq!(corpus.valid.count(), 111_541 / 254);
    }

    #[test]
    fn bad_text_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let load = |train: &str, valid: &str, tokenizer: &str| {
            let config = DataConfig {
                train: train.to_owned(),
                valid: valid.to_owned(),
                tokenizer: tokenizer.to_owned(),
            };
            Corpus::load(&config, 16, &mut Silent)
        };
        let refused = |result: Result<Corpus>, name: &str, part: &str| match result {
            Err(Error::Corpus { path, problem }) => {
                assert!(path.ends_with(name), "{}", path.display());
                assert!(problem.contains(part), "{problem}");
            }
            other => panic!("{other:?}"),
        };
        let good = file("good", "abcdefghij".repeat(50).as_bytes());
        let valid = file("valid", b"abcdefghijabcdefghiz");
        refused(load(&file("empty", b""), "", "byte"), "empty", "empty");
        refused(
            load(&file("blank", b" \n\n"), "", "byte"),
            "blank",
            "no text",
        );
        refused(
            load(&file("binary", b"abc\xFF"), "", "byte"),
            "binary",
            "byte 3",
        );
        refused(
            load(&file("short", b"abcdefghijklm"), "", "byte"),
            "short",
            "12 tokens",
        );
        refused(
            load(&good, &file("short2", b"abc"), "byte"),
            "short2",
            "holds 14",
        );
        refused(load(&good, &valid, "char"), "valid", "'z' at position 19");
        refused(
            load(&good, "", &file("t.json", b"[1]")),
            "t.json",
            "not a tokenizer",
        );
        assert!(
            matches!(load("", "", "byte"), Err(Error::Config { key, .. }) if key == "data.train")
        );
        assert!(matches!(load("absent", "", "byte"), Err(Error::Io { .. })));
        assert!(load(&good, "", "char").is_ok());
    }
}
