//! Trains a masked diffusion language model and ends with text that it generated.
//!
//! `cargo run --release --example train` needs no arguments, no GPU and no download.

mod support;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use mdlm::blocking::wait;
use mdlm::io::checkpoint;
use mdlm::model::{is_published, read_base};
use mdlm::ranks::Ranks;
use mdlm::train::Summary;
use mdlm::{Corpus, Device, Event, Flow, ModelConfig, TrainConfig, Trainer};

use support::samples::{answers, samples};

/// Train a masked diffusion language model.
///
/// Without arguments: children's stories with a 2,048-token vocabulary, a preset that suits the
/// device, a few minutes on two CPU cores. Settings: flag over --set over --config over default.
#[derive(Parser)]
#[command(after_help = "\
Examples:
  train
  train --preset mini --steps 3000
  train --data my-text.txt --tokenizer char --length 64")]
#[command(allow_negative_numbers = true)]
struct Args {
    /// TOML file with the run's settings; see examples/configs.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Model size: nano, mini, tiny, small or medium.
    #[arg(long)]
    preset: Option<String>,
    /// Training documents: a file, a folder or a pattern of shards; may be repeated. A tenth is held out. The name says
    /// the form: .jsonl (see --set data.field=...), .parquet (feature parquet), .lines or .raw (a document a line), else
    /// text whose documents end at a line <|endoftext|>; all but Parquet may be .gz or .zst. --set data.weights=[3,1]
    /// mixes several.
    #[arg(long)]
    data: Vec<String>,
    /// char, byte, text8, or a Hugging Face tokenizer.json (plain or .gz).
    #[arg(long)]
    tokenizer: Option<String>,
    /// Optimiser steps in all.
    #[arg(long)]
    steps: Option<u64>,
    /// Sequences of a micro-batch.
    #[arg(long)]
    batch: Option<usize>,
    /// Tokens of a sequence.
    #[arg(long)]
    length: Option<usize>,
    /// Seed of everything random.
    #[arg(long)]
    seed: Option<u64>,
    /// Folder of the run; default: runs/<preset or config>-<number>.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Steps between checkpoints.
    #[arg(long)]
    save_every: Option<u64>,
    /// Continue the newest whole checkpoint in the folder, if there is one.
    #[arg(long)]
    resume: bool,
    /// Begin a fresh run with the weights of this checkpoint instead of random ones; a denoiser can begin with an
    /// autoregressive model. Or train on another program's model, as published: all of it, or adapters
    /// (--set lora.rank=8); --set base.model_type=a2d-qwen3 makes a denoiser of an autoregressive Qwen3.
    #[arg(long, value_name = "CHECKPOINT")]
    init: Option<PathBuf>,
    /// Any setting, as section.key=value, for example optim.lr=1e-3; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Only say what the run, and a run of each preset, would take in memory and time.
    #[arg(long)]
    dry_run: bool,
    /// Memory of the device in GiB, for --dry-run; default on the CPU: what is free.
    #[arg(long, value_name = "GIB", requires = "dry_run")]
    memory: Option<f64>,
    #[command(flatten)]
    ranks: support::ranks::RanksArgs,
    #[command(flatten)]
    device: support::DeviceArgs,
}

/// The run that suits a device.
fn default_config(device: &Device) -> TrainConfig {
    let hardware = device.info().hardware_gpu;
    let text = if hardware {
        include_str!("configs/stories-gpu.toml")
    } else {
        include_str!("configs/stories.toml")
    };
    TrainConfig::from_toml(text).expect("the bundled configurations are tested")
}

impl Args {
    /// The settings: flag over --set over file over the saved run over default.
    fn resolve(&self, device: &Device, saved: Option<TrainConfig>) -> mdlm::Result<TrainConfig> {
        let mut config = match (&self.config, saved) {
            (Some(path), _) => mdlm::io::settings::read(path)?,
            (None, Some(saved)) => saved,
            (None, None) => default_config(device),
        };
        if let Some(init) = self.published()? {
            config.base.path = init.display().to_string();
        }
        if let Some(preset) = &self.preset {
            let ModelConfig {
                vocab_size,
                mask_index,
                ..
            } = config.model;
            config.model = ModelConfig {
                vocab_size,
                mask_index,
                ..ModelConfig::preset(preset)?
            };
        }
        for assignment in &self.set {
            config.set(assignment)?;
        }
        if !self.data.is_empty() {
            let (one, many) = match &self.data[..] {
                [one] => (one.clone(), Vec::new()),
                many => (String::new(), many.to_vec()),
            };
            (config.data.train, config.data.sources) = (one, many);
            config.data.valid = String::new();
        }
        let set = |to: &mut u64, from: Option<u64>| *to = from.unwrap_or(*to);
        set(&mut config.training.steps, self.steps);
        set(&mut config.training.save_every, self.save_every);
        set(&mut config.seed, self.seed);
        config.training.batch = self.batch.unwrap_or(config.training.batch);
        config.model.length = self.length.unwrap_or(config.model.length);
        if let Some(tokenizer) = &self.tokenizer {
            config.data.tokenizer.clone_from(tokenizer);
        }
        config.validate()?;
        if !config.base.path.is_empty() && !self.resume {
            read_base(&mut config)?;
        }
        Ok(config)
    }

    /// The published model that a fresh run is to be about.
    fn published(&self) -> mdlm::Result<Option<&PathBuf>> {
        match &self.init {
            Some(init) if !self.resume && is_published(init)? => Ok(Some(init)),
            _ => Ok(None),
        }
    }
}

fn bar(steps: u64, at: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps).with_position(at);
    let style = ProgressStyle::with_template("{bar:30} step {pos}/{len}  {msg}  {eta} left");
    bar.set_style(style.expect("the template is a constant"));
    bar
}

/// A line above the bar, or a plain one where there is no terminal.
fn say(bar: &ProgressBar, line: &str) {
    if bar.is_hidden() {
        println!("{line}");
    } else {
        bar.println(line);
    }
}

/// Whether Ctrl-C was pressed.
static STOP: AtomicBool = AtomicBool::new(false);

/// Lets Ctrl-C save and stop; a second one ends the program at once: checkpoints are whole at any instant.
fn mind_ctrl_c() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Err(e) = ctrlc::set_handler(|| {
            if STOP.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
        }) {
            log::warn!("Ctrl-C will not save: {e}");
        }
    });
}

fn train(trainer: &mut Trainer, out: &Path, ranks: &dyn Ranks) -> mdlm::Result<Summary> {
    mind_ctrl_c();
    let config = trainer.config().training.clone();
    let sequences = config.global_batch() * ranks.size();
    let tokens = (sequences * trainer.config().model.length) as f64;
    let first_rank = ranks.rank() == 0;
    let bar = match first_rank {
        true => bar(config.steps, trainer.steps_done()),
        false => ProgressBar::hidden(),
    };
    let (begin, first) = (std::time::Instant::now(), trainer.steps_done());
    let summary = wait(trainer.run(out, &mut |event: &Event| {
        match event {
            _ if !first_rank => {}
            Event::Step(s) => {
                let rate = (s.step - first) as f64 * tokens / begin.elapsed().as_secs_f64();
                bar.set_position(s.step);
                bar.set_message(format!(
                    "loss {:.3}  lr {:.1e}  |g| {:.2}  {rate:.0} tokens/s{}",
                    s.loss,
                    s.lr,
                    s.grad_norm,
                    if s.skipped > 0 {
                        format!("  {} skipped", s.skipped)
                    } else {
                        String::new()
                    }
                ));
            }
            Event::Progress { what, done, total } => {
                bar.set_message(format!("{what} {done}/{total}"))
            }
            Event::Validation { step, ppl, std_err } => {
                let error = std_err.map_or_else(String::new, |error| format!(" ± {error:.2}"));
                say(
                    &bar,
                    &format!("step {step}: validation perplexity {ppl:.2}{error}"),
                );
            }
            Event::Saved { path, .. } => say(&bar, &format!("saved {}", path.display())),
            _ => {}
        }
        if STOP.load(Ordering::SeqCst) {
            Flow::Stop
        } else {
            Flow::Continue
        }
    }));
    bar.finish_and_clear();
    summary
}

fn shown_samples(trainer: &Trainer) -> anyhow::Result<String> {
    let mut model = wait(trainer.model())?;
    let (config, tokenizer) = (trainer.config(), &trainer.corpus().tokenizer);
    let mut text = String::new();
    let valid = &trainer.corpus().valid;
    // answers to held-out prompts, where there are prompts
    let prompt = |i: usize| Ok(valid.block(i)?[..valid.given(i)].to_vec());
    let prompts: mdlm::Result<Vec<_>> = (0..valid.count().min(3)).map(prompt).collect();
    let suited = match config.base.path.is_empty() {
        true => config.sampling.clone(),
        false => model.sampling(),
    };
    let (sampling, length) = (&suited, config.model.length);
    let written = match prompts? {
        none if none[0].is_empty() => samples(&mut model, sampling, length, 3, || ())?,
        prompts => answers(&mut model, sampling, length, &prompts, 3, || ())?,
    };
    for (i, sample) in written.iter().enumerate() {
        let sample = sample.canvas.text(tokenizer);
        text += &format!("--- sample {} ---\n{}\n\n", i + 1, sample.trim_end());
    }
    Ok(text)
}

/// Where a run lies, and the checkpoint that it goes on from.
type Place = (PathBuf, Option<PathBuf>);

/// Finds the run's folder: rank 0 looks, the others take its word.
fn place(args: &Args, ranks: &dyn Ranks) -> anyhow::Result<Place> {
    let found = match ranks.rank() {
        0 => serde_json::to_vec(&found(args)?)?,
        _ => Vec::new(),
    };
    Ok(serde_json::from_slice(&ranks.broadcast(&found, 0)?)?)
}

fn found(args: &Args) -> anyhow::Result<Place> {
    let stem = args.config.as_deref().and_then(|c| c.file_stem()?.to_str());
    let name = args.preset.as_deref().or(stem).unwrap_or("stories");
    let (newest, next) = support::numbered_runs(name);
    let out = args.out.clone().unwrap_or(if args.resume {
        newest.unwrap_or(next)
    } else {
        next
    });
    let log = out.join("log.jsonl");
    if !args.resume
        && std::fs::metadata(&log).is_ok_and(|log| log.len() > 0)
        && checkpoint::list(&out)?.is_empty()
    {
        let problem = "holds log.jsonl of a run without checkpoints: take another folder, or begin it again with --resume";
        return Err(mdlm::Error::config("out", out.display(), problem).into());
    }
    let found = match args.resume {
        true => checkpoint::newest_whole(&out)?,
        false => None,
    };
    Ok((out, found))
}

/// Reads the text. Rank 0 comes first where blocks are kept on disk, so that the others find them there.
fn load(config: &TrainConfig, ranks: &dyn Ranks) -> mdlm::Result<Corpus> {
    let files = support::found(&config.data);
    let (cached, first) = (!config.data.cache.is_empty(), ranks.rank() == 0);
    if cached && !first {
        ranks.barrier()?;
    }
    let bar = match first {
        true => ProgressBar::new(0),
        false => ProgressBar::hidden(),
    };
    let style = ProgressStyle::with_template("{bar:30} {msg} {percent} %  {eta} left");
    bar.set_style(style.expect("the template is a constant"));
    let corpus = Corpus::load(&files, config.model.length, &mut |event: &Event| {
        support::shown(&bar, event)
    })?;
    bar.finish_and_clear();
    if cached && first {
        ranks.barrier()?;
    }
    Ok(corpus)
}

fn main() -> std::process::ExitCode {
    support::main(|| {
        let args = Args::parse();
        args.ranks
            .each(&args.device, |ranks, device| run(&args, ranks, device))
    })
}

/// What a rank does: all of them train, rank 0 prints and writes.
fn run(args: &Args, ranks: &Arc<dyn Ranks>, device: &Device) -> anyhow::Result<()> {
    let (out, found) = place(args, &**ranks)?;
    let first = ranks.rank() == 0;
    let saved = found
        .as_ref()
        .map(|dir| mdlm::io::settings::read(&dir.join(checkpoint::CONFIG)));
    let config = args.resolve(device, saved.transpose()?)?;
    let corpus = load(&config, &**ranks)?;
    if args.dry_run {
        let text = support::dry_run::table(device, &config, &corpus, args.memory)?;
        if ranks.rank() == 0 {
            print!("{text}");
        }
        return Ok(());
    }
    let mut trainer = match &found {
        Some(dir) => {
            let made = Trainer::resume_among(ranks.clone(), device, &config, corpus, dir);
            wait(made)?
        }
        None => wait(Trainer::new_among(ranks.clone(), device, &config, corpus))?,
    };
    match (&args.init, &found) {
        (Some(init), None) if trainer.config().base.path.is_empty() => {
            let model = wait(mdlm::model::Model::load(device, init))?;
            wait(trainer.start_from(&model))?;
        }
        (Some(_), Some(dir)) if first => {
            eprintln!(
                "note: the run goes on from {}; --init is not read",
                dir.display()
            );
        }
        _ => {}
    }
    let resolved = trainer.config().clone();
    if trainer.steps_done() >= resolved.training.steps {
        if !first {
            return Ok(());
        }
        println!(
            "{} is complete at step {}",
            out.display(),
            trainer.steps_done()
        );
        return Ok(());
    }
    if !first {
        let summary = train(&mut trainer, &out, &**ranks)?;
        if resolved.training.shard && !summary.stopped {
            // rank 0 writes text with the parts of all
            wait(trainer.model())?;
        }
        return Ok(());
    }
    println!("{}", resolved.to_toml()?);
    let (train_blocks, valid_blocks) = (
        trainer.corpus().train.count(),
        trainer.corpus().valid.count(),
    );
    let together = match ranks.size() {
        1 => String::new(),
        size => format!("{size} ranks, each: "),
    };
    let trained = match trainer.trained_parameters() {
        all if all == trainer.parameters() => String::new(),
        some => format!(", {some} of them trained"),
    };
    match device.on_matrix_units() {
        Some(true) => println!("products of f16 run on matrix units"),
        Some(false) => println!("matrix units multiply wrong on this driver: not used"),
        None => {}
    }
    println!(
        "{} parameters{trained}; {train_blocks} training and {valid_blocks} held-out blocks of {} tokens\n{together}{}\nwriting to {}",
        trainer.parameters(),
        resolved.model.length,
        trainer.report()?,
        out.display(),
    );
    let begin = std::time::Instant::now();
    let summary = train(&mut trainer, &out, &**ranks)?;
    println!(
        "{} steps in {:.0} s",
        summary.step,
        begin.elapsed().as_secs_f64()
    );
    if let Some(p) = summary.validation {
        let interval = p
            .interval()
            .map(|[low, high]| format!(" (95 %: {low:.2} to {high:.2})"));
        println!(
            "validation perplexity {:.2}{}; unigram model {:.2}",
            p.ppl,
            interval.unwrap_or_default(),
            summary.unigram_ppl
        );
    }
    if let (true, Some(best)) = (resolved.training.patience > 0, summary.best) {
        let dir = out.join(checkpoint::name(best));
        let why = if summary.exhausted {
            ", which ended the run"
        } else {
            ""
        };
        println!("best validation at step {best}{why}: {}", dir.display());
    }
    if summary.stopped {
        println!("stopped; continue with --resume --out {}", out.display());
        return Ok(());
    }
    let text = shown_samples(&trainer)?;
    mdlm::io::atomic::write_file(&out.join("samples.txt"), text.as_bytes())?;
    println!("\n{text}loss curve: {}", out.join("loss.svg").display());
    println!(
        "more text: cargo run --release --example sample -- --checkpoint {} --watch",
        out.display()
    );
    Ok(())
}
