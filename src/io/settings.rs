//! Configurations on disk.

use std::path::Path;

use crate::config::TrainConfig;
use crate::error::{Error, Result};
use crate::io::checkpoint::read_text;

/// Largest file that is read.
const MAX_BYTES: u64 = 1 << 16;

/// Reads the configuration of a TOML file, whose name stands in errors about what is in it.
///
/// # Errors
/// [`Error::Config`] that names key and file, [`Error::Io`].
pub fn read(path: &Path) -> Result<TrainConfig> {
    let text = read_text(path, MAX_BYTES)?;
    TrainConfig::from_toml(&text).map_err(|error| match error {
        Error::Config {
            key,
            value,
            problem,
        } => Error::config(key, value, format!("{problem} (in {})", path.display())),
        other => other,
    })
}
