//! Tweedie denoising on a grid of t.

use super::ancestral::Ancestral;
use super::declare::{Declaration, SamplerKind};
use super::plan::{Draw, Plan, Rule, View, grid_times};
use crate::process::Schedule;
use crate::rng::Rng;

impl SamplerKind {
    /// Tweedie denoising of scores; for a denoiser of tokens, the law of [`SamplerKind::ANCESTRAL`].
    pub const ANALYTIC: Self = Self(&Declaration {
        name: "analytic",
        summary: "denoising of scores (SEDD's)",
        has_steps: true,
        options: &[],
        check: |_| Ok(()),
        make: |setting| {
            let (schedule, steps) = (setting.schedule.clone(), setting.steps);
            match setting.scores {
                true => Box::new(Analytic {
                    schedule,
                    steps,
                    vocab_size: setting.vocab_size,
                }),
                false => Box::new(Ancestral { schedule, steps }),
            }
        },
    });
}

/// Tweedie denoising of a model of scores (SEDD, Lou et al. 2024): a masked position is revealed
/// with probability `expm1(sigma_t - sigma_s) sum_v score_v`, at most 1, where
/// `log score_v = z_v - log(expm1(sigma_t)) - log(V - 1)`, and its token is v in proportion to
/// `exp(z_v)`. Every masked position is predicted in every step.
struct Analytic {
    schedule: Schedule,
    steps: usize,
    vocab_size: usize,
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
