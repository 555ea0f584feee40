//! Noise schedules: sigma(t), sigma'(t), alpha = exp(-sigma), P(mask) = 1 - alpha and the loss weight
//! sigma' / expm1(sigma), each without cancellation.

/// The log-linear schedule: P(mask) = (1 - eps) t, eps = 1e-3 (reference `LogLinearNoise`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Loglinear;

impl Loglinear {
    const EPS: f64 = 1e-3;

    /// Total noise, `-log1p(-(1 - eps) t)`.
    pub fn sigma(self, t: f64) -> f64 {
        -(-self.move_chance(t)).ln_1p()
    }

    /// Its rate, `(1 - eps) / (1 - (1 - eps) t)`.
    pub fn dsigma(self, t: f64) -> f64 {
        (1.0 - Self::EPS) / self.alpha_t(t)
    }

    /// Probability that a token is masked at t.
    pub fn move_chance(self, t: f64) -> f64 {
        (1.0 - Self::EPS) * t
    }

    /// Probability that a token is not masked at t.
    pub fn alpha_t(self, t: f64) -> f64 {
        1.0 - self.move_chance(t)
    }

    /// Weight of the continuous-time loss, `sigma' / expm1(sigma)` = 1 / t exactly.
    pub fn weight(self, t: f64) -> f64 {
        1.0 / t
    }
}

#[cfg(test)]
mod tests {
    use super::Loglinear;

    #[test]
    fn weight_is_the_ratio_it_stands_for() {
        for t in [1e-3, 0.1, 0.5, 0.9, 1.0] {
            let ratio = Loglinear.dsigma(t) / Loglinear.sigma(t).exp_m1();
            assert!((Loglinear.weight(t) / ratio - 1.0).abs() < 1e-12, "{t}");
        }
    }
}
