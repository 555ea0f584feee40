//! Running other programs, and asking before one changes the machine.

use anyhow::{Context, Result, bail};
use clap::builder::FalseyValueParser;
use std::ffi::OsStr;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether programs may be installed.
#[derive(clap::Args, Clone, Copy)]
pub struct Consent {
    /// Install without asking
    #[arg(long, env = "CI", value_parser = FalseyValueParser::new())]
    yes: bool,
}

impl Consent {
    /// Says what will be done and fails unless that was agreed to.
    pub fn ask(self, action: &str) -> Result<()> {
        println!("{action}");
        if self.yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            bail!("not done: pass --yes to allow it");
        }
        print!("Continue? [y/N] ");
        std::io::stdout().flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => bail!("declined"),
        }
    }
}

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Where Cargo puts what it builds.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Where downloaded tools are kept between runs.
pub fn cache_dir() -> Result<PathBuf> {
    let home = std::env::home_dir().context("the home folder is unknown: set HOME")?;
    Ok(home.join(".cache").join("mdlm"))
}

/// Whether the search path has `program`.
pub fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let file = format!("{program}{}", std::env::consts::EXE_SUFFIX);
    std::env::split_paths(&path).any(|dir| dir.join(&file).is_file())
}

/// `program` with `arguments`, in the repository's root.
pub fn command<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    command
}

/// The Cargo that runs this program, with `arguments` split at spaces.
pub fn cargo(arguments: &str) -> Command {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    command(&cargo, arguments.split(' '))
}

/// Prints the command, runs it and fails if it does.
pub fn run(command: &mut Command) -> Result<()> {
    println!("$ {}", line(command));
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}`: {status}", line(command));
    }
    Ok(())
}

/// The standard output of a command that must succeed.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}`: {}\n{said}", line(command), output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn line(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name();
    name.into_iter()
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
