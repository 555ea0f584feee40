//! Evaluates a checkpoint: likelihood of a text, and the quality of text that it writes.

mod support;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use indicatif::ProgressBar;
use mdlm::blocking::wait;
use mdlm::config::{Detokenizer, TrainConfig};
use mdlm::data::{Blocks, Corpus, EvalData, Tokenizer};
use mdlm::device::Device;
use mdlm::eval::{EvalConfig, EvalMode, Judge, distinct_n, perplexity, unigram_entropy};
use mdlm::model::{Gpt2, Model};
use mdlm::sample::Canvas;
use serde_json::json;

/// Perplexity of a text under a checkpoint, with its error; the bound of a denoiser, the exact value of
/// an autoregressive model. With --generate, statistics of text that the checkpoint writes.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    model: support::ModelArgs,
    /// Text to evaluate: plain, .raw (WikiText), .lines, .jsonl or .parquet, or packed with gzip.
    #[arg(long, required_unless_present = "generate")]
    data: Option<PathBuf>,
    /// Tokenisation of a published set to undo: wikitext, ptb, lm1b, lambada, scientific_papers.
    #[arg(long, default_value = "none")]
    detokenizer: String,
    /// No end of text between documents, as the paper's zero-shot protocol has it.
    #[arg(long)]
    no_eos: bool,
    /// A document a block, cut or padded, in place of one stream cut to blocks.
    #[arg(long)]
    no_wrap: bool,
    /// Field of JSON lines or column of Parquet that holds the text.
    #[arg(long, default_value = "text")]
    field: String,
    /// exact: the integral over t in closed form, only masks are sampled; mc: t is sampled too, as the
    /// reference does. Autoregressive models and other losses than SUBS have one way only.
    #[arg(long, value_enum, default_value = "exact")]
    mode: Mode,
    /// Draws for each block.
    #[arg(long, default_value_t = 1)]
    samples: usize,
    /// Steps T of the discretised bound; 0: continuous time.
    #[arg(long = "T", default_value_t = 0)]
    t_steps: u32,
    /// Blocks at a time.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Most blocks; 0: all.
    #[arg(long, default_value_t = 0)]
    blocks: usize,
    /// Samples to write and judge.
    #[arg(long)]
    generate: Option<u64>,
    #[command(flatten)]
    sampling: support::SampleArgs,
    /// Folder of the model that judges the samples: an autoregressive checkpoint, or a GPT-2 with its
    /// tokenizer.json.
    #[arg(long)]
    judge: Option<PathBuf>,
    /// One JSON object in place of words; std_err is that of nats_per_token.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: support::DeviceArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Exact,
    Mc,
}

/// Characters of the text in the blocks.
fn characters(blocks: &Blocks, most: usize, tokenizer: &Tokenizer) -> mdlm::Result<usize> {
    let count = if most == 0 {
        blocks.count()
    } else {
        most.min(blocks.count())
    };
    let mut sum = 0;
    for i in 0..count {
        let block = blocks.block(i)?;
        sum += tokenizer
            .decode(&block[..blocks.attended(i)])
            .chars()
            .count();
    }
    Ok(sum)
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
    let blocks = Corpus::load_eval(&data, &tokenizer, model.config().length)?;
    let config = EvalConfig {
        mode: match args.mode {
            Mode::Exact => EvalMode::Exact,
            Mode::Mc => EvalMode::Mc,
        },
        samples: args.samples,
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
    let characters = characters(&blocks, args.blocks, &tokenizer)?;
    let bits = p.nats_per_token / std::f64::consts::LN_2;
    let bits_per_char = bits * p.tokens as f64 / characters as f64;
    let [low, high] = p.interval();
    let mode = if args.mode == Mode::Mc { "mc" } else { "exact" };
    if !args.json {
        println!(
            "perplexity {:.3} (95 %: {low:.3} to {high:.3}), {:.4} ± {:.4} nats a token\n\
             {bits:.4} bits a token, {bits_per_char:.4} bits a character; {} tokens, {characters} characters, mode {mode}",
            p.ppl, p.nats_per_token, p.nats_std_err, p.tokens
        );
    }
    Ok(json!({
        "ppl": p.ppl,
        "ppl_low": low,
        "ppl_high": high,
        "nats_per_token": p.nats_per_token,
        "std_err": p.nats_std_err,
        "bits_per_token": bits,
        "bits_per_char": bits_per_char,
        "tokens": p.tokens,
        "characters": characters,
        "mode": mode,
    }))
}

fn judge(device: &Device, dir: &Path) -> anyhow::Result<Judge> {
    let config = std::fs::read_to_string(dir.join("config.json")).unwrap_or_default();
    if config.contains("\"gpt2\"") {
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
    let mut config = args.sampling.resolve()?;
    let (mut samples, mut texts) = (Vec::new(), Vec::new());
    let bar = ProgressBar::new(count);
    for _ in 0..count {
        let canvas = Canvas::prompt(&[tokenizer.bos()], model.config().length)?;
        let sampler = model.sampler(canvas, &config)?;
        let canvas = wait(sampler.finish(|_| ControlFlow::Continue(())))?;
        samples.push(canvas.tokens(tokenizer.mask_index()));
        texts.push(canvas.text(&tokenizer));
        config.seed += 1;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let entropies = samples.iter().map(|s| unigram_entropy(s)).sum::<f64>();
    let entropy = entropies / samples.len() as f64;
    let distinct = [1, 2, 3].map(|n| distinct_n(&samples, n));
    let generative = match &args.judge {
        Some(dir) => Some(wait(judge(device, dir)?.perplexity(&texts))?),
        None => None,
    };
    if !args.json {
        println!(
            "{count} samples: unigram entropy {entropy:.3} nats, distinct 1, 2, 3-grams {:.3} {:.3} {:.3}",
            distinct[0], distinct[1], distinct[2]
        );
        if let Some(p) = generative {
            println!("generative perplexity {:.2} ± {:.2}", p.ppl, p.std_err());
        }
    }
    Ok(json!({
        "samples": count,
        "entropy": entropy,
        "distinct": distinct,
        "gen_ppl": generative.map(|p| p.ppl),
        "gen_ppl_std_err": generative.map(|p| p.std_err()),
    }))
}

fn run() -> anyhow::Result<()> {
    let args = Args::parse();
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
