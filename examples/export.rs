//! Writes a checkpoint's model in the published layout, for other programs and for the browser.

mod support;

use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use mdlm::blocking::wait;
use mdlm::config::TrainConfig;
use mdlm::data::{Corpus, Unigram};
use mdlm::device::Device;
use mdlm::eval::{EvalConfig, perplexity};
use mdlm::io::checkpoint::{self, TrainState};
use mdlm::io::safetensors::Precision;
use mdlm::model::Model;
use mdlm::progress::Silent;
use serde_json::{Value, json};

/// Write a model as config.json, model.safetensors and tokenizer.json.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    model: support::ModelArgs,
    /// Folder to be made; one of that name is replaced.
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
    #[arg(long)]
    licence: Option<String>,
    /// For the card: how to make the model again.
    #[arg(long)]
    command: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Dtype {
    F32,
    F16,
    Bf16,
}

/// Measures the files as they were written, on the text that the run held out.
fn card(args: &CardArgs, checkpoint: &Path, out: &Path, device: &Device) -> anyhow::Result<Value> {
    let dir = checkpoint::resolve(checkpoint)?;
    let text = checkpoint::read_text(&dir.join("config.toml"), 1 << 16)?;
    let config = TrainConfig::from_toml(&text)?;
    let files = support::found(&config.data);
    let corpus = Corpus::load(&files, config.model.length, &mut Silent)?;
    let mut model = wait(Model::load(device, out))?;
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
    let unigram = Unigram::from_blocks(&corpus.train, corpus.tokenizer.vocab_size())?;
    let mut digests = json!({});
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        digests[name] = serde_json::to_value(checkpoint::measure(&out.join(name))?)?;
    }
    let rounded = |x: f64| (100.0 * x).round() / 100.0;
    Ok(json!({
        "data": args.card,
        "licence": args.licence,
        "steps": TrainState::read(&dir)?.step,
        "command": args.command,
        "validation": {
            "perplexity": rounded(bound.ppl),
            "std_err": rounded(bound.std_err()),
            "unigram_perplexity": rounded(unigram.perplexity(&corpus.valid)?),
        },
        "files": digests,
    }))
}

fn run() -> anyhow::Result<()> {
    let args = Args::parse();
    let device = args.device.open()?;
    let model = args.model.load(&device)?;
    let precision = match args.precision {
        Dtype::F32 => Precision::F32,
        Dtype::F16 => Precision::F16,
        Dtype::Bf16 => Precision::Bf16,
    };
    wait(model.save(&args.out, precision))?;
    if let (Some(_), Some(checkpoint)) = (&args.card.card, &args.model.checkpoint) {
        let card = card(&args.card, checkpoint, &args.out, &device)?;
        let text = serde_json::to_string_pretty(&card)? + "\n";
        mdlm::io::atomic::write_file(&args.out.join("card.json"), text.as_bytes())?;
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
