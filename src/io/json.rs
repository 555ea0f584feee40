//! Small files of a checkpoint: text within a limit, JSON with the version of its layout.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{content, read};
use crate::error::{Error, Result};

const FORMAT: u32 = 1;
/// Largest JSON file that is read.
const MAX_JSON_BYTES: u64 = 1 << 20;

/// A file with the version of its layout.
#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    format: u32,
    #[serde(flatten)]
    content: T,
}

/// Text of a small file of a checkpoint, of at most `limit` bytes.
pub fn read_text(path: &Path, limit: u64) -> Result<String> {
    content::text(path, read::read(path, limit)?)
}

/// Writes a small file of a checkpoint that is being built.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).map_err(Error::io(path, "write"))
}

pub(super) fn write_json(path: &Path, content: &impl Serialize) -> Result<()> {
    let json = serde_json::to_vec_pretty(&Versioned {
        format: FORMAT,
        content,
    })
    .map_err(|e| Error::Internal(e.to_string()))?;
    write_bytes(path, &json)
}

pub(super) fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    let damaged = |problem: String| Error::checkpoint(path, None, problem);
    let text = read_text(path, MAX_JSON_BYTES)?;
    let file: Versioned<serde_json::Value> =
        super::keyed::parse(text.as_bytes()).map_err(damaged)?;
    if file.format != FORMAT {
        return Err(damaged(format!(
            "format {}; this version reads {FORMAT}",
            file.format
        )));
    }
    serde_json::from_value(file.content).map_err(|e| damaged(e.to_string()))
}
