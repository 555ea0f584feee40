//! The reverse process on a uniform grid of t that ends at 0, where everything left is revealed
//! (the reference stops at 1e-5 and fills the rest greedily).

use super::plan::{Plan, Rule, View, binomial, choose, grid_times};
use crate::process::Schedule;
use crate::rng::Rng;
use crate::sample::Draw;

/// From t to s a masked position is revealed with probability `1 - P(mask at s) / P(mask at t)`,
/// independently: the number is binomial, the positions are uniform. A step that reveals nothing
/// draws nothing (reference `ddpm_cache`, without its f32 race).
///
/// Also the law of `analytic` for a denoiser of tokens, whose scores sum to `1 / expm1(sigma)`:
/// `expm1(sigma_t - sigma_s) / expm1(sigma_t)` is the same probability.
pub struct Ancestral {
    pub schedule: Schedule,
    pub steps: usize,
}

impl Rule for Ancestral {
    fn plan(&self, view: &View<'_>, rng: &mut Rng) -> Plan {
        let (t, s) = grid_times(view.step, self.steps);
        let kept = if s == 0.0 {
            0.0
        } else {
            self.schedule.move_chance(s) / self.schedule.move_chance(t)
        };
        let count = binomial(rng, view.masked.len(), 1.0 - kept);
        Plan {
            network_t: t,
            rows: choose(rng, view.masked, count),
            t: Some(s),
            ..Plan::default()
        }
    }

    fn steps(&self) -> usize {
        self.steps
    }
}

/// Tweedie denoising of a model of scores (SEDD, Lou et al. 2024): a masked position is revealed
/// with probability `expm1(sigma_t - sigma_s) sum_v score_v`, at most 1, where
/// `log score_v = z_v - log(expm1(sigma_t)) - log(V - 1)`, and its token is v in proportion to
/// `exp(z_v)`. Every masked position is predicted in every step.
pub struct Analytic {
    pub schedule: Schedule,
    pub steps: usize,
    pub vocab_size: usize,
}

impl Rule for Analytic {
    fn plan(&self, view: &View<'_>, _: &mut Rng) -> Plan {
        let (t, s) = grid_times(view.step, self.steps);
        Plan {
            network_t: t,
            rows: view.masked.to_vec(),
            t: Some(s),
            ..Plan::default()
        }
    }

    fn choose(&self, view: &View<'_>, draws: &[Draw], rng: &mut Rng) -> Vec<usize> {
        let (t, s) = grid_times(view.step, self.steps);
        let (sigma, rest) = (self.schedule.sigma(t), self.schedule.sigma(s));
        let log_rate = ((sigma - rest).exp_m1() / sigma.exp_m1()).ln();
        let log_others = ((self.vocab_size - 1) as f64).ln();
        let revealed = |draw: &Draw| (log_rate + draw.log_total - log_others).exp();
        let mut chosen = Vec::new();
        for (i, draw) in draws.iter().enumerate() {
            // one variate for each, so that a row's fate does not move the others'
            let u = rng.uniform();
            if s == 0.0 || u < revealed(draw) {
                chosen.push(i);
            }
        }
        chosen
    }

    fn steps(&self) -> usize {
        self.steps
    }
}
