//! A file of documents with what is to become of them: which part is taken, how it is cleaned, packed and
//! kept.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::blocks::{BlockHash, Blocks};
use super::corpus::{held_out_of, split_text};
use super::documents::{Documents, Format};
use super::pack::{Packing, pack};
use super::tokenizer::Tokenizer;
use crate::config::{DataConfig, Detokenizer};
use crate::error::{Error, Result};
use crate::io::read;
use crate::io::tokens::{self, TokensFile, TokensHeader};
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
    /// As in [`Packing`].
    pub wrap: bool,
    /// As in [`Packing`].
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
    path: &'a Path,
    config: &'a DataConfig,
    count: OnceCell<usize>,
}

impl<'a> Source<'a> {
    pub(super) fn new(path: &'a Path, config: &'a DataConfig) -> Self {
        Self {
            path,
            config,
            count: OnceCell::new(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.path
    }

    fn open(&self) -> Result<Documents> {
        Documents::open(self.path, &self.config.field)
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
            return Err(Error::corpus(self.path, "holds no text"));
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
            return Err(Error::corpus(self.path, "holds no text"));
        }
        self.count.get_or_init(|| count);
        Ok(found)
    }

    /// The documents of a part and their number.
    #[expect(clippy::type_complexity, reason = "it is used once")]
    fn documents(&self, part: Part) -> Result<(usize, Box<dyn Iterator<Item = Result<String>>>)> {
        let count = self.count()?;
        if part == Part::All {
            return Ok((count, Box::new(self.open()?)));
        }
        if count == 1 {
            let text: String = self.open()?.collect::<Result<_>>()?;
            let (kept, held_out) = split_text(&text);
            let text = if part == Part::Kept { kept } else { held_out };
            return Ok((1, Box::new(std::iter::once(Ok(text.to_owned())))));
        }
        let held_out = held_out_of(count);
        let kept = count - held_out;
        Ok(match part {
            Part::HeldOut => (held_out, Box::new(self.open()?.skip(kept))),
            _ => (kept, Box::new(self.open()?.take(kept))),
        })
    }

    fn packing(&self) -> Packing {
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
    ) -> Result<Blocks> {
        if !self.config.cache.is_empty() {
            return self.cached(part, tokenizer, length, observer);
        }
        let (count, documents) = self.documents(part)?;
        let documents = documents.map(|document| self.clean(document));
        let (total, packing) = (count as u64, self.packing());
        Blocks::collect(tokenizer, documents, total, length, packing, observer)
    }

    fn clean(&self, document: Result<String>) -> Result<Cow<'static, str>> {
        let document = document?;
        Ok(match self.config.detokenizer {
            Detokenizer::None => Cow::Owned(document),
            other => Cow::Owned(other.apply(&document).into_owned()),
        })
    }

    fn cached(
        &self,
        part: Part,
        tokenizer: &Tokenizer,
        length: usize,
        observer: &mut dyn Observer,
    ) -> Result<Blocks> {
        let folder = Path::new(&self.config.cache);
        let tokenizer_digest = Sha256::digest(tokenizer.to_json()).into();
        let path = folder.join(self.cache_name(part, &tokenizer_digest, length)?);
        let header = TokensHeader {
            vocab_size: tokenizer.vocab_size(),
            length,
            count: 0,
            padded: !self.config.wrap,
            tokenizer: tokenizer_digest,
            blocks: [0; 32],
        };
        if !path.exists() {
            std::fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
            let (count, documents) = self.documents(part)?;
            let documents = documents.map(|document| self.clean(document));
            tokens::write(&path, header.clone(), |out| {
                let mut hash = BlockHash::new(length);
                let sink = |ids: &[u32], attended: usize| {
                    hash.push(ids, attended);
                    out.push(ids, attended)
                };
                let (total, packing) = (count as u64, self.packing());
                pack(tokenizer, documents, total, length, packing, observer, sink)?;
                Ok(hash.finish())
            })?;
        }
        let file = TokensFile::open(&path)?;
        let found = file.header();
        let expected = TokensHeader {
            count: found.count,
            blocks: found.blocks,
            ..header
        };
        if *found != expected {
            let problem = "is of another tokenizer or length than its name says; delete it";
            return Err(Error::corpus(&path, problem));
        }
        Ok(Blocks::on_disk(file))
    }

    /// A name that tells apart whatever changes the blocks.
    fn cache_name(&self, part: Part, tokenizer: &[u8; 32], length: usize) -> Result<String> {
        let config = self.config;
        let mut hash = Sha256::new();
        hash.update(read::measure(self.path)?.1);
        hash.update(tokenizer);
        let settings = (
            Format::of(self.path),
            part,
            config.detokenizer,
            self.packing(),
            length,
            &config.field,
        );
        hash.update(format!("{settings:?}"));
        let digest = hash.finalize();
        let digest: String = digest[..8].iter().map(|b| format!("{b:02x}")).collect();
        let stem = self.path.file_name().unwrap_or_default().to_string_lossy();
        let part = match part {
            Part::All => "all",
            Part::Kept => "kept",
            Part::HeldOut => "held-out",
        };
        Ok(format!("{stem}-{part}-{digest}.tokens"))
    }
}
