//! Everything a training run needs besides its text: one struct per section of the TOML file.

use serde::{Deserialize, Serialize};

use super::{ModelConfig, NoiseConfig, ObjectiveConfig, SampleConfig};

/// Where text comes from and how it becomes tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Training documents, in the form that the file's name says (see [`crate::data`]): text whose
    /// documents end at a line `<|endoftext|>`, `.jsonl`, `.parquet`, `.raw` or `.lines`.
    pub train: String,
    /// Held-out text; empty: the last tenth of the documents (or of the only document's text).
    pub valid: String,
    /// `char`, `byte`, `text8`, or the path of a Hugging Face `tokenizer.json` (plain or `.gz`).
    pub tokenizer: String,
    /// Field of JSON lines, or column of Parquet, that holds the text.
    pub field: String,
    /// Which published tokenisation to undo before the text is tokenised.
    pub detokenizer: Detokenizer,
    /// `true`: documents are joined and cut into blocks `[BOS] length - 2 tokens [EOS]`; `false`: one
    /// block a document, truncated or padded.
    pub wrap: bool,
    /// Whether an EOS ends each document of wrapped text. The paper's zero-shot protocol (D.5) has none;
    /// the reference's code inserts it.
    pub insert_eos: bool,
    /// Name of the token that begins a text, in a `tokenizer.json` that has an unusual one; empty: as usual.
    pub bos_token: String,
    /// Name of the token that ends a text, likewise.
    pub eos_token: String,
    /// Name of the mask, likewise; a vocabulary without one gets it behind its last id.
    pub mask_token: String,
    /// Name of the token that fills up short texts, likewise.
    pub pad_token: String,
    /// Folder in which tokenised blocks are kept, to be read from disk while training; empty: they are
    /// held in memory.
    pub cache: String,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            train: String::new(),
            valid: String::new(),
            tokenizer: String::new(),
            field: "text".to_owned(),
            detokenizer: Detokenizer::None,
            wrap: true,
            insert_eos: true,
            bos_token: String::new(),
            eos_token: String::new(),
            mask_token: String::new(),
            pad_token: String::new(),
            cache: String::new(),
        }
    }
}

/// Published tokenisations that can be undone; the reference's `dataloader.py` has one for each of its
/// evaluation sets but AG News. `Detokenizer::apply` does it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Detokenizer {
    /// Text is as people write it.
    #[default]
    None,
    /// WikiText-2 and -103.
    Wikitext,
    /// Penn Treebank as prepared for language modelling.
    Ptb,
    /// One Billion Words.
    Lm1b,
    /// LAMBADA: curly quotes become straight ones.
    Lambada,
    /// arXiv and PubMed: that of WikiText, then that of One Billion Words.
    ScientificPapers,
}

/// AdamW and its learning rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimConfig {
    /// Peak learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay: weights shrink by `lr weight_decay` of themselves a step.
    pub weight_decay: f64,
    /// Largest global gradient norm; 0: no clipping.
    pub clip: f64,
    /// After the warm-up: `constant`, or `cosine` down to `min_lr` at the last step.
    pub schedule: LrSchedule,
    /// Warm-up steps; absent: 2500 or a twentieth of the run, whichever is less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup: Option<u64>,
    /// Where the cosine schedule begins its warm-up and ends.
    pub min_lr: f64,
}

impl Default for OptimConfig {
    fn default() -> Self {
        Self {
            lr: 3e-4,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            clip: 1.0,
            schedule: LrSchedule::Constant,
            warmup: None,
            min_lr: 1e-6,
        }
    }
}

/// Known learning-rate schedules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LrSchedule {
    /// Linear warm-up, then constant.
    Constant,
    /// Linear warm-up, then half a cosine.
    Cosine,
}

/// Length, batch, validation and checkpoints of a run: the section `[training]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingConfig {
    /// Optimiser steps in all.
    pub steps: u64,
    /// Sequences per micro-batch.
    pub batch: usize,
    /// Micro-batches per optimiser step; the global batch is `batch * accumulation`.
    pub accumulation: usize,
    /// Decay of the exponential moving average of the weights.
    pub ema: f64,
    /// Smallest diffusion time t that training draws.
    pub sampling_eps: f64,
    /// Stratify the times over the global batch.
    pub antithetic_sampling: bool,
    /// Steps between checkpoints; 0: only at the end.
    pub save_every: u64,
    /// Newest checkpoints kept.
    pub keep: usize,
    /// Steps between validations; 0: only at the end.
    pub val_every: u64,
    /// Validations in a row that may fail to beat the best one; then the run ends. The best one's checkpoint
    /// is kept whatever `keep` says. 0: the run goes to its last step.
    pub patience: u64,
    /// Most validation blocks per validation; 0: all of them.
    pub val_blocks: usize,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            steps: 1000,
            batch: 16,
            accumulation: 1,
            ema: 0.9999,
            sampling_eps: 1e-3,
            antithetic_sampling: true,
            save_every: 500,
            keep: 3,
            val_every: 0,
            patience: 0,
            val_blocks: 256,
        }
    }
}

/// Everything a training run needs.
///
/// ```
/// use mdlm::TrainConfig;
///
/// let mut config = TrainConfig::from_toml("[model]\nlength = 64\n[training]\nbatch = 4\n")?;
/// config.set("optim.lr=2e-3")?;
/// assert_eq!((config.model.length, config.optim.lr), (64, 2e-3));
/// assert!(config.set("optim.rate=1").is_err());
/// # Ok::<(), mdlm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Seed of initialisation, data order, times, masks and dropout.
    pub seed: u64,
    /// Shape of the network; training takes `vocab_size` and `mask_index` from the tokenizer.
    pub model: ModelConfig,
    /// Text, tokenizer and packing.
    pub data: DataConfig,
    /// Noise schedule of the forward process.
    pub noise: NoiseConfig,
    /// Parameterisation and loss.
    pub objective: ObjectiveConfig,
    /// AdamW and its learning rate.
    pub optim: OptimConfig,
    /// Length, batch, validation and checkpoints.
    pub training: TrainingConfig,
    /// How to sample from the finished model; training itself does not read it.
    pub sampling: SampleConfig,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            model: ModelConfig::default(),
            data: DataConfig::default(),
            noise: NoiseConfig::default(),
            objective: ObjectiveConfig::default(),
            optim: OptimConfig::default(),
            training: TrainingConfig::default(),
            sampling: SampleConfig::default(),
        }
    }
}
