//! Everything a training run needs besides its text: one struct per section of the TOML file.

use serde::{Deserialize, Serialize};

use super::{
    BaseConfig, LoraConfig, ModelConfig, NoiseConfig, ObjectiveConfig, OptimConfig, SampleConfig,
};

/// Where text comes from and how it becomes tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Training documents, in the form that the file's name says (see [`crate::data`]): text whose
    /// documents end at a line `<|endoftext|>`, `.jsonl`, `.parquet`, `.raw` or `.lines`. A folder, or a pattern such as
    /// `part-*.jsonl.zst`, is all files there, of one form.
    pub train: String,
    /// Held-out text, likewise; empty: the last tenth of the documents (or of the only document's text) of each file.
    pub valid: String,
    /// `char`, `byte`, `text8`, or the path of a Hugging Face `tokenizer.json` (plain or `.gz`).
    pub tokenizer: String,
    /// Field of JSON lines, or column of Parquet, that holds the text.
    pub field: String,
    /// Field that holds a prompt to the text in [`DataConfig::field`], which is then a response: each pair is a sequence
    /// of its own, of which the prompt is given and never masked. Empty: there are no prompts.
    pub prompt_field: String,
    /// Field that holds a whole conversation, a list of `role` and `content`, of which the last answer is learnt and what
    /// is before it is given. Empty: there are no conversations.
    pub messages_field: String,
    /// Folder of a model whose chat template says how conversations, and prompts with responses, are put. Empty: prompts
    /// and responses stand as they are.
    pub chat_template: String,
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
    /// Several files, folders or patterns, in place of [`DataConfig::train`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// How often sequences come from each source, beside the others, whatever their sizes; empty: every block of all comes
    /// once an epoch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<f64>,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            train: String::new(),
            valid: String::new(),
            tokenizer: String::new(),
            field: "text".to_owned(),
            prompt_field: String::new(),
            messages_field: String::new(),
            chat_template: String::new(),
            detokenizer: Detokenizer::None,
            wrap: true,
            insert_eos: true,
            bos_token: String::new(),
            eos_token: String::new(),
            mask_token: String::new(),
            pad_token: String::new(),
            cache: String::new(),
            sources: Vec::new(),
            weights: Vec::new(),
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

/// Length, batch, validation and checkpoints of a run: the section `[training]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingConfig {
    /// Optimiser steps in all.
    pub steps: u64,
    /// Sequences per micro-batch.
    pub batch: usize,
    /// Micro-batches per optimiser step; the global batch is `batch * accumulation`, of as many ranks as train together.
    pub accumulation: usize,
    /// Decay of the exponential moving average of the weights.
    pub ema: f64,
    /// Smallest diffusion time t that training draws.
    pub sampling_eps: f64,
    /// Stratify the times over the global batch.
    pub antithetic_sampling: bool,
    /// What the masked rows of a batch weigh in the loss; absent: as the recipe says. What validation reports is the
    /// bound, whatever this says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_weights: Option<LossWeights>,
    /// Share of the steps, from the first on, that cut every block into pieces of `short_length` tokens, which are
    /// sequences of their own: as many tokens a step; absent: as the recipe says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub short_share: Option<f64>,
    /// Tokens of such a piece, which divide `model.length`; absent: a quarter of it, if that can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub short_length: Option<usize>,
    /// What the backward pass computes again instead of keeping it in memory. Changes no bit of a run.
    pub recompute: Recompute,
    /// What activations of blocks and their gradients are kept in.
    pub precision: Precision,
    /// Whether each of several ranks keeps the moments and the moving average of a part of the weights alone, which it
    /// updates for all (ZeRO-1), instead of all of them.
    pub shard: bool,
    /// How gradients travel among ranks.
    pub wire: Wire,
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
            loss_weights: None,
            short_share: None,
            short_length: None,
            recompute: Recompute::None,
            precision: Precision::F32,
            shard: false,
            wire: Wire::F32,
            save_every: 500,
            keep: 3,
            val_every: 0,
            patience: 0,
            val_blocks: 256,
        }
    }
}

/// What a training step computes twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Recompute {
    /// Nothing: every activation that the backward pass reads is kept.
    #[default]
    None,
    /// The network's blocks: what stands between two of them is kept, the inside of one at a time. A third more work,
    /// for memory that hardly grows with the number of blocks.
    Blocks,
}

/// What activations of blocks, and their gradients, are kept in while training. Whatever it is, sums and statistics, the
/// stream between blocks, loss, weights, moments and average are in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, half of the memory and of its traffic. The loss is scaled so that gradients stay within range; a step that
    /// overflows is skipped. For networks of this crate, on devices with 16-bit floats in shaders.
    F16,
}

/// How gradients travel among ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Wire {
    /// As they are.
    #[default]
    F32,
    /// In half precision, half of the bytes. What rounding takes away is added to the next step's; at a checkpoint of the
    /// run it is dropped, so that the run goes on from there bit by bit.
    F16,
}

/// What masked rows weigh in the training loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LossWeights {
    /// The bound's: sigma' / expm1(sigma), 1 / t for `loglinear`.
    Elbo,
    /// Every row alike: plain cross-entropy on masked tokens, times 2, which is what rows of the bound weigh on average
    /// under `loglinear`. For `subs` in continuous time; an autoregressive model has no other weights than these.
    Flat,
}

/// Everything a training run needs.
///
/// ```
/// use mdlm::TrainConfig;
///
/// let mut config = TrainConfig::from_toml("[model]\nlength = 64\n[training]\nbatch = 4\n")?;
/// config.set("optim.lr=2e-3")?;
/// assert_eq!((config.model.length, config.optim.lr), (64, Some(2e-3)));
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
    /// The published model that is trained on, if it is not a network of this crate's.
    #[serde(skip_serializing_if = "BaseConfig::is_none")]
    pub base: BaseConfig,
    /// Adapters on it.
    #[serde(skip_serializing_if = "LoraConfig::is_default")]
    pub lora: LoraConfig,
    /// Text, tokenizer and packing.
    pub data: DataConfig,
    /// Noise schedule of the forward process.
    pub noise: NoiseConfig,
    /// Parameterisation and loss.
    pub objective: ObjectiveConfig,
    /// The recipe, its optimisers and their rates.
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
            base: BaseConfig::default(),
            lora: LoraConfig::default(),
            data: DataConfig::default(),
            noise: NoiseConfig::default(),
            objective: ObjectiveConfig::default(),
            optim: OptimConfig::default(),
            training: TrainingConfig::default(),
            sampling: SampleConfig::default(),
        }
    }
}
