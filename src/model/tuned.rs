//! What a run on a published model leaves, written for other programs: the model in the layout that it came in, or the
//! adapters as PEFT has them.

use std::path::{Path, PathBuf};

use crate::blocking::wait;
use crate::config::{ModelKind, TrainConfig};
use crate::error::{Error, Result};
use crate::io::checkpoint::{self, EMA, OF_BASE, TOKENIZER, write_bytes};
use crate::io::files::Folder;
use crate::io::safetensors::Precision;
use crate::io::{atomic, read, settings};
use crate::model::load::{Kind, as_published, of_run};
use crate::model::network::NO_LIMIT;
use crate::model::published::WEIGHTS;
use crate::model::{Network, adapters};
use crate::program::Element;

/// Largest of the files that are copied as they are; a vocabulary's is the largest.
const MAX_BYTES: u64 = 1 << 28;

/// The checkpoint and the configuration of a run on a published model; `None` for whatever else can be loaded.
fn tuned(run: &Path) -> Result<Option<(PathBuf, TrainConfig)>> {
    if run.is_file() || as_published(&Folder(run.to_owned())) {
        return Ok(None);
    }
    let dir = checkpoint::resolve(run)?;
    let config = settings::read(&dir.join(checkpoint::CONFIG))?;
    Ok((config.model.kind == ModelKind::Published).then_some((dir, config)))
}

/// Whether a run, or a checkpoint, is about a published model.
///
/// # Errors
/// As [`resolve`](checkpoint::resolve) and [`settings::read`].
pub fn is_tuned(run: &Path) -> Result<bool> {
    Ok(tuned(run)?.is_some())
}

/// Writes the moving average of a run on a published model into the folder `out`, which appears whole or not at all: the
/// model with its description and tokenizer, or its adapters in f32. Nothing is replaced.
///
/// # Errors
/// [`Error::Argument`] for another run, for a folder that is there already, or for weights too large for the precision;
/// [`Error::Checkpoint`]; [`Error::Io`].
pub fn export_tuned(run: &Path, out: &Path, precision: Precision) -> Result<()> {
    let Some((dir, config)) = tuned(run)? else {
        let problem = "is no run on a published model";
        return Err(Error::argument("checkpoint", run.display(), problem));
    };
    let copy = |to: &Path, name: &str, as_name: &str| {
        write_bytes(&to.join(as_name), &read::read(&dir.join(name), MAX_BYTES)?)
    };
    if !config.lora.is_none() {
        return commit(out, |to| {
            adapters::write_config(to, &config.lora, &config.base.path)?;
            copy(to, EMA, adapters::WEIGHTS)
        });
    }
    let (found, folder) = wait(of_run(Folder(dir.clone()), &config))?;
    let Kind::Other(other) = found.kind else {
        return Err(Error::Internal("a published model of this crate's".into()));
    };
    let network = Network::new(other.described.trunk, NO_LIMIT, Element::F32)?;
    let mut values = vec![Vec::new(); network.layout.keys().len()];
    let mut keep = |index: usize, _, read: &[f32]| {
        values[index].extend(read.iter().map(|&x| f64::from(x)));
        Ok(())
    };
    wait(network.read(&folder, EMA, &mut keep))?;
    commit(out, |to| {
        let there = OF_BASE.iter().chain(&[TOKENIZER]);
        for name in there.filter(|name| dir.join(name).is_file()) {
            copy(to, name, name)?;
        }
        network.write(&to.join(WEIGHTS), &values, precision)
    })
}

/// What a killed export may have left.
fn ours(folder: &Path) -> Result<()> {
    let own = [TOKENIZER, WEIGHTS, adapters::CONFIG, adapters::WEIGHTS];
    atomic::only(folder, &[&own[..], &OF_BASE].concat())
}

fn commit(out: &Path, build: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let (parent, name) = checkpoint::place_for(out)?;
    if out.symlink_metadata().is_ok() {
        let problem = "is there already, and is left as it is: take another name";
        return Err(Error::argument("out", out.display(), problem));
    }
    atomic::commit_directory(parent, name, &ours, build)?;
    Ok(())
}
