//! axe-core, which finds what keeps people from using a page: one file of JavaScript for the page's tests.

use crate::node;
use crate::shell::Consent;
use anyhow::{Result, bail};
use std::path::PathBuf;

/// Its version: another one has other rules.
const PACKAGE: &str = "axe-core@4.11.0";

/// Finds the file, or installs it.
pub fn set_up(consent: Consent) -> Result<PathBuf> {
    let file = node::modules(&[PACKAGE], consent)?.join("axe-core/axe.min.js");
    if !file.is_file() {
        bail!("npm left no {}", file.display());
    }
    Ok(file)
}
