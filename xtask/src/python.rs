//! Pythons with packages for checks, each in a folder of its own.

use crate::apt;
use crate::shell::{Consent, cache_dir, command, on_path, run};
use anyhow::{Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// What a check's Python has.
pub struct Packages {
    /// Name of the folder; another one whenever the packages change.
    pub name: &'static str,
    /// Which Python makes it.
    pub python: &'static str,
    /// Whether it sees the packages of the system too.
    pub system: bool,
    /// What pip installs, with exactly what is listed.
    pub pip: &'static [&'static str],
    /// What pip installs with all that it needs.
    pub with_needs: &'static [&'static str],
}

/// Finds the Python with these packages, or makes it.
pub fn set_up(packages: &Packages, consent: Consent) -> Result<PathBuf> {
    let folder = cache_dir()?.join(packages.name);
    let python = folder.join("bin/python");
    if folder.join("installed").is_file() {
        return Ok(python);
    }
    if apt::available() {
        apt::install(&["python3-venv"], consent)?;
    }
    if !on_path(packages.python) {
        bail!("no {}, which this check needs: install it", packages.python);
    }
    let what = format!(
        "{} will be put into {}",
        [packages.pip, packages.with_needs].concat().join(" "),
        folder.display()
    );
    consent.ask(&what)?;
    let mut venv = command(packages.python, ["-m", "venv"]);
    if packages.system {
        venv.arg("--system-site-packages");
    }
    run(venv.arg(&folder))?;
    for (list, flags) in [
        (packages.pip, &["--no-deps"][..]),
        (packages.with_needs, &[]),
    ] {
        if !list.is_empty() {
            run(Command::new(&python)
                .args(["-m", "pip", "install", "--quiet"])
                .args(flags)
                .args(list))?;
        }
    }
    std::fs::write(folder.join("installed"), packages.name)?;
    Ok(python)
}
