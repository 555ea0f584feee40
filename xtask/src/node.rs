//! Packages of Node.js that the checks use.

use crate::apt;
use crate::shell::{Consent, cache_dir, command, on_path, run};
use anyhow::{Result, bail};
use std::path::PathBuf;

/// Finds npm, or installs it with Node.js.
pub fn need_npm(consent: Consent) -> Result<()> {
    if !on_path("npm") && apt::available() {
        apt::install(&["npm"], consent)?;
    }
    if !on_path("npm") {
        bail!("no npm, which the checks need: install Node.js with npm");
    }
    Ok(())
}

/// Finds the folder `node_modules` that holds exactly these packages (`name@version`) and what they need, or makes it.
pub fn modules(packages: &[&str], consent: Consent) -> Result<PathBuf> {
    need_npm(consent)?;
    let all = packages.join(" ");
    let name = all.replace('@', "-").replace(['/', ' '], "_");
    let folder = cache_dir()?.join(name.trim_start_matches('-'));
    let modules = folder.join("node_modules");
    // npm writes it last
    if modules.join(".package-lock.json").is_file() {
        return Ok(modules);
    }
    consent.ask(&format!("{all} will be put into {}", folder.display()))?;
    let quiet = [
        "install",
        "--no-save",
        "--no-audit",
        "--no-fund",
        "--prefix",
    ];
    run(command("npm", quiet).arg(&folder).args(packages))?;
    Ok(modules)
}
