//! Evaluates a checkpoint: likelihood of a text, and the quality of text that it writes.

mod support;

use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use indicatif::ProgressBar;
use mdlm::blocking::wait;
use mdlm::config::{Detokenizer, Parameterization};
use mdlm::data::EvalData;
use mdlm::eval::{EvalMode, Judge, distinct_n, unigram_entropy};
use mdlm::model::Gpt2;
use mdlm::{Corpus, Device, Error, EvalConfig, Model, Tokenizer, TrainConfig, perplexity};
use serde_json::json;

use support::samples::{Sample, samples};

/// Perplexity of a text under a checkpoint, with its error; the bound of a denoiser, the exact value of
/// an autoregressive model. With --generate, statistics of text that the checkpoint writes.
#[derive(Parser)]
#[command(after_help = "\
Examples:
  eval --checkpoint web/model/mdlm --data corpora/tinystories-valid.txt.gz --blocks 16
  eval --checkpoint web/model/ar --data corpora/tinystories-valid.txt.gz --blocks 16
  eval --checkpoint web/model/mdlm --generate 2")]
#[command(allow_negative_numbers = true)]
struct Args {
    #[command(flatten)]
    model: support::ModelArgs,
    /// Text to evaluate: plain, .raw (WikiText), .lines, .jsonl or .parquet, or packed with gzip or zstd.
    #[arg(long, required_unless_present = "generate")]
    data: Option<PathBuf>,
    /// Tokenisation of a published set to undo: wikitext, ptb, lm1b, lambada, scientific_papers.
    #[arg(long, default_value = "none", requires = "data")]
    detokenizer: String,
    /// No end of text between documents, as the paper's zero-shot protocol has it.
    #[arg(long, requires = "data")]
    no_eos: bool,
    /// A document a block, cut or padded, in place of one stream cut to blocks.
    #[arg(long, requires = "data")]
    no_wrap: bool,
    /// Field of JSON lines or column of Parquet that holds the text.
    #[arg(long, default_value = "text", requires = "data")]
    field: String,
    /// How the bound of a denoiser is estimated; default: exact for SUBS, else mc.
    #[arg(long, value_enum, requires = "data")]
    mode: Option<Mode>,
    /// Draws for each block, of a denoiser; default: 1.
    #[arg(long, requires = "data")]
    samples: Option<usize>,
    /// Steps T of the discretised bound; 0: continuous time.
    #[arg(long = "T", default_value_t = 0, requires = "data")]
    t_steps: u32,
    /// Blocks at a time; the result does not depend on it.
    #[arg(long, default_value_t = 16, requires = "data")]
    batch: usize,
    /// Most blocks; 0: all.
    #[arg(long, default_value_t = 0, requires = "data")]
    blocks: usize,
    /// Samples to write and judge.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    generate: Option<u64>,
    #[command(flatten)]
    sampling: support::SampleArgs,
    /// Folder of the model that judges the samples: an autoregressive checkpoint, or a GPT-2 with its
    /// tokenizer.json.
    #[arg(long, requires = "generate")]
    judge: Option<PathBuf>,
    /// One JSON object in place of words; std_err is that of nats_per_token.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: support::DeviceArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    /// The integral over t in closed form, only masks are sampled; for SUBS.
    Exact,
    /// t is sampled too, as the reference does.
    Mc,
}

/// The estimator that was asked for, and what to call it; what the model has no use for is refused.
fn estimator(args: &Args, model: &Model) -> mdlm::Result<(EvalMode, &'static str)> {
    let ar = model.autoregressive();
    let subs = model.objective().parameterization == Parameterization::Subs;
    let refuse = |key: &str, value: String, problem: &str| Err(Error::config(key, value, problem));
    match args.mode {
        Some(mode) if ar => {
            let problem = "an autoregressive model's perplexity is computed, not estimated";
            refuse("mode", format!("{mode:?}").to_lowercase(), problem)
        }
        Some(Mode::Exact) if !subs => {
            let problem = "only the bound of SUBS has a closed form; leave it out, or take mc";
            refuse("mode", "exact".to_owned(), problem)
        }
        _ if ar && args.samples.is_some() => {
            let problem = "an autoregressive model's perplexity needs no draws; leave it out";
            refuse("samples", args.samples.unwrap_or(1).to_string(), problem)
        }
        Some(Mode::Mc) => Ok((EvalMode::Mc, "mc")),
        None if !subs => Ok((EvalMode::Mc, "mc")),
        _ => Ok((EvalMode::Exact, "exact")),
    }
}

/// By its name in configurations.
fn detokenizer(name: &str) -> mdlm::Result<Detokenizer> {
    let mut config = TrainConfig::default();
    config.set(&format!("data.detokenizer={name}"))?;
    Ok(config.data.detokenizer)
}

fn likelihood(args: &Args, path: &Path, model: &mut Model) -> anyhow::Result<serde_json::Value> {
    let Some(tokenizer) = model.tokenizer().cloned() else {
        anyhow::bail!("the checkpoint holds no tokenizer.json");
    };
    let data = EvalData {
        detokenizer: detokenizer(&args.detokenizer)?,
        wrap: !args.no_wrap,
        insert_eos: !args.no_eos,
        field: args.field.clone(),
        ..EvalData::new(support::find(&path.display().to_string()))
    };
    let blocks = Corpus::load_eval(&data, &tokenizer, model.length())?;
    let (mode, mode_name) = estimator(args, model)?;
    let config = EvalConfig {
        mode,
        samples: args.samples.unwrap_or(1),
        t_steps: args.t_steps,
        most: args.blocks,
        seed: args.sampling.resolve()?.seed,
        ..EvalConfig::default()
    };
    let bar = ProgressBar::new(0);
    let p = wait(perplexity(
        model,
        &blocks,
        args.batch,
        &config,
        |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        },
    ))?;
    bar.finish_and_clear();
    let counted = |i| blocks.characters(i).unwrap_or(0);
    let characters: usize = (0..config.count(&blocks)).map(counted).sum();
    let bits = p.nats_per_token / std::f64::consts::LN_2;
    // a block may hold nothing but the ends of empty documents
    let bits_per_char = (characters > 0).then(|| bits * p.tokens as f64 / characters as f64);
    if !args.json {
        let error = match (p.interval(), p.nats_std_err) {
            (Some([low, high]), Some(error)) => [
                format!(" (95 %: {low:.3} to {high:.3})"),
                format!(" ± {error:.4}"),
            ],
            _ => [" (a single block has no error)".to_owned(), String::new()],
        };
        let per_char =
            bits_per_char.map_or_else(String::new, |b| format!(", {b:.4} bits a character"));
        println!(
            "perplexity {:.3}{}, {:.4}{} nats a token\n\
             {bits:.4} bits a token{per_char}; {} tokens, {characters} characters, mode {mode_name}",
            p.ppl, error[0], p.nats_per_token, error[1], p.tokens
        );
    }
    Ok(json!({
        "ppl": p.ppl,
        "ppl_low": p.interval().map(|[low, _]| low),
        "ppl_high": p.interval().map(|[_, high]| high),
        "nats_per_token": p.nats_per_token,
        "std_err": p.nats_std_err,
        "bits_per_token": bits,
        "bits_per_char": bits_per_char,
        "tokens": p.tokens,
        "characters": characters,
        "mode": mode_name,
    }))
}

fn judge(device: &Device, dir: &Path) -> anyhow::Result<Judge> {
    if Gpt2::is_in(dir)? {
        let tokenizer = Tokenizer::from_file(&dir.join("tokenizer.json"))?;
        let model = wait(Gpt2::load(device, dir))?;
        return Ok(Judge::Gpt2(Box::new(model), tokenizer));
    }
    let model = wait(Model::load(device, dir))?;
    Ok(Judge::Autoregressive(Box::new(model)))
}

fn quality(
    args: &Args,
    count: u64,
    device: &Device,
    model: &mut Model,
) -> anyhow::Result<serde_json::Value> {
    let Some(tokenizer) = model.tokenizer().cloned() else {
        anyhow::bail!("the checkpoint holds no tokenizer.json");
    };
    let config = args.sampling.resolve()?;
    config.check_seeds(count)?;
    args.sampling.note_unread(model);
    let mut judge = match &args.judge {
        Some(dir) => Some(judge(device, dir)?),
        None => None,
    };
    let bar = ProgressBar::new(count);
    let length = model.length();
    let samples = samples(model, &config, length, count, || bar.inc(1))?;
    bar.finish_and_clear();
    let tokens = |sample: &Sample| sample.canvas.tokens(tokenizer.mask_index());
    let samples: Vec<Vec<u32>> = samples.iter().map(tokens).collect();
    let entropies = samples.iter().map(|s| unigram_entropy(s)).sum::<f64>();
    let entropy = entropies / samples.len() as f64;
    let distinct = [1, 2, 3].map(|n| distinct_n(&samples, n));
    let generative = match &mut judge {
        Some(judge) => Some(wait(judge.perplexity(&samples, &tokenizer))?),
        None => None,
    };
    if !args.json {
        println!(
            "{count} samples: unigram entropy {entropy:.3} nats, distinct 1, 2, 3-grams {:.3} {:.3} {:.3}",
            distinct[0], distinct[1], distinct[2]
        );
        if let Some(p) = generative {
            println!("generative perplexity {} of {} tokens", p.shown(), p.tokens);
        }
    }
    Ok(json!({
        "samples": count,
        "entropy": entropy,
        "distinct": distinct,
        "gen_ppl": generative.map(|p| p.ppl),
        "gen_ppl_std_err": generative.and_then(|p| p.std_err()),
        "gen_tokens": generative.map(|p| p.tokens),
    }))
}

fn run() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.generate.is_none() {
        args.sampling.check_unused("--generate")?;
    }
    let device = args.device.open()?;
    let mut model = args.model.load(&device)?;
    let mut result = serde_json::Map::new();
    let mut add = |value: serde_json::Value| {
        if let serde_json::Value::Object(fields) = value {
            result.extend(fields);
        }
    };
    if let Some(path) = &args.data {
        add(likelihood(&args, path, &mut model)?);
    }
    if let Some(count) = args.generate {
        add(quality(&args, count, &device, &mut model)?);
    }
    if args.json {
        println!("{}", serde_json::Value::Object(result));
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    support::main(run)
}
