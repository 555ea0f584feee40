//! axe-core, which finds what keeps people from using a page: one file of JavaScript for the page's tests.

use crate::apt;
use crate::shell::{Consent, cache_dir, command, on_path, run};
use anyhow::{Result, bail};
use std::path::PathBuf;

/// Its version: another one has other rules.
const VERSION: &str = "4.11.0";

/// Finds the file, or installs it.
pub fn set_up(consent: Consent) -> Result<PathBuf> {
    let folder = cache_dir()?.join(format!("axe-core-{VERSION}"));
    let file = folder.join("node_modules/axe-core/axe.min.js");
    if file.is_file() {
        return Ok(file);
    }
    if !on_path("npm") && apt::available() {
        apt::install(&["npm"], consent)?;
    }
    if !on_path("npm") {
        bail!("no npm, which brings axe-core: install Node.js with npm");
    }
    consent.ask(&format!(
        "axe-core {VERSION} will be put into {}",
        folder.display()
    ))?;
    let quiet = [
        "install",
        "--no-save",
        "--no-audit",
        "--no-fund",
        "--prefix",
    ];
    run(command("npm", quiet)
        .arg(&folder)
        .arg(format!("axe-core@{VERSION}")))?;
    if !file.is_file() {
        bail!("npm left no {}", file.display());
    }
    Ok(file)
}
