//! Writes a checkpoint's model in the published layout, for other programs and for the browser.

mod support;

use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use mdlm::blocking::wait;
use mdlm::data::{ChatTemplate, Unigram};
use mdlm::io::checkpoint::{self, FileEntry, TrainState};
use mdlm::io::safetensors::Precision;
use mdlm::model::{Load, Published, export_tuned, is_tuned};
use mdlm::progress::Silent;
use mdlm::{Corpus, Device, Error, EvalConfig, Model, perplexity};
use serde_json::{Value, json};

use support::samples::{Sample, samples};

/// Write a model as config.json, model.safetensors and tokenizer.json; what a run on a published model has learnt is
/// written as it came, or as adapters that PEFT reads.
#[derive(Parser)]
#[command(after_help = "\
Examples:
  export --checkpoint runs/stories-1 --out models/mine
  export --checkpoint web/model/mdlm --out models/stories --precision bf16
  export --checkpoint runs/stories-1 --out models/mine --precision f16 --samples 5")]
#[command(allow_negative_numbers = true)]
struct Args {
    #[command(flatten)]
    model: support::ModelArgs,
    /// Folder to be made; one that holds nothing but an exported model is replaced.
    #[arg(long)]
    out: PathBuf,
    /// Type of the numbers in the file.
    #[arg(long, value_enum, default_value = "f32")]
    precision: Dtype,
    #[command(flatten)]
    card: CardArgs,
    #[command(flatten)]
    device: support::DeviceArgs,
}

/// What the page shows of a model.
#[derive(clap::Args)]
struct CardArgs {
    /// Write card.json as well, as web/README.md describes it: what the model was trained on, in a line.
    #[arg(long, value_name = "DATA", requires_all = ["licence", "command", "checkpoint"])]
    card: Option<String>,
    /// For the card: the model's licence.
    #[arg(long, requires = "card")]
    licence: Option<String>,
    /// For the card: how to make the model again.
    #[arg(long, requires = "card")]
    command: Option<String>,
    /// For the card: samples from nothing, by the settings below, as they come.
    #[arg(long, requires = "card", default_value_t = 0)]
    samples: u64,
    #[command(flatten)]
    sampling: support::SampleArgs,
}

/// Tokens of a sample.
const LENGTH: usize = 128;

#[derive(Clone, Copy, ValueEnum)]
enum Dtype {
    F32,
    F16,
    Bf16,
}

/// Measures the files as they will be written, on the text that the run held out.
fn card(
    args: &CardArgs,
    checkpoint: &Path,
    files: &Published,
    device: &Device,
) -> anyhow::Result<Value> {
    let dir = checkpoint::resolve(checkpoint)?;
    let config = mdlm::io::settings::read(&dir.join(checkpoint::CONFIG))?;
    let corpus = Corpus::load(
        &support::found(&config.data),
        config.model.length,
        &mut Silent,
    )?;
    let mut model = wait(Model::load_files(device, files, &Load::default()))?;
    let eval = EvalConfig {
        samples: 4,
        ..EvalConfig::default()
    };
    let bar = indicatif::ProgressBar::new(0);
    let bound = wait(perplexity(
        &mut model,
        &corpus.valid,
        16,
        &eval,
        |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        },
    ))?;
    bar.finish_and_clear();
    let config = args.sampling.suited(args.sampling.to_read()?, &model)?;
    config.check_seeds(args.samples)?;
    let length = model.length().min(LENGTH);
    let samples = samples(&mut model, &config, length, args.samples, || ())?;
    let text = |sample: &Sample| sample.canvas.text(&corpus.tokenizer);
    let samples: Vec<String> = samples.iter().map(text).collect();
    let unigram = Unigram::from_blocks(&corpus.train, corpus.tokenizer.vocab_size())?;
    let rounded = |x: f64| (100.0 * x).round() / 100.0;
    Ok(json!({
        "data": args.card,
        "licence": args.licence,
        "steps": TrainState::read(&dir)?.step,
        "command": args.command,
        "validation": {
            "perplexity": rounded(bound.ppl),
            "std_err": bound.std_err().map(rounded),
            "unigram_perplexity": rounded(unigram.perplexity(&corpus.valid)?),
        },
        "sampling": (!samples.is_empty()).then_some(&config),
        "samples": samples,
        "files": {
            "config.json": FileEntry::of(&files.config),
            "model.safetensors": FileEntry::of(&files.weights),
            "tokenizer.json": files.tokenizer.as_deref().map(FileEntry::of),
        },
    }))
}

/// An error if the model would be written over what it is read from.
fn check_apart(source: &Path, out: &Path) -> mdlm::Result<()> {
    if let (Ok(from), Ok(to)) = (source.canonicalize(), out.canonicalize())
        && from.starts_with(&to)
    {
        let problem = "is where the model is read from: it is left as it is; take another name";
        return Err(Error::config("out", out.display(), problem));
    }
    Ok(())
}

fn run() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(source) = &args.model.checkpoint {
        check_apart(source, &args.out)?;
    }
    let precision = match args.precision {
        Dtype::F32 => Precision::F32,
        Dtype::F16 => Precision::F16,
        Dtype::Bf16 => Precision::Bf16,
    };
    if let Some(run) = &args.model.checkpoint
        && is_tuned(run)?
    {
        anyhow::ensure!(
            args.card.card.is_none(),
            "cards are for models of this crate's"
        );
        export_tuned(run, &args.out, precision)?;
        println!("written to {}", args.out.display());
        return Ok(());
    }
    let device = args.device.open()?;
    let (model, path) = args.model.load_from(&device)?;
    let files = wait(model.publish(precision))?;
    let card = match (&args.card.card, &args.model.checkpoint) {
        (Some(_), Some(checkpoint)) => Some(card(&args.card, checkpoint, &files, &device)?),
        _ => None,
    };
    let text = card.as_ref().map(|card| format!("{card:#}\n"));
    files.save(
        &args.out,
        text.as_ref().map(String::as_bytes),
        ChatTemplate::read(&path)?.as_ref(),
    )?;
    if let Some(card) = card {
        println!("{}", card["validation"]);
    }
    println!(
        "{} parameters in {}",
        model.info().parameters,
        args.out.display()
    );
    Ok(())
}

fn main() -> std::process::ExitCode {
    support::main(run)
}
