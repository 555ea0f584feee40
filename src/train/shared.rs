//! What ranks tell each other of their tensors.
//!
//! Either every rank updates all weights, by the sums of all gradients; or each updates the slabs that it owns, and only
//! it keeps their moments and moving average (`training.shard`): gradients go to the owners, weights come back.

use std::sync::Arc;

use crate::config::TrainConfig;
use crate::error::{Error, Result};
use crate::graph::{GRADS, Layout, PARAMS, Storage};
use crate::model::Family;
use crate::program::Arena;
use crate::ranks::{Narrow, Ranks};

/// Whether there are others. A page trains alone, so that what is for others is left out of its module.
pub(super) fn several(ranks: &dyn Ranks) -> bool {
    cfg!(not(target_arch = "wasm32")) && ranks.size() > 1
}

/// Replaces the gradients by their sums over all ranks; in half precision, with the errors of each slab kept in `narrow`,
/// if that is given.
pub(super) async fn sum_gradients(
    ranks: &dyn Ranks,
    storage: &mut Storage,
    mut narrow: Option<&mut Vec<Narrow>>,
) -> Result<()> {
    let layout = storage.layout().clone();
    for (i, slab) in layout.trained().enumerate() {
        let mut gradients = storage.read_slab(GRADS, slab).await?;
        match &mut narrow {
            None => ranks.sum(&mut gradients)?,
            Some(kept) => {
                kept.resize_with(kept.len().max(i + 1), Narrow::default);
                kept[i].sum(ranks, &mut gradients)?;
            }
        }
        storage.write_slab(GRADS, slab, &gradients)?;
    }
    Ok(())
}

/// The slabs that go around together: in each round at most one of every rank.
fn rounds(layout: &Layout, size: usize) -> Vec<Vec<Option<usize>>> {
    let owners = layout.owners(size);
    let of = |rank| layout.trained().filter(|&i| owners[i] == rank).collect();
    let owned: Vec<Vec<usize>> = (0..size).map(of).collect();
    let count = owned.iter().map(Vec::len).max().unwrap_or(0);
    let round = |i| owned.iter().map(|slabs| slabs.get(i).copied()).collect();
    (0..count).map(round).collect()
}

/// Replaces the gradients of owned slabs by their sums over all ranks. The others' become zeros but for one, the norm of
/// what lies elsewhere, so that the norm of all is what it would be with all.
pub(super) async fn sum_owned_gradients(ranks: &dyn Ranks, storage: &mut Storage) -> Result<()> {
    let layout = storage.layout().clone();
    let mut squares = 0.0;
    for round in rounds(&layout, ranks.size()) {
        let mut parts = Vec::new();
        for slab in &round {
            parts.push(match slab {
                Some(slab) => storage.read_slab(GRADS, *slab).await?,
                None => Vec::new(),
            });
        }
        let parts: Vec<&[f32]> = parts.iter().map(Vec::as_slice).collect();
        let sums = ranks.sum_each(&parts)?;
        if let Some(slab) = round[ranks.rank()] {
            squares += sums.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
            storage.write_slab(GRADS, slab, &sums)?;
        }
    }
    let mut all = vec![0.0; ranks.size()];
    all[ranks.rank()] = squares;
    ranks.sum_few(&mut all)?;
    all[ranks.rank()] = 0.0;
    let mut elsewhere = all.iter().sum::<f64>().sqrt() as f32;
    for slab in layout.trained().filter(|&i| !layout.slabs()[i].owned) {
        let mut rest = vec![0.0; layout.slabs()[slab].len];
        rest[0] = std::mem::take(&mut elsewhere);
        storage.write_slab(GRADS, slab, &rest)?;
    }
    Ok(())
}

/// Hands the owners' slabs of an arena around, a round at a time: `keep` takes each at every rank.
pub(super) async fn gather_owned(
    ranks: &dyn Ranks,
    storage: &Storage,
    arena: Arena,
    mut keep: impl FnMut(usize, Vec<f32>) -> Result<()>,
) -> Result<()> {
    for round in rounds(storage.layout(), ranks.size()) {
        for (slab, data) in gather_round(ranks, storage, arena, &round).await? {
            keep(slab, data)?;
        }
    }
    Ok(())
}

/// The slabs of a round, each with what its owner has of an arena.
async fn gather_round(
    ranks: &dyn Ranks,
    storage: &Storage,
    arena: Arena,
    round: &[Option<usize>],
) -> Result<Vec<(usize, Vec<f32>)>> {
    let mine = match round[ranks.rank()] {
        Some(slab) => storage.read_slab(arena, slab).await?,
        None => Vec::new(),
    };
    let given = ranks.gather_floats(&mine)?;
    let pairs = round.iter().zip(given);
    Ok(pairs
        .filter_map(|(slab, data)| Some(((*slab)?, data)))
        .collect())
}

/// Gives every rank the weights that their owners have updated.
pub(super) async fn spread_weights(ranks: &dyn Ranks, storage: &mut Storage) -> Result<()> {
    let layout = storage.layout().clone();
    for round in rounds(&layout, ranks.size()) {
        for (slab, data) in gather_round(ranks, storage, PARAMS, &round).await? {
            if !layout.slabs()[slab].owned {
                storage.write_slab(PARAMS, slab, &data)?;
            }
        }
    }
    Ok(())
}

/// What the owners have of an arena, by the keys of the layout.
#[cfg(not(target_arch = "wasm32"))]
pub(super) async fn owned_by_key(
    ranks: &dyn Ranks,
    storage: &Storage,
    arena: Arena,
) -> Result<Vec<Vec<f64>>> {
    let layout = storage.layout();
    let mut found = vec![Vec::new(); layout.keys().len()];
    let first = ranks.rank() == 0;
    let keep = |slab: usize, data: Vec<f32>| {
        let keys = layout.keys().iter().zip(&mut found);
        for (key, values) in keys.filter(|(key, _)| first && key.slab == slab) {
            let part = data.get(key.offset..key.offset + key.len());
            let missing = || Error::Internal(format!("{} is cut short", key.key));
            *values = part
                .ok_or_else(missing)?
                .iter()
                .map(|&x| x.into())
                .collect();
        }
        Ok(())
    };
    gather_owned(ranks, storage, arena, keep).await?;
    Ok(found)
}

/// The network with its slabs shared out, if they are to be.
pub(super) fn shared(family: Family, config: &TrainConfig, ranks: &dyn Ranks) -> Result<Family> {
    match family {
        family if !config.training.shard || !several(ranks) => Ok(family),
        Family::Own(mut backbone) => {
            let layout = backbone.layout.shared(ranks.rank(), ranks.size())?;
            backbone.layout = Arc::new(layout);
            backbone.network.layout = backbone.layout.clone();
            Ok(Family::Own(backbone))
        }
        Family::Other(_) => {
            let problem = "is for networks of this crate's own, not for published models";
            Err(Error::config("training.shard", true, problem))
        }
    }
}

/// A result, of which the other ranks are told if it ends this one's part.
pub(super) fn told<T>(ranks: &dyn Ranks, result: Result<T>) -> Result<T> {
    match &result {
        // the others know as much
        Ok(_) | Err(Error::RankLost { .. } | Error::RanksDiffer { .. }) => {}
        Err(error) => ranks.fail(&format!("has failed: {error}")),
    }
    result
}
