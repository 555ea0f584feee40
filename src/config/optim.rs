//! Optimisers, their rates and schedules, and the recipes that they belong to.

use serde::{Deserialize, Serialize};

use super::limits::{MAX_INTEGER, check, check_range};
use crate::error::Result;

/// Optimisers and their learning rates. What is absent is the recipe's, see [`TrainConfig::resolve`](super::TrainConfig::resolve).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimConfig {
    /// What absent settings mean: `fast`, or `reference`, the recipe of the paper's code.
    pub recipe: Recipe,
    /// Peak learning rate of AdamW.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// What updates the matrices between hidden states.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<HiddenUpdate>,
    /// Peak learning rate of those matrices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden_lr: Option<f64>,
    /// Momentum of Muon.
    pub momentum: f64,
    /// Times `lr`: rate of the embedding's table.
    pub embedding_rate: f64,
    /// Times `lr`: rate of the matrix that makes logits.
    pub head_rate: f64,
    /// Times `lr`: rate of what modulates by the noise level (sigma_map, adaLN).
    pub modulation_rate: f64,
    /// Times `lr`: rate of norms and biases.
    pub vector_rate: f64,
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
    /// What moments are kept in.
    pub moments: Moments,
}

/// What an optimiser's moments are kept in; the moving average of the weights is in f32 whatever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Moments {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, rounded up or down at random so that nothing is lost on average: half of the memory on a GPU; the twin
    /// rounds alike and takes as much as before.
    Bf16,
}

impl Default for OptimConfig {
    fn default() -> Self {
        Self {
            recipe: Recipe::Fast,
            lr: None,
            hidden: None,
            hidden_lr: None,
            momentum: 0.95,
            embedding_rate: 1.0,
            head_rate: 1.0,
            modulation_rate: 1.0,
            vector_rate: 1.0,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            clip: 1.0,
            schedule: LrSchedule::Constant,
            warmup: None,
            min_lr: 1e-6,
            moments: Moments::F32,
        }
    }
}

/// What absent settings mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Recipe {
    /// Muon on hidden matrices, AdamW at a high rate on the rest, plain cross-entropy, short sequences first.
    #[default]
    Fast,
    /// AdamW at one rate, the bound as loss, one length of sequences.
    Reference,
}

/// What updates the matrices between hidden states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum HiddenUpdate {
    /// AdamW, at a rate of its own.
    Adamw,
    /// Muon: momentum, made nearly orthogonal.
    Muon,
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

/// A value as the kernels see it; infinite ones are no value.
fn single(x: f64) -> f32 {
    let x = x as f32;
    if x.is_finite() { x } else { f32::NAN }
}

impl OptimConfig {
    /// Peak learning rate of AdamW; of settings that are not resolved, the reference's.
    pub fn peak(&self) -> f64 {
        self.lr.unwrap_or(REFERENCE_LR)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`crate::Error::Config`] that names the key.
    pub fn validate(&self) -> Result<()> {
        let positive = |x| single(x) > 0.0;
        let problem = "must be finite and above 0, in single precision";
        for (key, value) in [
            ("optim.lr", self.lr),
            ("optim.hidden_lr", self.hidden_lr),
            ("optim.eps", Some(self.eps)),
        ] {
            value.map_or(Ok(()), |value| check(key, value, positive, problem))?;
        }
        for (key, decay) in [
            ("optim.beta1", self.beta1),
            ("optim.beta2", self.beta2),
            ("optim.momentum", self.momentum),
        ] {
            check(key, decay, |x| (0.0..1.0).contains(&x), "must be in [0, 1)")?;
        }
        for (key, value) in [
            ("optim.weight_decay", self.weight_decay),
            ("optim.clip", self.clip),
            ("optim.embedding_rate", self.embedding_rate),
            ("optim.head_rate", self.head_rate),
            ("optim.modulation_rate", self.modulation_rate),
            ("optim.vector_rate", self.vector_rate),
        ] {
            let holds = |x: f64| x >= 0.0 && single(x).is_finite();
            let problem = "must be finite and not negative, in single precision";
            check(key, value, holds, problem)?;
        }
        if let (LrSchedule::Cosine, Some(lr)) = (self.schedule, self.lr) {
            let below = |x: f64| (0.0..=lr).contains(&x);
            check(
                "optim.min_lr",
                self.min_lr,
                below,
                "must be in [0, optim.lr]",
            )?;
        }
        check_range("optim.warmup", self.warmup.unwrap_or(0), 0..=MAX_INTEGER)
    }
}

/// The reference's learning rate.
const REFERENCE_LR: f64 = 3e-4;
