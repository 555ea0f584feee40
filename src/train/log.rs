//! `log.jsonl`: one row for each optimiser step.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::io::{atomic, read};
use crate::progress::StepStats;

/// Largest log that is read.
const MAX_LOG_BYTES: u64 = 1 << 32;

/// A row of the log.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Figures of the step.
    #[serde(flatten)]
    pub stats: StepStats,
    /// Validation perplexity, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_ppl: Option<f64>,
    /// Its standard error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_std_err: Option<f64>,
}

/// Reads a log; a last row that a kill cut short is left out.
///
/// # Errors
/// [`Error::Io`], or [`Error::Corpus`] that names the line.
pub fn read_log(path: &Path) -> Result<Vec<Row>> {
    let rows = parse(path, &bytes(path)?)?;
    Ok(rows.into_iter().map(|(row, _)| row).collect())
}

/// What a log holds; a log that does not exist yet is empty.
fn bytes(path: &Path) -> Result<Vec<u8>> {
    // one that cannot be looked for now may well be there, and would be replaced
    match path.try_exists().map_err(Error::io(path, "open"))? {
        true => read::read(path, MAX_LOG_BYTES),
        false => Ok(Vec::new()),
    }
}

/// Rows with the positions where they end.
fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<(Row, usize)>> {
    let (mut rows, mut end) = (Vec::new(), 0);
    for (i, line) in bytes.split_inclusive(|&b| b == b'\n').enumerate() {
        if !line.ends_with(b"\n") {
            break;
        }
        end += line.len();
        let row = serde_json::from_slice(line)
            .map_err(|e| Error::corpus(path, format!("line {}: {e}", i + 1)))?;
        rows.push((row, end));
    }
    Ok(rows)
}

/// An open log.
pub(super) struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens the log of a run that has done `step` steps; rows after that, from steps that were not
    /// saved, are dropped.
    pub(super) fn open(path: &Path, step: u64) -> Result<(Self, Vec<Row>)> {
        let bytes = bytes(path)?;
        let mut rows = parse(path, &bytes)?;
        rows.retain(|(row, _)| row.stats.step <= step);
        // The bytes themselves are kept: numbers that are parsed and printed may change.
        let end = rows.last().map_or(0, |&(_, end)| end);
        atomic::write_file(path, &bytes[..end])?;
        let rows = rows.into_iter().map(|(row, _)| row).collect();
        let file = OpenOptions::new()
            .append(true)
            .open(path)
            .map_err(Error::io(path, "open"))?;
        Ok((
            Self {
                path: path.to_owned(),
                file,
            },
            rows,
        ))
    }

    /// Appends a row.
    pub(super) fn push(&mut self, row: &Row) -> Result<()> {
        let mut line =
            serde_json::to_vec(row).map_err(|e| Error::Internal(format!("log row: {e}")))?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .map_err(Error::io(&self.path, "write"))
    }
}
