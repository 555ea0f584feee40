//! Checkpoints of a run: what is in one, and continuing from it bit by bit.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{ModelConfig, TrainConfig, TrainingConfig};
use crate::data::Corpus;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::graph::{Key, Layout, PARAMS, Storage};
use crate::io::checkpoint::{
    self, CONFIG, EMA, MODEL, OPTIMIZER, TOKENIZER, TrainState, write_bytes,
};
use crate::io::files::Folder;
use crate::io::safetensors::{Precision, TensorSpec, read_file, write_file};
use crate::io::settings;
use crate::model::{Family, adapters, read_weights, write_weights};
use crate::ops::{self, ADAM_M, ADAM_V};
use crate::program::Arena;
use crate::ranks::{Alone, Ranks};
use crate::train::Trainer;
use crate::train::shared::{owned_by_key, told};
use crate::train::steps::Progress;

/// Names of the optimiser's tensors: the two moments of each parameter.
fn moment_specs(layout: &Layout) -> Vec<TensorSpec> {
    let of = |prefix: &str| {
        let spec =
            move |key: &Key| TensorSpec::new(format!("{prefix}.{}", key.key), key.shape.clone());
        layout
            .trained_keys()
            .map(|(_, key)| spec(key))
            .collect::<Vec<_>>()
    };
    [of("m"), of("v")].concat()
}

/// Writes what is trained of a network, of all of whose keys `values` are.
fn write_network(path: &Path, family: &Family, values: &[Vec<f64>]) -> Result<()> {
    let network = family.network();
    match family {
        Family::Own(backbone) => {
            let head_dim = backbone.config.head_dim();
            write_weights(path, &network.layout, head_dim, values, Precision::F32)
        }
        Family::Other(_) if network.lora.is_none() => network.write(path, values, Precision::F32),
        Family::Other(_) => adapters::write(network, path, values),
    }
}

/// Reads what [`write_network`] has written.
async fn read_network(
    path: &Path,
    family: &Family,
    storage: &mut Storage,
    arena: Arena,
) -> Result<()> {
    let network = family.network();
    let (folder, name) = Folder::of(path)?;
    let mut keep =
        |index: usize, first: usize, values: &[f32]| storage.set_part(arena, index, first, values);
    match family {
        Family::Own(_) => storage.fill(arena, &read_weights(path, &network.layout)?),
        Family::Other(_) if network.lora.is_none() => network.read(&folder, name, &mut keep).await,
        Family::Other(_) => adapters::read(network, path, &mut keep).await,
    }
}

impl Trainer {
    /// Writes a checkpoint into the run's folder, which rank 0 does for all; a kill at any instant leaves the older ones whole. All
    /// but the newest `training.keep` are removed.
    ///
    /// # Errors
    /// [`Error::Busy`] while a step is on its way; [`Error::Io`] that names path and action: nothing half-written stays visible.
    pub async fn save(&self, run_dir: &Path) -> Result<PathBuf> {
        self.save_beside(run_dir, None).await
    }

    /// [`Trainer::save`], which spares the checkpoint of step `best`.
    pub(super) async fn save_beside(&self, run_dir: &Path, best: Option<u64>) -> Result<PathBuf> {
        self.check_settled()?;
        let first = self.ranks.rank() == 0;
        if !first && !self.is_shared() {
            return Ok(run_dir.join(checkpoint::name(self.at.step)));
        }
        // everything is read from the device before a file is touched
        let ema = self.kept(ops::EMA).await?;
        let mut moments = self.kept(ADAM_M).await?;
        moments.extend(self.kept(ADAM_V).await?);
        moments.retain(|values| !values.is_empty());
        if !first {
            return Ok(run_dir.join(checkpoint::name(self.at.step)));
        }
        let params = self.storage.read_trained(PARAMS).await?;
        let config = self.config.to_toml()?;
        let Progress {
            step,
            tokens,
            skipped,
            skipped_in_a_row,
            loss_scale,
        } = self.at;
        let state = TrainState {
            step,
            tokens,
            skipped,
            skipped_in_a_row,
            loss_scale,
            seed: self.config.seed,
            corpus_digest: self.corpus.digest.clone(),
            device: self.device.info().name.clone(),
            threads: mdlm_engine::cpu::threads(),
            ranks: self.ranks.size(),
            best,
        };
        let (family, layout) = (&self.family, &self.network().layout);
        let path = checkpoint::save(run_dir, step, |dir| {
            write_bytes(&dir.join(CONFIG), config.as_bytes())?;
            write_bytes(&dir.join(TOKENIZER), &self.corpus.tokenizer.to_json())?;
            match (&self.base, &self.corpus.chat_template) {
                (Some(base), _) => base.keep(dir)?,
                (None, Some(template)) => template.write(dir)?,
                (None, None) => {}
            }
            write_network(&dir.join(MODEL), family, &params)?;
            write_network(&dir.join(EMA), family, &ema)?;
            write_file(
                &dir.join(OPTIMIZER),
                &moment_specs(layout),
                Precision::F32,
                |i| Ok(moments[i].iter().map(|&x| x as f32).collect()),
            )?;
            state.write(dir)
        })?;
        checkpoint::prune(run_dir, self.config.training.keep, step, best)?;
        Ok(path)
    }

    /// What is kept beside the weights, all of it at rank 0: of what is trained, by key.
    async fn kept(&self, arena: Arena) -> Result<Vec<Vec<f64>>> {
        match self.is_shared() {
            true => owned_by_key(&*self.ranks, &self.storage, arena).await,
            false => self.storage.read_trained(arena).await,
        }
    }

    /// Continues a run from a checkpoint, bit by bit on the same device with as many threads. Only `training.steps`,
    /// `training.save_every`, `training.patience`, `training.recompute`, `training.shard` and `data.cache` of `config` may
    /// differ from what was saved.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key that differs, [`Error::Checkpoint`], [`Error::Io`].
    pub async fn resume(
        device: &Device,
        config: &TrainConfig,
        corpus: Corpus,
        checkpoint: &Path,
    ) -> Result<Self> {
        Self::resume_among(Arc::new(Alone), device, config, corpus, checkpoint).await
    }

    /// One of several trainers that continue a run, of as many ranks as it had or of others: its global batch stays.
    /// `training.batch` and `training.accumulation` may be such that it does; if they are those that were saved,
    /// accumulation becomes what the number of ranks asks for. As many ranks as were saved go on bit by bit.
    ///
    /// # Errors
    /// As [`Trainer::resume`] and [`Trainer::new_among`].
    pub async fn resume_among(
        ranks: Arc<dyn Ranks>,
        device: &Device,
        config: &TrainConfig,
        corpus: Corpus,
        checkpoint: &Path,
    ) -> Result<Self> {
        let made = Self::go_on(ranks.clone(), device, config, corpus, checkpoint).await;
        told(&*ranks, made)
    }

    async fn go_on(
        ranks: Arc<dyn Ranks>,
        device: &Device,
        config: &TrainConfig,
        corpus: Corpus,
        checkpoint: &Path,
    ) -> Result<Self> {
        checkpoint::verify(checkpoint)?;
        let mut saved = settings::read(&checkpoint.join(CONFIG))?;
        let state = TrainState::read(checkpoint)?;
        config.validate()?;
        let mut config = config.clone();
        let (given, before) = (&mut config.training, &mut saved.training);
        let counts = [before.batch, before.accumulation, state.ranks];
        let global = counts.into_iter().try_fold(1, usize::checked_mul);
        let Some(global) = global.filter(|&global| global > 0) else {
            let [batch, accumulation, ranks] = counts;
            let problem = format!(
                "{ranks} ranks with training.batch = {batch} and training.accumulation = {accumulation} train on nothing"
            );
            return Err(Error::checkpoint(checkpoint, None, problem));
        };
        if ranks.size() != state.ranks {
            keep_global_batch(given, before, ranks.size(), global)?;
        }
        match config.base.path.is_empty() {
            true => {
                config.model.vocab_size = corpus.tokenizer.vocab_size();
                config.model.mask_index = corpus.tokenizer.mask_index();
            }
            false => {
                // what the model had decided
                config.model = ModelConfig {
                    length: config.model.length,
                    ..saved.model.clone()
                };
                config.objective.shift = saved.objective.shift;
                config.objective.block_size = saved.objective.block_size;
            }
        }
        // what is open depends on the number of steps, which may have changed
        let saved = config.settle(saved);
        if let Some(key) = config.difference(&saved) {
            let (given, saved) = (config.value(&key), saved.value(&key));
            let problem = format!("the run in {} has {saved}", checkpoint.display());
            return Err(Error::config(key, given, problem));
        }
        if state.corpus_digest != corpus.digest {
            let problem = "the saved run was trained on other text, or packed otherwise";
            return Err(Error::config("data.train", &config.data.train, problem));
        }
        let TrainState {
            step,
            tokens,
            skipped,
            skipped_in_a_row,
            loss_scale,
            ..
        } = state;
        let at = Progress {
            step,
            tokens,
            skipped,
            skipped_in_a_row,
            loss_scale,
        };
        let first = ranks.rank() == 0;
        let mut trainer =
            Self::assemble(ranks, device, config, corpus, at, Some(checkpoint)).await?;
        let (family, storage) = (&trainer.family, &mut trainer.storage);
        if let Some(base) = &trainer.base {
            base.resume(storage).await?;
        }
        read_network(&checkpoint.join(MODEL), family, storage, PARAMS).await?;
        read_network(&checkpoint.join(EMA), family, storage, ops::EMA).await?;
        let layout = family.network().layout.clone();
        let moments = read_file(&checkpoint.join(OPTIMIZER), &moment_specs(&layout), &[])?;
        let mut moments = moments.iter();
        for arena in [ADAM_M, ADAM_V] {
            for (index, _) in layout.trained_keys() {
                let missing = || Error::Internal("a moment is missing".into());
                let values = moments.next().ok_or_else(missing)?;
                // another rank's are not kept here
                if storage.is_here(arena, index)? {
                    storage.set(arena, index, values)?;
                }
            }
        }
        let here = (device.info().name.clone(), mdlm_engine::cpu::threads());
        if first && here != (state.device.clone(), state.threads) {
            log::warn!(
                "the run was saved on {} with {} threads and goes on on {} with {}: its numbers will round differently",
                state.device,
                state.threads,
                here.0,
                here.1
            );
        }
        Ok(trainer)
    }
}

/// Lets `ranks` ranks go on where others have been, if the sequences of a step can stay as many: `global`.
fn keep_global_batch(
    given: &mut TrainingConfig,
    saved: &mut TrainingConfig,
    ranks: usize,
    global: usize,
) -> Result<()> {
    let same = (given.batch, given.accumulation) == (saved.batch, saved.accumulation);
    if same && global.is_multiple_of(ranks * given.batch) {
        given.accumulation = global / (ranks * given.batch);
    }
    if given.global_batch() * ranks != global {
        let problem = format!(
            "the run has {global} sequences a step: {ranks} ranks with this and training.accumulation = {} have {}",
            given.accumulation,
            given.global_batch() * ranks
        );
        return Err(Error::config("training.batch", given.batch, problem));
    }
    (saved.batch, saved.accumulation) = (given.batch, given.accumulation);
    Ok(())
}
