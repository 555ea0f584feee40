//! Checks of the page in a real browser and of the package in Node, against the native library; `cargo xtask test web`
//! and `cargo xtask test npm` run them.

mod browser;
#[path = "../../../tests/common/catalogue.rs"]
mod catalogue;
mod figures;
#[path = "../../../tests/common/graphs.rs"]
mod graphs;
mod models;
mod npm;
mod pictures;
mod race;
mod scenarios;
mod site;

use std::path::PathBuf;

use clap::Parser;
use site::Bench;

/// What all commands need.
#[derive(clap::Args)]
struct Common {
    /// Folder of the built page
    #[arg(long)]
    site: PathBuf,
    /// The browser
    #[arg(long)]
    chromium: PathBuf,
    /// Where pictures go
    #[arg(long)]
    out: PathBuf,
}

#[derive(Parser)]
enum Command {
    /// Run the scenarios
    Test {
        #[command(flatten)]
        common: Common,
        /// `axe.min.js` of axe-core
        #[arg(long)]
        axe: PathBuf,
        /// Only scenarios whose name contains this
        #[arg(long, default_value = "")]
        only: String,
    },
    /// Measure: cold start, speed in the browser against native
    Figures {
        #[command(flatten)]
        common: Common,
        /// Tokenizer of a model of the demo's size
        #[arg(long)]
        tokenizer: PathBuf,
    },
    /// Make the README's pictures from the page with its demo models
    Pictures {
        #[command(flatten)]
        common: Common,
        /// Address of the settings, such as `?seed=3&steps=48`
        #[arg(
            long,
            default_value = "?device=cpu&seed=1&length=96&steps=96&prompt=Once+upon+a+time"
        )]
        query: String,
    },
    /// Install the package for npm and use it in Node
    Npm {
        /// The archive
        #[arg(long)]
        package: PathBuf,
        /// The folder `node_modules` with TypeScript's compiler
        #[arg(long)]
        modules: PathBuf,
        /// What uses it
        #[arg(long)]
        script: PathBuf,
        /// Folder of a model
        #[arg(long)]
        model: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Test { common, axe, only } => scenarios::run(
            &Bench::new(&common.site, &common.chromium, &common.out, &axe)?,
            &only,
        ),
        Command::Figures { common, tokenizer } => {
            figures::run(&common.site, &common.chromium, &tokenizer)
        }
        Command::Pictures { common, query } => {
            pictures::run(&common.site, &common.chromium, &common.out, &query)
        }
        Command::Npm {
            package,
            modules,
            script,
            model,
        } => npm::run(&package, &modules, &script, &model),
    }
}
