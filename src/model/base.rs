//! Published models to be trained on: what is read of their folder, and what a run's checkpoints keep of it.

use std::path::{Path, PathBuf};

use crate::blocking::wait;
use crate::config::TrainConfig;
use crate::data::{ChatTemplate, Tokenizer};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::graph::{PARAMS, Storage};
use crate::io::checkpoint::{OF_BASE, write_bytes};
use crate::io::files::Folder;
use crate::io::read;
use crate::model::family::Family;
use crate::model::load::{Found, Kind, Load, Other, find_published};
use crate::model::published::WEIGHTS;
use crate::model::{Network, adapters};
use crate::ops::EMA;

/// Largest of the files that are kept.
const MAX_BYTES: u64 = 1 << 24;

/// Fills in what the model of `base.path` says of `[data]`: its tokenizer with the names of its special tokens, and its
/// chat template where there are prompts or conversations and it has one.
///
/// # Errors
/// As [`Model::load`](crate::model::Model::load); [`Error::Config`] for a folder without a tokenizer, or with a model of
/// this crate's.
pub fn read_base(config: &mut TrainConfig) -> Result<()> {
    let dir = PathBuf::from(&config.base.path);
    let (_, tokenizer) = found(config, &dir, None)?;
    let names = tokenizer.special_names();
    let data = &mut config.data;
    data.tokenizer = dir.join("tokenizer.json").display().to_string();
    data.bos_token.clone_from(&names.bos_token);
    data.eos_token.clone_from(&names.eos_token);
    data.mask_token.clone_from(&names.mask_token);
    data.pad_token.clone_from(&names.pad_token);
    if data.has_prompts() && data.chat_template.is_empty() && ChatTemplate::read(&dir)?.is_some() {
        data.chat_template.clone_from(&config.base.path);
    }
    Ok(())
}

/// What is known of the model of a configuration, by the description in the folder `dir`, and its tokenizer. `mask`: its
/// mask, where a run knows it.
fn found(config: &TrainConfig, dir: &Path, mask: Option<u32>) -> Result<(Other, Tokenizer)> {
    let base = &config.base;
    let how = Load {
        mask: base.mask.or(mask),
        shift: base.shift,
        model_type: base.model_type.clone(),
        ..Load::default()
    };
    let Found {
        kind, tokenizer, ..
    } = wait(find_published(&Folder(dir.to_owned()), &how))?;
    let refuse = |problem: &str| Err(Error::config("base.path", &base.path, problem));
    let Kind::Other(other) = kind else {
        return refuse("is a model of this crate's: begin with it by start_from (--init)");
    };
    if other.described.noise.is_some() {
        return refuse(
            "was trained for noise that also changes tokens, whose loss is not here: it can be sampled only",
        );
    }
    match tokenizer {
        Some(tokenizer) => Ok((other, tokenizer)),
        None => refuse("has no tokenizer.json, without which text cannot be read"),
    }
}

/// A published model that a run is about.
pub(crate) struct Base {
    pub(crate) family: Family,
    tokenizer: Tokenizer,
    /// Where its weights lie.
    weights: Folder,
    dir: PathBuf,
}

impl Base {
    /// Opens the model of a configuration, as the folder `dir` describes it if not its own: a checkpoint keeps a copy.
    /// Comes back with the configuration as the model settles it; `None` for a network of this crate's.
    ///
    /// # Errors
    /// As [`Model::load`](crate::model::Model::load); [`Error::Config`] for adapters that it cannot have, without a
    /// tokenizer, for text in another tokenizer's ids, or for sequences that are too long.
    pub(crate) fn of(
        device: &Device,
        mut config: TrainConfig,
        dir: Option<&Path>,
        tokenizer: &Tokenizer,
    ) -> Result<(Option<Self>, TrainConfig)> {
        if config.base.path.is_empty() {
            return Ok((None, config));
        }
        let base = Self::open(device, &config, dir)?;
        base.settle(&mut config, tokenizer)?;
        Ok((Some(base), config))
    }

    fn open(device: &Device, config: &TrainConfig, dir: Option<&Path>) -> Result<Self> {
        let base = &config.base;
        let kept = base.weights.as_deref().unwrap_or("f32");
        let weights = kept
            .parse()
            .map_err(|e: Error| Error::config("base.weights", kept, e.to_string()))?;
        let path = Path::new(&base.path);
        let mask = dir.map(|_| config.model.mask_index);
        let dir = dir.unwrap_or(path);
        let (other, tokenizer) = found(config, dir, mask)?;
        let (limit, trunk) = (device.slab_limit(), other.described.trunk.clone());
        let network = Network::adapted(trunk, limit, weights, &config.lora)?;
        Ok(Self {
            family: Family::Other(other.model(Some(&tokenizer), network).into()),
            tokenizer,
            dir: dir.to_owned(),
            weights: Folder(path.to_owned()),
        })
    }

    /// What the model decides of a configuration.
    fn settle(&self, config: &mut TrainConfig, tokenizer: &Tokenizer) -> Result<()> {
        let Family::Other(foreign) = &self.family else {
            return Ok(());
        };
        if tokenizer.to_json() != self.tokenizer.to_json() {
            let problem = format!(
                "the text is to be in the model's tokens: {}",
                self.dir.join("tokenizer.json").display()
            );
            return Err(Error::config(
                "data.tokenizer",
                &config.data.tokenizer,
                problem,
            ));
        }
        let trunk = &foreign.network.trunk;
        if config.model.length > trunk.length() {
            let problem = format!(
                "the model's sequences have at most {} tokens",
                trunk.length()
            );
            return Err(Error::config("model.length", config.model.length, problem));
        }
        config.model.vocab_size = trunk.vocab_size();
        config.model.mask_index = foreign.mask_index;
        config.objective.shift = foreign.shift;
        if let Some(blocks) = foreign.blocks {
            config.objective.block_size = blocks.size;
        }
        Ok(())
    }

    /// Reads the weights of a fresh run, which its moving average begins with, and gives adapters their first values.
    ///
    /// # Errors
    /// As [`Network::load`].
    pub(crate) async fn begin(&self, storage: &mut Storage, seed: u64) -> Result<()> {
        let network = self.family.network();
        let averaged = network.lora.is_none();
        let mut keep = |index: usize, first: usize, values: &[f32]| {
            storage.set_part(PARAMS, index, first, values)?;
            match averaged {
                true => storage.set_part(EMA, index, first, values),
                false => Ok(()),
            }
        };
        network.read(&self.weights, WEIGHTS, &mut keep).await?;
        match averaged {
            true => Ok(()),
            false => adapters::initialise(network, storage, &[PARAMS, EMA], seed),
        }
    }

    /// Reads the weights that a checkpoint does not hold: those under adapters.
    ///
    /// # Errors
    /// As [`Network::load`].
    pub(crate) async fn resume(&self, storage: &mut Storage) -> Result<()> {
        let network = self.family.network();
        match network.lora.is_none() {
            true => Ok(()),
            false => network.load(&self.weights, WEIGHTS, storage).await,
        }
    }

    /// Copies what a checkpoint keeps of the folder.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn keep(&self, to: &Path) -> Result<()> {
        for name in OF_BASE {
            let path = self.dir.join(name);
            if path.try_exists().map_err(Error::io(&path, "open"))? {
                let bytes = read::read(&path, MAX_BYTES)?;
                write_bytes(&to.join(name), &bytes)?;
            }
        }
        Ok(())
    }
}
