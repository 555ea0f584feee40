//! The stages of `cargo xtask test`: each a command or two, timed.

use crate::shell::{Consent, cargo, run as run_command};
use crate::{
    axe, chromium, cooperative, kernels, npm, openai, package, peft, ranks, rustup, supply, vulkan,
    wasm, web,
};
use anyhow::{Result, bail};
use clap::ValueEnum;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// One check of the project, in the order they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// rustfmt has nothing to change
    Fmt,
    /// clippy has nothing to say
    Clippy,
    /// The documentation builds without warnings
    Docs,
    /// All tests, on a GPU adapter (a software one if there is no other)
    Tests,
    /// Products on matrix units are right
    Cooperative,
    /// Kernels are as good as they were in the compilers of real GPUs
    Kernels,
    /// The library compiles for the browser
    Wasm,
    /// The page does what it should in a real browser
    Web,
    /// The package for npm does in Node what the library does
    Npm,
    /// The published package holds what it should, the same twice, and is small
    Package,
    /// Licences and sources of the dependencies, the oldest compiler, a bill of materials
    Supply,
    /// The examples build as a user builds them
    Examples,
    /// The server answers many clients at a time
    Server,
    /// PEFT reads our adapters, and we read its
    Adapters,
    /// Several ranks train as one does, over MPI, and survive kills
    Ranks,
}

/// What set-up found, for the stages that need it.
#[derive(Default)]
pub struct Tools {
    driver: Option<PathBuf>,
    amd: Option<PathBuf>,
    units: Option<PathBuf>,
    wasm: Option<wasm::Toolchain>,
    chromium: Option<PathBuf>,
    axe: Option<PathBuf>,
    typescript: Option<PathBuf>,
    openai: Option<PathBuf>,
    peft: Option<PathBuf>,
    mpi: bool,
    deny: Option<PathBuf>,
}

impl Tools {
    /// Installs what these stages need and the machine lacks.
    pub fn set_up(&mut self, stages: &[Stage], consent: Consent) -> Result<()> {
        if stages.contains(&Stage::Fmt) {
            rustup::need_subcommand("fmt", "rustfmt", consent)?;
        }
        if stages.contains(&Stage::Clippy) {
            rustup::need_subcommand("clippy", "clippy", consent)?;
        }
        if stages.contains(&Stage::Tests) {
            self.driver = vulkan::set_up(consent)?;
        }
        if stages.contains(&Stage::Cooperative) {
            self.units = cooperative::set_up(consent)?;
        }
        if stages.contains(&Stage::Kernels) {
            self.amd = vulkan::amd_compiler(consent)?;
        }
        if [Stage::Wasm, Stage::Web, Stage::Npm]
            .iter()
            .any(|stage| stages.contains(stage))
        {
            self.wasm = Some(wasm::Toolchain::set_up(consent)?);
        }
        if stages.contains(&Stage::Web) {
            self.chromium = Some(chromium::set_up(consent)?);
            self.axe = Some(axe::set_up(consent)?);
        }
        if stages.contains(&Stage::Npm) {
            self.typescript = Some(npm::set_up(consent)?);
        }
        if stages.contains(&Stage::Supply) {
            self.deny = Some(supply::set_up(consent)?);
        }
        if stages.contains(&Stage::Server) {
            self.openai = Some(openai::set_up(consent)?);
        }
        if stages.contains(&Stage::Adapters) {
            self.peft = peft::set_up(consent)?;
        }
        if stages.contains(&Stage::Ranks) {
            self.mpi = ranks::set_up(consent)?;
        }
        Ok(())
    }
}

impl Stage {
    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    fn run(self, tools: &Tools, keep_going: bool, consent: Consent) -> Result<()> {
        // Everything up to the tests sees the same packages with the same profile, so that Cargo compiles
        // each dependency's build script and macros once.
        match self {
            Self::Fmt => run_command(&mut cargo("fmt --all --check")),
            Self::Clippy => run_command(&mut cargo(
                "clippy --workspace --all-targets --release -- -D warnings",
            )),
            Self::Docs => run_command(
                cargo("doc --workspace --lib --no-deps --release")
                    .env("RUSTDOCFLAGS", "-D warnings"),
            ),
            Self::Tests => {
                let mut tests = cargo("test --workspace --release");
                if keep_going {
                    tests.arg("--no-fail-fast");
                }
                tests.envs(tools.driver.iter().map(|icd| (vulkan::DRIVER_FILES, icd)));
                run_command(&mut tests)?;
                // what the default features leave out
                run_command(&mut cargo("test --release --lib --features hub,parquet"))
            }
            Self::Cooperative => match &tools.units {
                Some(folder) => cooperative::test(folder),
                None => {
                    println!(
                        "This system offers no lavapipe with matrix units: on a GPU that has them, \
                         cargo test --release --test cooperative"
                    );
                    Ok(())
                }
            },
            Self::Kernels => match &tools.amd {
                Some(driver) => kernels::compile(driver, None, true),
                None => {
                    println!(
                        "The figures are those of a Mesa that this system does not offer: not compared"
                    );
                    Ok(())
                }
            },
            Self::Wasm => match &tools.wasm {
                Some(toolchain) => toolchain.check(),
                None => bail!("no toolchain for the browser"),
            },
            Self::Web => match (&tools.wasm, &tools.chromium, &tools.axe) {
                (Some(toolchain), Some(chromium), Some(axe)) => web::test(toolchain, chromium, axe),
                _ => bail!("no toolchain for the browser, no browser, or no axe-core"),
            },
            Self::Npm => match (&tools.wasm, &tools.typescript) {
                (Some(toolchain), Some(modules)) => npm::test(toolchain, modules),
                _ => bail!("no toolchain for the browser, or no TypeScript"),
            },
            Self::Package => package::check(),
            Self::Supply => match &tools.deny {
                Some(deny) => supply::check(deny, consent),
                None => bail!("no cargo-deny"),
            },
            Self::Examples => run_command(&mut cargo("build --release --examples")),
            Self::Server => match &tools.openai {
                Some(python) => openai::test(python, 10),
                None => bail!("no Python with OpenAI's client"),
            },
            Self::Adapters => match &tools.peft {
                Some(python) => peft::test(python),
                None => {
                    println!("PEFT was not asked: install torch for /usr/bin/python3");
                    Ok(())
                }
            },
            Self::Ranks => match tools.mpi {
                true => ranks::test(6),
                false => {
                    println!("Nothing was trained over MPI: install OpenMPI and libclang");
                    Ok(())
                }
            },
        }
    }
}

/// A line of the summary.
struct Row {
    name: String,
    took: Duration,
    failed: Option<anyhow::Error>,
}

/// Runs the stages named (all if none is) and fails if one of them does.
pub fn run(named: &[Stage], keep_going: bool, consent: Consent) -> Result<()> {
    let stages: Vec<Stage> = Stage::value_variants()
        .iter()
        .copied()
        .filter(|stage| named.is_empty() || named.contains(stage))
        .collect();

    let mut tools = Tools::default();
    let mut rows = vec![timed("setup".into(), || tools.set_up(&stages, consent))];
    for stage in stages {
        if !keep_going && rows.iter().any(|row| row.failed.is_some()) {
            break;
        }
        rows.push(timed(stage.name(), || {
            stage.run(&tools, keep_going, consent)
        }));
    }
    summarise(&rows)
}

fn timed(name: String, work: impl FnOnce() -> Result<()>) -> Row {
    println!("\n==> {name}");
    let start = Instant::now();
    let failed = work().err();
    if let Some(error) = &failed {
        eprintln!("{name} failed: {error:#}");
    }
    Row {
        name,
        took: start.elapsed(),
        failed,
    }
}

fn summarise(rows: &[Row]) -> Result<()> {
    println!("\n{:<10} {:>8}  result", "stage", "seconds");
    for row in rows {
        let result = if row.failed.is_some() { "FAILED" } else { "ok" };
        println!("{:<10} {:>8.1}  {result}", row.name, row.took.as_secs_f64());
    }
    let total: Duration = rows.iter().map(|row| row.took).sum();
    println!("{:<10} {:>8.1}", "total", total.as_secs_f64());

    let failed: Vec<&str> = rows
        .iter()
        .filter(|row| row.failed.is_some())
        .map(|row| row.name.as_str())
        .collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}
