//! Documents become blocks: training text, held-out text, evaluation sets.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::blocks::Blocks;
#[cfg(not(target_arch = "wasm32"))]
use super::chat::ChatTemplate;
use super::origin::with_path;
use super::pack::{Job, Packing};
use super::tokenizer::Tokenizer;
#[cfg(not(target_arch = "wasm32"))]
use crate::error::Error;
use crate::error::Result;
use crate::io::hexadecimal;
use crate::progress::Observer;

/// A tokenizer with packed training and held-out text.
///
/// ```
/// use mdlm::{Corpus, Tokenizer, progress::Silent};
///
/// let tokenizer = Tokenizer::characters("to be or not");
/// let corpus = Corpus::from_texts(tokenizer, &["to be or not to be"; 9], &["not to be or to be"; 2], 16, &mut Silent)?;
/// assert_eq!(corpus.train.length(), 16);
/// # Ok::<(), mdlm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Corpus {
    /// The tokenizer that made the ids of both texts.
    pub tokenizer: Tokenizer,
    /// Training blocks, shared with the loader.
    pub train: Arc<Blocks>,
    /// Held-out blocks, never trained on.
    pub valid: Blocks,
    /// SHA-256 over the digests of both, in hexadecimal.
    pub digest: String,
    /// How its conversations were put, if it is made of them.
    #[cfg(not(target_arch = "wasm32"))]
    pub chat_template: Option<ChatTemplate>,
}

impl Corpus {
    /// Joins blocks that the tokenizer has made.
    pub fn from_blocks(tokenizer: Tokenizer, train: Blocks, valid: Blocks) -> Self {
        let mut hash = Sha256::new();
        hash.update(train.digest());
        hash.update(valid.digest());
        let digest = hash.finalize();
        Self {
            tokenizer,
            train: Arc::new(train),
            valid,
            digest: hexadecimal(&digest),
            #[cfg(not(target_arch = "wasm32"))]
            chat_template: None,
        }
    }

    /// Packs documents that are already in memory, as [`Packing::default`] says.
    pub fn from_texts(
        tokenizer: Tokenizer,
        train: &[&str],
        valid: &[&str],
        length: usize,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let mut blocks = |texts: &[&str], name: &str, text: &str| {
            let job = Job {
                tokenizer: &tokenizer,
                length,
                packing: Packing::default(),
                total: texts.len() as u64,
                text,
                help: "take more text",
                fixed: false,
                counted: false,
            };
            let texts = texts.iter().map(|&text| Ok(Cow::Borrowed(text)));
            Blocks::collect(&job, texts, observer)
                .and_then(|made| Ok(made?))
                .map_err(|e| with_path(e, Path::new(name)))
        };
        let (train, valid) = (
            blocks(train, "training text", "the training text")?,
            blocks(valid, "held-out text", "the held-out text")?,
        );
        Ok(Self::from_blocks(tokenizer, train, valid))
    }

    /// Reads the files of a configuration and packs them to blocks of `length`. Without a validation file,
    /// the last tenth of the training text is held out, of each file where there are several.
    ///
    /// Files are read as streams: in memory are a thousand documents at a time (the whole text, if it is one
    /// document) of each of at most eight files, and the blocks unless `data.cache` names a folder for them.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Io`], [`Error::Corpus`] that names file, line and field,
    /// [`Error::Cancelled`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn load(
        config: &crate::config::DataConfig,
        length: usize,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        use super::source::Part;
        use super::text::Text;
        config.validate()?;
        let train = Text::train(config)?;
        let valid = match config.valid.is_empty() {
            true => None,
            false => Some(Text::valid(config)?),
        };
        let texts = [Some(&train), valid.as_ref()].into_iter().flatten();
        check_field(config, texts.clone().flat_map(Text::paths))?;
        let names = config.into();
        if config.has_prompts() {
            let keys = [("data.train", &config.train), ("data.valid", &config.valid)];
            for (text, (key, name)) in texts.zip(keys) {
                if let Text::Many(_) = text {
                    let problem = "pairs are read from one file, not from a folder or a pattern";
                    return Err(Error::config(key, name, problem));
                }
            }
            return Self::of_pairs(config, &names, length, observer);
        }
        let tokenizer = tokenizer(config, &names, || train.characters(observer))?;
        let mut blocks = |text: &Text<'_>, part| text.blocks(part, &tokenizer, length, observer);
        let (train, valid) = match &valid {
            None => (blocks(&train, Part::Kept)?, blocks(&train, Part::HeldOut)?),
            Some(valid) => (blocks(&train, Part::All)?, blocks(valid, Part::All)?),
        };
        Ok(Self::from_blocks(tokenizer, train, valid))
    }

    /// Reads pairs of prompts and responses.
    #[cfg(not(target_arch = "wasm32"))]
    fn of_pairs(
        config: &crate::config::DataConfig,
        names: &super::SpecialNames,
        length: usize,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        use super::pairs::{self, Manner};
        let paths = [Path::new(&config.train), Path::new(&config.valid)];
        let train = pairs::read(paths[0], config)?;
        let texts = train.iter().flat_map(|pair| pair.texts());
        let characters = || Ok(texts.flat_map(|text| text.chars()).collect());
        let tokenizer = tokenizer(config, names, characters)?;
        let (split, of_valid) = match config.valid.is_empty() {
            true => (pairs::split(train), paths[0]),
            false => ([train, pairs::read(paths[1], config)?], paths[1]),
        };
        let template = match config.chat_template.as_str() {
            "" => None,
            dir => Some(ChatTemplate::read(Path::new(dir))?.ok_or_else(|| {
                let problem = "has no chat template: name a model that chats, or leave it out";
                Error::config("data.chat_template", dir, problem)
            })?),
        };
        let manner = Manner {
            tokenizer: &tokenizer,
            template: template.as_ref(),
        };
        let mut blocks = |path, pairs| Blocks::of_pairs(path, pairs, &manner, length, observer);
        let (train, valid) = (blocks(paths[0], &split[0])?, blocks(of_valid, &split[1])?);
        Ok(Self {
            chat_template: template,
            ..Self::from_blocks(tokenizer, train, valid)
        })
    }

    /// Reads and packs an evaluation set, all of it.
    ///
    /// # Errors
    /// As [`Corpus::load`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn load_eval(
        data: &super::EvalData,
        tokenizer: &Tokenizer,
        length: usize,
    ) -> Result<Blocks> {
        use super::source::{Part, Role, Source};
        let config = data.config();
        config.check_packing()?;
        check_field(&config, std::iter::once(&*data.path))?;
        let source = Source::new(&data.path, &config, Role::Eval);
        source
            .blocks(Part::All, tokenizer, length, &mut crate::progress::Silent)
            .and_then(|made| Ok(made?))
            .map_err(|e| with_path(e, &data.path))
    }
}

/// The tokenizer of a configuration; `characters` are those of the training text.
#[cfg(not(target_arch = "wasm32"))]
fn tokenizer(
    config: &crate::config::DataConfig,
    names: &super::SpecialNames,
    characters: impl FnOnce() -> Result<std::collections::BTreeSet<char>>,
) -> Result<Tokenizer> {
    match config.tokenizer.as_str() {
        "char" => Tokenizer::of_characters(&characters()?).renamed(names),
        spec => Tokenizer::from_spec_named(spec, "", names),
    }
}

/// Refuses a field that none of the files has.
#[cfg(not(target_arch = "wasm32"))]
fn check_field<'a>(
    config: &crate::config::DataConfig,
    mut files: impl Iterator<Item = &'a Path>,
) -> Result<()> {
    use super::documents::Format;
    let default = crate::config::DataConfig::default().field;
    let there = files.any(|file| matches!(Format::of(file), Format::JsonLines | Format::Parquet));
    if !config.prompt_field.is_empty() && !there {
        let problem = "is read in JSON lines and Parquet only; leave it out";
        return Err(Error::config(
            "data.prompt_field",
            &config.prompt_field,
            problem,
        ));
    }
    if config.field != default && !there {
        let problem = "is read in JSON lines and Parquet only; leave it out";
        return Err(Error::config("data.field", &config.field, problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DataConfig;
    use crate::data::{Unigram, split_documents, split_held_out};
    use crate::progress::{Event, Flow, Silent};

    fn bundled(name: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpora")
            .join(name);
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn the_story_corpus_packs_to_the_expected_size() {
        let config = DataConfig {
            train: bundled("tinystories-train.txt.gz"),
            valid: bundled("tinystories-valid.txt.gz"),
            tokenizer: bundled("tinystories-bpe2048.tokenizer.json"),
            ..DataConfig::default()
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
        let perplexity = unigram.unwrap().perplexity(&corpus.valid).unwrap();
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
            ..DataConfig::default()
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
                ..DataConfig::default()
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
            "the first 11 of 13 characters, is too short: 12 tokens",
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
