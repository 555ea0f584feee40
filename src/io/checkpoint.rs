//! Checkpoints: folders `checkpoint-00000040` of plain files, with a manifest of their sizes and
//! digests. They are committed atomically (see [`super::atomic`]), so that a kill at any instant
//! leaves the one before whole; what a disk damages later, the digests find.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::atomic;
use super::json::{read_json, write_json};
pub use super::json::{read_text, write_bytes};
use super::manifest::{self, MANIFEST, entries};
pub use super::manifest::{FileEntry, measure, verify};
use crate::error::{Error, Result};
use crate::process::LossScale;

const PREFIX: &str = "checkpoint-";
const STATE: &str = "state.json";
/// File of the run's configuration, TOML.
pub const CONFIG: &str = "config.toml";
/// File of the weights as the last step left them.
pub const MODEL: &str = "model.safetensors";
/// File of the weights' moving average, which models are loaded from.
pub const EMA: &str = "ema.safetensors";
/// File of AdamW's two moments.
pub const OPTIMIZER: &str = "optimizer.safetensors";
/// File of the tokenizer that made the corpus.
pub const TOKENIZER: &str = "tokenizer.json";

/// Files of a published model that checkpoints of runs on it hold as well, where it has them; the last two also those of
/// other runs on conversations.
pub const OF_BASE: [&str; 3] = [
    "config.json",
    "tokenizer_config.json",
    "chat_template.jinja",
];

/// Refuses a folder that holds anything but the files of a checkpoint.
fn ours(folder: &Path) -> Result<()> {
    let own = [CONFIG, MODEL, EMA, OPTIMIZER, TOKENIZER, STATE, MANIFEST];
    atomic::only(folder, &[&own[..], &OF_BASE].concat())
}

/// Where training stood, apart from the tensors. Batches, times, masks and dropout are functions
/// of seed and step, so no generator or data position is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainState {
    /// Optimiser steps done, skipped ones included.
    pub step: u64,
    /// Tokens seen in all steps so far.
    pub tokens: u64,
    /// Steps skipped because their gradient was not finite.
    pub skipped: u64,
    /// How many of them were the last ones in a row.
    pub skipped_in_a_row: u64,
    /// What gradients are scaled by, in runs in half precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<LossScale>,
    /// Seed of the run.
    pub seed: u64,
    /// Digest of the corpus, see [`crate::data::Corpus::digest`].
    pub corpus_digest: String,
    /// Device the run was on; another one rounds differently.
    pub device: String,
    /// Threads of the CPU executor; another number rounds differently.
    pub threads: usize,
    /// Ranks that trained together.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub ranks: usize,
    /// Step of the best validation so far, in runs that end when validation stops improving.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<u64>,
}

fn one() -> usize {
    1
}

fn is_one(ranks: &usize) -> bool {
    *ranks == 1
}

impl TrainState {
    /// Writes `state.json` into a checkpoint that is being built.
    pub fn write(&self, dir: &Path) -> Result<()> {
        write_json(&dir.join(STATE), self)
    }

    /// Reads `state.json` of a checkpoint.
    pub fn read(dir: &Path) -> Result<Self> {
        read_json(&dir.join(STATE))
    }
}

/// Name of the checkpoint after `step` steps.
pub fn name(step: u64) -> String {
    format!("{PREFIX}{step:08}")
}

/// Refuses a place in a checkpoint, which holds its own files and nothing else.
///
/// # Errors
/// [`Error::Argument`] that names the checkpoint.
pub(crate) fn refuse_inside(path: &Path) -> Result<()> {
    let absolute = std::path::absolute(path).map_err(Error::io(path, "open"))?;
    let checkpoint = |folder: &&Path| {
        let name = folder.file_name().and_then(|name| name.to_str());
        name.and_then(step_of).is_some() && folder.is_dir() || folder.join(MANIFEST).exists()
    };
    match absolute.ancestors().find(checkpoint) {
        None => Ok(()),
        Some(folder) => {
            let problem = format!(
                "{} is a checkpoint, which nothing can be added to",
                folder.display()
            );
            Err(Error::argument("out", path.display(), problem))
        }
    }
}

/// Parent and name of a folder that is to be made, outside of checkpoints.
///
/// # Errors
/// [`Error::Argument`] for a path that ends in no name, or that lies in a checkpoint.
pub(crate) fn place_for(out: &Path) -> Result<(&Path, &str)> {
    let Some(name) = out.file_name().and_then(|name| name.to_str()) else {
        let problem = "is not the name of a folder to be made";
        return Err(Error::argument("out", out.display(), problem));
    };
    refuse_inside(out)?;
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok((parent.unwrap_or(Path::new(".")), name))
}

fn step_of(file_name: &str) -> Option<u64> {
    let step = file_name.strip_prefix(PREFIX)?.parse().ok()?;
    (name(step) == file_name).then_some(step)
}

/// Writes a checkpoint: `build` puts its files directly into the folder that it is given. The
/// leftovers of killed runs go first.
pub fn save(run_dir: &Path, step: u64, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    for file_name in entries(run_dir)? {
        match atomic::meant_for(&file_name) {
            Some(target) if step_of(target).is_some() => {
                atomic::remove_leftovers(run_dir, target, &ours)?
            }
            _ => {}
        }
    }
    atomic::commit_directory(run_dir, &name(step), &ours, |dir| {
        build(dir)?;
        manifest::write(dir)
    })
}

/// The manifest's bytes, which tell a checkpoint from every other.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn manifest_of(dir: &Path) -> Result<Vec<u8>> {
    let path = dir.join(MANIFEST);
    fs::read(&path).map_err(Error::io(&path, "read"))
}

/// Steps and folders of a run's checkpoints, whole or not, in rising order. A run that does not
/// exist has none.
pub fn list(run_dir: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found: Vec<(u64, PathBuf)> = entries(run_dir)?
        .into_iter()
        .filter_map(|file_name| Some((step_of(&file_name)?, run_dir.join(file_name))))
        .collect();
    found.sort();
    Ok(found)
}

/// The newest checkpoint of a run that passes [`verify`]; damaged ones are passed over with a
/// warning in the log.
pub fn newest_whole(run_dir: &Path) -> Result<Option<PathBuf>> {
    for (_, path) in list(run_dir)?.into_iter().rev() {
        match verify(&path) {
            Ok(()) => return Ok(Some(path)),
            Err(e) => log::warn!("skipping {}: {e}", path.display()),
        }
    }
    Ok(None)
}

/// The checkpoint that `dir` means: itself, verified; of a run's folder, the one with the best validation if
/// the run has kept it, else the newest whole one.
pub fn resolve(dir: &Path) -> Result<PathBuf> {
    fs::metadata(dir).map_err(Error::io(dir, "open"))?;
    let named = dir
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(step_of)
        .is_some();
    if named || dir.join(MANIFEST).exists() {
        verify(dir)?;
        return Ok(dir.to_owned());
    }
    let none = || Error::checkpoint(dir, None, "there is no whole checkpoint in this folder");
    let newest = newest_whole(dir)?.ok_or_else(none)?;
    let best = TrainState::read(&newest)?
        .best
        .map(|step| dir.join(name(step)));
    Ok(best.filter(|best| verify(best).is_ok()).unwrap_or(newest))
}

/// Removes all but the newest `keep` checkpoints up to step `last`, the one just saved, and the one
/// of step `best`. Later ones can only be damaged ones that a resumed run will replace. One in which somebody keeps
/// other files stays, with a warning in the log.
pub fn prune(run_dir: &Path, keep: usize, last: u64, best: Option<u64>) -> Result<()> {
    let past = list(run_dir)?
        .into_iter()
        .filter(|(step, _)| *step <= last)
        .rev();
    for (step, path) in past.skip(keep).filter(|(step, _)| Some(*step) != best) {
        match ours(&path) {
            Ok(()) => atomic::remove_directory(run_dir, &name(step), &ours)?,
            Err(e) => log::warn!("{} is kept: {e}", path.display()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    fn state(step: u64) -> TrainState {
        TrainState {
            step,
            tokens: 10 * step,
            skipped: 1,
            skipped_in_a_row: 0,
            loss_scale: None,
            seed: 3,
            corpus_digest: "ab".to_owned(),
            device: "cpu".to_owned(),
            threads: 2,
            ranks: 1,
            best: None,
        }
    }

    fn save_small(run: &Path, step: u64) -> PathBuf {
        save(run, step, |dir| {
            write_bytes(&dir.join("model.safetensors"), &[step as u8; 50])?;
            write_bytes(&dir.join("config.toml"), b"seed = 1\n")?;
            state(step).write(dir)
        })
        .unwrap()
    }

    fn steps(run: &Path) -> Vec<u64> {
        list(run)
            .unwrap()
            .into_iter()
            .map(|(step, _)| step)
            .collect()
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
    fn a_checkpoint_holds_what_was_saved() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        assert_eq!(newest_whole(&run).unwrap(), None);
        let path = save_small(&run, 40);
        assert_eq!(path, run.join("checkpoint-00000040"));
        let mut files = entries(&path).unwrap();
        files.sort();
        assert_eq!(
            files,
            [
                "config.toml",
                "manifest.json",
                "model.safetensors",
                "state.json"
            ]
        );
        verify(&path).unwrap();
        assert_eq!(TrainState::read(&path).unwrap(), state(40));
        assert_eq!(
            read_text(&path.join("config.toml"), 100).unwrap(),
            "seed = 1\n"
        );
        assert!(matches!(
            read_text(&path.join("config.toml"), 3),
            Err(Error::Io { .. })
        ));
    }

    #[test]
    fn the_newest_whole_one_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path();
        for step in [9, 100, 123_456_789] {
            save_small(run, step);
        }
        fs::create_dir(run.join("checkpoint-7")).unwrap();
        fs::create_dir(run.join("checkpoint-abc")).unwrap();
        assert_eq!(steps(run), [9, 100, 123_456_789]);
        assert_eq!(resolve(run).unwrap(), run.join("checkpoint-123456789"));
        fs::remove_file(run.join("checkpoint-123456789/manifest.json")).unwrap();
        fs::write(run.join("checkpoint-00000100/config.toml"), "seed = 2\n").unwrap();
        assert_eq!(newest_whole(run).unwrap(), Some(run.join(name(9))));
        assert_eq!(resolve(run).unwrap(), run.join(name(9)));
        assert_eq!(resolve(&run.join(name(9))).unwrap(), run.join(name(9)));
        refused(
            resolve(&run.join("checkpoint-123456789")),
            &run.join("checkpoint-123456789"),
            "manifest",
        );
        fs::remove_dir_all(run.join(name(9))).unwrap();
        refused(resolve(run), run, "no whole checkpoint");
        assert!(matches!(
            resolve(&run.join("absent")),
            Err(Error::Io { .. })
        ));
    }

    #[test]
    fn pruning_keeps_the_newest_up_to_the_last_saved() {
        let dir = tempfile::tempdir().unwrap();
        for step in [1, 2, 3, 4, 9] {
            save_small(dir.path(), step);
        }
        prune(dir.path(), 2, 4, Some(1)).unwrap();
        assert_eq!(steps(dir.path()), [1, 3, 4, 9]);
        prune(dir.path(), 2, 4, None).unwrap();
        assert_eq!(steps(dir.path()), [3, 4, 9]);
        prune(dir.path(), 5, 4, None).unwrap();
        assert_eq!(steps(dir.path()), [3, 4, 9]);
        assert_eq!(entries(dir.path()).unwrap().len(), 3);
        let notes = dir.path().join(name(3)).join("notes.txt");
        fs::write(&notes, "mine").unwrap();
        prune(dir.path(), 1, 4, None).unwrap();
        assert_eq!(fs::read(&notes).unwrap(), b"mine");
        assert!(save(dir.path(), 3, |_| Ok(())).is_err());
        assert_eq!(fs::read(&notes).unwrap(), b"mine");
    }

    #[test]
    fn leftovers_of_a_killed_run_are_removed_by_the_next_save() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path();
        save_small(run, 1);
        for leftover in [".checkpoint-00000002.partial", ".checkpoint-00000001.old"] {
            fs::create_dir(run.join(leftover)).unwrap();
            fs::write(run.join(leftover).join("model.safetensors"), "half").unwrap();
        }
        fs::create_dir(run.join(".someone.partial")).unwrap();
        assert_eq!(newest_whole(run).unwrap(), Some(run.join(name(1))));
        save_small(run, 3);
        let mut left = entries(run).unwrap();
        left.sort();
        assert_eq!(left, [".someone.partial".to_owned(), name(1), name(3)]);
    }

    #[test]
    fn a_failed_save_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        save_small(dir.path(), 1);
        let failed = save(dir.path(), 2, |dir| {
            write_bytes(&dir.join("model.safetensors"), b"half")?;
            Err(Error::Cancelled)
        });
        assert!(matches!(failed, Err(Error::Cancelled)));
        assert_eq!(entries(dir.path()).unwrap(), [name(1)]);
        verify(&dir.path().join(name(1))).unwrap();
        // A checkpoint is flat.
        let nested = save(dir.path(), 2, |dir| {
            fs::create_dir(dir.join("inner")).map_err(Error::io(dir, "create"))
        });
        assert!(nested.is_err());
        assert_eq!(entries(dir.path()).unwrap(), [name(1)]);
    }

    #[test]
    fn a_bad_state_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(STATE);
        state(4).write(dir.path()).unwrap();
        let json = fs::read_to_string(&path).unwrap();
        let read_as = |text: &str| {
            fs::write(&path, text).unwrap();
            TrainState::read(dir.path())
        };
        refused(read_as(""), &path, "");
        refused(read_as(&json.replace("tokens", "tokins")), &path, "tokins");
        refused(read_as(&json.replace("40", "-1")), &path, "-1");
        refused(
            read_as(&json.replace("\"format\": 1", "\"format\": 7")),
            &path,
            "format 7",
        );
        fs::write(&path, [b'{', 0xFF]).unwrap();
        refused(TrainState::read(dir.path()), &path, "UTF-8");
        fs::remove_file(&path).unwrap();
        assert!(matches!(
            TrainState::read(dir.path()),
            Err(Error::Io { .. })
        ));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_leaves_nothing_new() {
        let dir = tempfile::tempdir().unwrap();
        save_small(dir.path(), 1);
        let failed = save(dir.path(), 2, |dir| {
            // Every write to this device says that there is no space.
            let path = dir.join("model.safetensors");
            std::os::unix::fs::symlink("/dev/full", &path).map_err(Error::io(dir, "create"))?;
            write_bytes(&path, b"weights")
        });
        match failed {
            Err(Error::Io {
                path,
                action: "write",
                source,
            }) => {
                assert!(path.ends_with("model.safetensors"));
                assert_eq!(source.kind(), ErrorKind::StorageFull);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(entries(dir.path()).unwrap(), [name(1)]);
    }
}
