//! What a run begins with: another program's model, and adapters on it.

use serde::{Deserialize, Serialize};

use super::limits::{check, check_range};
use crate::error::{Error, Result};

/// The published model that is trained on: the section `[base]`. Its network takes the place of what `[model]` describes,
/// of which the length alone is read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BaseConfig {
    /// Folder of the model; empty: there is none.
    pub path: String,
    /// What it is, where its `model_type` says something else: `a2d-qwen3` makes a denoiser of an autoregressive Qwen3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_type: Option<String>,
    /// Id of its mask, where its files do not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<u32>,
    /// Whether its rows predict the token behind theirs, where its kind does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shift: Option<bool>,
    /// How its matrices are kept while adapters are trained: `f32`, `f16`, `bf16`, `q8` or `q4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
}

impl BaseConfig {
    /// Whether a run begins without one.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Low-rank adapters (Hu et al. 2021, arXiv 2106.09685): the section `[lora]`. A chosen projection `W` becomes
/// `W x + (alpha / rank) B (A x)`; `A` and `B` are trained, and nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// Rows of `A` and columns of `B`; 0: there are no adapters.
    pub rank: usize,
    /// Weighs the adapters, over the rank.
    pub alpha: f64,
    /// Which projections have adapters, by the last part of their name: `q_proj` is that of every block.
    pub targets: Vec<String>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            rank: 0,
            alpha: 16.0,
            targets: ["q_proj", "v_proj"].map(str::to_owned).to_vec(),
        }
    }
}

impl LoraConfig {
    /// Whether nothing was said of them.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether there are no adapters.
    pub fn is_none(&self) -> bool {
        self.rank == 0
    }

    /// What an adapter's output is multiplied with.
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank.max(1) as f64
    }

    /// Whether the projection of that name has an adapter.
    pub fn adapts(&self, name: &str) -> bool {
        let last = |target: &String| {
            name.strip_suffix(target.as_str())
                .is_some_and(|front| front.is_empty() || front.ends_with('.'))
        };
        self.rank > 0 && self.targets.iter().any(last)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key.
    pub fn validate(&self) -> Result<()> {
        if self.is_none() {
            return Ok(());
        }
        check_range("lora.rank", self.rank as u64, 1..=1 << 12)?;
        let positive = |x: f64| x > 0.0 && (x as f32).is_finite();
        check(
            "lora.alpha",
            self.alpha,
            positive,
            "must be finite and above 0",
        )?;
        match self.targets.iter().any(|target| !target.is_empty()) {
            true => Ok(()),
            false => {
                let problem = "names no projection, such as q_proj";
                Err(Error::config("lora.targets", "[]", problem))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_last_parts_of_names() {
        let lora = LoraConfig {
            rank: 4,
            alpha: 8.0,
            ..LoraConfig::default()
        };
        assert_eq!(lora.scale(), 2.0);
        assert!(lora.adapts("model.layers.0.self_attn.q_proj"));
        assert!(lora.adapts("q_proj"));
        assert!(!lora.adapts("model.layers.0.self_attn.eq_proj"));
        assert!(!lora.adapts("model.layers.0.self_attn.q_proj.bias"));
        assert!(!LoraConfig::default().adapts("q_proj"));
    }
}
