//! A made-up corpus of many shards: how long it takes to be tokenised, and how much memory that holds at most.

use std::fs::File;
use std::io::{BufWriter, Read, Write, copy};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use flate2::write::GzEncoder;
use mdlm::Corpus;
use mdlm::config::DataConfig;
use mdlm::data::Loader;
use mdlm::progress::{Event, Flow};
use mdlm_engine::rng::{Rng, Stream};
use ruzstd::encoding::{CompressionLevel, compress};
use serde_json::json;

use crate::support;

/// Sequences of a batch that is read.
const BATCH: usize = 64;

/// The corpus and how it is read.
#[derive(clap::Args)]
pub struct Options {
    /// Megabytes of text.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    megabytes: u64,
    /// Shards of each of its two sources: stories as JSON lines packed with zstd, and as text, packed with gzip or not.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    shards: u64,
    /// Tokens of a block.
    #[arg(long, default_value_t = 128)]
    length: usize,
    /// As for training.
    #[arg(long, default_value = "corpora/tinystories-bpe2048.tokenizer.json")]
    tokenizer: String,
    /// Folder for shards and tokens, which are taken as they are if they are there; by default one that is removed.
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// A shard's bytes as they are made: documents of sentences drawn from bundled stories.
struct Shard<'a> {
    sentences: &'a [&'a str],
    rng: Rng,
    json: bool,
    /// Bytes of text to be made yet.
    left: u64,
    bytes: Vec<u8>,
    given: usize,
}

impl Shard<'_> {
    fn document(&mut self) {
        let count = 5 + self.rng.below(40);
        let any = self.sentences.len() as u64;
        let drawn = (0..count).map(|_| self.sentences[self.rng.below(any) as usize]);
        let text = drawn.collect::<Vec<_>>().join(". ");
        self.left = self.left.saturating_sub(text.len() as u64);
        self.bytes = match self.json {
            true => format!("{}\n", json!({ "text": text })),
            false => format!("{text}\n<|endoftext|>\n"),
        }
        .into_bytes();
        self.given = 0;
    }
}

impl Read for Shard<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.given == self.bytes.len() {
            if self.left == 0 {
                return Ok(0);
            }
            self.document();
        }
        let count = (&self.bytes[self.given..]).read(out)?;
        self.given += count;
        Ok(count)
    }
}

/// Writes the shards that are not there.
fn make(folder: &Path, options: &Options) -> anyhow::Result<()> {
    let stories = support::find("corpora/tinystories-valid.txt.gz");
    let text = mdlm::io::read::read_unpacked(Path::new(&stories), 1 << 24)?;
    let text = String::from_utf8(text)?.replace("<|endoftext|>", "");
    let sentences: Vec<&str> = text.split(['.', '\n']).map(str::trim).collect();
    let sentences: Vec<&str> = sentences.into_iter().filter(|s| !s.is_empty()).collect();
    let each = (options.megabytes << 20) / (2 * options.shards);
    for number in 0..2 * options.shards {
        let (json, i) = (number % 2 == 0, number / 2);
        let name = match (json, i % 2) {
            (true, _) => format!("json/{i:05}.jsonl.zst"),
            (false, 0) => format!("text/{i:05}.txt.gz"),
            (false, _) => format!("text/{i:05}.txt"),
        };
        let path = folder.join(name);
        if path.exists() {
            continue;
        }
        std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
        let mut shard = Shard {
            sentences: &sentences,
            rng: Rng::new(1, Stream::Init, number),
            json,
            left: each,
            bytes: Vec::new(),
            given: 0,
        };
        // hidden, so that it is no shard of a later call if this one is ended
        let partial = folder.join(".partial");
        let mut out = BufWriter::new(File::create(&partial)?);
        match (json, i % 2) {
            (true, _) => compress(shard, &mut out, CompressionLevel::Fastest),
            (false, 0) => {
                let mut packed = GzEncoder::new(&mut out, flate2::Compression::fast());
                copy(&mut shard, &mut packed)?;
                packed.finish()?;
            }
            (false, _) => drop(copy(&mut shard, &mut out)?),
        }
        out.flush()?;
        std::fs::rename(partial, path)?;
    }
    Ok(())
}

/// The most memory that this process has had resident, in bytes, where the system says so.
fn peak_resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes << 10)
}

/// Prints a line: seconds of tokenising into a cache and of opening it again, microseconds for a sequence of a shuffled
/// batch, and peak resident memory at the end.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir().context("no folder for the corpus")?;
    let folder = options.folder.as_deref().unwrap_or(scratch.path());
    make(folder, options)?;
    let before = peak_resident();
    let name = |name: &str| folder.join(name).display().to_string();
    let data = DataConfig {
        sources: vec![name("json"), name("text")],
        weights: vec![3.0, 1.0],
        tokenizer: support::find(&options.tokenizer),
        cache: name("tokens"),
        ..DataConfig::default()
    };
    let bar = indicatif::ProgressBar::new(0);
    let load = || {
        let begin = Instant::now();
        let corpus = Corpus::load(&data, options.length, &mut |event: &Event| {
            if let Event::Progress { what, done, total } = event {
                bar.set_message(*what);
                bar.set_length(*total);
                bar.set_position(*done);
            }
            Flow::Continue
        })?;
        anyhow::Ok((corpus, begin.elapsed().as_secs_f64()))
    };
    let (first, tokenizing) = load()?;
    let digest = first.digest.clone();
    drop(first);
    let (corpus, opening) = load()?;
    bar.finish_and_clear();
    anyhow::ensure!(corpus.digest == digest, "the cache holds other blocks");
    let train = Arc::clone(&corpus.train);
    let mut loader = Loader::new(Arc::clone(&train), 1, BATCH);
    let (mut ids, mut counts) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    let batches = 100u64;
    for step in 0..batches {
        // from all over the run
        loader.batch(step * 1009, &mut ids, &mut counts)?;
    }
    let sequences = batches as f64 * BATCH as f64;
    let line = json!({
        "name": "corpus",
        "text_bytes": options.megabytes << 20,
        "files": 2 * options.shards,
        "blocks": train.count() + corpus.valid.count(),
        "length": options.length,
        "threads": std::thread::available_parallelism()?.get(),
        "tokenizing_s": tokenizing,
        "megabytes_per_s": options.megabytes as f64 / tokenizing,
        "opening_s": opening,
        "sequence_us": begin.elapsed().as_secs_f64() * 1e6 / sequences,
        "peak_before_bytes": before,
        "peak_resident_bytes": peak_resident(),
    });
    println!("{line}");
    Ok(())
}
