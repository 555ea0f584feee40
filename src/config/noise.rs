//! The forward process and what the network is trained for.

use serde::{Deserialize, Serialize};

use super::{ModelConfig, ModelKind};
use crate::error::{Error, Result};

/// The noise schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NoiseConfig {
    /// Shape of the schedule.
    #[serde(rename = "type")]
    pub kind: NoiseKind,
    /// sigma(0) of `linear` and `geometric`.
    pub sigma_min: f64,
    /// sigma(1) of `linear` and `geometric`.
    pub sigma_max: f64,
    /// Exponent k of `polynomial`.
    pub power: f64,
}

impl Default for NoiseConfig {
    fn default() -> Self {
        Self {
            kind: NoiseKind::Loglinear,
            sigma_min: 1e-3,
            sigma_max: 7.0,
            power: 2.0,
        }
    }
}

impl NoiseConfig {
    /// Checks every value.
    pub fn validate(&self) -> Result<()> {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        if !positive(self.sigma_min) {
            return Err(Error::config(
                "noise.sigma_min",
                self.sigma_min,
                "must be finite and above 0",
            ));
        }
        if !(self.sigma_max > self.sigma_min && self.sigma_max <= 100.0) {
            let problem = "must be finite and above noise.sigma_min, and at most 100";
            return Err(Error::config("noise.sigma_max", self.sigma_max, problem));
        }
        if !(self.power > 0.0 && self.power <= 100.0) {
            let problem = "must be finite and above 0, and at most 100";
            return Err(Error::config("noise.power", self.power, problem));
        }
        Ok(())
    }
}

/// Known noise schedules; eps = 1e-3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum NoiseKind {
    /// alpha = 1 - (1 - eps) t.
    Loglinear,
    /// alpha = eps + (1 - eps) cos(pi t / 2).
    Cosine,
    /// alpha = eps + (1 - eps) cos^2(pi t / 2).
    Cosinesqr,
    /// sigma = sigma_min + t (sigma_max - sigma_min).
    Linear,
    /// sigma = sigma_min^(1 - t) sigma_max^t.
    Geometric,
    /// alpha = 1 - (1 - eps) t^power (MD4).
    Polynomial,
}

/// Parameterisation and loss.
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
        } = self.clone();
        if model.kind == ModelKind::Ar && *self != Self::default() {
            let why = "an autoregressive model has no diffusion objective; leave [objective] out";
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
