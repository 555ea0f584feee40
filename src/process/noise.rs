//! Which noise schedule, and its parameters.

use serde::{Deserialize, Serialize};

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
    /// Checks every value, also those that `kind` does not read.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key.
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
