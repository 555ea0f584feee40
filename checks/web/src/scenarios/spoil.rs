//! Copies of the models of the fixtures, to be spoilt.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
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

/// Moves the tensors of a file behind one that is passed over and takes `before` bytes, of which the disk keeps none.
pub(super) fn move_behind(path: &Path, name: &str, before: u64) -> Result<()> {
    let bytes = std::fs::read(path)?;
    let (length, rest) = bytes.split_first_chunk().context("no header")?;
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut tensors: Value = serde_json::from_slice(header)?;
    for (_, tensor) in tensors.as_object_mut().context("no tensors")? {
        let places = tensor.get_mut("data_offsets").and_then(Value::as_array_mut);
        for place in places.into_iter().flatten() {
            *place = json!(place.as_u64().context("no place")? + before);
        }
    }
    let shape = [before >> 30, 1 << 30];
    tensors[name] = json!({"dtype": "U8", "shape": shape, "data_offsets": [0, before]});
    let header = tensors.to_string();
    let mut file = std::fs::File::create(path)?;
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    file.seek(SeekFrom::Current(i64::try_from(before)?))?;
    Ok(file.write_all(data)?)
}
