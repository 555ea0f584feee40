//! Files and folders that appear under their names whole or not at all.
//!
//! What is promised, for one writer per folder: after a success the content has reached the disk.
//! After an error nothing is left behind and what had the name before still has it; only where the
//! disk does not confirm the last rename, or what was replaced cannot be removed, the new one does. After a kill
//! or a power cut at any instant the name shows either the old content or the new one; a folder
//! that *replaces* another may also be missing for the instant between two renames. Leftovers
//! begin with a dot and are removed by the next write to the same name. On Windows folders cannot
//! be flushed, so that a power cut (not a kill) may undo the last write.
//!
//! A folder is replaced or removed only after its owner, an [`Ours`], has said that it is one of its own.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Writes a file beside `path`, flushes it and renames it to `path`.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |file| {
        file.write_all(bytes).map_err(Error::io(path, "write"))
    })
}

/// As [`write_file`], with what `build` writes into the empty file that it is given.
pub(crate) fn write_with(
    path: &Path,
    build: impl FnOnce(&mut fs::File) -> Result<()>,
) -> Result<()> {
    let (parent, name) = split(path)?;
    let partial = hidden(parent, name, "partial");
    let written = build_and_flush(&partial, build)
        .and_then(|()| fs::rename(&partial, path).map_err(Error::io(path, "rename a file to")));
    if written.is_err() && !fs::symlink_metadata(&partial).is_ok_and(|found| found.is_symlink()) {
        // The first error is the one to report.
        let _ = fs::remove_file(&partial);
    }
    written?;
    flush_folder(parent)
}

/// Refuses a folder that holds anything else than what its kind of folder does: it is somebody else's.
pub type Ours = dyn Fn(&Path) -> Result<()>;

/// Refuses a folder with anything but regular files of these names.
///
/// # Errors
/// [`Error::Argument`] that names what it holds.
pub fn only(folder: &Path, names: &[&str]) -> Result<()> {
    let refuse = |problem: String| Err(Error::argument("out", folder.display(), problem));
    let metadata = fs::symlink_metadata(folder).map_err(Error::io(folder, "open"))?;
    if !metadata.is_dir() {
        let problem = "is there and no folder: it is left as it is; take another name";
        return refuse(problem.to_owned());
    }
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "list"))? {
        let entry = entry.map_err(Error::io(folder, "list"))?;
        let name = entry.file_name();
        let file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if !(file && names.iter().any(|known| name == *known)) {
            return refuse(format!(
                "holds {}, which would be lost: it is left as it is; take another name",
                name.display()
            ));
        }
    }
    Ok(())
}

/// Creates the folder `parent/name` from what `build` writes into an empty folder that it is
/// given; a folder of that name that is `ours` is replaced. Files must lie directly inside.
pub fn commit_directory(
    parent: &Path,
    name: &str,
    ours: &Ours,
    build: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let path = parent.join(name);
    let partial = hidden(parent, name, "partial");
    for taken in [&path, &partial, &hidden(parent, name, "old")] {
        if fs::symlink_metadata(taken).is_ok() {
            ours(taken)?;
        }
    }
    let made = create_all(parent)?;
    let committed = remove_tree(&partial)
        .and_then(|()| fs::create_dir(&partial).map_err(Error::io(&partial, "create")))
        .and_then(|()| build(&partial))
        .and_then(|()| flush_all(&partial))
        .and_then(|()| move_aside(parent, name))
        .and_then(|()| {
            fs::rename(&partial, &path).map_err(|source| {
                // what was there comes back
                let _ = fs::rename(hidden(parent, name, "old"), &path);
                Error::io(&path, "rename a folder to")(source)
            })
        });
    if committed.is_err() {
        // The first error is the one to report. Only empty folders can be removed in the second way.
        let _ = fs::remove_dir_all(&partial);
        made.iter().for_each(|folder| drop(fs::remove_dir(folder)));
    }
    committed?;
    flush_folder(parent)?;
    remove_tree(&hidden(parent, name, "old"))?;
    Ok(path)
}

/// Creates a folder and those above it; which of them were not there, the innermost first.
fn create_all(folder: &Path) -> Result<Vec<PathBuf>> {
    let missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let missing: Vec<PathBuf> = folder
        .ancestors()
        .take_while(missing)
        .map(Path::to_owned)
        .collect();
    fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
    Ok(missing)
}

/// Removes the folder `parent/name`, if it is `ours`, so that it is never seen half empty.
pub fn remove_directory(parent: &Path, name: &str, ours: &Ours) -> Result<()> {
    ours(&parent.join(name))?;
    move_aside(parent, name)?;
    remove_tree(&hidden(parent, name, "old"))
}

/// Removes what a killed [`commit_directory`] or [`remove_directory`] of this name has left.
pub(crate) fn remove_leftovers(parent: &Path, name: &str, ours: &Ours) -> Result<()> {
    for suffix in ["partial", "old"] {
        let leftover = hidden(parent, name, suffix);
        if fs::symlink_metadata(&leftover).is_ok() {
            ours(&leftover)?;
            remove_tree(&leftover)?;
        }
    }
    Ok(())
}

/// The name that `leftover`, a hidden file name, was meant for.
pub(crate) fn meant_for(leftover: &str) -> Option<&str> {
    let name = leftover.strip_prefix('.')?;
    name.strip_suffix(".partial")
        .or_else(|| name.strip_suffix(".old"))
}

fn hidden(parent: &Path, name: &str, suffix: &str) -> PathBuf {
    parent.join(format!(".{name}.{suffix}"))
}

fn split(path: &Path) -> Result<(&Path, &str)> {
    let name = path.file_name().and_then(|name| name.to_str());
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    match name {
        Some(name) => Ok((parent.unwrap_or(Path::new(".")), name)),
        None => Err(Error::io(path, "write")(ErrorKind::InvalidFilename.into())),
    }
}

fn move_aside(parent: &Path, name: &str) -> Result<()> {
    let (path, old) = (parent.join(name), hidden(parent, name, "old"));
    remove_tree(&old)?;
    match fs::rename(&path, &old) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(&path, "move aside")(e)),
        _ => Ok(()),
    }
}

fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(path, "remove")(e)),
        _ => Ok(()),
    }
}

fn build_and_flush(path: &Path, build: impl FnOnce(&mut fs::File) -> Result<()>) -> Result<()> {
    // a leftover goes, a link leads to somebody else's file
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        fs::remove_file(path).map_err(Error::io(path, "remove"))?;
    }
    let mut file = fs::File::create_new(path).map_err(Error::io(path, "create"))?;
    build(&mut file)?;
    file.sync_all().map_err(Error::io(path, "flush"))
}

fn flush_all(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "list"))? {
        let path = entry.map_err(Error::io(folder, "list"))?.path();
        // Windows flushes only what is open for writing.
        let file = OpenOptions::new()
            .write(true)
            .open(&path)
            .map_err(Error::io(&path, "open"))?;
        file.sync_all().map_err(Error::io(&path, "flush"))?;
    }
    flush_folder(folder)
}

#[cfg(unix)]
fn flush_folder(path: &Path) -> Result<()> {
    let folder = fs::File::open(path).map_err(Error::io(path, "open"))?;
    folder.sync_all().map_err(Error::io(path, "flush"))
}

#[cfg(not(unix))]
fn flush_folder(_: &Path) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(_: &Path) -> Result<()> {
        Ok(())
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        write_file(&path, b"one").unwrap();
        // A killed run's leftover.
        fs::write(dir.path().join(".log.partial"), b"longer than what follows").unwrap();
        write_file(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(dir.path()), ["log"]);
        assert!(matches!(
            write_file(Path::new("/"), b""),
            Err(Error::Io { .. })
        ));
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_the_folder_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        fs::create_dir(&path).unwrap();
        let error = write_file(&path, b"x").unwrap_err();
        assert!(
            matches!(
                error,
                Error::Io {
                    action: "rename a file to",
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(names(dir.path()), ["taken"]);
        let error = write_file(&dir.path().join("no/such"), b"x").unwrap_err();
        assert!(
            matches!(
                error,
                Error::Io {
                    action: "create",
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn a_folder_appears_whole_and_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let parent = dir.path().join("run");
        let put = |text: &'static str| {
            move |folder: &Path| {
                fs::write(folder.join(text), text).map_err(Error::io(folder, "write"))
            }
        };
        let path = commit_directory(&parent, "c", &any, put("first")).unwrap();
        assert_eq!(names(&path), ["first"]);
        // Leftovers of runs that were killed while writing and while replacing.
        for leftover in [".c.partial", ".c.old"] {
            fs::create_dir(parent.join(leftover)).unwrap();
            fs::write(parent.join(leftover).join("junk"), "junk").unwrap();
        }
        commit_directory(&parent, "c", &any, put("second")).unwrap();
        assert_eq!(names(&path), ["second"]);
        assert_eq!(names(&parent), ["c"]);
        remove_directory(&parent, "c", &any).unwrap();
        assert!(names(&parent).is_empty());
    }

    #[test]
    fn a_failed_build_leaves_nothing_new() {
        let dir = tempfile::tempdir().unwrap();
        commit_directory(dir.path(), "c", &any, |_| Ok(())).unwrap();
        let failed = commit_directory(dir.path(), "c", &any, |folder| {
            fs::write(folder.join("a"), "half").map_err(Error::io(folder, "write"))?;
            Err(Error::Cancelled)
        });
        assert!(matches!(failed, Err(Error::Cancelled)));
        assert_eq!(names(dir.path()), ["c"]);
        assert!(names(&dir.path().join("c")).is_empty());
    }

    #[test]
    fn what_is_not_ours_stays() {
        let dir = tempfile::tempdir().unwrap();
        let ours = |folder: &Path| only(folder, &["a", "b"]);
        let put =
            |folder: &Path| fs::write(folder.join("a"), "new").map_err(Error::io(folder, "write"));
        let parent = dir.path().join("deep/er");
        commit_directory(&parent, "c", &ours, put).unwrap();
        commit_directory(&parent, "c", &ours, put).unwrap();
        let refused = |at: &Path, part: &str| {
            let error = commit_directory(&parent, "c", &ours, put).unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains(part) && text.contains(at.to_str().unwrap()),
                "{text}"
            );
        };
        for at in ["c", ".c.partial", ".c.old"] {
            let folder = parent.join(at);
            fs::create_dir_all(folder.join("inner")).unwrap();
            refused(&folder, "holds inner");
            fs::remove_dir(folder.join("inner")).unwrap();
            fs::write(folder.join("thesis"), "years").unwrap();
            refused(&folder, "holds thesis");
            assert!(remove_directory(&parent, at, &ours).is_err());
            assert_eq!(fs::read(folder.join("thesis")).unwrap(), b"years");
            fs::remove_file(folder.join("thesis")).unwrap();
            commit_directory(&parent, "c", &ours, put).unwrap();
            assert_eq!(names(&parent), ["c"]);
        }
        fs::remove_dir_all(parent.join("c")).unwrap();
        fs::write(parent.join("c"), "a file").unwrap();
        refused(&parent.join("c"), "no folder");
        // nothing is left of folders made for nothing
        let fail = |_: &Path| Err(Error::Cancelled);
        let deep = dir.path().join("x/y");
        assert!(commit_directory(&deep, "z", &ours, fail).is_err());
        assert_eq!(names(dir.path()), ["deep"]);
    }
}
