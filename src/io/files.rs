//! Where a model's files lie: in a folder, or wherever a program keeps them, such as in what a visitor gave to a page.
//!
//! They are read in parts, so that no more of a file has to be in memory than is looked at.

use std::future::Future;
use std::path::PathBuf;

use super::content::{text, too_large};
use crate::error::{Error, Result};

/// Files of one folder, by their names.
pub trait Files {
    /// What stands for a file in errors.
    fn path(&self, name: &str) -> PathBuf;

    /// Whether there is a file of that name.
    fn has(&self, name: &str) -> bool;

    /// Opens a file.
    ///
    /// # Errors
    /// [`Error::Io`], also where there is none of that name.
    fn open(&self, name: &str) -> Result<impl Source>;
}

/// An open file.
pub trait Source {
    /// Its bytes.
    fn size(&self) -> u64;

    /// Fills `into` with what lies from byte `at` on.
    ///
    /// # Errors
    /// [`Error::Io`], also where the file ends before; [`Error::Cancelled`] where whoever gave the files does not want
    /// them to be read any further.
    fn read_at(&mut self, at: u64, into: &mut [u8]) -> impl Future<Output = Result<()>>;
}

/// All bytes of a file of at most `limit` bytes.
///
/// # Errors
/// As [`Files::open`] and [`Source::read_at`]; [`Error::Io`] for a larger file.
pub async fn read_all(files: &impl Files, name: &str, limit: u64) -> Result<Vec<u8>> {
    let mut file = files.open(name)?;
    if file.size() > limit {
        return Err(too_large(&files.path(name), limit));
    }
    let mut bytes = vec![0; file.size() as usize];
    file.read_at(0, &mut bytes).await?;
    Ok(bytes)
}

/// The text of a file of at most `limit` bytes.
///
/// # Errors
/// As [`read_all`]; [`Error::Checkpoint`] for what is not UTF-8.
pub async fn read_text(files: &impl Files, name: &str, limit: u64) -> Result<String> {
    text(&files.path(name), read_all(files, name, limit).await?)
}

/// A folder on disk.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Clone, Debug)]
pub struct Folder(pub PathBuf);

#[cfg(not(target_arch = "wasm32"))]
impl Folder {
    /// The folder of a file, and the file's name in it.
    ///
    /// # Errors
    /// [`Error::Argument`] for a path that ends in no name.
    pub fn of(path: &std::path::Path) -> Result<(Self, &str)> {
        let name = path.file_name().and_then(|name| name.to_str());
        let problem = "is not the name of a file";
        let name = name.ok_or_else(|| Error::argument("file", path.display(), problem))?;
        Ok((Self(path.with_file_name("")), name))
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Files for Folder {
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Whatever it is: one that cannot be read is an error of whoever opens it.
    fn has(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }

    fn open(&self, name: &str) -> Result<impl Source> {
        let path = self.path(name);
        let file = super::read::open(&path)?;
        let size = file.metadata().map_err(Error::io(&path, "read"))?.len();
        Ok(OnDisk { path, file, size })
    }
}

#[cfg(not(target_arch = "wasm32"))]
struct OnDisk {
    path: PathBuf,
    file: std::fs::File,
    size: u64,
}

#[cfg(not(target_arch = "wasm32"))]
impl Source for OnDisk {
    fn size(&self) -> u64 {
        self.size
    }

    async fn read_at(&mut self, at: u64, into: &mut [u8]) -> Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        let read = self
            .file
            .seek(SeekFrom::Start(at))
            .and_then(|_| self.file.read_exact(into));
        read.map_err(Error::io(&self.path, "read"))
    }
}

/// A file in memory.
pub struct InMemory<'a>(pub &'a [u8]);

impl Source for InMemory<'_> {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    async fn read_at(&mut self, at: u64, into: &mut [u8]) -> Result<()> {
        let rest = usize::try_from(at).ok().and_then(|at| self.0.get(at..));
        match rest.and_then(|rest| rest.get(..into.len())) {
            Some(bytes) => into.copy_from_slice(bytes),
            None => {
                let problem = format!("bytes {at} and following are not in memory");
                return Err(Error::Internal(problem));
            }
        }
        Ok(())
    }
}
