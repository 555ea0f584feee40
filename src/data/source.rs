//! A file of documents with what is to become of them: which part is taken, how it is cleaned, packed and
//! kept.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::OnceLock;

use super::blocks::Blocks;
use super::documents::Documents;
use super::pack::{Job, Packing, TooShort};
use super::split::{held_out_of, split_text};
use super::tokenizer::Tokenizer;
use crate::config::{DataConfig, Detokenizer};
use crate::error::{Error, Result};
use crate::io::read;
use crate::progress::Observer;

/// An evaluation set, to be read by [`super::Corpus::load_eval`].
///
/// The published zero-shot perplexities come from sets whose tokenisation was undone and which were wrapped
/// to the model's length. The reference's code ends every document with EOS; the paper (D.5) says that
/// there is none, which is `insert_eos = false`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvalData {
    /// A file in one of the forms of [`Documents`]. WikiText's own `wiki.test.raw` has the rows of the
    /// Hugging Face data set; LAMBADA comes as `.jsonl`.
    pub path: PathBuf,
    /// Which published tokenisation to undo.
    pub detokenizer: Detokenizer,
    /// As [`Packing::wrap`].
    pub wrap: bool,
    /// As [`Packing::insert_eos`].
    pub insert_eos: bool,
    /// Field of JSON lines, or column of Parquet.
    pub field: String,
}

impl EvalData {
    /// A file as the reference's code would take it, its text as it is.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            detokenizer: Detokenizer::None,
            wrap: true,
            insert_eos: true,
            field: "text".to_owned(),
        }
    }

    pub(super) fn config(&self) -> DataConfig {
        DataConfig {
            detokenizer: self.detokenizer,
            wrap: self.wrap,
            insert_eos: self.insert_eos,
            field: self.field.clone(),
            ..DataConfig::default()
        }
    }
}

/// Which documents of a file are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    All,
    /// All but the last tenth.
    Kept,
    /// The last tenth.
    HeldOut,
}

pub(super) struct Source<'a> {
    pub(super) path: PathBuf,
    pub(super) config: &'a DataConfig,
    pub(super) role: Role,
    count: OnceLock<usize>,
    measure: OnceLock<(u64, [u8; 32])>,
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Train,
    Valid,
    Eval,
}

/// The documents of a part of a file.
pub(super) struct Documented {
    pub(super) count: usize,
    pub(super) texts: Box<dyn Iterator<Item = Result<String>>>,
    /// Which text it is, for people.
    pub(super) name: String,
}

impl<'a> Source<'a> {
    pub(super) fn new(path: impl Into<PathBuf>, config: &'a DataConfig, role: Role) -> Self {
        Self {
            path: path.into(),
            config,
            role,
            count: OnceLock::new(),
            measure: OnceLock::new(),
        }
    }

    /// Size and digest of the file, which is read for them once.
    pub(super) fn measure(&self) -> Result<(u64, [u8; 32])> {
        match self.measure.get() {
            Some(&measure) => Ok(measure),
            None => {
                let measure = read::measure(&self.path)?;
                Ok(*self.measure.get_or_init(|| measure))
            }
        }
    }

    fn open(&self) -> Result<Documents> {
        Documents::open(&self.path, &self.config.field)
    }

    /// Number of documents, from a pass over the file that is made once.
    fn count(&self) -> Result<usize> {
        if let Some(&count) = self.count.get() {
            return Ok(count);
        }
        let count = self
            .open()?
            .try_fold(0, |count, document| document.map(|_| count + 1))?;
        if count == 0 {
            return Err(Error::corpus(&self.path, "holds no text"));
        }
        Ok(*self.count.get_or_init(|| count))
    }

    /// The distinct characters of all documents.
    pub(super) fn characters(&self) -> Result<BTreeSet<char>> {
        let (mut found, mut count) = (BTreeSet::new(), 0);
        for document in self.open()? {
            let document = document?;
            let clean = self.config.detokenizer.apply(&document);
            // Most characters have been seen: asking is cheaper than a tree of them for each document.
            clean.chars().for_each(|c| {
                if !found.contains(&c) {
                    found.insert(c);
                }
            });
            count += 1;
        }
        if count == 0 {
            return Err(Error::corpus(&self.path, "holds no text"));
        }
        self.count.get_or_init(|| count);
        Ok(found)
    }

    pub(super) fn documents(&self, part: Part) -> Result<Documented> {
        let count = self.count()?;
        if part == Part::All {
            let name = match self.role {
                Role::Train => "the training text",
                Role::Valid => "the held-out text",
                Role::Eval => "the text",
            };
            return Ok(Documented {
                count,
                texts: Box::new(self.open()?),
                name: name.to_owned(),
            });
        }
        if count == 1 {
            let text: String = self.open()?.collect::<Result<_>>()?;
            let all = text.chars().count();
            let (kept, held_out) = split_text(&text);
            let (text, name) = match part {
                Part::Kept => (kept, "the training text, the first"),
                _ => (held_out, "the held-out text, the last"),
            };
            let name = format!("{name} {} of {all} characters,", text.chars().count());
            return Ok(Documented {
                count,
                texts: Box::new(std::iter::once(Ok(text.to_owned()))),
                name,
            });
        }
        let held_out = held_out_of(count);
        let kept = count - held_out;
        Ok(match part {
            Part::HeldOut => Documented {
                count: held_out,
                texts: Box::new(self.open()?.skip(kept)),
                name: format!("the held-out text, the last {held_out} of {count} documents,"),
            },
            _ => Documented {
                count: kept,
                texts: Box::new(self.open()?.take(kept)),
                name: format!("the training text, the first {kept} of {count} documents,"),
            },
        })
    }

    /// What helps against text that is too short, besides a shorter length.
    pub(super) fn help(&self, part: Part) -> &'static str {
        match (self.role, part) {
            (Role::Eval, _) => {
                "take more of it, or each document in a block of its own (--no-wrap; wrap = false)"
            }
            (_, Part::HeldOut) => "name held-out text of its own by data.valid",
            _ => "take more text",
        }
    }

    pub(super) fn packing(&self) -> Packing {
        Packing {
            wrap: self.config.wrap,
            insert_eos: self.config.insert_eos,
        }
    }

    /// The blocks of a part: in memory, or on disk where `data.cache` names a folder.
    pub(super) fn blocks(
        &self,
        part: Part,
        tokenizer: &Tokenizer,
        length: usize,
        observer: &mut dyn Observer,
    ) -> Result<Result<Blocks, TooShort>> {
        if !self.config.cache.is_empty() {
            return self.cached(part, tokenizer, length, observer);
        }
        let documents = self.documents(part)?;
        let texts = documents.texts.map(|document| self.clean(document));
        let job = Job {
            tokenizer,
            length,
            packing: self.packing(),
            total: documents.count as u64,
            text: &documents.name,
            help: self.help(part),
            fixed: self.role == Role::Eval,
            counted: self.role == Role::Eval,
        };
        Blocks::collect(&job, texts, observer)
    }

    pub(super) fn clean(&self, document: Result<String>) -> Result<Cow<'static, str>> {
        let document = document?;
        Ok(match self.config.detokenizer {
            Detokenizer::None => Cow::Owned(document),
            other => Cow::Owned(other.apply(&document).into_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::data::Corpus;
    use crate::data::tests::{config, load};

    fn bundled(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpora")
            .join(name)
    }

    #[test]
    fn one_content_in_many_forms() {
        let dir = tempfile::tempdir().unwrap();
        let documents: Vec<String> = (0..40).map(|i| format!("document number {i}")).collect();
        let text = load(&config(
            dir.path(),
            "t.txt",
            &documents.join("\n<|endoftext|>\n"),
        ));
        let lines = load(&config(dir.path(), "t.lines", &documents.join("\n")));
        let json: String = documents
            .iter()
            .map(|text| format!("{{\"id\":1,\"body\":{text:?}}}\n"))
            .collect();
        let json = DataConfig {
            field: "body".to_owned(),
            ..config(dir.path(), "t.jsonl", &json)
        };
        assert_eq!(text.digest, lines.digest);
        assert_eq!(text.digest, load(&json).digest);
        // 36 documents of 17 or 18 characters, each with its EOS, and 6 tokens in a block.
        assert_eq!(text.train.count(), (10 * 18 + 26 * 19) / 6);
    }

    #[test]
    fn settings_reach_the_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let base = config(dir.path(), "t.lines", "a , b\nc , d\ne , f\na , c");
        let with = |change: &dyn Fn(&mut DataConfig)| {
            let mut changed = base.clone();
            (changed.valid, changed.wrap) = (base.train.clone(), false);
            change(&mut changed);
            load(&changed)
        };
        let apart = with(&|_| {});
        let attended: Vec<_> = (0..4).map(|i| apart.train.attended(i)).collect();
        assert_eq!((apart.train.count(), attended), (4, vec![7; 4]));
        let clean = with(&|c| c.detokenizer = Detokenizer::Wikitext);
        assert_eq!(clean.train.attended(0), 6);
        assert_eq!(
            clean.tokenizer.decode(&clean.train.block(0).unwrap()),
            "a, b"
        );
        let joined = with(&|c| (c.wrap, c.insert_eos) = (true, false));
        let block = joined.train.block(0).unwrap().into_owned();
        assert_eq!(joined.tokenizer.decode(&block), "a , bc");
    }

    #[test]
    fn wikitext_has_the_documented_tokens() {
        let gpt2 = Tokenizer::from_file(&bundled("gpt2.tokenizer.json.gz")).unwrap();
        let path = bundled("wikitext2-test.raw.gz");
        let rows: Vec<String> = Documents::open(&path, "text")
            .unwrap()
            .collect::<Result<_>>()
            .unwrap();
        assert_eq!(rows.len(), 4358);
        // The figure of the Hugging Face documentation for these rows joined by blank lines.
        assert_eq!(gpt2.encode(&rows.join("\n\n")).unwrap().len(), 287_644);

        let data = EvalData {
            detokenizer: Detokenizer::Wikitext,
            ..EvalData::new(bundled("wikitext2-valid.raw.gz"))
        };
        let with_eos = Corpus::load_eval(&data, &gpt2, 1024).unwrap();
        let without = EvalData {
            insert_eos: false,
            ..data
        };
        let without = Corpus::load_eval(&without, &gpt2, 1024).unwrap();
        assert_eq!((with_eos.count(), without.count()), (232, 228));
        let first = gpt2.decode(&without.block(0).unwrap());
        assert!(first.starts_with(" = Homarus gammarus =\n"), "{first}");
    }

    #[test]
    fn lambada_is_json_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lambada.jsonl");
        let line = "{\"text\": \"“ yes , ” he said and left \"}\n";
        std::fs::write(&path, line.repeat(3)).unwrap();
        let data = EvalData {
            detokenizer: Detokenizer::Lambada,
            wrap: false,
            ..EvalData::new(&path)
        };
        let byte = Tokenizer::byte();
        let blocks = Corpus::load_eval(&data, &byte, 40).unwrap();
        assert_eq!(blocks.count(), 3);
        let text = "\n\" yes , \" he said and left";
        assert_eq!(byte.decode(&blocks.block(2).unwrap()), text);
        assert_eq!(blocks.attended(2), text.len() + 2);
    }
}
