//! Tokenizers among a model's files, wherever these lie.

use std::path::Path;

use super::origin::with_path;
use super::special::SpecialNames;
use super::tokenizer::{MAX_FILE_BYTES, Tokenizer};
use crate::error::Result;
use crate::io::files::{Files, read_all};

impl Tokenizer {
    /// As [`Tokenizer::from_file_named`], of the file of that name; packed ones are read natively only.
    ///
    /// # Errors
    /// As [`Tokenizer::from_file_named`].
    pub async fn from_files(files: &impl Files, name: &str, names: &SpecialNames) -> Result<Self> {
        let json = Self::read(files, name).await?;
        Self::from_named(&files.path(name), &json, names)
    }

    /// The content of a `tokenizer.json`, unpacked.
    pub(crate) async fn read(files: &impl Files, name: &str) -> Result<Vec<u8>> {
        let bytes = read_all(files, name, MAX_FILE_BYTES).await?;
        #[cfg(not(target_arch = "wasm32"))]
        let bytes = crate::io::read::unpacked(&files.path(name), bytes, MAX_FILE_BYTES)?;
        Ok(bytes)
    }

    /// As [`Tokenizer::from_json_named`], of the content of a file that errors name.
    pub(crate) fn from_named(path: &Path, json: &[u8], names: &SpecialNames) -> Result<Self> {
        Self::from_json_named(json, names).map_err(|e| with_path(e, path))
    }
}
