//! Recipes of training against each other: equal tokens, seeds and schedule.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use mdlm::io::atomic::write_file;

use crate::Args;
use crate::curves::{Curve, Field, Pace, Point, Recipe, Shape};
use crate::page::Page;
use crate::support::lines::{Line, lines};

/// Steps of a run.
const STEPS: u64 = 1500;

const ELBO: &str = "training.loss_weights=elbo";
const LONG: &str = "training.short_share=0";

const REFERENCE: [&str; 2] = ["optim.recipe=reference", "optim.lr=1e-3"];
/// Rates of what Muon leaves to AdamW: half and twice the recipe's at width 128; a quarter of it, half and twice at 256.
const RATES: [&str; 5] = [
    "optim.lr=0.006",
    "optim.lr=0.024",
    "optim.lr=0.0015",
    "optim.lr=0.003",
    "optim.lr=0.012",
];
const TWO_RATES: [&str; 5] = [
    "optim.hidden=adamw",
    "optim.hidden_lr=1e-3",
    "optim.lr=6e-3",
    ELBO,
    LONG,
];

const RECIPES: [Recipe; 13] = [
    Recipe::nano("reference, 1e-3", &REFERENCE).once(),
    Recipe::nano("two rates, 1e-3 and 6e-3", &TWO_RATES).once(),
    Recipe::nano("Muon", &[ELBO, LONG]).once(),
    Recipe::nano("Muon, cross-entropy", &[LONG]),
    Recipe::nano("fast: and short first", &[]),
    Recipe::nano(
        "autoregressive, reference",
        &["model.kind=ar", "optim.recipe=reference", "optim.lr=2e-3"],
    )
    .once(),
    Recipe::nano("autoregressive, fast", &["model.kind=ar"]),
    Recipe::nano("fast, half the rate", &[RATES[0]]).once(),
    Recipe::nano("fast, twice the rate", &[RATES[1]]).once(),
    Recipe::mini("mini, fast", &[]),
    Recipe::mini("mini, fast, a quarter of the rate", &[RATES[2]]).once(),
    Recipe::mini("mini, fast, half the rate", &[RATES[3]]).once(),
    Recipe::mini("mini, fast, twice the rate", &[RATES[4]]).once(),
];

/// The corpora, with the recipes that are tried on each.
fn fields(args: &Args) -> anyhow::Result<Vec<(Field, Vec<&'static Recipe>)>> {
    let steps = args.steps.unwrap_or(STEPS);
    let stories = include_str!("../configs/stories.toml");
    let shakespeare = include_str!("../configs/shakespeare-char.toml");
    let nano = RECIPES.iter().filter(|recipe| recipe.shape == Shape::Nano);
    Ok(vec![
        (
            Field::new("stories", stories, steps, 100)?,
            RECIPES.iter().collect(),
        ),
        (
            Field::new("shakespeare", shakespeare, steps, 100)?,
            nano.collect(),
        ),
    ])
}

/// Where paces are kept.
fn paces(args: &Args) -> PathBuf {
    args.pictures.with_file_name("curves").join("paces.json")
}

/// Measures what a step of every recipe takes: the faster of two rounds.
pub fn measure(args: &Args) -> anyhow::Result<()> {
    let device = args.device.open()?;
    let mut found: BTreeMap<String, Pace> = BTreeMap::new();
    for _ in 0..2 {
        for (mut field, recipes) in fields(args)? {
            for recipe in recipes {
                let pace = field.pace(&device, recipe)?;
                println!(
                    "{}: {:.3} and {:.3} s a step",
                    field.name(recipe),
                    pace[0],
                    pace[1]
                );
                let kept = found.entry(field.name(recipe)).or_insert(pace);
                *kept = [kept[0].min(pace[0]), kept[1].min(pace[1])];
            }
        }
    }
    Ok(write_file(
        &paces(args),
        serde_json::to_string_pretty(&found)?.as_bytes(),
    )?)
}

/// Trains what is not trained yet, draws the curves, and writes the page.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let device = args.device.open()?;
    let mut page = Page::open(args.pictures.with_file_name("recipe.md"), "Recipes")?;
    let text = std::fs::read_to_string(paces(args)).unwrap_or_default();
    let paces: BTreeMap<String, Pace> = serde_json::from_str(&text).unwrap_or_default();
    let mut trained = Vec::new();
    for (mut field, recipes) in fields(args)? {
        let curves = field.curves(args, &device, recipes)?;
        trained.push((field, curves));
    }
    for (field, curves) in trained {
        let clock = |recipe: &Recipe, step: u64| {
            let pace = paces
                .get(&field.name(recipe))
                .context("no pace: run `ablate paces` first")?;
            let short = step.min(field.short_steps(recipe)?);
            Ok(short as f64 * pace[0] + (step - short) as f64 * pace[1])
        };
        section(
            &mut page.text,
            field.corpus_name(),
            &curves,
            &clock,
            &args.pictures,
        )?;
    }
    page.write()
}

fn section(
    text: &mut String,
    name: &str,
    curves: &[Curve<'_>],
    clock: &dyn Fn(&Recipe, u64) -> anyhow::Result<f64>,
    pictures: &Path,
) -> anyhow::Result<()> {
    writeln!(
        text,
        "\n## {name}\n\n| recipe | 500 steps | last step | each seed | seconds |"
    )?;
    writeln!(text, "| --- | --- | --- | --- | --- |")?;
    for (recipe, mean, runs) in curves {
        let early = mean.iter().find(|p| p.0 >= 500).map_or(f64::NAN, |p| p.1);
        let Some(last) = mean.last() else { continue };
        let each: Vec<String> = runs
            .iter()
            .filter_map(|run| Some(format!("{:.1}", run.last()?.1)))
            .collect();
        let (name, each) = (recipe.name, each.join(", "));
        writeln!(
            text,
            "| {name} | {early:.1} | {:.1} | {each} | {:.0} |",
            last.1,
            clock(recipe, last.0)?
        )?;
    }
    let axes = [("tokens", "million tokens"), ("seconds", "seconds")];
    let shapes = [
        (Shape::Nano, name.to_owned()),
        (Shape::Mini, format!("{name}, mini")),
    ];
    let charts = shapes
        .iter()
        .flat_map(|shape| axes.map(|axis| (shape, axis)));
    for ((shape, title), (over, axis)) in charts {
        let line = |(recipe, mean, _): &Curve<'_>| {
            let point = |&(step, ppl): &Point| match over {
                "tokens" => Ok((step as f64 * 2048.0 / 1e6, ppl)),
                _ => Ok((clock(recipe, step)?, ppl)),
            };
            Ok(Line {
                label: recipe.name.to_owned(),
                points: mean.iter().map(point).collect::<anyhow::Result<_>>()?,
            })
        };
        let some = curves.iter().filter(|(recipe, ..)| recipe.shape == *shape);
        let all = some.map(line).collect::<anyhow::Result<Vec<Line>>>()?;
        if all.is_empty() {
            continue;
        }
        let file = format!("{}-{over}.svg", title.replace(", ", "-"));
        let path = pictures.with_file_name("recipe").join(&file);
        lines(&path, title, [axis, "validation perplexity"], &all)?;
        writeln!(text, "\n![](recipe/{file})")?;
    }
    Ok(())
}
