//! Whether stories begin and end as they were asked to, against the model that was not tuned.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use mdlm::blocking::wait;
use mdlm::data::Message;
use mdlm::io::atomic::write_file;
use mdlm::{Device, Model, SampleConfig};
use serde_json::{Value, json};

use crate::pairs::{Asked, pairs, sentences};
use crate::support::samples::answers;
use crate::support::talk::{self, Opened, Speaker};
use crate::support::{self, DeviceArgs};

#[derive(clap::Args)]
pub struct Score {
    #[command(flatten)]
    model: support::ModelArgs,
    /// A model to compare with: the one that was tuned.
    #[arg(long)]
    beside: Option<PathBuf>,
    /// Held-out stories, of which prompts are made.
    #[arg(long, default_value = crate::HELD_OUT)]
    stories: String,
    /// Answers of each model.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1000))]
    count: u64,
    /// Answers that are shown, the first ones as they come.
    #[arg(long, default_value_t = 5)]
    show: usize,
    /// A card that `export` has written, to add the figures and the answers that are shown to.
    #[arg(long)]
    card: Option<PathBuf>,
    #[command(flatten)]
    sampling: support::SampleArgs,
}

/// Shares of the sentences that were asked for.
#[derive(Clone, Copy, serde::Serialize)]
struct Kept {
    /// Those that stand in their place word for word.
    exact: f64,
    /// Of their words, those that stand in their place.
    overlap: f64,
}

/// How stories keep to what was asked for.
#[derive(Clone, Copy, serde::Serialize)]
struct Figures {
    first: Kept,
    last: Kept,
    /// Of the prompts' words of more than three letters, those that stand anywhere in the story.
    words: f64,
}

/// The words of a text, in small letters.
fn words(text: &str) -> Vec<String> {
    let parts = text.split(|c: char| !c.is_alphanumeric());
    let some = parts.filter(|word| !word.is_empty());
    some.map(str::to_lowercase).collect()
}

/// The F1 score of the words that two sentences share.
fn overlap(asked: &str, said: &str) -> f64 {
    let (asked, mut said) = (words(asked), words(said));
    let all = asked.len() + said.len();
    let mut shared = 0;
    for word in asked {
        if let Some(place) = said.iter().position(|other| *other == word) {
            said.swap_remove(place);
            shared += 1;
        }
    }
    2.0 * shared as f64 / all.max(1) as f64
}

/// Shares over the prompts that ask for a sentence, which stands at `place` of a story's sentences.
fn kept<'a>(
    stories: &[String],
    asked: impl Iterator<Item = Option<&'a str>>,
    place: impl Fn(Vec<&str>) -> Option<&str>,
) -> Kept {
    let (mut exact, mut shared, mut count) = (0.0, 0.0, 0.0_f64);
    for (story, asked) in stories.iter().zip(asked) {
        if let Some(asked) = asked {
            let said = place(sentences(story)).unwrap_or_default();
            exact += f64::from(u8::from(said == asked));
            shared += overlap(asked, said);
            count += 1.0;
        }
    }
    let share = |sum: f64| sum / count.max(1.0);
    Kept {
        exact: share(exact),
        overlap: share(shared),
    }
}

fn figures(stories: &[String], asked: &[Asked]) -> Figures {
    let first = asked.iter().map(|asked| asked.first.as_deref());
    let last = asked.iter().map(|asked| asked.last.as_deref());
    let (mut told, mut all) = (0, 0);
    for (story, asked) in stories.iter().zip(asked) {
        let said: BTreeSet<String> = words(story).into_iter().collect();
        let wanted: BTreeSet<String> = words(&asked.prompt()).into_iter().collect();
        let wanted = wanted.iter().filter(|word| word.len() > 3);
        all += wanted.clone().count();
        told += wanted.filter(|word| said.contains(*word)).count();
    }
    Figures {
        words: told as f64 / all.max(1) as f64,
        first: kept(stories, first, |all| all.first().copied()),
        last: kept(stories, last, |all| all.last().copied()),
    }
}

/// A model's stories behind prompts.
fn stories(
    model: &mut Model,
    speaker: &Speaker,
    prompts: &[Vec<u32>],
    config: &SampleConfig,
) -> anyhow::Result<Vec<String>> {
    let (length, count) = (model.length(), prompts.len() as u64);
    let bar = indicatif::ProgressBar::new(count);
    let made = answers(model, config, length, prompts, count, || bar.inc(1))?;
    bar.finish_and_clear();
    let text = |(made, prompt): (&support::samples::Sample, &Vec<u32>)| {
        let (text, _) = speaker.answer(&made.canvas, prompt.len());
        text.trim().to_owned()
    };
    Ok(made.iter().zip(prompts).map(text).collect())
}

fn show(figures: &Figures, what: &str) {
    let Figures { first, last, words } = figures;
    let shares = [first.exact, first.overlap, last.exact, last.overlap, *words];
    let shares = shares.map(|share| format!("{:5.1} %", 100.0 * share));
    println!("{}  {what}", shares.join("  "));
}

/// Adds the figures to a card that is there.
fn add(card: &Path, figures: Value) -> anyhow::Result<()> {
    let mut all: Value = serde_json::from_str(&std::fs::read_to_string(card)?)?;
    let known = all.get("files").is_some() && all.get("validation").is_some();
    ensure!(known, "{}: no card that export has written", card.display());
    all["instructions"] = figures;
    Ok(write_file(card, format!("{all:#}\n").as_bytes())?)
}

pub fn run(score: &Score, device: &DeviceArgs) -> anyhow::Result<()> {
    let opened = talk::open(&score.model, &score.sampling, device)?;
    let Opened {
        mut model,
        path,
        speaker,
        config,
    } = opened;
    ensure!(speaker.chats(), "{}: has no chat template", path.display());
    let held_out = pairs(&score.stories, 1, &speaker.tokenizer, model.length())?;
    let asked: Vec<Asked> = held_out.iter().map(|pair| pair.asked.clone()).collect();
    let asked = &asked[..asked.len().min(score.count as usize)];
    let prompt = |asked: &Asked| speaker.prompt(&[Message::new("user", asked.prompt())]);
    let prompts = asked.iter().map(prompt).collect::<mdlm::Result<Vec<_>>>()?;
    println!("{} held-out prompts", prompts.len());
    println!("first sentence exact, its words; last sentence exact, its words; words in the story");
    let texts = stories(&mut model, &speaker, &prompts, &config)?;
    let tuned = figures(&texts, asked);
    show(&tuned, &path.display().to_string());
    let mut all = json!({"prompts": asked.len(), "sampling": config, "tuned": tuned});
    if let Some(dir) = &score.beside {
        let device: Device = device.open()?;
        let mut other = wait(Model::load(&device, dir))?;
        let same = other.tokenizer().map(|t| t.to_json()) == Some(speaker.tokenizer.to_json());
        ensure!(same, "{}: has another tokenizer", dir.display());
        let nothing = vec![speaker.plain("")?; prompts.len()];
        for (prompts, key, told) in [
            (&prompts, "untuned", "told the same"),
            (&nothing, "untuned_unprompted", "told nothing"),
        ] {
            let texts = stories(&mut other, &speaker, prompts, &config)?;
            let found = figures(&texts, asked);
            show(&found, &format!("{}, {told}", dir.display()));
            all[key] = json!(found);
        }
    }
    let shown = asked.iter().zip(&texts).take(score.show);
    let answers: Vec<Value> = shown
        .map(|(asked, text)| json!({"prompt": asked.prompt(), "answer": text}))
        .collect();
    for answer in &answers {
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        println!("\n--- {} ---\n{}", text("prompt"), text("answer"));
    }
    all["answers"] = answers.into();
    score.card.as_deref().map_or(Ok(()), |card| add(card, all))
}
