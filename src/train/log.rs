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
    if !path.exists() {
        return Ok(Vec::new());
    }
    let bytes = read::read(path, MAX_LOG_BYTES)?;
    let lines: Vec<&[u8]> = bytes.split(|&b| b == b'\n').collect();
    let mut rows = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        match serde_json::from_slice(line) {
            Ok(row) => rows.push(row),
            Err(_) if i + 1 == lines.len() => break,
            Err(e) => return Err(Error::corpus(path, format!("line {}: {e}", i + 1))),
        }
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
        let mut rows = read_log(path)?;
        rows.retain(|row| row.stats.step <= step);
        let mut text = Vec::new();
        for row in &rows {
            write_row(&mut text, row)?;
        }
        atomic::write_file(path, &text)?;
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
        let mut line = Vec::new();
        write_row(&mut line, row)?;
        self.file
            .write_all(&line)
            .map_err(Error::io(&self.path, "write"))
    }
}

fn write_row(out: &mut Vec<u8>, row: &Row) -> Result<()> {
    serde_json::to_writer(&mut *out, row).map_err(|e| Error::Internal(format!("log row: {e}")))?;
    out.push(b'\n');
    Ok(())
}
