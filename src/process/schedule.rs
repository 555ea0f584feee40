//! Noise schedules: sigma(t), sigma'(t), alpha = exp(-sigma), P(mask) = 1 - alpha and the loss weight
//! sigma' / expm1(sigma) = sigma' alpha / P(mask).
//!
//! Written so that nothing cancels near t = 0 or 1, where the reference's formulas lose digits in
//! f32: `1 - cos x` as `2 sin^2(x / 2)`, `1 - exp(-x)` as `-expm1(-x)`, and the weights as the closed
//! forms that are left after alpha and the factor 1 - eps have cancelled (loglinear `1 / t`, cosine
//! `pi / 2 cot(pi t / 4)`, cosinesqr `pi cot(pi t / 2)`, polynomial `k / t`).

use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, PI};

use super::noise::{NoiseConfig, NoiseKind};

/// What is left of alpha at t = 1 in the schedules that would reach 0.
const EPS: f64 = 1e-3;

/// A noise schedule (reference `noise_schedule.py`; polynomial: MD4).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schedule(NoiseConfig);

impl Schedule {
    /// The schedule of a configuration.
    ///
    /// # Errors
    /// [`crate::Error::Config`] for values outside their range.
    pub fn new(config: &NoiseConfig) -> crate::Result<Self> {
        config.validate()?;
        Ok(Self(config.clone()))
    }

    fn sigma_span(&self) -> f64 {
        self.0.sigma_max - self.0.sigma_min
    }

    /// Total noise at t; alpha_t is exp(-sigma).
    pub fn sigma(&self, t: f64) -> f64 {
        let c = &self.0;
        match c.kind {
            NoiseKind::Linear => c.sigma_min + t * self.sigma_span(),
            NoiseKind::Geometric => c.sigma_min.powf(1.0 - t) * c.sigma_max.powf(t),
            _ => -(-self.move_chance(t)).ln_1p(),
        }
    }

    /// Rate of the total noise, d sigma / dt.
    pub fn dsigma(&self, t: f64) -> f64 {
        let c = &self.0;
        // of P(mask), where that has the closed form
        let rate = match c.kind {
            NoiseKind::Linear => return self.sigma_span(),
            NoiseKind::Geometric => return self.sigma(t) * (c.sigma_max / c.sigma_min).ln(),
            NoiseKind::Loglinear => 1.0,
            NoiseKind::Cosine => FRAC_PI_2 * (FRAC_PI_2 * t).sin(),
            NoiseKind::Cosinesqr => FRAC_PI_2 * (PI * t).sin(),
            NoiseKind::Polynomial => c.power * t.powf(c.power - 1.0),
        };
        (1.0 - EPS) * rate / self.alpha_t(t)
    }

    /// Probability that a token is masked at t.
    pub fn move_chance(&self, t: f64) -> f64 {
        let c = &self.0;
        let share = match c.kind {
            NoiseKind::Linear | NoiseKind::Geometric => return -(-self.sigma(t)).exp_m1(),
            NoiseKind::Loglinear => t,
            NoiseKind::Cosine => 2.0 * (FRAC_PI_4 * t).sin().powi(2),
            NoiseKind::Cosinesqr => (FRAC_PI_2 * t).sin().powi(2),
            NoiseKind::Polynomial => t.powf(c.power),
        };
        (1.0 - EPS) * share
    }

    /// Probability that a token is not masked at t.
    pub fn alpha_t(&self, t: f64) -> f64 {
        match self.0.kind {
            NoiseKind::Linear | NoiseKind::Geometric => (-self.sigma(t)).exp(),
            NoiseKind::Cosine => EPS + (1.0 - EPS) * (FRAC_PI_2 * t).cos(),
            NoiseKind::Cosinesqr => EPS + (1.0 - EPS) * (FRAC_PI_2 * t).cos().powi(2),
            _ => 1.0 - self.move_chance(t),
        }
    }

    /// The time at which a token is masked with this probability, within 2^-60; 0 or 1 for a
    /// probability that is not reached.
    pub fn time_at(&self, move_chance: f64) -> f64 {
        let [mut low, mut high] = [0.0, 1.0];
        if move_chance <= self.move_chance(low) {
            return low;
        }
        if move_chance >= self.move_chance(high) {
            return high;
        }
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if self.move_chance(middle) < move_chance {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    }

    /// Weight of the continuous-time loss, `sigma' / expm1(sigma)`.
    pub fn weight(&self, t: f64) -> f64 {
        match self.0.kind {
            NoiseKind::Loglinear => 1.0 / t,
            NoiseKind::Cosine => FRAC_PI_2 / (FRAC_PI_4 * t).tan(),
            NoiseKind::Cosinesqr => PI * (FRAC_PI_2 * t).cos() / (FRAC_PI_2 * t).sin(),
            NoiseKind::Polynomial => self.0.power / t,
            NoiseKind::Linear | NoiseKind::Geometric => self.dsigma(t) / self.sigma(t).exp_m1(),
        }
    }

    /// `[log P(mask) at sigma_min, at sigma_max]`, the range over which importance sampling and the
    /// change of variables are uniform (the reference's sigma_min of loglinear is eps).
    pub fn log_move_range(&self) -> [f64; 2] {
        let range = match self.0.kind {
            NoiseKind::Linear | NoiseKind::Geometric => [self.0.sigma_min, self.0.sigma_max],
            _ => [EPS, self.sigma(1.0)],
        };
        range.map(|sigma| (-(-sigma).exp()).ln_1p())
    }

    /// Where log P(mask) lies in [`Schedule::log_move_range`], from 0 to 1. Networks trained with
    /// the change of variables read it in place of sigma.
    pub fn log_move_share(&self, move_chance: f64) -> f64 {
        let [low, high] = self.log_move_range();
        ((move_chance.ln() - low) / (high - low)).clamp(0.0, 1.0)
    }

    /// The time whose log P(mask) lies at the fraction `t` of [`Schedule::log_move_range`]; loglinear
    /// and linear (reference `importance_sampling_transformation`).
    pub fn importance_time(&self, t: f64) -> f64 {
        let [low, high] = self.log_move_range();
        let move_chance = (t * high + (1.0 - t) * low).exp();
        match self.0.kind {
            NoiseKind::Linear => (-(-move_chance).ln_1p() - self.0.sigma_min) / self.sigma_span(),
            _ => move_chance / (1.0 - EPS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Schedule> {
        let kinds = [
            NoiseKind::Loglinear,
            NoiseKind::Cosine,
            NoiseKind::Cosinesqr,
            NoiseKind::Linear,
            NoiseKind::Geometric,
            NoiseKind::Polynomial,
        ];
        let make = |kind| NoiseConfig {
            kind,
            power: 1.7,
            ..NoiseConfig::default()
        };
        kinds.map(|kind| Schedule(make(kind))).to_vec()
    }

    #[test]
    fn quantities_agree_with_each_other() {
        for schedule in all() {
            for t in [1e-9, 1e-3, 0.1, 0.5, 0.9, 1.0 - 1e-9] {
                let (sigma, alpha) = (schedule.sigma(t), schedule.alpha_t(t));
                let close = |a: f64, b: f64, what: &str| {
                    assert!(
                        (a / b - 1.0).abs() < 1e-7,
                        "{schedule:?} {what}({t}): {a} {b}"
                    );
                };
                close(alpha, (-sigma).exp(), "alpha_t");
                close(schedule.move_chance(t), -(-sigma).exp_m1(), "move_chance");
                close(
                    schedule.weight(t),
                    schedule.dsigma(t) / sigma.exp_m1(),
                    "weight",
                );
                close(schedule.time_at(schedule.move_chance(t)), t, "time_at");
                let h = 1e-5;
                if t > 2.0 * h && t < 1.0 - 2.0 * h {
                    let slope = (schedule.sigma(t + h) - schedule.sigma(t - h)) / (2.0 * h);
                    assert!(
                        (schedule.dsigma(t) / slope - 1.0).abs() < 1e-4,
                        "{schedule:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn importance_times_span_the_range_evenly() {
        for kind in [NoiseKind::Loglinear, NoiseKind::Linear] {
            let schedule = Schedule(NoiseConfig {
                kind,
                ..NoiseConfig::default()
            });
            let [low, high] = schedule.log_move_range();
            for share in [0.0, 0.3, 1.0] {
                let t = schedule.importance_time(share);
                let log = schedule.move_chance(t).ln();
                assert!((schedule.log_move_share(log.exp()) - share).abs() < 1e-9);
                assert!(
                    (log - (low + share * (high - low))).abs() < 1e-9,
                    "{kind:?} {share}"
                );
            }
        }
    }
}
