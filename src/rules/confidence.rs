//! The most certain tokens first, evenly over the steps.

use super::declare::{Choice, Declaration, SamplerKind};
use super::plan::{Draw, Plan, Rule, View, draw_all, largest};
use crate::process::Schedule;
use crate::rng::Rng;

const ORDER_NOISE: Choice = Choice {
    key: "order_noise",
    help: "Gumbel noise on the order of `confidence`, times t; 0: none.",
    default: 0.0,
    whole: false,
    holds: |x| x >= 0.0,
    problem: "must be finite and not negative",
};

impl SamplerKind {
    /// The most probable tokens first, evenly over the steps.
    pub const CONFIDENCE: Self = Self(&Declaration {
        name: "confidence",
        summary: "the surest first",
        has_steps: true,
        options: &[ORDER_NOISE],
        check: |_| Ok(()),
        make: |setting| {
            Box::new(Confidence {
                schedule: setting.schedule.clone(),
                steps: setting.steps,
                noise: setting.options.get(&ORDER_NOISE),
            })
        },
    });
}

/// The most probable tokens, as many in each step as are left divided by the steps that are left.
/// Gumbel noise on the log-probabilities, scaled by `noise` and the masked share, loosens the order
/// at the beginning (MaskGIT).
struct Confidence {
    schedule: Schedule,
    steps: usize,
    noise: f64,
}

impl Rule for Confidence {
    fn plan(&self, view: &View<'_>, _: &mut Rng) -> Plan {
        draw_all(&self.schedule, view)
    }

    fn choose(&self, view: &View<'_>, draws: &[Draw], rng: &mut Rng) -> Vec<usize> {
        let left = self.steps.saturating_sub(view.step).max(1);
        let noise = self.noise * view.share();
        let scores: Vec<f64> = draws
            .iter()
            .map(|draw| {
                // in (0, 1), so that both logarithms are finite
                let u = rng.uniform().max(f64::EPSILON / 4.0);
                draw.probability.ln() - noise * (-u.ln()).ln()
            })
            .collect();
        largest(&scores, draws.len().div_ceil(left))
    }

    fn steps(&self) -> usize {
        self.steps
    }
}
