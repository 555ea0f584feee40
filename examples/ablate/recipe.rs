//! Recipes of training against each other: equal tokens, seeds and schedule.

use std::fmt::Write as _;
use std::path::Path;

use crate::Args;
use crate::curves::{Curve, Field, Recipe, Shape};
use crate::page::Page;
use crate::support::lines::{Line, lines};

/// Steps of a run.
const STEPS: u64 = 1500;

const ELBO: &str = "training.loss_weights=elbo";
const LONG: &str = "training.short_share=0";

const REFERENCE: [&str; 2] = ["optim.recipe=reference", "optim.lr=1e-3"];
/// Rates of what Muon leaves to AdamW: half and twice the recipe's at width 128, and at 256.
const RATES: [&str; 4] = [
    "optim.lr=0.006",
    "optim.lr=0.024",
    "optim.lr=0.0015",
    "optim.lr=0.006",
];
const TWO_RATES: [&str; 5] = [
    "optim.hidden=adamw",
    "optim.hidden_lr=1e-3",
    "optim.lr=6e-3",
    ELBO,
    LONG,
];

const RECIPES: [Recipe; 12] = [
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
    Recipe::mini("mini, fast, half the rate", &[RATES[2]]).once(),
    Recipe::mini("mini, fast, twice the rate", &[RATES[3]]).once(),
];

/// Trains what is not trained yet, draws the curves, and writes the page.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let device = args.device.open()?;
    let mut page = Page::open(args.pictures.with_file_name("recipe.md"), "Recipes")?;
    for (name, config) in [
        ("stories", include_str!("../configs/stories.toml")),
        (
            "shakespeare",
            include_str!("../configs/shakespeare-char.toml"),
        ),
    ] {
        let mut field = Field::new(name, config, args.steps.unwrap_or(STEPS), 100)?;
        let nano = |recipe: &&Recipe| name == "stories" || recipe.shape == Shape::Nano;
        let curves = field.curves(args, &device, RECIPES.iter().filter(nano))?;
        section(&mut page.text, name, &curves, &args.pictures)?;
    }
    page.write()
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
        let path = pictures.with_file_name("recipe").join(&file);
        lines(&path, name, [axis, "validation perplexity"], &all)?;
        writeln!(text, "\n![](recipe/{file})")?;
    }
    Ok(())
}
