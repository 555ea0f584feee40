//! The shape of the denoiser.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Known kinds of networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ModelKind {
    /// The bidirectional denoiser with adaLN conditioning.
    #[default]
    Dit,
    /// The autoregressive baseline: the same trunk, causal, without conditioning.
    Ar,
    /// Another program's denoiser, which its own files describe: `vocab_size`, `mask_index` and `length` alone are read.
    Published,
}

/// Shape of the network.
///
/// ```
/// let small = mdlm::ModelConfig::preset("small")?;
/// assert_eq!((small.hidden_size, small.n_blocks, small.head_dim()), (768, 12, 64));
/// let shorter = mdlm::ModelConfig { length: 256, ..small };
/// # assert_eq!(shorter.length, 256);
/// # Ok::<(), mdlm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// `dit`: a denoiser; `ar`: the autoregressive baseline with the same trunk; `published`: see [`BaseConfig`](super::BaseConfig).
    pub kind: ModelKind,
    /// Vocabulary size V including the mask; 0 in a file means "as the tokenizer says".
    pub vocab_size: usize,
    /// Id of the mask token; ignored while `vocab_size` is 0.
    pub mask_index: u32,
    /// Width D of the residual stream.
    pub hidden_size: usize,
    /// Transformer blocks.
    pub n_blocks: usize,
    /// Attention heads; `hidden_size / n_heads` must be 16, 32, 64 or 128.
    pub n_heads: usize,
    /// Width of the conditioning vector; an autoregressive model has none.
    pub cond_dim: usize,
    /// Longest sequence L.
    pub length: usize,
    /// Dropout on the two residual branches of a block.
    pub dropout: f64,
    /// Whether the network sees sigma; off in the paper, then sigma is 0 for every input.
    pub time_conditioning: bool,
    /// The embedding's table and the head have a multiple of so many rows, as some published models do (64 or 128).
    /// The rows beyond the vocabulary are neither looked up nor projected nor trained. 1: no such rows.
    pub vocab_multiple: usize,
    /// Whether a denoiser's norms and branches are modulated by the noise level (adaLN), even where it sees none.
    pub adaln: bool,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            kind: ModelKind::Dit,
            vocab_size: 0,
            mask_index: 0,
            hidden_size: 128,
            n_blocks: 3,
            n_heads: 2,
            cond_dim: 128,
            length: 128,
            dropout: 0.1,
            time_conditioning: false,
            vocab_multiple: 1,
            adaln: true,
        }
    }
}

impl ModelConfig {
    /// Whether it predicts each token from those before it, and not masked tokens from all others. The only place that
    /// asks what [`ModelConfig::kind`] means for how a model computes.
    pub fn autoregressive(&self) -> bool {
        self.kind == ModelKind::Ar
    }

    /// Whether its blocks are modulated by the noise level (adaLN), even if that is always 0.
    pub fn conditioned(&self) -> bool {
        self.adaln && self.kind == ModelKind::Dit
    }

    /// Names of [`ModelConfig::preset`].
    pub const PRESETS: [&str; 5] = ["nano", "mini", "tiny", "small", "medium"];

    /// A named size: `nano` and `mini` are ours, the others the reference's.
    pub fn preset(name: &str) -> Result<Self> {
        let (hidden_size, n_blocks, n_heads, length) = match name {
            "nano" => (128, 3, 2, 128),
            "mini" => (256, 4, 4, 256),
            "tiny" => (512, 8, 8, 1024),
            "small" => (768, 12, 12, 1024),
            "medium" => (1024, 24, 16, 1024),
            _ => {
                return Err(Error::config(
                    "preset",
                    name,
                    format!("unknown; known: {}", Self::PRESETS.join(", ")),
                ));
            }
        };
        Ok(Self {
            hidden_size,
            n_blocks,
            n_heads,
            length,
            ..Self::default()
        })
    }

    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.n_heads.max(1)
    }

    /// Rows of the embedding's table and of the head: the vocabulary, and what pads it to a multiple.
    pub fn table_rows(&self) -> usize {
        self.vocab_size.next_multiple_of(self.vocab_multiple.max(1))
    }

    /// Checks a resolved configuration (`vocab_size` known).
    pub fn validate(&self) -> Result<()> {
        let positive = [
            ("model.hidden_size", self.hidden_size, 1 << 14),
            ("model.n_blocks", self.n_blocks, 1 << 10),
            ("model.n_heads", self.n_heads, 1 << 10),
            ("model.cond_dim", self.cond_dim, 1 << 14),
            ("model.length", self.length, 1 << 16),
            ("model.vocab_multiple", self.vocab_multiple, 1 << 12),
        ];
        for (key, value, limit) in positive {
            if value == 0 || value > limit {
                return Err(Error::config(key, value, format!("must be in 1..={limit}")));
            }
        }
        if self.vocab_size < 2 || self.vocab_size > 1 << 20 {
            return Err(Error::config(
                "model.vocab_size",
                self.vocab_size,
                "must be in 2..=1048576, the mask included",
            ));
        }
        if self.mask_index as usize >= self.vocab_size {
            return Err(Error::config(
                "model.mask_index",
                self.mask_index,
                format!("must be below vocab_size = {}", self.vocab_size),
            ));
        }
        if self.kind == ModelKind::Published {
            return match self.time_conditioning {
                true => {
                    let problem = "published models see no diffusion time";
                    Err(Error::config("model.time_conditioning", true, problem))
                }
                false => Ok(()),
            };
        }
        if !self.hidden_size.is_multiple_of(self.n_heads)
            || ![16, 32, 64, 128].contains(&self.head_dim())
        {
            return Err(Error::config(
                "model.n_heads",
                self.n_heads,
                format!(
                    "hidden_size {} / n_heads must be 16, 32, 64 or 128",
                    self.hidden_size
                ),
            ));
        }
        if self.kind == ModelKind::Ar && self.time_conditioning {
            return Err(Error::config(
                "model.time_conditioning",
                true,
                "an autoregressive model has no diffusion time to see",
            ));
        }
        if !self.adaln && self.time_conditioning {
            let problem = "sigma is seen through adaLN: set model.adaln = true";
            return Err(Error::config("model.time_conditioning", true, problem));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::config(
                "model.dropout",
                self.dropout,
                "must be in [0, 1)",
            ));
        }
        Ok(())
    }
}
