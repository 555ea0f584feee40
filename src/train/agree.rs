//! What ranks must agree on: that they are about the same run, and what to do next.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::TrainConfig;
use crate::data::Corpus;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::graph::{PARAMS, Storage};
use crate::io::{checkpoint, hexadecimal};
use crate::ranks::Ranks;

/// What a rank is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Card {
    version: String,
    config: String,
    corpus: String,
    tokenizer: String,
    checkpoint: String,
    /// What it computes on, which may be another.
    device: String,
}

fn digest(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes)[..8])
}

impl Card {
    /// That of a run on `corpus`, continued from a checkpoint if there is one.
    pub fn new(
        config: &TrainConfig,
        corpus: &Corpus,
        from: Option<&Path>,
        device: &Device,
    ) -> Result<Self> {
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config: config.to_toml()?,
            corpus: corpus.digest.chars().take(16).collect(),
            tokenizer: digest(&corpus.tokenizer.to_json()),
            checkpoint: match from {
                Some(dir) => digest(&checkpoint::manifest_of(dir)?),
                None => "none".to_owned(),
            },
            device: device.info().name.clone(),
        })
    }

    /// How it differs from that of rank 0, to be read after `its`.
    fn difference(&self, first: &Self) -> Option<String> {
        let differs = |what: &str, own: &str, first: &str| {
            (own != first).then(|| format!("{what} is {own}, that of rank 0 is {first}"))
        };
        differs("version", &self.version, &first.version)
            .or_else(|| self.setting(first))
            .or_else(|| differs("tokenizer", &self.tokenizer, &first.tokenizer))
            .or_else(|| differs("corpus", &self.corpus, &first.corpus))
            .or_else(|| differs("checkpoint", &self.checkpoint, &first.checkpoint))
    }

    fn setting(&self, first: &Self) -> Option<String> {
        let read = |card: &Self| TrainConfig::from_toml(&card.config);
        let (Ok(own), Ok(first)) = (read(self), read(first)) else {
            return Some("settings are of another version".to_owned());
        };
        let key = own.difference_among_ranks(&first)?;
        let (own, first) = (own.value(&key), first.value(&key));
        Some(format!("{key} is {own}, that of rank 0 is {first}"))
    }

    /// An error, the same at all ranks, unless all have the same. Returns whether they compute on the same kind of
    /// device.
    pub fn compare(&self, ranks: &dyn Ranks) -> Result<bool> {
        let internal = |e: serde_json::Error| Error::Internal(format!("card: {e}"));
        let mine = serde_json::to_vec(self).map_err(internal)?;
        let (mut first, mut alike): (Option<Self>, _) = (None, true);
        for (rank, card) in ranks.gather(&mine)?.iter().enumerate() {
            // what cannot be read was written by another version
            let card: Option<Self> = serde_json::from_slice(card).ok();
            let problem = match (&card, &first) {
                (Some(card), Some(first)) => card.difference(first),
                (Some(_), None) if rank == 0 => None,
                _ => Some("version is not that of rank 0".to_owned()),
            };
            if let Some(problem) = problem {
                return Err(Error::RanksDiffer { rank, problem });
            }
            alike &= card.as_ref().is_some_and(|card| card.device == self.device);
            first = first.or(card);
        }
        Ok(alike)
    }
}

/// An error, the same at all ranks, unless all begin with the same weights.
pub(super) async fn compare_weights(ranks: &dyn Ranks, storage: &Storage) -> Result<()> {
    let mut hash = Sha256::new();
    for slab in storage.layout().trained() {
        for x in storage.read_slab(PARAMS, slab).await? {
            hash.update(x.to_le_bytes());
        }
    }
    let all = ranks.gather(&hash.finalize())?;
    match all.iter().position(|other| *other != all[0]) {
        None => Ok(()),
        Some(rank) => Err(Error::RanksDiffer {
            rank,
            problem: "weights are not those of rank 0".to_owned(),
        }),
    }
}

/// What is decided for all ranks, by the log that rank 0 keeps.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Verdict {
    pub best: Option<u64>,
    /// Whether the best validation is the last one.
    pub improved: bool,
    pub exhausted: bool,
    /// Whether an observer wants to stop.
    pub stop: bool,
}

impl Verdict {
    /// What all do: rank 0's verdict, and a stop if any wants one.
    pub fn agreed(self, ranks: &dyn Ranks) -> Result<Self> {
        if ranks.size() == 1 {
            return Ok(self);
        }
        let internal = |e: serde_json::Error| Error::Internal(format!("verdict: {e}"));
        let all = ranks.gather(&serde_json::to_vec(&self).map_err(internal)?)?;
        let read = |bytes: &Vec<u8>| serde_json::from_slice(bytes).map_err(internal);
        let all: Vec<Self> = all.iter().map(read).collect::<Result<_>>()?;
        let stop = all.iter().any(|verdict| verdict.stop);
        Ok(Self { stop, ..all[0] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> Card {
        Card {
            version: "1".to_owned(),
            config: TrainConfig::default().to_toml().unwrap(),
            corpus: "c".to_owned(),
            tokenizer: "t".to_owned(),
            checkpoint: "none".to_owned(),
            device: "CPU twin".to_owned(),
        }
    }

    #[test]
    fn what_differs_is_named() {
        let first = card();
        assert_eq!(card().difference(&first), None);
        let refused = |change: &dyn Fn(&mut Card), part: &str| {
            let mut other = card();
            change(&mut other);
            let problem = other.difference(&first).unwrap();
            assert!(problem.contains(part), "{problem}");
        };
        refused(
            &|c| c.version = "2".into(),
            "version is 2, that of rank 0 is 1",
        );
        refused(&|c| c.corpus = "d".into(), "corpus is d");
        refused(&|c| c.tokenizer = "u".into(), "tokenizer is u");
        refused(&|c| c.checkpoint = "e".into(), "checkpoint is e");
        let mut config = TrainConfig::default();
        config.training.steps = 7;
        let text = config.to_toml().unwrap();
        refused(
            &|c| c.config = text.clone(),
            "training.steps is 7, that of rank 0 is 1000",
        );
        // where blocks are kept is each machine's own affair
        config = TrainConfig::default();
        config.data.cache = "elsewhere".to_owned();
        let mut other = card();
        other.config = config.to_toml().unwrap();
        assert_eq!(other.difference(&first), None);
    }
}
