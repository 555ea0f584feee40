//! Pairs to learn instructions from, of bundled stories: a prompt names words, the response is a story with them.
//!
//! ```text
//! cargo run --release --example instruct -- pairs --out runs/words.jsonl
//! cargo run --release --example train -- --config examples/configs/instruct.toml --init web/model/mdlm --out runs/instruct
//! cargo run --release --example instruct -- score --checkpoint runs/instruct --beside web/model/mdlm
//! ```

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use mdlm::blocking::wait;
use mdlm::data::Documents;
use mdlm::engine::rng::{Rng, Stream};
use mdlm::{Device, Model, SampleConfig};
use serde_json::json;
use support::samples::answers;
use support::talk::Speaker;

/// Words of a prompt.
const WORDS: usize = 3;
/// A word may be in one of so many stories at least, and in so many at most: neither rare nor said anyway.
const COMMON: [usize; 2] = [20, 1000];

/// Make pairs of words and stories, and see whether a model writes stories with the words that it is given.
#[derive(Parser)]
#[command(after_help = "\
Examples:
  instruct pairs --out runs/words.jsonl
  instruct score --checkpoint web/model/mdlm --count 4
  instruct score --checkpoint runs/instruct --beside web/model/mdlm")]
#[command(allow_negative_numbers = true)]
struct Args {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    device: support::DeviceArgs,
}

#[derive(Subcommand)]
enum What {
    /// Write pairs of a prompt and a response, a JSON object a line.
    Pairs {
        /// Stories.
        #[arg(long, default_value = "corpora/tinystories-large.txt.gz")]
        stories: String,
        /// The file to write.
        #[arg(long)]
        out: PathBuf,
    },
    /// How many of the words that it is given stand in a model's stories.
    Score(Box<Score>),
}

#[derive(clap::Args)]
struct Score {
    #[command(flatten)]
    model: support::ModelArgs,
    /// A model to compare with: the one that was tuned.
    #[arg(long)]
    beside: Option<PathBuf>,
    /// Held-out stories, of which prompts are made.
    #[arg(long, default_value = "corpora/tinystories-valid.txt.gz")]
    stories: String,
    /// Answers of each model.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1000))]
    count: u64,
    /// Answers that are shown.
    #[arg(long, default_value_t = 5)]
    show: usize,
    #[command(flatten)]
    sampling: support::SampleArgs,
}

/// The distinct words of a text, in small letters.
fn words(text: &str) -> BTreeSet<String> {
    let word = |part: &str| (part.len() > 2).then(|| part.to_lowercase());
    text.split(|c: char| !c.is_alphabetic())
        .filter_map(word)
        .collect()
}

/// A prompt for each story: some of its words, chosen by the story's number.
fn prompts(stories: &[String], common: &BTreeSet<String>) -> Vec<Option<Vec<String>>> {
    let prompt = |(number, story): (usize, &String)| {
        let mut known: Vec<String> = words(story)
            .into_iter()
            .filter(|word| common.contains(word))
            .collect();
        Rng::new(1, Stream::Shuffle, number as u64).shuffle(&mut known);
        known.truncate(WORDS);
        (known.len() == WORDS).then_some(known)
    };
    stories.iter().enumerate().map(prompt).collect()
}

/// The words that are neither rare nor in every story.
fn common(stories: &[String]) -> BTreeSet<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for word in stories.iter().flat_map(|story| words(story)) {
        *counts.entry(word).or_default() += 1;
    }
    let [most, least] = COMMON.map(|share| stories.len() / share);
    let fits = |(word, n): (String, usize)| (least..=most).contains(&n).then_some(word);
    counts.into_iter().filter_map(fits).collect()
}

fn read(path: &str) -> anyhow::Result<Vec<String>> {
    let path = support::find(path);
    Ok(Documents::open(Path::new(&path), "text")?.collect::<mdlm::Result<_>>()?)
}

fn told(words: &[String]) -> String {
    format!("{}\n", words.join(", "))
}

fn pairs(stories: &str, out: &Path) -> anyhow::Result<()> {
    let stories = read(stories)?;
    let common = common(&stories);
    let mut file = tempfile::NamedTempFile::new_in(out.parent().unwrap_or(Path::new(".")))?;
    let mut count = 0;
    for (words, story) in prompts(&stories, &common).iter().zip(&stories) {
        if let Some(words) = words {
            writeln!(
                file,
                "{}",
                json!({"prompt": told(words), "response": story})
            )?;
            count += 1;
        }
    }
    file.persist(out)?;
    println!(
        "{count} pairs of {} stories, from {} words",
        stories.len(),
        common.len()
    );
    Ok(())
}

/// The share of the words that stand in the answers, and the answers.
fn score(
    model: &mut Model,
    dir: &Path,
    prompts: &[Vec<String>],
    plain: bool,
    config: &SampleConfig,
) -> anyhow::Result<(f64, Vec<String>)> {
    let speaker = Speaker::new(model, dir)?;
    let told =
        |words: &Vec<String>| speaker.plain(&if plain { String::new() } else { told(words) });
    let starts = prompts.iter().map(told).collect::<mdlm::Result<Vec<_>>>()?;
    let length = model.length();
    let bar = indicatif::ProgressBar::new(prompts.len() as u64);
    let made = answers(model, config, length, &starts, prompts.len() as u64, || {
        bar.inc(1)
    })?;
    bar.finish_and_clear();
    let texts = made
        .iter()
        .zip(&starts)
        .map(|(made, start)| speaker.answer(&made.canvas, start.len()).0);
    let texts: Vec<String> = texts.collect();
    let kept = texts.iter().zip(prompts).map(|(text, asked)| {
        let said = words(text);
        asked.iter().filter(|word| said.contains(*word)).count()
    });
    Ok((
        kept.sum::<usize>() as f64 / (WORDS * prompts.len()) as f64,
        texts,
    ))
}

fn run() -> anyhow::Result<()> {
    let args = Args::parse();
    let Score {
        model,
        beside,
        stories,
        count,
        show,
        sampling,
    } = match &args.what {
        What::Pairs { stories, out } => return pairs(stories, out),
        What::Score(score) => &**score,
    };
    let config = sampling.to_read()?;
    let device: Device = args.device.open()?;
    let stories = read(stories)?;
    let prompts: Vec<Vec<String>> = prompts(&stories, &common(&stories))
        .into_iter()
        .flatten()
        .take(*count as usize)
        .collect();
    let (mut tuned, dir) = model.load_from(&device)?;
    let (share, texts) = score(&mut tuned, &dir, &prompts, false, &config)?;
    println!(
        "words of {} prompts that stand in the stories:",
        prompts.len()
    );
    println!("{:.1} %  {}", 100.0 * share, dir.display());
    if let Some(dir) = beside {
        for (plain, what) in [(false, "told the words"), (true, "told nothing")] {
            let mut other = wait(Model::load(&device, dir))?;
            let (share, _) = score(&mut other, dir, &prompts, plain, &config)?;
            println!("{:.1} %  {}, {what}", 100.0 * share, dir.display());
        }
    }
    for (words, text) in prompts.iter().zip(&texts).take(*show) {
        println!("\n--- {} ---\n{}", words.join(", "), text.trim());
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    support::main(run)
}
