//! Blocks of a source on disk, under names that tell apart whatever changes them.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::blocks::{BlockHash, Blocks};
use super::documents::Format;
use super::pack::{Job, TooShort};
use super::source::{Part, Source};
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::io::hexadecimal;
use crate::io::tokens::{self, TokensFile, TokensHeader};
use crate::progress::Observer;

impl Source<'_> {
    /// The blocks of a part in the folder `data.cache`, made if they are not there.
    pub(super) fn cached(
        &self,
        part: Part,
        tokenizer: &Tokenizer,
        length: usize,
        observer: &mut dyn Observer,
    ) -> Result<Result<Blocks, TooShort>> {
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
            let documents = self.documents(part)?;
            let texts = documents.texts.map(|document| self.clean(document));
            let job = Job {
                tokenizer,
                length,
                packing: self.packing(),
                total: documents.count as u64,
                text: &documents.name,
                help: self.help(part),
                fixed: false,
                counted: false,
            };
            let mut made = Ok(());
            let written = tokens::write(&path, header.clone(), |out| {
                let mut hash = BlockHash::new(length);
                made = job.pack(texts, observer, |block| {
                    hash.push(block.ids, block.attended);
                    out.push(block.ids, block.attended)
                })?;
                match &made {
                    Ok(()) => Ok(hash.finish()),
                    // there is nothing to write
                    Err(_) => Err(Error::Cancelled),
                }
            });
            if let Err(too_short) = made {
                return Ok(Err(too_short));
            }
            written?;
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
        Ok(Ok(Blocks::on_disk(file)))
    }

    /// A name that tells apart whatever changes the blocks.
    fn cache_name(&self, part: Part, tokenizer: &[u8; 32], length: usize) -> Result<String> {
        let config = self.config;
        let mut hash = Sha256::new();
        hash.update(self.measure()?.1);
        hash.update(tokenizer);
        let settings = (
            Format::of(&self.path),
            part,
            config.detokenizer,
            self.packing(),
            length,
            &config.field,
        );
        hash.update(format!("{settings:?}"));
        let digest = hash.finalize();
        let digest = hexadecimal(&digest[..8]);
        let stem = self.path.file_name().unwrap_or_default().to_string_lossy();
        let part = match part {
            Part::All => "all",
            Part::Kept => "kept",
            Part::HeldOut => "held-out",
        };
        Ok(format!("{stem}-{part}-{digest}.tokens"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DataConfig;
    use crate::data::Corpus;
    use crate::data::tests::{config, load};
    use crate::progress::{Event, Flow, Silent};

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn cached_blocks_are_the_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let text: String = (0..300).map(|i| format!("line {i}\n")).collect();
        for wrap in [true, false] {
            let in_memory = DataConfig {
                wrap,
                ..config(dir.path(), "t.lines", &text)
            };
            let cache = dir.path().join("cache");
            let on_disk = DataConfig {
                cache: cache.to_str().unwrap().to_owned(),
                ..in_memory.clone()
            };
            let (memory, disk) = (load(&in_memory), load(&on_disk));
            assert_eq!(memory.digest, disk.digest);
            assert_eq!(memory.train.count(), disk.train.count());
            for i in 0..memory.train.count() {
                let (memory, disk) = (&memory.train, &disk.train);
                assert_eq!(memory.block(i).unwrap(), disk.block(i).unwrap());
                assert_eq!(memory.attended(i), disk.attended(i));
            }
            // The second time they are read, not made.
            let mut events = 0;
            let again = Corpus::load(&on_disk, 8, &mut |_: &Event| {
                events += 1;
                Flow::Continue
            });
            assert_eq!((again.unwrap().digest, events), (disk.digest, 0));
            // Another length is another file; so are another text and other settings.
            let files = names(&cache).len();
            Corpus::load(&on_disk, 9, &mut Silent).unwrap();
            assert_eq!(names(&cache).len(), files + 2);
            let kept = names(&cache);
            let kept = kept.iter().find(|name| name.contains("kept")).unwrap();
            assert!(kept.starts_with("t.lines-kept-") && kept.ends_with(".tokens"));
            std::fs::remove_dir_all(&cache).unwrap();
        }
    }

    #[test]
    fn a_cache_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        let config = DataConfig {
            cache: cache.to_str().unwrap().to_owned(),
            ..config(dir.path(), "t.lines", &"some text\n".repeat(50))
        };
        load(&config);
        let names = names(&cache);
        let (one, other) = (cache.join(&names[0]), cache.join(&names[1]));
        let whole = std::fs::read(&one).unwrap();
        std::fs::write(&one, &whole[..whole.len() - 1]).unwrap();
        let problem = Corpus::load(&config, 8, &mut Silent).unwrap_err();
        let problem = problem.to_string();
        assert!(
            problem.contains(&names[0]) && problem.contains("delete it"),
            "{problem}"
        );
        // A file under another's name.
        let shorter = DataConfig {
            tokenizer: "byte".to_owned(),
            ..config.clone()
        };
        Corpus::load(&shorter, 8, &mut Silent).unwrap();
        let is_new = |name: &String| !names.contains(name) && name.contains("held-out");
        let foreign = self::names(&cache).into_iter().find(is_new).unwrap();
        std::fs::write(&one, &whole).unwrap();
        std::fs::copy(cache.join(foreign), &one).unwrap();
        let problem = Corpus::load(&config, 8, &mut Silent).unwrap_err();
        assert!(
            problem.to_string().contains("another tokenizer"),
            "{problem}"
        );
        assert!(other.exists());
    }
}
