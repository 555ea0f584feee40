//! Masked diffusion: SUBS, D3PM and SEDD.
//!
//! The factor w of a row is
//! - SUBS: sigma' / expm1(sigma); with T steps 1 / t; with importance sampling or the change of
//!   variables the constant -log(1 - exp(-sigma_min)), which drops the far end of the range as
//!   the reference does (6.908 for 6.907);
//! - D3PM: 1 / t, and a second pass over x0 itself whose rows all count: the reconstruction term;
//! - SEDD: sigma'.

use crate::config::{ModelConfig, NoiseConfig, ObjectiveConfig, Parameterization};
use crate::error::Result;
use crate::model::Pass;
use crate::objective::Objective;
use crate::objective::clean::{Clean, check};
use crate::ops::{COEFFICIENTS, RowLoss};
use crate::process::{Schedule, q_xt};
use crate::rng::Rng;

/// Largest t of the discrete-time loss (the reference's clamp).
const LAST_T: f64 = 1.0 - 1e-4;

/// Masked diffusion of a model's tokens.
#[derive(Clone, Debug)]
pub struct Masked {
    schedule: Schedule,
    config: ObjectiveConfig,
    vocab_size: usize,
    mask_index: u32,
}

impl Masked {
    /// The objective of a configuration.
    ///
    /// # Errors
    /// [`crate::Error::Config`] for switches that do not go together.
    pub fn new(model: &ModelConfig, noise: &NoiseConfig, config: &ObjectiveConfig) -> Result<Self> {
        config.validate(noise, model)?;
        Ok(Self {
            schedule: Schedule::new(noise)?,
            config: config.clone(),
            vocab_size: model.vocab_size,
            mask_index: model.mask_index,
        })
    }

    /// Probability that a token is masked at t.
    pub fn move_chance(&self, t: f64) -> f64 {
        if self.config.change_of_variables {
            let [low, high] = self.schedule.log_move_range();
            (low + t * (high - low)).exp()
        } else {
            self.schedule.move_chance(t)
        }
    }

    /// The noise level of time t: sigma, or t itself under the change of variables.
    pub fn conditioning(&self, t: f64) -> f64 {
        if self.config.change_of_variables {
            t
        } else {
            self.schedule.sigma(t)
        }
    }

    /// Factor w and coefficients of a masked row at t.
    fn row(&self, t: f64) -> (f64, [f64; COEFFICIENTS]) {
        let plain = [0.0; COEFFICIENTS];
        let ObjectiveConfig {
            parameterization,
            t_steps,
            importance_sampling,
            change_of_variables,
            ..
        } = self.config;
        if importance_sampling || change_of_variables {
            return (-self.schedule.log_move_range()[0], plain);
        }
        if parameterization == Parameterization::Sedd {
            let expm1 = self.schedule.sigma(t).exp_m1();
            let ratio = 1.0 / expm1;
            let shift = expm1.ln() + (self.vocab_size as f64 - 1.0).ln();
            let constant = ratio * (ratio.ln() - 1.0);
            return (self.schedule.dsigma(t), [shift, ratio, constant, 0.0]);
        }
        if t_steps == 0 {
            return (self.schedule.weight(t), plain);
        }
        let (t, dt) = (t.min(LAST_T), 1.0 / f64::from(t_steps));
        let (s, at) = (t - dt, |t: f64| (1.0 - t) / t);
        // the first step ends in clean text, where nothing is left to be uncertain about
        let [c1, c2] = if s < 1e-12 {
            [at(t), 0.0]
        } else {
            [at(s), -dt / (t * s)]
        };
        (1.0 / t, [t / dt, c1, c2, 0.0])
    }
}

impl Objective for Masked {
    fn row_loss(&self) -> RowLoss {
        match self.config.parameterization {
            Parameterization::D3pm if !self.config.subs_masking => RowLoss::D3pm,
            Parameterization::Sedd => RowLoss::Sedd,
            _ => RowLoss::Subs,
        }
    }

    fn schedule(&self) -> Option<&Schedule> {
        Some(&self.schedule)
    }

    fn is_subs(&self) -> bool {
        self.config.parameterization == Parameterization::Subs
    }

    /// Importance sampling's transformation, or the end of its step among T.
    fn time(&self, t: f64) -> f64 {
        let steps = f64::from(self.config.t_steps);
        if self.config.importance_sampling {
            self.schedule.importance_time(t)
        } else if steps > 0.0 {
            ((t * steps).floor() / steps + 1.0 / steps).min(1.0)
        } else {
            t
        }
    }

    fn q_xt(&self, x0: &[u32], t: f64, rng: &mut Rng, xt: &mut Vec<u32>) {
        q_xt(x0, self.move_chance(t), self.mask_index, rng, xt);
    }

    fn conditioning_of(&self, move_chance: f64) -> f64 {
        if self.config.change_of_variables {
            self.schedule.log_move_share(move_chance)
        } else {
            -(-move_chance).ln_1p()
        }
    }

    fn passes(&self, clean: Clean<'_>, xt: Vec<u32>, t: &[f64]) -> Result<Vec<Pass>> {
        check(&clean, t)?;
        let length = clean.x0.len() / t.len();
        let masked = |row: usize| (xt[row] == self.mask_index).then(|| clean.x0[row]);
        let mut pass = Pass::listing(clean.x0, xt.clone(), self.vocab_size, masked)?;
        let rows: Vec<_> = t.iter().map(|&t| self.row(t)).collect();
        let coefficients = self.row_loss().has_coefficients();
        for &row in &pass.rows {
            let (weight, c) = &rows[row as usize / length];
            pass.weights.push(weight * clean.share(row as usize));
            if coefficients {
                pass.coefficients.extend(c);
            }
        }
        pass.conditioning = t.iter().map(|&t| self.conditioning(t)).collect();
        let mut passes = vec![pass];
        if self.config.parameterization == Parameterization::D3pm {
            let (x0, all) = (clean.x0, |row: usize| Some(clean.x0[row]));
            let mut pass = Pass::listing(x0, x0.to_vec(), self.vocab_size, all)?;
            pass.weights = (0..x0.len()).map(|row| clean.share(row)).collect();
            if coefficients {
                pass.coefficients = vec![0.0; COEFFICIENTS * x0.len()];
            }
            pass.conditioning = vec![self.schedule.sigma(0.0); t.len()];
            passes.push(pass);
        }
        Ok(passes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objective(t_steps: u32) -> Masked {
        let model = ModelConfig {
            vocab_size: 5,
            mask_index: 4,
            ..ModelConfig::default()
        };
        let config = ObjectiveConfig {
            parameterization: Parameterization::D3pm,
            t_steps,
            ..ObjectiveConfig::default()
        };
        Masked::new(&model, &NoiseConfig::default(), &config).unwrap()
    }

    #[test]
    fn few_steps_make_no_nan() {
        for steps in [1, 2, 3, 10, 100, 500, 999] {
            let objective = objective(steps);
            for i in 0..=1000 {
                let t = objective.time(1e-3 + f64::from(i) * 0.999e-3);
                assert!(t > 0.0 && t <= 1.0, "{t}");
                let (weight, c) = objective.row(t);
                let numbers = [weight, c[0], c[1], c[2]];
                assert!(
                    numbers.iter().all(|x| x.is_finite()),
                    "T {steps}, t {t}: {numbers:?}"
                );
                // the two terms as the paper writes them, for an uncertain mask
                let (p_m, dt) = (0.3f64, 1.0 / f64::from(steps));
                let t = t.min(LAST_T);
                let a = ((1.0 - t) * p_m / t).ln_1p();
                let b = if t - dt > 1e-12 {
                    ((1.0 - (t - dt)) * p_m / (t - dt)).ln_1p()
                } else {
                    0.0
                };
                let direct = f64::from(steps) * (dt / t * a + (1.0 - dt / t) * (a - b));
                let ours = weight
                    * ((c[1] * p_m).ln_1p() + c[0] * (c[2] * p_m / (1.0 + c[1] * p_m)).ln_1p());
                assert!(
                    (ours - direct).abs() < 1e-8 * direct.abs().max(1.0),
                    "{ours} {direct}"
                );
            }
        }
    }

    #[test]
    fn a_step_ends_where_it_should() {
        let objective = objective(10);
        let ends = [(0.001, 0.1), (0.1, 0.2), (0.55, 0.6), (1.0, 1.0)];
        for (t, end) in ends {
            assert!((objective.time(t) - end).abs() < 1e-12, "{t}");
        }
    }
}
