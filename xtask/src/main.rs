//! The project's own tasks: `cargo xtask --help`.

mod apt;
mod axe;
mod chromium;
mod cooperative;
mod demo;
mod kernels;
mod node;
mod npm;
mod openai;
mod package;
mod peft;
mod python;
mod ranks;
mod reliability;
mod rustup;
mod shell;
mod stages;
mod supply;
mod vulkan;
mod wasm;
mod web;

use clap::{Parser, ValueEnum};
use reliability::Harness;
use shell::Consent;
use stages::{Stage, Tools};

/// Tasks of the project, run from any folder of it.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
enum Task {
    /// Install what the checks need, then run all of them (or the stages named)
    Test {
        /// Stages to run, in the project's order; all of them if none is named
        stages: Vec<Stage>,
        /// Run the later stages after one has failed
        #[arg(long)]
        keep_going: bool,
        #[command(flatten)]
        consent: Consent,
    },
    /// Only install what the checks need: a software Vulkan driver, shader tools, a wasm toolchain, a browser
    Setup {
        #[command(flatten)]
        consent: Consent,
    },
    /// Build the page (into target/web, for any static host) and serve it on localhost
    Web {
        #[command(flatten)]
        options: web::Options,
        #[command(flatten)]
        consent: Consent,
    },
    /// Pack the library for browsers and Node as an npm package, into target/npm
    Npm {
        #[command(flatten)]
        consent: Consent,
    },
    /// Measure the page in a browser against native speed
    WebFigures {
        #[command(flatten)]
        consent: Consent,
    },
    /// Make the README's pictures of the page, from its demo models, into docs/
    WebPictures {
        /// Address of the settings, such as `?seed=3&steps=48`
        #[arg(long)]
        query: Option<String>,
        #[command(flatten)]
        consent: Consent,
    },
    /// Train the page's models and write them to web/model (an hour on two CPU cores; goes on where it was)
    DemoModels {
        /// Where to compute: auto, gpu, cpu, or part of an adapter's name
        #[arg(long, default_value = "auto")]
        device: String,
    },
    /// Tune the page's diffusion model to write stories that begin and end as asked, and write it to models/stories-instruct
    InstructModel {
        /// Where to compute: auto, gpu, cpu, or part of an adapter's name
        #[arg(long, default_value = "auto")]
        device: String,
    },
    /// Compile the kernels with Mesa's compilers for AMD's GPUs, none of which is needed, and write docs/kernels.md
    Kernels {
        #[command(flatten)]
        options: kernels::Options,
        #[command(flatten)]
        consent: Consent,
    },
    /// Train over MPI on this machine, and kill a rank again and again
    Ranks {
        /// How often
        #[arg(long, default_value_t = 100)]
        kills: u64,
        #[command(flatten)]
        consent: Consent,
    },
    /// Run harnesses of docs/reliability.md in their long form (hours for all of them)
    Reliability {
        /// Harnesses to run; all of them if none is named
        harnesses: Vec<Harness>,
        /// How often, in place of what the document's figures are for
        #[arg(long)]
        trials: Option<u64>,
        #[command(flatten)]
        consent: Consent,
    },
    /// Formatting, clippy and documentation: what needs no GPU
    Lint {
        #[command(flatten)]
        consent: Consent,
    },
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Web { options, consent } => web::serve(&options, consent),
        Task::Npm { consent } => npm::make(consent),
        Task::WebFigures { consent } => web::figures(consent),
        Task::WebPictures { query, consent } => web::pictures(query.as_deref(), consent),
        Task::Kernels { options, consent } => kernels::figures(&options, consent),
        Task::Ranks { kills, consent } => ranks::set_up(consent).and_then(|there| match there {
            true => ranks::test(kills),
            false => anyhow::bail!("install OpenMPI: there is no apt here"),
        }),
        Task::DemoModels { device } => demo::make(&device),
        Task::InstructModel { device } => demo::instruct(&device),
        Task::Test {
            stages,
            keep_going,
            consent,
        } => stages::run(&stages, keep_going, consent),
        Task::Reliability {
            harnesses,
            trials,
            consent,
        } => reliability::long(&harnesses, trials, consent),
        Task::Setup { consent } => Tools::default().set_up(Stage::value_variants(), consent),
        Task::Lint { consent } => {
            stages::run(&[Stage::Fmt, Stage::Clippy, Stage::Docs], true, consent)
        }
    }
}
