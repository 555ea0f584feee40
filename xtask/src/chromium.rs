//! A browser for the page's tests.

use crate::apt;
use crate::shell::{Consent, on_path};
use anyhow::{Result, bail};
use std::env;
use std::path::PathBuf;

/// Names the browser to use.
const VARIABLE: &str = "CHROMIUM";
const NAMES: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];

/// Finds Chromium, or installs it.
pub fn set_up(consent: Consent) -> Result<PathBuf> {
    if let Some(program) = env::var_os(VARIABLE) {
        return Ok(program.into());
    }
    if let Some(found) = find() {
        return Ok(found);
    }
    if apt::available() {
        apt::install(&["chromium"], consent)?;
    }
    match find() {
        Some(found) => Ok(found),
        None => bail!("no Chromium: install it, or set {VARIABLE} to the path of the program"),
    }
}

fn find() -> Option<PathBuf> {
    NAMES.iter().find(|name| on_path(name)).map(PathBuf::from)
}
