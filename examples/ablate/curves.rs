//! Runs of training as curves of validation. The curves are kept beside the pages, so what was measured once is not
//! trained again; a run that was stopped goes on where it was. What a step takes is measured apart, when a machine does
//! nothing else.

use std::path::Path;
use std::time::Instant;

use indicatif::ProgressBar;
use mdlm::blocking::wait;
use mdlm::data::Blocks;
use mdlm::io::atomic::write_file;
use mdlm::io::checkpoint;
use mdlm::progress::Silent;
use mdlm::{Corpus, Device, Event, Flow, TrainConfig, Trainer};
use serde_json::{Value, json};

use crate::Args;
use crate::support;

/// A recipe: settings over those of its field.
pub struct Recipe {
    pub name: &'static str,
    pub settings: &'static [&'static str],
    /// The shape that it is tried at.
    pub shape: Shape,
    /// With the first seed alone.
    pub once: bool,
}

impl Recipe {
    /// At the small shape.
    pub const fn nano(name: &'static str, settings: &'static [&'static str]) -> Self {
        Self {
            name,
            settings,
            shape: Shape::Nano,
            once: false,
        }
    }

    /// At the larger one.
    pub const fn mini(name: &'static str, settings: &'static [&'static str]) -> Self {
        Self {
            shape: Shape::Mini,
            ..Self::nano(name, settings)
        }
    }

    /// The same with the first seed alone.
    pub const fn once(self) -> Self {
        Self { once: true, ..self }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Nano,
    Mini,
}

/// A validation: steps done, perplexity.
pub type Point = (u64, f64);

/// Seconds of a step: with short sequences, and with long ones.
pub type Pace = [f64; 2];

/// Steps before the clock starts, and steps that it runs.
const TIMED: [usize; 2] = [2, 9];

/// A recipe, the mean of its runs, and each run.
pub type Curve<'a> = (&'a Recipe, Vec<Point>, Vec<Vec<Point>>);

/// A corpus that recipes are tried on.
pub struct Field {
    name: &'static str,
    corpus: [Option<Corpus>; 2],
    base: TrainConfig,
    steps: u64,
    /// Blocks of the corpus to train on; all if none.
    blocks: Option<usize>,
}

impl Field {
    /// `base` is what the settings of recipes are over.
    pub fn new(name: &'static str, base: &str, steps: u64, every: u64) -> anyhow::Result<Self> {
        let mut base = TrainConfig::from_toml(base)?;
        base.training.val_every = every;
        base.training.save_every = 3 * every;
        base.training.keep = 1;
        Ok(Self {
            name,
            corpus: [None, None],
            base,
            steps,
            blocks: None,
        })
    }

    /// The same with the first blocks of the corpus alone.
    pub fn few(mut self, blocks: usize) -> Self {
        self.blocks = Some(blocks);
        self
    }

    fn config(&self, recipe: &Recipe, seed: u64) -> anyhow::Result<TrainConfig> {
        let mut config = self.base.clone();
        if recipe.shape == Shape::Mini {
            config.set("model.hidden_size=256")?;
            config.set("model.n_blocks=4")?;
            config.set("model.n_heads=4")?;
            config.set("model.length=256")?;
            config.set("training.batch=8")?;
        }
        for setting in recipe.settings {
            config.set(setting)?;
        }
        (config.seed, config.training.steps) = (seed, self.steps);
        Ok(config)
    }

    fn corpus(&mut self, config: &TrainConfig, shape: Shape) -> anyhow::Result<Corpus> {
        let slot = &mut self.corpus[usize::from(shape == Shape::Mini)];
        if let Some(corpus) = slot {
            return Ok(corpus.clone());
        }
        let files = support::found(&config.data);
        let mut corpus = Corpus::load(&files, config.model.length, &mut Silent)?;
        if let Some(count) = self.blocks {
            corpus = few(corpus, count)?;
        }
        Ok(slot.insert(corpus).clone())
    }

    /// The curves of recipes over the seeds.
    pub fn curves<'a>(
        &mut self,
        args: &Args,
        device: &Device,
        recipes: impl IntoIterator<Item = &'a Recipe>,
    ) -> anyhow::Result<Vec<Curve<'a>>> {
        let mut curves = Vec::new();
        for recipe in recipes {
            let seeds = 1..=if recipe.once { 1 } else { args.seeds };
            let runs = seeds.map(|seed| self.run(args, device, recipe, seed));
            let runs = runs.collect::<anyhow::Result<Vec<_>>>()?;
            curves.push((recipe, mean(&runs), runs));
        }
        Ok(curves)
    }

    /// Name of the corpus.
    pub fn corpus_name(&self) -> &'static str {
        self.name
    }

    /// Name of a recipe's runs on this corpus.
    pub fn name(&self, recipe: &Recipe) -> String {
        let plain = |c: char| {
            if c.is_alphanumeric() || c == '-' {
                c
            } else {
                '_'
            }
        };
        let name = format!("{}-{}", self.name, recipe.name);
        name.chars().map(plain).collect()
    }

    /// Steps of a recipe that have short sequences.
    pub fn short_steps(&self, recipe: &Recipe) -> anyhow::Result<u64> {
        let mut config = self.config(recipe, 1)?;
        config.resolve();
        Ok(config.short_steps())
    }

    /// What a step of a recipe takes now.
    pub fn pace(&mut self, device: &Device, recipe: &Recipe) -> anyhow::Result<Pace> {
        let mut config = self.config(recipe, 1)?;
        config.resolve();
        let corpus = self.corpus(&config, recipe.shape)?;
        let shares = if config.short_steps() > 0 {
            [1.0, 0.0]
        } else {
            [0.0; 2]
        };
        let mut pace = Pace::default();
        for (seconds, share) in pace.iter_mut().zip(shares) {
            config.training.short_share = Some(share);
            let mut trainer = wait(Trainer::new(device, &config, corpus.clone()))?;
            let mut took = Vec::new();
            for step in 0..TIMED[0] + TIMED[1] {
                let begin = Instant::now();
                wait(trainer.step())?;
                if step >= TIMED[0] {
                    took.push(begin.elapsed().as_secs_f64());
                }
            }
            took.sort_by(f64::total_cmp);
            *seconds = took[took.len() / 2];
        }
        Ok(pace)
    }

    /// The validations of a run, trained now as far as it is not yet.
    fn run(
        &mut self,
        args: &Args,
        device: &Device,
        recipe: &Recipe,
        seed: u64,
    ) -> anyhow::Result<Vec<Point>> {
        let steps = self.steps;
        let config = self.config(recipe, seed)?;
        let name = format!("{}-{seed}", self.name(recipe));
        let out = args.out.join(&name);
        let curves = args.pictures.with_file_name("curves");
        std::fs::create_dir_all(&curves)?;
        let curve = curves.join(name + ".json");
        let mut points = read(&curve);
        if points.last().is_some_and(|p| p.0 >= steps) {
            return Ok(points);
        }
        let corpus = self.corpus(&config, recipe.shape)?;
        let mut trainer = match checkpoint::newest_whole(&out)? {
            Some(dir) => wait(Trainer::resume(device, &config, corpus, &dir))?,
            None => wait(Trainer::new(device, &config, corpus))?,
        };
        points.retain(|p| p.0 <= trainer.steps_done());
        let bar = ProgressBar::new(steps);
        wait(trainer.run(&out, &mut |event: &Event| {
            match event {
                Event::Step(s) => bar.set_position(s.step),
                Event::Validation { step, ppl, .. } => {
                    points.push((*step, *ppl));
                    let text = json!(points).to_string();
                    if let Err(e) = write_file(&curve, text.as_bytes()) {
                        log::warn!("{e}");
                    }
                }
                _ => {}
            }
            Flow::Continue
        }))?;
        bar.finish_and_clear();
        eprintln!("trained {}", out.display());
        Ok(points)
    }
}

/// The validations that a run has left.
fn read(curve: &Path) -> Vec<Point> {
    let text = std::fs::read_to_string(curve).unwrap_or_default();
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
    let point = |row: &Value| Some((row[0].as_u64()?, row[1].as_f64()?));
    rows.iter().filter_map(point).collect()
}

/// Geometric mean over runs, point by point.
fn mean(runs: &[Vec<Point>]) -> Vec<Point> {
    let shortest = runs.iter().map(Vec::len).min().unwrap_or(0);
    let at = |i: usize| {
        let n = runs.len() as f64;
        let ppl = runs.iter().map(|run| run[i].1.ln()).sum::<f64>() / n;
        (runs[0][i].0, ppl.exp())
    };
    (0..shortest).map(at).collect()
}

/// The first blocks of the training part.
fn few(corpus: Corpus, count: usize) -> anyhow::Result<Corpus> {
    let (train, vocab) = (&corpus.train, corpus.tokenizer.vocab_size());
    let mut ids = Vec::new();
    for i in 0..count.min(train.count()) {
        ids.extend_from_slice(&train.block(i)?);
    }
    let train = Blocks::new(train.length(), ids, vocab)?;
    Ok(Corpus::from_blocks(corpus.tokenizer, train, corpus.valid))
}
