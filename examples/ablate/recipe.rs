//! Recipes of training against each other: equal tokens, seeds and schedule. The curves are kept beside the page, so
//! what was measured once is not trained again; a run that was stopped goes on where it was, its seconds too.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use indicatif::ProgressBar;
use mdlm::blocking::wait;
use mdlm::io::atomic::write_file;
use mdlm::io::checkpoint;
use mdlm::progress::Silent;
use mdlm::{Corpus, Device, Event, Flow, TrainConfig, Trainer};
use serde_json::{Value, json};

use crate::Args;
use crate::support;
use crate::support::lines::{Line, lines};

/// Steps of a run.
const STEPS: u64 = 1500;
/// Where the tables begin and end in the page that they are written into.
const BEGIN: &str = "<!-- written by mdlm's ablate -->";

/// A recipe: settings over those of its corpus.
struct Recipe {
    name: &'static str,
    settings: &'static [&'static str],
    /// The shape that it is tried at.
    shape: Shape,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Nano,
    Mini,
}

const ELBO: &str = "training.loss_weights=elbo";
const LONG: &str = "training.short_share=0";

const RECIPES: [Recipe; 8] = [
    Recipe {
        name: "reference, 1e-3",
        settings: &["optim.recipe=reference", "optim.lr=1e-3"],
        shape: Shape::Nano,
    },
    Recipe {
        name: "two rates, 1e-3 and 6e-3",
        settings: &[
            "optim.hidden=adamw",
            "optim.hidden_lr=1e-3",
            "optim.lr=6e-3",
            ELBO,
            LONG,
        ],
        shape: Shape::Nano,
    },
    Recipe {
        name: "Muon",
        settings: &[ELBO, LONG],
        shape: Shape::Nano,
    },
    Recipe {
        name: "Muon, cross-entropy",
        settings: &[LONG],
        shape: Shape::Nano,
    },
    Recipe {
        name: "fast: and short first",
        settings: &[],
        shape: Shape::Nano,
    },
    Recipe {
        name: "autoregressive, fast",
        settings: &["model.kind=ar"],
        shape: Shape::Nano,
    },
    Recipe {
        name: "mini, reference, 1e-3",
        settings: &["optim.recipe=reference", "optim.lr=1e-3"],
        shape: Shape::Mini,
    },
    Recipe {
        name: "mini, fast",
        settings: &[],
        shape: Shape::Mini,
    },
];

/// A validation: steps done, seconds of training, perplexity.
type Point = (u64, f64, f64);

/// A recipe, the mean of its runs, and each run.
type Curve<'a> = (&'a Recipe, Vec<Point>, Vec<Vec<Point>>);

/// A corpus that recipes are tried on.
struct Field {
    name: &'static str,
    corpus: [Option<Corpus>; 2],
    base: TrainConfig,
}

impl Field {
    fn new(name: &'static str, text: &str) -> anyhow::Result<Self> {
        let mut base = TrainConfig::from_toml(text)?;
        base.training.val_every = 100;
        base.training.save_every = 300;
        base.training.keep = 1;
        Ok(Self {
            name,
            corpus: [None, None],
            base,
        })
    }

    fn config(&self, recipe: &Recipe, steps: u64, seed: u64) -> anyhow::Result<TrainConfig> {
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
        (config.seed, config.training.steps) = (seed, steps);
        Ok(config)
    }

    fn corpus(&mut self, config: &TrainConfig, shape: Shape) -> anyhow::Result<Corpus> {
        let slot = &mut self.corpus[usize::from(shape == Shape::Mini)];
        if let Some(corpus) = slot {
            return Ok(corpus.clone());
        }
        let files = support::found(&config.data);
        let corpus = Corpus::load(&files, config.model.length, &mut Silent)?;
        Ok(slot.insert(corpus).clone())
    }

    /// The validations of a run, trained now as far as it is not yet.
    fn run(
        &mut self,
        args: &Args,
        device: &Device,
        recipe: &Recipe,
        seed: u64,
    ) -> anyhow::Result<Vec<Point>> {
        let steps = args.steps.unwrap_or(STEPS);
        let config = self.config(recipe, steps, seed)?;
        let name = format!("recipe-{}-{}-{seed}", self.name, recipe.name);
        let plain = |c: char| {
            if c.is_alphanumeric() || c == '-' {
                c
            } else {
                '_'
            }
        };
        let name: String = name.chars().map(plain).collect();
        let out = args.out.join(&name);
        let curve = beside(&args.pictures).join(name + ".json");
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

/// Folder of the curves and their pictures.
fn beside(pictures: &Path) -> PathBuf {
    pictures.with_file_name("recipe")
}

/// The validations that a run has left.
fn read(curve: &Path) -> Vec<Point> {
    let text = std::fs::read_to_string(curve).unwrap_or_default();
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
    let point = |row: &Value| Some((row[0].as_u64()?, row[1].as_f64()?, row[2].as_f64()?));
    rows.iter().filter_map(point).collect()
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

/// Trains what is not trained yet, draws the curves, and writes the page.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let device = args.device.open()?;
    let page = args.pictures.with_file_name("recipe.md");
    let kept = match std::fs::read_to_string(&page) {
        Ok(text) => match text.split_once(BEGIN) {
            Some((before, _)) => before.to_owned(),
            None => anyhow::bail!("{} is there and has no line {BEGIN}", page.display()),
        },
        Err(_) => "# Recipes\n\n".to_owned(),
    };
    let mut text = format!("{kept}{BEGIN}\n");
    for (name, config) in [
        ("stories", include_str!("../configs/stories.toml")),
        (
            "shakespeare",
            include_str!("../configs/shakespeare-char.toml"),
        ),
    ] {
        let mut field = Field::new(name, config)?;
        let mut curves = Vec::new();
        let mini = |recipe: &&Recipe| name == "stories" || recipe.shape == Shape::Nano;
        for recipe in RECIPES.iter().filter(mini) {
            let seeds = 1..=args.seeds;
            let runs = seeds.map(|seed| field.run(args, &device, recipe, seed));
            let runs = runs.collect::<anyhow::Result<Vec<_>>>()?;
            curves.push((recipe, mean(&runs), runs));
        }
        section(&mut text, name, &curves, &args.pictures)?;
    }
    write_file(&page, text.as_bytes())?;
    println!("{text}");
    Ok(())
}

fn section(
    text: &mut String,
    name: &str,
    curves: &[Curve<'_>],
    pictures: &Path,
) -> anyhow::Result<()> {
    writeln!(
        text,
        "\n## {name}\n\n| recipe | 500 steps | last step | each seed | seconds |"
    )?;
    writeln!(text, "| --- | --- | --- | --- | --- |")?;
    for (recipe, mean, runs) in curves {
        let early = mean.iter().find(|p| p.0 >= 500).map_or(f64::NAN, |p| p.2);
        let Some(last) = mean.last() else { continue };
        let each: Vec<String> = runs
            .iter()
            .filter_map(|run| Some(format!("{:.1}", run.last()?.2)))
            .collect();
        let (name, each) = (recipe.name, each.join(", "));
        writeln!(
            text,
            "| {name} | {early:.1} | {:.1} | {each} | {:.0} |",
            last.2, last.1
        )?;
    }
    for (over, axis) in [("tokens", "million tokens"), ("seconds", "seconds")] {
        let line = |(recipe, mean, _): &Curve<'_>| Line {
            label: recipe.name.to_owned(),
            points: mean
                .iter()
                .map(|p| match over {
                    "tokens" => (p.0 as f64 * 2048.0 / 1e6, p.2),
                    _ => (p.1, p.2),
                })
                .collect(),
        };
        let all: Vec<Line> = curves.iter().map(line).collect();
        let file = format!("recipe-{name}-{over}.svg");
        let path = beside(pictures).join(&file);
        lines(&path, name, [axis, "validation perplexity"], &all)?;
        writeln!(text, "\n![](recipe/{file})")?;
    }
    Ok(())
}
