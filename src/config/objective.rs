//! What the network is trained for.

use serde::{Deserialize, Serialize};

use super::{ModelConfig, ModelKind};
use crate::error::{Error, Result};
use crate::process::{NoiseConfig, NoiseKind};

/// What the network's output means and which bound trains it: the section `[objective]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectiveConfig {
    /// What the network's output means. Autoregressive models have an objective of their own.
    pub parameterization: Parameterization,
    /// Steps of the discrete-time loss; 0: continuous time.
    #[serde(rename = "T")]
    pub t_steps: u32,
    /// Zero masking under `d3pm`: the mask is never predicted.
    pub subs_masking: bool,
    /// Draw t so that log P(mask) is uniform; `loglinear` and `linear` only.
    pub importance_sampling: bool,
    /// Take log P(mask) itself as the time, which the network sees in place of sigma; `loglinear`
    /// and `linear` only.
    pub change_of_variables: bool,
    /// Tokens of the blocks that are denoised one after the other, each seeing itself and those before it (block
    /// diffusion); 0: the whole sequence is denoised at once.
    pub block_size: usize,
    /// Whether a row predicts the token behind its own, as published denoisers do that were autoregressive models. The
    /// first token of a sequence is then given.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shift: bool,
}

/// What the network's output means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Parameterization {
    /// MDLM's: the mask is never predicted (zero masking), unmasked tokens carry over.
    #[default]
    Subs,
    /// D3PM's absorbing process: neither, so the loss has a reconstruction term.
    D3pm,
    /// Logarithms of the concrete score (score entropy discrete diffusion).
    Sedd,
}

impl ObjectiveConfig {
    /// Checks that the switches go together, with each other, with the noise and with the model.
    ///
    /// # Errors
    /// [`Error::Config`] that names the switch and says why.
    pub fn validate(&self, noise: &NoiseConfig, model: &ModelConfig) -> Result<()> {
        noise.validate()?;
        let refuse = |key: &str, value: &dyn ToString, why: &str| {
            Err(Error::config(
                format!("objective.{key}"),
                value.to_string(),
                why,
            ))
        };
        let Self {
            parameterization,
            t_steps,
            subs_masking,
            importance_sampling,
            change_of_variables,
            block_size,
            shift,
        } = self.clone();
        if model.kind == ModelKind::Ar && *self != Self::default() {
            let why = "an autoregressive model has no diffusion objective; leave [objective] out";
            return refuse("parameterization", &"(changed)", why);
        }
        if block_size > model.length {
            let why = format!("must be at most the model's length, {}", model.length);
            return refuse("block_size", &block_size, &why);
        }
        if block_size > 0 && model.time_conditioning {
            let why = "the clean blocks beside the noisy ones have another sigma: set model.time_conditioning = false";
            return refuse("block_size", &block_size, why);
        }
        if shift && (model.kind != ModelKind::Published || block_size > 0) {
            let why = "is of published models that denoise a sequence at once";
            return refuse("shift", &true, why);
        }
        if model.kind == ModelKind::Published && parameterization != Parameterization::Subs {
            let why = "published models are trained by subs";
            return refuse("parameterization", &"(changed)", why);
        }
        if t_steps > 1 << 20 {
            return refuse("T", &t_steps, "must be at most 1048576");
        }
        if subs_masking && parameterization != Parameterization::D3pm {
            let why = "is a switch of d3pm; subs always has it and sedd never";
            return refuse("subs_masking", &true, why);
        }
        match parameterization {
            Parameterization::D3pm if t_steps == 0 => {
                let why = "d3pm is a discrete-time loss: set the number of steps, such as 1000";
                return refuse("T", &0, why);
            }
            Parameterization::Sedd if t_steps > 0 => {
                return refuse(
                    "T",
                    &t_steps,
                    "score entropy is a continuous-time loss: set 0",
                );
            }
            Parameterization::Sedd if !model.time_conditioning => {
                let why = "its scores depend on sigma: set model.time_conditioning = true";
                return refuse("parameterization", &"sedd", why);
            }
            _ => {}
        }
        if t_steps > 0 && noise.kind != NoiseKind::Loglinear {
            let why = "the discrete-time loss is derived for noise.type = loglinear";
            return refuse("T", &t_steps, why);
        }
        if importance_sampling && change_of_variables {
            let why = "exclude importance_sampling: both make log P(mask) uniform";
            return refuse("change_of_variables", &true, why);
        }
        for (key, on) in [
            ("importance_sampling", importance_sampling),
            ("change_of_variables", change_of_variables),
        ] {
            if !on {
                continue;
            }
            if parameterization != Parameterization::Subs || t_steps > 0 {
                return refuse(key, &true, "needs parameterization = subs and T = 0");
            }
            if !matches!(noise.kind, NoiseKind::Loglinear | NoiseKind::Linear) {
                return refuse(key, &true, "needs noise.type = loglinear or linear");
            }
        }
        Ok(())
    }
}
