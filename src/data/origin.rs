//! Errors about a text or a tokenizer whose file is known to the caller only.

use std::path::Path;

use crate::error::Error;

/// Stands for a text's file.
const TEXT: &str = "text";
/// Stands for a tokenizer's file.
pub(super) const TOKENIZER: &str = "tokenizer.json";

/// An error about a text.
pub(super) fn in_text(problem: String) -> Error {
    Error::corpus(Path::new(TEXT), problem)
}

/// Puts the file's name into an error about text or a tokenizer that did not know where it came from.
pub(super) fn with_path(error: Error, path: &Path) -> Error {
    match error {
        Error::Corpus { path: of, problem }
            if [TEXT, TOKENIZER].iter().any(|name| of == Path::new(name)) =>
        {
            Error::corpus(path, problem)
        }
        other => other,
    }
}
