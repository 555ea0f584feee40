//! What any file is refused for, wherever it is read from.

use std::io::{Error as IoError, ErrorKind};
use std::path::Path;

use crate::error::{Error, Result};

/// An error for a file of more than `limit` bytes.
pub(super) fn too_large(path: &Path, limit: u64) -> Error {
    let problem = format!("larger than the limit of {limit} bytes");
    Error::io(path, "read")(IoError::new(ErrorKind::FileTooLarge, problem))
}

/// The text that a file holds.
///
/// # Errors
/// [`Error::Checkpoint`] for what is not UTF-8.
pub(super) fn text(path: &Path, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|e| {
        let position = e.utf8_error().valid_up_to();
        Error::checkpoint(path, None, format!("not UTF-8 at byte {position}"))
    })
}
