//! What a network is trained for: how times are drawn, tokens masked, and each row weighted.
//!
//! With a the attention mask and `total` its sum over the global batch, the loss is the sum over
//! listed rows of `weight nll`, weight = w a / total (reference `_loss`). w is
//! - SUBS: sigma' / expm1(sigma); with T steps 1 / t; with importance sampling or the change of
//!   variables the constant -log(1 - exp(-sigma_min)), which drops the far end of the range as
//!   the reference does (6.908 for 6.907);
//! - D3PM: 1 / t, and a second pass over x0 itself whose rows all count: the reconstruction term;
//! - SEDD: sigma';
//! - autoregressive: 1, every token but the first being predicted.

use crate::config::{ModelConfig, ModelKind, NoiseConfig, ObjectiveConfig, Parameterization};
use crate::error::{Error, Result};
use crate::model::Pass;
use crate::ops::{COEFFICIENTS, RowLoss};
use crate::process::{Schedule, q_xt, sample_times};
use crate::rng::Rng;

/// Largest t of the discrete-time loss (the reference's clamp).
const LAST_T: f64 = 1.0 - 1e-4;

/// The objective of a model.
#[derive(Clone, Debug)]
pub struct Objective {
    schedule: Schedule,
    config: ObjectiveConfig,
    model: ModelConfig,
}

/// Sequences to score, `[batch, length]`.
#[derive(Clone, Copy, Debug)]
pub struct Clean<'a> {
    /// Their tokens.
    pub x0: &'a [u32],
    /// Which tokens count; `None`: all.
    pub attention_mask: Option<&'a [f64]>,
    /// Tokens that count in the global batch, over which the loss is a mean.
    pub total: f64,
}

/// 1 at the leading tokens of each sequence that count, 0 at its pads; `None` where all count.
pub fn attention_mask(attended: &[usize], length: usize) -> Option<Vec<f64>> {
    let row = |&n: &usize| (0..length).map(move |i| if i < n { 1.0 } else { 0.0 });
    let padded = attended.iter().any(|&n| n < length);
    padded.then(|| attended.iter().flat_map(row).collect())
}

impl Objective {
    /// The objective of a configuration.
    ///
    /// # Errors
    /// [`Error::Config`] for switches that do not go together.
    pub fn new(model: &ModelConfig, noise: &NoiseConfig, config: &ObjectiveConfig) -> Result<Self> {
        config.validate(noise, model)?;
        Ok(Self {
            schedule: Schedule::new(noise)?,
            config: config.clone(),
            model: model.clone(),
        })
    }

    /// The noise schedule.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Whether the model is autoregressive, so that times and masks play no part.
    pub fn autoregressive(&self) -> bool {
        self.model.kind == ModelKind::Ar
    }

    /// Whether it is SUBS in continuous time, whose bound the exact evaluation computes.
    pub fn is_subs(&self) -> bool {
        !self.autoregressive() && self.config.parameterization == Parameterization::Subs
    }

    /// How many of a sequence's `attended` leading tokens have a loss: an autoregressive model does not
    /// predict the first.
    pub fn counted(&self, attended: usize) -> usize {
        attended.saturating_sub(usize::from(self.autoregressive()))
    }

    /// What listed rows are scored by.
    pub fn row_loss(&self) -> RowLoss {
        match self.config.parameterization {
            Parameterization::D3pm if !self.config.subs_masking => RowLoss::D3pm,
            Parameterization::Sedd => RowLoss::Sedd,
            _ => RowLoss::Subs,
        }
    }

    /// Times of a global batch of `n` sequences.
    pub fn times(&self, rng: &mut Rng, n: usize, eps: f64, antithetic: bool) -> Vec<f64> {
        let times = sample_times(rng, n, eps, antithetic);
        times.into_iter().map(|t| self.time(t)).collect()
    }

    /// The time that a uniform one becomes: importance sampling's transformation, or the end of its
    /// step among T.
    pub fn time(&self, t: f64) -> f64 {
        let steps = f64::from(self.config.t_steps);
        if self.config.importance_sampling {
            self.schedule.importance_time(t)
        } else if steps > 0.0 {
            ((t * steps).floor() / steps + 1.0 / steps).min(1.0)
        } else {
            t
        }
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

    /// Appends noisy tokens at t; an autoregressive model gets them clean.
    pub fn q_xt(&self, x0: &[u32], t: f64, rng: &mut Rng, xt: &mut Vec<u32>) {
        if self.autoregressive() {
            xt.extend_from_slice(x0);
        } else {
            q_xt(x0, self.move_chance(t), self.model.mask_index, rng, xt);
        }
    }

    /// What the network is told of t: sigma, or t itself under the change of variables.
    pub fn conditioning(&self, t: f64) -> f64 {
        if self.config.change_of_variables {
            t
        } else {
            self.schedule.sigma(t)
        }
    }

    /// What the network is told where tokens are masked with probability `move_chance`.
    pub fn conditioning_of(&self, move_chance: f64) -> f64 {
        if self.config.change_of_variables {
            self.schedule.log_move_share(move_chance)
        } else {
            -(-move_chance).ln_1p()
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
            let shift = expm1.ln() + (self.model.vocab_size as f64 - 1.0).ln();
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

    /// The passes over sequences whose noisy form at the times `t` (as [`Objective::time`] gives
    /// them) is `xt`: one, or two where there is a reconstruction term.
    ///
    /// # Errors
    /// [`Error::Shape`] if sizes do not agree, [`Error::Token`] for a token outside the vocabulary,
    /// [`Error::Config`] for a time outside (0, 1] or a total that is not positive.
    pub fn passes(&self, clean: Clean<'_>, xt: Vec<u32>, t: &[f64]) -> Result<Vec<Pass>> {
        self.check(&clean, t)?;
        let length = clean.x0.len() / t.len();
        let share = |row: usize| clean.attention_mask.map_or(1.0, |a| a[row]) / clean.total;
        let c = &self.model;
        if self.autoregressive() {
            let next = |row: usize| (row % length + 1 < length).then(|| clean.x0[row + 1]);
            let mut pass = Pass::listing(clean.x0, xt, c.vocab_size, next)?;
            pass.weights = pass
                .rows
                .iter()
                .map(|&row| share(row as usize + 1))
                .collect();
            return Ok(vec![pass]);
        }
        let masked = |row: usize| (xt[row] == c.mask_index).then(|| clean.x0[row]);
        let mut pass = Pass::listing(clean.x0, xt.clone(), c.vocab_size, masked)?;
        let rows: Vec<_> = t.iter().map(|&t| self.row(t)).collect();
        let coefficients = self.row_loss().has_coefficients();
        for &row in &pass.rows {
            let (weight, c) = &rows[row as usize / length];
            pass.weights.push(weight * share(row as usize));
            if coefficients {
                pass.coefficients.extend(c);
            }
        }
        pass.conditioning = t.iter().map(|&t| self.conditioning(t)).collect();
        let mut passes = vec![pass];
        if self.config.parameterization == Parameterization::D3pm {
            let all = |row: usize| Some(clean.x0[row]);
            let mut pass = Pass::listing(clean.x0, clean.x0.to_vec(), c.vocab_size, all)?;
            pass.weights = (0..clean.x0.len()).map(share).collect();
            if coefficients {
                pass.coefficients = vec![0.0; COEFFICIENTS * clean.x0.len()];
            }
            pass.conditioning = vec![self.schedule.sigma(0.0); t.len()];
            passes.push(pass);
        }
        Ok(passes)
    }

    /// As [`Objective::passes`], with what training needs besides.
    ///
    /// # Errors
    /// As [`Objective::passes`].
    pub fn training_passes(&self, clean: Clean<'_>, xt: Vec<u32>, t: &[f64]) -> Result<Vec<Pass>> {
        let mut passes = self.passes(clean, xt, t)?;
        passes.iter_mut().for_each(|pass| pass.for_training(None));
        Ok(passes)
    }

    fn check(&self, clean: &Clean<'_>, t: &[f64]) -> Result<()> {
        let n = clean.x0.len();
        let shape = |tensor: &str, expected: String, got: usize| Error::Shape {
            op: "batch",
            tensor: tensor.into(),
            expected,
            got: vec![got],
        };
        if t.is_empty() || !n.is_multiple_of(t.len()) {
            return Err(shape(
                "x0",
                format!("a multiple of {} sequences", t.len()),
                n,
            ));
        }
        if let Some(mask) = clean.attention_mask.filter(|m| m.len() != n) {
            return Err(shape("attention_mask", format!("{n} elements"), mask.len()));
        }
        if !(clean.total.is_finite() && clean.total > 0.0) {
            let problem = "the tokens that count must be more than none";
            return Err(Error::config("batch total", clean.total, problem));
        }
        match t.iter().find(|&&t| !(t > 0.0 && t <= 1.0)) {
            Some(&t) => Err(Error::config("diffusion time", t, "must be in (0, 1]")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objective(t_steps: u32) -> Objective {
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
        Objective::new(&model, &NoiseConfig::default(), &config).unwrap()
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
