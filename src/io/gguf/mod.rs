//! GGUF, the one-file format of `llama.cpp`: metadata, then tensors, many of them quantised in blocks.
//!
//! A header is checked whole before a tensor is read: limits on every count and length, types, alignment, and tensors
//! that lie one behind the other from the header to the end of the file.

mod blocks;
pub mod header;
mod kind;
mod metadata;
mod tensors;

pub use blocks::Scaled;
pub use kind::Kind;
pub use metadata::{Metadata, Value};
pub use tensors::Tensor;

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::read;
use crate::error::{Error, Result};

/// A file whose header was read and checked.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    /// What it says of the model and its tokens.
    pub metadata: Metadata,
    /// Its tensors, in the order of the file.
    pub tensors: Vec<Tensor>,
    file: File,
}

impl Gguf {
    /// Reads the header of a file.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] that names the culprit, [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let file = read::open(path)?;
        let length = file.metadata().map_err(Error::io(path, "read"))?.len();
        let (metadata, tensors) = header::read(BufReader::new(&file), length, path)?;
        Ok(Self {
            path: path.to_owned(),
            metadata,
            tensors,
            file,
        })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensor of that name.
    pub fn find(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// The bytes of one of its tensors: whole blocks.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn read(&self, tensor: &Tensor) -> Result<Vec<u8>> {
        let mut file = &self.file;
        let failed = || Error::io(&self.path, "read");
        file.seek(SeekFrom::Start(tensor.start)).map_err(failed())?;
        let mut bytes = vec![0; tensor.bytes];
        file.read_exact(&mut bytes).map_err(failed())?;
        Ok(bytes)
    }
}
