//! Few stories over and over: diffusion against the autoregressive model, each with its best regularisation.

use std::fmt::Write as _;

use crate::Args;
use crate::curves::{Field, Recipe};
use crate::page::Page;
use crate::support::lines::{Line, lines};

/// An eighth of the bundled stories, in blocks, and of tokens in a step.
const BLOCKS: usize = 937;
const LENGTH: usize = 128;
const STEP: f64 = 2048.0;
const STEPS: u64 = 6000;

const CONSTANT: &str = "optim.schedule=constant";
const LONG: &str = "training.short_share=0";
const LITTLE: &str = "model.dropout=0.1";
const MUCH: &str = "model.dropout=0.3";
const DECAY: &str = "optim.weight_decay=0.1";
const AR: &str = "model.kind=ar";

const RECIPES: [Recipe; 7] = [
    Recipe::nano("diffusion", &[CONSTANT, LONG]),
    Recipe::nano("diffusion, dropout 0.1", &[CONSTANT, LONG, LITTLE]),
    Recipe::nano("diffusion, weight decay 0.1", &[CONSTANT, LONG, DECAY]),
    Recipe::nano("autoregressive", &[AR, CONSTANT, LONG]),
    Recipe::nano("autoregressive, dropout 0.1", &[AR, CONSTANT, LONG, LITTLE]),
    Recipe::nano("autoregressive, dropout 0.3", &[AR, CONSTANT, LONG, MUCH]),
    Recipe::nano(
        "autoregressive, dropout 0.3, weight decay 0.1",
        &[AR, CONSTANT, LONG, MUCH, DECAY],
    ),
];

/// Trains what is not trained yet, draws the curves over epochs, and writes the end of the page.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let device = args.device.open()?;
    let mut page = Page::open(args.pictures.with_extension("md"), "Ablations")?;
    let steps = args.steps.unwrap_or(STEPS);
    let base = include_str!("../configs/stories.toml");
    let mut field = Field::new("epochs", base, steps, 200)?.few(BLOCKS);
    let curves = field.curves(args, &device, &RECIPES)?;
    let epochs = |step: u64| step as f64 * STEP / (BLOCKS * LENGTH) as f64;
    writeln!(
        page.text,
        "\n## Few stories, many epochs\n\n| | best perplexity | after epochs | at the end |\n| --- | --- | --- | --- |"
    )?;
    let mut all = Vec::new();
    for (recipe, mean, _) in &curves {
        let best = mean.iter().min_by(|a, b| a.1.total_cmp(&b.1));
        let (Some(best), Some(last)) = (best, mean.last()) else {
            continue;
        };
        let (name, after) = (recipe.name, epochs(best.0));
        writeln!(
            page.text,
            "| {name} | {:.1} | {after:.0} | {:.1} |",
            best.1, last.1
        )?;
        all.push(Line {
            label: name.to_owned(),
            points: mean.iter().map(|p| (epochs(p.0), p.1)).collect(),
        });
    }
    let title = "an eighth of the stories, over and over";
    let path = args.pictures.join("epochs.svg");
    lines(&path, title, ["epochs", "validation perplexity"], &all)?;
    writeln!(page.text, "\n![](ablations/epochs.svg)")?;
    page.write()
}
