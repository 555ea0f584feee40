//! Copies of the models of the fixtures, to be spoilt.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;
use tempfile::TempDir;

use crate::models::fixture;

/// A copy of a model of the fixtures.
pub(super) fn copied(name: &str) -> Result<(TempDir, PathBuf)> {
    let guard = tempfile::tempdir()?;
    let folder = guard.path().join(name);
    std::fs::create_dir(&folder)?;
    for entry in std::fs::read_dir(fixture(name))? {
        let entry = entry?;
        std::fs::copy(entry.path(), folder.join(entry.file_name()))?;
    }
    Ok((guard, folder))
}

/// Changes a JSON file.
pub(super) fn edit(file: &Path, change: impl FnOnce(&mut Value)) -> Result<()> {
    let mut json: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    change(&mut json);
    Ok(std::fs::write(file, json.to_string())?)
}
