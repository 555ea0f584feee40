//! ReMDM (Wang et al. 2025): tokens already revealed are masked again with probability sigma, so
//! that later steps can correct earlier ones. From t to s, with alpha = 1 - P(mask), a masked
//! position is revealed with probability `(alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t)`, which
//! keeps the share of masks where the schedule wants it. Sigma is at most `(1 - alpha_s) / alpha_t`.

use super::plan::{Plan, Rule, View, grid_times};
use crate::process::Schedule;
use crate::rng::Rng;

/// How sigma is chosen.
#[derive(Clone, Copy, Debug)]
pub enum Policy {
    /// At most this.
    Cap(f64),
    /// This share of the largest.
    Rescale(f64),
    /// The largest, shared among the tokens by the softmax of minus their probability when they
    /// were revealed.
    Confidence,
    /// None until `t_on`, where `alpha_on` of the tokens are revealed; `eta` at that constant
    /// alpha until `t_off`; none after it.
    Loop {
        eta: f64,
        t_on: f64,
        t_off: f64,
        alpha_on: f64,
    },
}

pub struct Remask {
    pub schedule: Schedule,
    pub steps: usize,
    pub policy: Policy,
}

impl Remask {
    /// Share of the tokens that is not masked at t.
    fn alpha(&self, t: f64) -> f64 {
        match self.policy {
            _ if t == 0.0 => 1.0,
            Policy::Loop {
                t_on,
                t_off,
                alpha_on,
                ..
            } => {
                if t > t_on {
                    alpha_on * (1.0 - t) / (1.0 - t_on)
                } else if t > t_off {
                    alpha_on
                } else {
                    1.0 - (1.0 - alpha_on) * t / t_off
                }
            }
            _ => self.schedule.alpha_t(t),
        }
    }

    /// Sigma of a step from t to s, before it is shared among tokens.
    fn sigma(&self, t: f64, s: f64) -> f64 {
        let (alpha_t, alpha_s) = (self.alpha(t), self.alpha(s));
        let most = if alpha_t > 0.0 {
            ((1.0 - alpha_s) / alpha_t).min(1.0)
        } else {
            1.0
        };
        match self.policy {
            Policy::Cap(eta) => eta.min(most),
            Policy::Rescale(eta) => eta * most,
            Policy::Confidence => most,
            Policy::Loop {
                eta, t_on, t_off, ..
            } => {
                if t <= t_on && t > t_off {
                    eta.min(most)
                } else {
                    0.0
                }
            }
        }
    }

    /// Probability with which each filled position is masked again.
    fn chances(&self, sigma: f64, view: &View<'_>) -> Vec<f64> {
        if !matches!(self.policy, Policy::Confidence) {
            return vec![sigma; view.filled.len()];
        }
        let weights = view.filled.iter().map(|&i| (-view.probability[i]).exp());
        let weights: Vec<f64> = weights.collect();
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|w| sigma * w / sum).collect()
    }
}

impl Rule for Remask {
    fn plan(&self, view: &View<'_>, rng: &mut Rng) -> Plan {
        let (t, s) = grid_times(view.step, self.steps);
        let (alpha_t, alpha_s) = (self.alpha(t), self.alpha(s));
        let sigma = self.sigma(t, s);
        // the reference's conf reveals as if nothing were masked again
        let balance = match self.policy {
            Policy::Confidence => 0.0,
            _ => sigma,
        };
        let reveal = if s == 0.0 {
            1.0
        } else {
            (alpha_s - (1.0 - balance) * alpha_t) / (1.0 - alpha_t)
        };
        let mut take = |positions: &[usize], chance: &dyn Fn(usize) -> f64| -> Vec<usize> {
            let taken = positions.iter().enumerate();
            let taken = taken.filter(|&(i, _)| rng.uniform() < chance(i));
            taken.map(|(_, &position)| position).collect()
        };
        let chances = self.chances(sigma, view);
        Plan {
            network_t: match self.policy {
                Policy::Loop { .. } => self.schedule.time_at(1.0 - alpha_t),
                _ => t,
            },
            rows: take(view.masked, &|_| reveal),
            remask: take(view.filled, &|i| chances[i]),
            t: Some(s),
        }
    }

    fn steps(&self) -> usize {
        self.steps
    }

    fn remasks(&self) -> bool {
        true
    }
}
