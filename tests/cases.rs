//! Inputs that once came out wrong, each with what is right; see `cases/README.md`.
#![allow(clippy::unwrap_used)]

#[path = "cases_parts/commands.rs"]
mod commands;
mod common;
#[path = "cases_parts/files.rs"]
mod files;
#[path = "cases_parts/numbers.rs"]
mod numbers;
#[path = "cases_parts/tokens.rs"]
mod tokens;

use std::path::PathBuf;

/// A file of the cases.
fn case(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/cases").join(name)
}
