//! Measures kernels, whole steps and samplers; one JSON object a line.

mod compare;
mod constraint;
mod corpus;
mod generate;
mod kernels;
mod launch;
mod ranks;
mod reference;
mod sample;
mod scaling;
mod step;
#[path = "../support/mod.rs"]
mod support;

use std::time::Instant;

use clap::{Parser, Subcommand, ValueEnum};
use mdlm::config::ModelKind;
use mdlm::{Device, ModelConfig};
use mdlm_engine::rng::{Rng, Stream};
use serde_json::{Value, json};

/// Benchmarks of kernels, of whole training or forward steps, and of samplers.
#[derive(Parser)]
#[command(after_help = "\
Examples:
  bench step
  bench sample --device cpu --seconds 1
  bench kernels")]
#[command(allow_negative_numbers = true)]
struct Args {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    device: support::DeviceArgs,
    /// Seconds to spend on each measurement, at least five runs (samplers: three).
    #[arg(long, default_value_t = 2.0, global = true)]
    seconds: f64,
}

#[derive(Subcommand)]
enum What {
    /// Every kernel at the shapes of a model.
    Kernels(Shape),
    /// A whole optimiser step, or a forward pass to the logits.
    Step(Shape),
    /// The training step against that of peers on this machine, in turns.
    ///
    /// A line for each, ours first; `ratio`: how many times as long as ours its step takes. The peers are built by
    /// `cargo build --release` in benches/peers, and PyTorch must be installed.
    #[command(mut_arg("mode", |a| a.hide(true)))]
    Compare(compare::Options),
    /// Constraints: what they cost beside network calls.
    Constraint(constraint::Options),
    /// A made-up corpus of many shards: its tokenising, and the memory that it takes.
    Corpus(corpus::Options),
    /// A model from disk: its loading, its memory, and how fast it fills a block.
    Generate(generate::Options),
    /// A step shared by ranks: what it costs on two cores of this machine, and a model of more.
    Ranks(ranks::Options),
    /// Samplers, and the reference's algorithms, on models with random weights.
    ///
    /// A line for each: its tokens a second, its network calls, and how many times as fast it is as
    /// the reference, which samples one sequence. `ratio`: as the reference that calls the network in
    /// every step (`reference`; `reference-ar` for autoregressive models). `ratio_cached`: as the one
    /// that does not where nothing has changed (`reference-cached`). `ratio_network`: as if the
    /// network calls of `reference` were all its work. Random weights make `threshold` and
    /// `entropy-bound` fill one position in a call, which is their worst case.
    #[command(
        mut_arg("hidden", |a| a.default_value("128")),
        mut_arg("blocks", |a| a.default_value("3")),
        mut_arg("heads", |a| a.default_value("2")),
        mut_arg("vocab", |a| a.default_value("2049")),
        mut_arg("batch", |a| a.default_value("8")),
        mut_arg("mode", |a| a.hide(true))
    )]
    Sample(sample::SampleShape),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Train,
    Forward,
}

#[derive(Clone, Copy, clap::Args)]
struct Shape {
    /// Width of the residual stream.
    #[arg(long, default_value_t = 256)]
    hidden: usize,
    /// Transformer blocks.
    #[arg(long, default_value_t = 4)]
    blocks: usize,
    /// Attention heads.
    #[arg(long, default_value_t = 4)]
    heads: usize,
    /// Width of the conditioning vector.
    #[arg(long, default_value_t = 128)]
    cond: usize,
    /// Tokens of a sequence.
    #[arg(long, default_value_t = 128)]
    length: usize,
    /// Sequences; `sample` measures one sequence as well.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Vocabulary with the mask.
    #[arg(long, default_value_t = 28)]
    vocab: usize,
    /// What `step` measures.
    #[arg(long, value_enum, default_value = "train")]
    mode: Mode,
}

impl Shape {
    fn model(self) -> ModelConfig {
        ModelConfig {
            kind: ModelKind::Dit,
            vocab_size: self.vocab,
            mask_index: (self.vocab as u32).saturating_sub(1),
            hidden_size: self.hidden,
            n_blocks: self.blocks,
            n_heads: self.heads,
            cond_dim: self.cond,
            length: self.length,
            dropout: 0.0,
            time_conditioning: false,
            vocab_multiple: 1,
            adaln: true,
        }
    }

    /// Refuses sizes that no model has.
    fn check(self) -> mdlm::Result<()> {
        self.model().validate()?;
        if self.batch > 1 << 16 {
            return Err(bad_batch(self));
        }
        Ok(())
    }

    /// The sizes, for people.
    fn label(self) -> String {
        format!(
            "hidden {} blocks {} heads {} length {} batch {} vocab {}",
            self.hidden, self.blocks, self.heads, self.length, self.batch, self.vocab
        )
    }

    /// 2 M N K over the products and attention of one forward pass, all positions projected.
    fn forward_flops(self) -> u64 {
        let rows = (self.batch * self.length) as u64;
        let (d, l, v) = (self.hidden as u64, self.length as u64, self.vocab as u64);
        let block = 2 * rows * 12 * d * d + 4 * rows * l * d;
        self.blocks as u64 * block + 2 * rows * d * v
    }
}

fn bad_batch(shape: Shape) -> mdlm::Error {
    mdlm::Error::config("batch", shape.batch, "must be in 1..=65536")
}

/// Milliseconds of at least five runs after a warm-up.
fn time(seconds: f64, mut run: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Vec<f64>> {
    run()?;
    run()?;
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.len() < 5 || begin.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

fn median(times: &[f64]) -> f64 {
    times[times.len() / 2]
}

fn row(name: &str, shape: &str, device: &Device, times: &[f64], flops: u64, bytes: u64) -> Value {
    let median = median(times);
    json!({
        "name": name,
        "shape": shape,
        "device": device.info().name,
        "median_ms": median,
        "min_ms": times[0],
        "max_ms": times[times.len() - 1],
        "gflops": flops as f64 / median / 1e6,
        "gbps": bytes as f64 / median / 1e6,
    })
}

fn random(n: usize) -> Vec<f64> {
    let mut rng = Rng::new(1, Stream::Init, 0);
    (0..n).map(|_| rng.uniform() - 0.5).collect()
}

fn number(line: &Value, key: &str) -> f64 {
    line[key].as_f64().unwrap_or(f64::NAN)
}

fn run() -> anyhow::Result<()> {
    let args = Args::parse();
    if !(0.0..=3600.0).contains(&args.seconds) {
        let problem = "must be in 0..=3600";
        return Err(mdlm::Error::config("seconds", args.seconds, problem).into());
    }
    match &args.what {
        What::Kernels(shape) if shape.batch == 0 => return Err(bad_batch(*shape).into()),
        What::Kernels(shape) | What::Step(shape) => shape.check()?,
        What::Compare(options) => options.shape.check()?,
        What::Sample(shape) => shape.check()?,
        What::Constraint(_) | What::Corpus(_) | What::Generate(_) | What::Ranks(_) => {}
    }
    let (device, seconds) = (&args.device, args.seconds);
    match args.what {
        What::Kernels(shape) => kernels::run(shape, &device.open()?, seconds),
        What::Step(shape) => step::run(shape, &device.open()?, seconds),
        What::Constraint(options) => constraint::run(&options),
        What::Corpus(options) => corpus::run(&options),
        What::Generate(options) => generate::run(&options, &device.open()?),
        What::Compare(options) => compare::run(&options, &device.device, seconds),
        What::Ranks(options) => ranks::run(&options),
        What::Sample(shape) => sample::run(&shape, &device.open()?, seconds),
    }
}

fn main() -> std::process::ExitCode {
    support::main(run)
}
