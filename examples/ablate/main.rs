//! The paper's ablations at a size that a CPU trains in minutes: each prints a table with error bars
//! and draws it. Runs are kept, so a command that was stopped goes on where it was.

mod curves;
mod epochs;
mod oracle;
mod page;
mod recipe;
mod samplers;
#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use indicatif::ProgressBar;
use mdlm::blocking::wait;
use mdlm::config::{NoiseConfig, NoiseKind};
use mdlm::eval::EvalMode;
use mdlm::io::checkpoint::{self, TrainState};
use mdlm::progress::Silent;
use mdlm::train::read_log;
use mdlm::{
    Corpus, Device, EvalConfig, Event, Flow, Model, ModelConfig, Perplexity, TrainConfig, Trainer,
    perplexity,
};
use support::chart::{Bar, chart, check};

/// Ablations on the bundled stories.
#[derive(Parser)]
#[command(after_help = "\
Examples:
  ablate recipe --seeds 2
  ablate samplers --samples 32 --models web/model
  ablate epochs --seeds 1")]
#[command(allow_negative_numbers = true)]
struct Args {
    #[arg(value_enum)]
    what: What,
    /// Seeds to train with.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Optimiser steps of a run, of 2,048 tokens each; recipes: 1500.
    #[arg(long)]
    steps: Option<u64>,
    /// Folder of the runs.
    #[arg(long, default_value = "runs/ablations")]
    out: PathBuf,
    /// Folder of the pictures.
    #[arg(long, default_value = "docs/ablations")]
    pictures: PathBuf,
    /// Folder of the models `mdlm` and `ar`, for the samplers.
    #[arg(long, default_value = "web/model")]
    models: PathBuf,
    /// Samples of a row, for the samplers.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..))]
    samples: u64,
    #[command(flatten)]
    device: support::DeviceArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// MDLM, and without continuous time, carry-over and zero masking, one after the other (Table 8).
    Objectives,
    /// The bound of one checkpoint with T steps (Table 11).
    Steps,
    /// Variance of the loss under each noise schedule, of one checkpoint (Table 9).
    Schedules,
    /// Stratified against independent times.
    Times,
    /// MDLM against the autoregressive baseline.
    Ar,
    /// Few stories over and over, diffusion against the autoregressive model; writes the end of `docs/ablations.md`.
    Epochs,
    /// Samplers of a model, as its sibling judges them; writes `docs/samplers.md`.
    Samplers,
    /// Recipes of training against each other, over tokens and seconds; writes `docs/recipe.md`.
    Recipe,
    /// What a step of each of them takes, on a machine that does nothing else: the seconds of that page.
    Paces,
}

/// Settings of a variant over those of the base run.
const MDLM: (&str, &[&str]) = ("mdlm", &[]);
const DISCRETE: (&str, &[&str]) = ("discrete time", &["objective.T=1000"]);
const NO_CARRY_OVER: (&str, &[&str]) = (
    "no carry-over",
    &[
        "objective.T=1000",
        "objective.parameterization=d3pm",
        "objective.subs_masking=true",
    ],
);
const NO_ZERO_MASK: (&str, &[&str]) = (
    "no zero masking",
    &["objective.T=1000", "objective.parameterization=d3pm"],
);
const INDEPENDENT: (&str, &[&str]) = ("independent t", &["training.antithetic_sampling=false"]);
const AR: (&str, &[&str]) = ("autoregressive", &["model.kind=ar"]);

struct Bench<'a> {
    args: &'a Args,
    device: Device,
    corpus: Corpus,
    base: TrainConfig,
}

impl Bench<'_> {
    fn folder(&self, name: &str, seed: u64) -> PathBuf {
        self.args
            .out
            .join(format!("{}-{seed}", name.replace(' ', "-")))
    }

    /// Trains a variant, or goes on, or takes what is there.
    fn train(&self, (name, settings): (&str, &[&str]), seed: u64) -> anyhow::Result<Model> {
        let out = self.folder(name, seed);
        let mut config = self.base.clone();
        for setting in settings {
            config.set(setting)?;
        }
        config.seed = seed;
        config.training.steps = self.args.steps.unwrap_or(500);
        let found = checkpoint::newest_whole(&out)?;
        if let Some(dir) = &found
            && TrainState::read(dir)?.step >= self.args.steps.unwrap_or(500)
        {
            let saved = mdlm::io::settings::read(&dir.join(checkpoint::CONFIG))?;
            let ModelConfig {
                vocab_size,
                mask_index,
                ..
            } = saved.model;
            (config.model.vocab_size, config.model.mask_index) = (vocab_size, mask_index);
            config.resolve();
            if let Some(key) = config.difference(&saved) {
                anyhow::bail!(
                    "the run in {} has another {key}: take another folder for --out",
                    out.display()
                );
            }
            return Ok(wait(Model::load(&self.device, dir))?);
        }
        let corpus = self.corpus.clone();
        let mut trainer = match &found {
            Some(dir) => wait(Trainer::resume(&self.device, &config, corpus, dir))?,
            None => wait(Trainer::new(&self.device, &config, corpus))?,
        };
        let bar = ProgressBar::new(self.args.steps.unwrap_or(500));
        wait(trainer.run(&out, &mut |event: &Event| {
            if let Event::Step(s) = event {
                bar.set_position(s.step);
            }
            Flow::Continue
        }))?;
        bar.finish_and_clear();
        eprintln!("trained {}", out.display());
        Ok(wait(Model::load(&self.device, &out))?)
    }

    fn evaluate(&self, model: &mut Model, config: &EvalConfig) -> anyhow::Result<Perplexity> {
        let blocks = &self.corpus.valid;
        Ok(wait(perplexity(model, blocks, 16, config, |_, _| {}))?)
    }

    /// Perplexity of a variant over the seeds.
    fn over_seeds(&self, variant: (&str, &[&str]), config: &EvalConfig) -> anyhow::Result<Summary> {
        let mut all = Vec::new();
        for seed in 1..=self.args.seeds {
            let mut model = self.train(variant, seed)?;
            all.push(self.evaluate(&mut model, config)?);
        }
        Ok(Summary::of(variant.0, &all))
    }
}

/// Mean over seeds, spread over seeds, and the evaluation's own error.
struct Summary {
    name: String,
    ppl: f64,
    spread: f64,
    std_err: f64,
}

/// Mean and standard deviation.
fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    (mean, (squares / (n - 1.0).max(1.0)).sqrt())
}

impl Summary {
    fn of(name: &str, all: &[Perplexity]) -> Self {
        let values: Vec<f64> = all.iter().map(|p| p.ppl).collect();
        let (ppl, spread) = moments(&values);
        let std_err = all.iter().filter_map(Perplexity::std_err).sum::<f64>() / all.len() as f64;
        Self {
            name: name.to_owned(),
            ppl,
            spread,
            std_err,
        }
    }

    fn row(&self) -> String {
        let Self {
            name,
            ppl,
            spread,
            std_err,
        } = self;
        format!("| {name} | {ppl:.1} | {spread:.1} | {std_err:.1} |")
    }

    fn bar(&self) -> Bar {
        Bar {
            label: self.name.clone(),
            value: self.ppl,
            error: self.spread.max(self.std_err),
        }
    }
}

fn table(title: &str, summaries: &[Summary], picture: &Path) -> anyhow::Result<()> {
    println!(
        "| | {title} | spread over seeds | error of one evaluation |\n| --- | --- | --- | --- |"
    );
    summaries.iter().for_each(|s| println!("{}", s.row()));
    let bars: Vec<Bar> = summaries.iter().map(Summary::bar).collect();
    chart(picture, title, &bars)
}

fn run() -> anyhow::Result<()> {
    let args = Args::parse();
    match args.what {
        What::Recipe => return recipe::run(&args),
        What::Paces => return recipe::measure(&args),
        What::Epochs => return epochs::run(&args),
        What::Samplers => return samplers::run(&args),
        _ => {}
    }
    let mut base = TrainConfig::from_toml(include_str!("../configs/stories.toml"))?;
    // the paper's comparisons, by the reference's recipe
    base.set("optim.recipe=reference")?;
    base.set("optim.lr=1e-3")?;
    base.training.val_every = 0;
    base.training.val_blocks = 16;
    base.training.save_every = 100;
    let files = support::found(&base.data);
    let bench = Bench {
        device: args.device.open()?,
        corpus: Corpus::load(&files, base.model.length, &mut Silent)?,
        args: &args,
        base,
    };
    let picture = |name: &str| args.pictures.join(name).with_extension("svg");
    for what in What::value_variants() {
        let name = what
            .to_possible_value()
            .map(|value| value.get_name().to_owned());
        check(&picture(&name.unwrap_or_default()))?;
    }
    let exact = EvalConfig {
        samples: 4,
        most: 400,
        ..EvalConfig::default()
    };
    let sampled = EvalConfig {
        mode: EvalMode::Mc,
        samples: 16,
        most: 400,
        ..EvalConfig::default()
    };
    match args.what {
        What::Recipe | What::Paces | What::Epochs | What::Samplers => Ok(()),
        What::Objectives => {
            let discrete = EvalConfig {
                t_steps: 1000,
                ..exact
            };
            let summaries = [
                bench.over_seeds(MDLM, &exact)?,
                bench.over_seeds(DISCRETE, &discrete)?,
                bench.over_seeds(NO_CARRY_OVER, &sampled)?,
                bench.over_seeds(NO_ZERO_MASK, &sampled)?,
            ];
            table("perplexity bound", &summaries, &picture("objectives"))
        }
        What::Ar => {
            let summaries = [
                bench.over_seeds(MDLM, &exact)?,
                bench.over_seeds(AR, &exact)?,
            ];
            table("perplexity", &summaries, &picture("ar"))
        }
        What::Times => {
            let mut bars = Vec::new();
            println!(
                "| | perplexity bound | spread over seeds | error of one evaluation | deviation of a step's loss, nats |\n| --- | --- | --- | --- | --- |"
            );
            for (label, variant) in [("stratified t", MDLM), ("independent t", INDEPENDENT)] {
                let summary = bench.over_seeds(variant, &exact)?;
                let mut spreads = Vec::new();
                for seed in 1..=args.seeds {
                    let log = read_log(&bench.folder(variant.0, seed).join("log.jsonl"))?;
                    let tail = &log[log.len() / 2..];
                    let losses: Vec<f64> = tail.iter().map(|row| row.stats.loss).collect();
                    spreads.push(moments(&losses).1);
                }
                let (mean, spread) = moments(&spreads);
                let row = summary.row().replace(variant.0, label);
                println!("{row} {mean:.3} ± {spread:.3} |");
                bars.push(Bar {
                    label: label.to_owned(),
                    value: mean,
                    error: spread,
                });
            }
            let title = "deviation of a step's loss in the second half of a run, nats";
            chart(&picture("times"), title, &bars)
        }
        What::Steps => {
            let mut model = bench.train(MDLM, 1)?;
            let mut bars = Vec::new();
            println!("| T | perplexity bound | error |\n| --- | --- | --- |");
            for t_steps in [10, 20, 50, 100, 200, 500, 1000, 0] {
                let p = bench.evaluate(&mut model, &EvalConfig { t_steps, ..exact })?;
                let label = match t_steps {
                    0 => "∞".to_owned(),
                    t => t.to_string(),
                };
                let error = p.std_err().unwrap_or(f64::NAN);
                println!("| {label} | {:.2} | {error:.2} |", p.ppl);
                bars.push(Bar {
                    label,
                    value: p.ppl,
                    error,
                });
            }
            chart(&picture("steps"), "perplexity bound with T steps", &bars)
        }
        What::Schedules => {
            let mut model = bench.train(MDLM, 1)?;
            let mut bars = Vec::new();
            println!(
                "| schedule | bits per token | variance of a sequence's loss |\n| --- | --- | --- |"
            );
            for (name, kind) in [
                ("loglinear", NoiseKind::Loglinear),
                ("cosine", NoiseKind::Cosine),
                ("cosinesqr", NoiseKind::Cosinesqr),
                ("linear", NoiseKind::Linear),
            ] {
                model.set_noise(NoiseConfig {
                    kind,
                    ..NoiseConfig::default()
                })?;
                let independent = EvalConfig {
                    mode: EvalMode::Mc,
                    samples: 1,
                    most: 0,
                    antithetic_sampling: false,
                    ..EvalConfig::default()
                };
                let spread = bench.evaluate(&mut model, &independent)?;
                let sequences = spread.tokens as f64 / bench.base.model.length as f64;
                let error = spread.nats_std_err.unwrap_or(f64::NAN);
                let variance = error.powi(2) * sequences;
                let p = bench.evaluate(&mut model, &sampled)?;
                let bits = std::f64::consts::LN_2.recip();
                println!(
                    "| {name} | {:.3} ± {:.3} | {variance:.2} |",
                    p.nats_per_token * bits,
                    p.nats_std_err.unwrap_or(f64::NAN) * bits
                );
                bars.push(Bar {
                    label: name.to_owned(),
                    value: variance,
                    error: 0.0,
                });
            }
            chart(
                &picture("schedules"),
                "variance of a sequence's loss",
                &bars,
            )
        }
    }
}

fn main() -> std::process::ExitCode {
    support::main(run)
}
