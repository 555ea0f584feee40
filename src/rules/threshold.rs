//! Every token that is certain enough.

use super::declare::{Choice, Declaration, SamplerKind};
use super::plan::{Draw, Plan, Rule, View, draw_all, largest};
use crate::process::Schedule;
use crate::rng::Rng;

pub(super) const THRESHOLD: Choice = Choice {
    key: "threshold",
    help: "Probability from which a token is accepted.",
    default: 0.9,
    whole: false,
    holds: |x| (0.0..=1.0).contains(&x),
    problem: "must be in [0, 1]",
};

impl SamplerKind {
    /// Every token that is probable enough (Fast-dLLM).
    pub const THRESHOLD: Self = Self(&Declaration {
        name: "threshold",
        summary: "all that are sure enough",
        has_steps: false,
        options: &[THRESHOLD],
        check: |_| Ok(()),
        make: |setting| {
            Box::new(Threshold {
                schedule: setting.schedule.clone(),
                threshold: setting.options.get(&THRESHOLD),
            })
        },
    });
}

/// Every token with at least this probability, and the most probable one in any case
/// (Fast-dLLM, Wu et al. 2025).
struct Threshold {
    schedule: Schedule,
    threshold: f64,
}

impl Rule for Threshold {
    fn plan(&self, view: &View<'_>, _: &mut Rng) -> Plan {
        draw_all(&self.schedule, view)
    }

    fn choose(&self, _: &View<'_>, draws: &[Draw], _: &mut Rng) -> Vec<usize> {
        let probability: Vec<f64> = draws.iter().map(|draw| draw.probability).collect();
        let sure = |p: &&f64| **p >= self.threshold;
        largest(&probability, probability.iter().filter(sure).count().max(1))
    }
}
