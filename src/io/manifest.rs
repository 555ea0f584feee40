//! The list of a checkpoint's files with their sizes and digests, written last and checked first.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::json::{read_json, write_json};
use super::{hexadecimal, read};
use crate::error::{Error, Result};

/// Its name in a checkpoint.
pub(super) const MANIFEST: &str = "manifest.json";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    files: BTreeMap<String, FileEntry>,
}

/// Size and digest of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Size in bytes.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
}

/// Writes the manifest of all files in `dir`.
pub(super) fn write(dir: &Path) -> Result<()> {
    let mut files = BTreeMap::new();
    for file_name in entries(dir)? {
        let entry = measure(&dir.join(&file_name))?;
        files.insert(file_name, entry);
    }
    write_json(&dir.join(MANIFEST), &Manifest { files })
}

/// Checks that a checkpoint holds exactly the files of its manifest, with their sizes and digests.
pub fn verify(dir: &Path) -> Result<()> {
    let present = entries(dir)?;
    if !present.iter().any(|file_name| file_name == MANIFEST) {
        let problem = format!("not a whole checkpoint: it has no {MANIFEST}");
        return Err(Error::checkpoint(dir, None, problem));
    }
    let manifest: Manifest = read_json(&dir.join(MANIFEST))?;
    let unlisted = |name: &&String| *name != MANIFEST && !manifest.files.contains_key(*name);
    if let Some(file_name) = present.iter().find(unlisted) {
        return Err(Error::checkpoint(
            &dir.join(file_name),
            None,
            "not in the manifest",
        ));
    }
    for (file_name, entry) in &manifest.files {
        let path = dir.join(file_name);
        // Also keeps a manifest from pointing outside its folder.
        if !present.contains(file_name) {
            return Err(Error::checkpoint(
                &path,
                None,
                "in the manifest, but missing",
            ));
        }
        let found = measure(&path)?;
        if found.bytes != entry.bytes {
            let problem = format!("{} bytes, the manifest says {}", found.bytes, entry.bytes);
            return Err(Error::checkpoint(&path, None, problem));
        }
        if found.sha256 != entry.sha256 {
            return Err(Error::checkpoint(
                &path,
                None,
                "damaged: its digest is not the manifest's",
            ));
        }
    }
    Ok(())
}

/// Names of what lies in a folder; none if there is no such folder.
pub(super) fn entries(dir: &Path) -> Result<Vec<String>> {
    let found = match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(Error::io(dir, "list"))?,
    };
    let name = |entry: std::io::Result<fs::DirEntry>| {
        entry.map(|e| e.file_name().to_string_lossy().into_owned())
    };
    found
        .map(name)
        .collect::<std::io::Result<_>>()
        .map_err(Error::io(dir, "list"))
}

impl FileEntry {
    /// Size and digest of what a file would hold.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.len() as u64,
            sha256: hexadecimal(&Sha256::digest(bytes)),
        }
    }
}

/// Reads a file for its size and digest.
///
/// # Errors
/// [`Error::Io`], or [`Error::Checkpoint`] for what is not a regular file.
pub fn measure(path: &Path) -> Result<FileEntry> {
    let kind = fs::symlink_metadata(path).map_err(Error::io(path, "read"))?;
    if !kind.is_file() {
        return Err(Error::checkpoint(path, None, "not a regular file"));
    }
    let (bytes, digest) = read::measure(path)?;
    let sha256 = hexadecimal(&digest);
    Ok(FileEntry { bytes, sha256 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder `c` with two files and their manifest, and a place beside it.
    fn folder() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = dir.path().join("c");
        fs::create_dir(&checkpoint).unwrap();
        fs::write(checkpoint.join("model.safetensors"), [5; 50]).unwrap();
        fs::write(checkpoint.join("config.toml"), "seed = 1\n").unwrap();
        write(&checkpoint).unwrap();
        (dir, checkpoint)
    }

    fn refused(result: Result<impl std::fmt::Debug>, at: &Path, part: &str) {
        match result {
            Err(Error::Checkpoint { path, problem, .. }) => {
                assert_eq!(path, at);
                assert!(problem.contains(part), "{problem}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_flipped_bit_in_any_byte_is_found() {
        let (_dir, checkpoint) = folder();
        for file_name in entries(&checkpoint).unwrap() {
            let path = checkpoint.join(&file_name);
            let whole = fs::read(&path).unwrap();
            for place in 0..whole.len() {
                let mut bytes = whole.clone();
                bytes[place] ^= 1 << (place % 8);
                fs::write(&path, &bytes).unwrap();
                let found = verify(&checkpoint);
                assert!(
                    matches!(found, Err(Error::Checkpoint { .. })),
                    "{file_name}, byte {place}"
                );
            }
            fs::write(&path, &whole).unwrap();
        }
        verify(&checkpoint).unwrap();
    }

    #[test]
    fn other_damage_is_named() {
        let (dir, checkpoint) = folder();
        let model = checkpoint.join("model.safetensors");
        let whole = fs::read(&model).unwrap();
        fs::write(&model, &whole[..49]).unwrap();
        refused(
            verify(&checkpoint),
            &model,
            "49 bytes, the manifest says 50",
        );
        fs::remove_file(&model).unwrap();
        refused(verify(&checkpoint), &model, "missing");
        fs::create_dir(&model).unwrap();
        refused(verify(&checkpoint), &model, "not a regular file");
        fs::remove_dir(&model).unwrap();
        fs::write(&model, &whole).unwrap();
        verify(&checkpoint).unwrap();

        let extra = checkpoint.join("extra");
        fs::write(&extra, "").unwrap();
        refused(verify(&checkpoint), &extra, "not in the manifest");
        fs::remove_file(&extra).unwrap();

        let manifest = checkpoint.join(MANIFEST);
        let json = fs::read_to_string(&manifest).unwrap();
        fs::write(&manifest, json.replace("\"format\": 1", "\"format\": 2")).unwrap();
        refused(verify(&checkpoint), &manifest, "format 2");
        let outside = json.replace("config.toml", "../config.toml");
        fs::write(&manifest, outside).unwrap();
        fs::rename(
            checkpoint.join("config.toml"),
            dir.path().join("config.toml"),
        )
        .unwrap();
        refused(
            verify(&checkpoint),
            &checkpoint.join("../config.toml"),
            "missing",
        );
    }
}
