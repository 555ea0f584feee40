//! Runs of training as curves of validation. The curves are kept beside the pages, so what was measured once is not
//! trained again; a run that was stopped goes on where it was, its seconds too.

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

/// A validation: steps done, seconds of training, perplexity.
pub type Point = (u64, f64, f64);

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
            let mut runs = runs.collect::<anyhow::Result<Vec<_>>>()?;
            let mut config = self.config(recipe, 1)?;
            config.resolve();
            quieten(&mut runs, config.short_steps());
            curves.push((recipe, mean(&runs), runs));
        }
        Ok(curves)
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
        let name = format!("{}-{}-{seed}", self.name, recipe.name);
        let plain = |c: char| {
            if c.is_alphanumeric() || c == '-' {
                c
            } else {
                '_'
            }
        };
        let name: String = name.chars().map(plain).collect();
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
        let mut seconds = points.last().map_or(0.0, |p| p.1);
        let mut pace = Pace::default();
        let bar = ProgressBar::new(steps);
        wait(trainer.run(&out, &mut |event: &Event| {
            match event {
                Event::Step(s) => {
                    bar.set_position(s.step);
                    pace.step();
                }
                Event::Validation { step, ppl, .. } => {
                    seconds += pace.take();
                    points.push((*step, seconds, *ppl));
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

/// How long steps take, whatever else the machine is doing.
#[derive(Default)]
struct Pace {
    last: Option<Instant>,
    steps: Vec<f64>,
}

impl Pace {
    fn step(&mut self) {
        let now = Instant::now();
        let took = self.last.replace(now).map(|last| now - last);
        self.steps.extend(took.map(|took| took.as_secs_f64()));
    }

    /// Seconds of the steps since the last validation: their number times the lower quartile of their times.
    fn take(&mut self) -> f64 {
        let mut steps = std::mem::take(&mut self.steps);
        self.last = None;
        steps.sort_by(f64::total_cmp);
        // the first step of an interval has no beginning
        steps
            .get(steps.len() / 4)
            .map_or(0.0, |took| took * (steps.len() + 1) as f64)
    }
}

/// The validations that a run has left.
fn read(curve: &Path) -> Vec<Point> {
    let text = std::fs::read_to_string(curve).unwrap_or_default();
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
    let point = |row: &Value| Some((row[0].as_u64()?, row[1].as_f64()?, row[2].as_f64()?));
    rows.iter().filter_map(point).collect()
}

/// Seconds as if the machine had done nothing else: a step before the change of length, and one after it, takes what it
/// took in the fastest quarter of the intervals.
fn quieten(runs: &mut [Vec<Point>], short_steps: u64) {
    let mut paces = [vec![], vec![]];
    let long = |step: u64| usize::from(step > short_steps);
    for run in &*runs {
        let mut from = (0, 0.0);
        for &(step, seconds, _) in run {
            paces[long(step)].push((seconds - from.1) / (step - from.0).max(1) as f64);
            from = (step, seconds);
        }
    }
    let quiet = paces.map(|mut paces| {
        paces.sort_by(f64::total_cmp);
        paces.get(paces.len() / 4).copied().unwrap_or(0.0)
    });
    for run in runs {
        let (mut last, mut passed) = (0, 0.0);
        for (step, seconds, _) in run {
            passed += quiet[long(*step)] * (*step - last) as f64;
            (last, *seconds) = (*step, passed);
        }
    }
}

/// Geometric mean over runs, point by point.
fn mean(runs: &[Vec<Point>]) -> Vec<Point> {
    let shortest = runs.iter().map(Vec::len).min().unwrap_or(0);
    let at = |i: usize| {
        let n = runs.len() as f64;
        let seconds = runs.iter().map(|run| run[i].1).sum::<f64>() / n;
        let ppl = runs.iter().map(|run| run[i].2.ln()).sum::<f64>() / n;
        (runs[0][i].0, seconds, ppl.exp())
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
