//! A text that is trained on or held out: a file, or the shards of several sources.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::blocks::Blocks;
use super::origin::with_path;
use super::pack::TooShort;
use super::parallel::each;
use super::shards::{files, is_many};
use super::source::{Part, Role, Source};
use super::tokenizer::Tokenizer;
use crate::config::DataConfig;
use crate::error::{Error, Result};
use crate::progress::Observer;

/// Shards whose files stay open; a process may not have very many.
const MOST_OPEN: usize = 64;

/// A file, or the shards of several sources.
pub(super) enum Text<'a> {
    One(Source<'a>),
    Many(Vec<Shards<'a>>),
}

/// The shards of a source.
pub(super) struct Shards<'a> {
    /// As it was named.
    name: &'a str,
    /// How often its blocks come beside those of others; none: all blocks of all sources come as often.
    weight: Option<f64>,
    shards: Vec<Source<'a>>,
}

impl<'a> Text<'a> {
    /// The training text of a configuration.
    pub(super) fn train(config: &'a DataConfig) -> Result<Self> {
        if config.sources.is_empty() {
            return Self::of(&config.train, config, Role::Train);
        }
        let weight = |i: usize| config.weights.get(i).copied();
        let sources = config.sources.iter().enumerate();
        let shards = sources.map(|(i, name)| Shards::of(name, weight(i), config, Role::Train));
        Ok(Self::Many(shards.collect::<Result<_>>()?))
    }

    /// The held-out text of a configuration that names one.
    pub(super) fn valid(config: &'a DataConfig) -> Result<Self> {
        Self::of(&config.valid, config, Role::Valid)
    }

    fn of(name: &'a str, config: &'a DataConfig, role: Role) -> Result<Self> {
        match is_many(Path::new(name)) {
            false => Ok(Self::One(Source::new(name, config, role))),
            true => Ok(Self::Many(vec![Shards::of(name, None, config, role)?])),
        }
    }

    /// Its files.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        let (one, many) = match self {
            Self::One(source) => (Some(source), &[][..]),
            Self::Many(sources) => (None, &sources[..]),
        };
        let shards = many.iter().flat_map(|source| &source.shards);
        one.into_iter().chain(shards).map(|source| &*source.path)
    }

    /// The distinct characters of all documents.
    pub(super) fn characters(&self, observer: &mut dyn Observer) -> Result<BTreeSet<char>> {
        match self {
            Self::One(source) => source.characters(),
            Self::Many(sources) => {
                let shards: Vec<_> = sources.iter().flat_map(|s| &s.shards).collect();
                let all = each("reading", &sizes(&shards)?, observer, |i, _| {
                    shards[i].characters()
                })?;
                Ok(all.into_iter().flatten().collect())
            }
        }
    }

    /// The blocks of a part. Of several shards each gives its part, and those may make no block that are short.
    pub(super) fn blocks(
        &self,
        part: Part,
        tokenizer: &Tokenizer,
        length: usize,
        observer: &mut dyn Observer,
    ) -> Result<Blocks> {
        match self {
            Self::One(source) => source
                .blocks(part, tokenizer, length, observer)
                .and_then(|made| Ok(made?))
                .map_err(|e| with_path(e, &source.path)),
            Self::Many(sources) => joined(sources, part, tokenizer, length, observer),
        }
    }
}

/// The blocks of all shards, those of each source behind each other.
fn joined(
    sources: &[Shards<'_>],
    part: Part,
    tokenizer: &Tokenizer,
    length: usize,
    observer: &mut dyn Observer,
) -> Result<Blocks> {
    let shards: Vec<_> = sources.iter().flat_map(|s| &s.shards).collect();
    let sizes = sizes(&shards)?;
    each("reading", &sizes, observer, |i, _| shards[i].measure())?;
    check_distinct(&shards)?;
    let many = shards.len() > MOST_OPEN;
    let made = each("tokenizing", &sizes, observer, |i, observer| {
        let blocks = shards[i].blocks(part, tokenizer, length, observer);
        let blocks = blocks.map_err(|e| with_path(e, &shards[i].path))?;
        if let (Ok(blocks), true) = (&blocks, many) {
            blocks.close();
        }
        Ok(blocks)
    })?;
    let mut made = made.into_iter();
    let mut all = Vec::new();
    for source in sources {
        let count = source.shards.len();
        all.push((source.weight, source.gathered(made.by_ref().take(count))?));
    }
    let held_out = part == Part::HeldOut || shards.iter().any(|shard| shard.role == Role::Valid);
    let weighed = all.iter().all(|(weight, _)| weight.is_some());
    let weighed: Vec<_> = match weighed {
        true => all
            .into_iter()
            .map(|(weight, parts)| (weight.unwrap_or(1.0), parts))
            .collect(),
        // one text, of which every block comes as often
        false => vec![(1.0, all.into_iter().flat_map(|(_, parts)| parts).collect())],
    };
    // of held-out text the first blocks are taken
    Blocks::joined(weighed, held_out)
}

fn sizes(shards: &[&Source<'_>]) -> Result<Vec<u64>> {
    let size = |shard: &&Source<'_>| {
        let metadata = shard
            .path
            .metadata()
            .map_err(Error::io(&shard.path, "open"))?;
        Ok(metadata.len())
    };
    shards.iter().map(size).collect()
}

/// Refuses a shard that holds what another does.
fn check_distinct(shards: &[&Source<'_>]) -> Result<()> {
    let mut known = BTreeMap::new();
    for shard in shards {
        if let Some(other) = known.insert(shard.measure()?.1, &shard.path) {
            let problem = format!(
                "holds what {} does: name it once (data.weights says how often a source comes)",
                other.display()
            );
            return Err(Error::corpus(&shard.path, problem));
        }
    }
    Ok(())
}

impl<'a> Shards<'a> {
    fn of(name: &'a str, weight: Option<f64>, config: &'a DataConfig, role: Role) -> Result<Self> {
        let shards = files(Path::new(name))?.into_iter();
        let shards = shards.map(|path| Source::new(path, config, role));
        Ok(Self {
            name,
            weight,
            shards: shards.collect(),
        })
    }

    /// What its shards have made: an error if none has made a block.
    fn gathered(
        &self,
        made: impl Iterator<Item = Result<Blocks, TooShort>>,
    ) -> Result<Vec<Blocks>> {
        let (mut parts, mut short) = (Vec::new(), None);
        for (shard, blocks) in self.shards.iter().zip(made) {
            match blocks {
                Ok(blocks) => parts.push(blocks),
                Err(too_short) => short = short.or(Some((&shard.path, too_short))),
            }
        }
        match (short, self.shards.len()) {
            (Some((path, too_short)), 1) => Err(with_path(too_short.into(), path)),
            (Some((path, TooShort(problem))), count) if parts.is_empty() => {
                let first = path.display();
                let problem =
                    format!("none of its {count} files makes a block; of {first}: {problem}");
                Err(Error::corpus(Path::new(self.name), problem))
            }
            _ => Ok(parts),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::PathBuf;

    use super::*;
    use crate::data::{Corpus, Loader};
    use crate::progress::{Event, Flow, Silent};

    /// The documents of shard `i`, of which each has 12 to 14 bytes.
    fn documents(i: usize) -> Vec<String> {
        (0..20).map(|k| format!("shard {i} text {k}")).collect()
    }

    fn json(documents: &[String]) -> Vec<u8> {
        let line = |text: &String| format!("{{\"text\":{text:?}}}\n");
        documents.iter().map(line).collect::<String>().into_bytes()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn put(path: &Path, bytes: &[u8]) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Four shards in a folder, plain and packed.
    fn shards(folder: &Path) {
        put(&folder.join("0.jsonl"), &json(&documents(0)));
        put(&folder.join("1.jsonl.gz"), &gzip(&json(&documents(1))));
        put(&folder.join("2.jsonl.zst"), &zstd(&json(&documents(2))));
        put(&folder.join("3.ndjson"), &json(&documents(3)));
        put(&folder.join(".hidden"), b"no shard");
    }

    fn on(train: &Path) -> DataConfig {
        DataConfig {
            train: train.to_str().unwrap().to_owned(),
            tokenizer: "byte".to_owned(),
            ..DataConfig::default()
        }
    }

    fn of(sources: &[&Path], weights: &[f64]) -> DataConfig {
        let name = |path: &&Path| path.to_str().unwrap().to_owned();
        DataConfig {
            train: String::new(),
            sources: sources.iter().map(name).collect(),
            weights: weights.to_vec(),
            ..on(Path::new(""))
        }
    }

    fn load(config: &DataConfig) -> Result<Corpus> {
        Corpus::load(config, 8, &mut Silent)
    }

    fn refused(config: &DataConfig, name: &str, part: &str) {
        match load(config) {
            Err(Error::Corpus { path, problem }) => {
                assert!(path.ends_with(name), "{}: {problem}", path.display());
                assert!(problem.contains(part), "{problem}");
            }
            Err(error @ Error::Io { .. }) => {
                let text = error.to_string();
                assert!(text.contains(name) && text.contains(part), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn shards_are_one_text() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("shards");
        shards(&folder);
        let (mut last, mut whats) = ((0, 0), Vec::new());
        let cached = DataConfig {
            cache: dir.path().join("cache").to_str().unwrap().to_owned(),
            ..on(&folder)
        };
        let corpus = Corpus::load(&cached, 8, &mut |event: &Event| {
            if let Event::Progress { what, done, total } = event {
                whats.push(*what);
                last = (*done, *total);
            }
            Flow::Continue
        })
        .unwrap();
        assert!(last.0 > 0 && last.0 == last.1);
        assert!(whats.contains(&"reading") && whats.contains(&"tokenizing"));
        assert_eq!(corpus.digest, load(&on(&folder)).unwrap().digest);
        let pattern = on(&folder.join("?.*json*"));
        assert_eq!(corpus.digest, load(&pattern).unwrap().digest);
        let one_by_one: Vec<PathBuf> = files(&folder).unwrap();
        let one_by_one: Vec<&Path> = one_by_one.iter().map(PathBuf::as_path).collect();
        assert_eq!(corpus.digest, load(&of(&one_by_one, &[])).unwrap().digest);
        // each is split as it is alone
        let alone: Vec<Corpus> = one_by_one
            .iter()
            .map(|path| load(&on(path)).unwrap())
            .collect();
        let count = |of: fn(&Corpus) -> usize| alone.iter().map(of).sum::<usize>();
        assert_eq!(corpus.train.count(), count(|c| c.train.count()));
        assert_eq!(corpus.valid.count(), count(|c| c.valid.count()));
        let start = alone[0].train.count();
        let (first, second) = (&alone[1].train, &corpus.train);
        assert_eq!(second.block(start + 1).unwrap(), first.block(1).unwrap());
        // an epoch has every block once, in an order that needs none before it
        let count = corpus.train.count();
        let epoch = |seed, step: u64| {
            let mut loader = Loader::new(corpus.train.clone(), seed, count);
            let (mut ids, mut counts) = (Vec::new(), Vec::new());
            loader.batch(step, &mut ids, &mut counts).unwrap();
            ids.chunks(8).map(<[u32]>::to_vec).collect::<Vec<_>>()
        };
        let [mut first, mut second] = [epoch(1, 0), epoch(1, 7)];
        assert!(first != second && first != epoch(2, 0));
        first.sort();
        second.sort();
        let mut all: Vec<_> = (0..count)
            .map(|i| corpus.train.block(i).unwrap().into_owned())
            .collect();
        all.sort();
        assert!(first == all && second == all);
    }

    #[test]
    fn very_many_shards_are_not_all_open() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("shards");
        for i in 0..MOST_OPEN + 6 {
            put(
                &folder.join(format!("{i:03}.lines")),
                documents(i).join("\n").as_bytes(),
            );
        }
        let cached = DataConfig {
            cache: dir.path().join("cache").to_str().unwrap().to_owned(),
            ..on(&folder)
        };
        let (memory, disk) = (load(&on(&folder)).unwrap(), load(&cached).unwrap());
        assert_eq!(memory.digest, disk.digest);
        for i in 0..memory.train.count() {
            assert_eq!(memory.train.block(i).unwrap(), disk.train.block(i).unwrap());
        }
        assert_eq!(memory.valid.block(3).unwrap(), disk.valid.block(3).unwrap());
    }

    #[test]
    fn shards_may_be_short_and_sources_may_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            put(&path, text.as_bytes());
            path
        };
        let long = documents(1).join("\n");
        file("some/0.lines", &long);
        file("some/1.lines", "ab");
        let corpus = load(&on(&dir.path().join("some"))).unwrap();
        let alone = load(&on(&dir.path().join("some/0.lines"))).unwrap();
        assert_eq!(corpus.train.count(), alone.train.count());
        file("none/0.lines", "ab");
        file("none/1.lines", "abc");
        refused(
            &on(&dir.path().join("none")),
            "none",
            "none of its 2 files makes a block; of",
        );
        let (good, short) = (file("good.lines", &long), file("short.lines", "a"));
        refused(
            &of(&[&good, &short], &[1.0, 1.0]),
            "short.lines",
            "too few for one block",
        );
    }

    #[test]
    fn what_cannot_be_shards_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        refused(&on(&at("absent")), "absent", "open");
        refused(&on(&at("absent-*.txt")), "absent-*.txt", "no file has");
        shards(&at("twice"));
        put(&at("twice/7.jsonl"), &json(&documents(3)));
        refused(&on(&at("twice")), "7.jsonl", "3.ndjson does: name it once");
        for (name, bytes, part) in [
            ("cut.jsonl.gz", &gzip(&json(&documents(8)))[..60], "read"),
            ("cut.jsonl.zst", &zstd(&json(&documents(8)))[..60], "read"),
            (
                "bad.jsonl",
                &b"{\"text\":\"a\"}\n{\"body\":\"b\"}"[..],
                "line 2: no field",
            ),
            ("bare.jsonl", b"", "the file is empty"),
            ("blank.jsonl", b"\n\n", "holds no text"),
        ] {
            shards(&at("broken"));
            put(&at("broken").join(name), bytes);
            let cached = DataConfig {
                cache: at("cache").to_str().unwrap().to_owned(),
                ..on(&at("broken"))
            };
            for config in [cached, on(&at("broken"))] {
                refused(&config, name, part);
            }
            std::fs::remove_dir_all(at("broken")).unwrap();
        }
        // nothing half made is left, and what was made is used
        let names = std::fs::read_dir(at("cache")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(
            names
                .into_iter()
                .all(|name| name.ends_with(".tokens") && !name.starts_with('.'))
        );
        let pairs = DataConfig {
            prompt_field: "prompt".to_owned(),
            ..on(&at("twice"))
        };
        assert!(matches!(load(&pairs), Err(Error::Config { key, .. }) if key == "data.train"));
        shards(&at("large"));
        let stopped = Corpus::load(&on(&at("large")), 8, &mut |_: &Event| Flow::Stop);
        assert!(matches!(stopped, Err(Error::Cancelled)));
    }

    #[test]
    fn weights_choose_among_sources() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        shards(&at("large"));
        let other: Vec<String> = (0..20).map(|k| format!("ANOTHER TEXT {k}")).collect();
        put(&at("small.lines"), other.join("\n").as_bytes());
        let corpus = load(&of(&[&at("large"), &at("small.lines")], &[1.0, 3.0])).unwrap();
        let portions = corpus.train.portions();
        let small = portions[1].blocks.clone();
        assert!(portions[0].blocks.len() > 3 * small.len());
        let mut loader = Loader::new(corpus.train.clone(), 1, 4000);
        let (mut ids, mut counts) = (Vec::new(), Vec::new());
        loader.batch(3, &mut ids, &mut counts).unwrap();
        let all: Vec<_> = small
            .map(|i| corpus.train.block(i).unwrap().into_owned())
            .collect();
        let of_small = ids
            .chunks(8)
            .filter(|ids| all.iter().any(|block| block == ids));
        let share = of_small.count() as f64 / 4000.0;
        assert!((share - 0.75).abs() < 0.03, "{share}");
        // in proportion, held-out text comes from all
        assert!(corpus.valid.portions().is_empty());
        let unweighed = load(&of(&[&at("large"), &at("small.lines")], &[])).unwrap();
        assert_eq!(unweighed.train.portions().len(), 1);
        assert_ne!(unweighed.digest, corpus.digest);
    }
}
