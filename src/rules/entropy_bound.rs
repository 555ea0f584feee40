//! As many tokens as keep the error of drawing them together bounded.

use super::declare::{Choice, Declaration, SamplerKind};
use super::plan::{Draw, Plan, Rule, View, draw_all, largest};
use crate::process::Schedule;
use crate::rng::Rng;

const GAMMA: Choice = Choice {
    key: "gamma",
    help: "Entropy in nats, beyond the largest, that a step accepts.",
    default: 0.1,
    whole: false,
    holds: |x| x >= 0.0,
    problem: "must be finite and not negative",
};

impl SamplerKind {
    /// As many tokens as keep their joint error bounded (EB-sampler).
    pub const ENTROPY_BOUND: Self = Self(&Declaration {
        name: "entropy-bound",
        summary: "as many as keep their joint error bounded",
        has_steps: false,
        options: &[GAMMA],
        check: |_| Ok(()),
        make: |setting| {
            Box::new(EntropyBound {
                schedule: setting.schedule.clone(),
                gamma: setting.options.get(&GAMMA),
            })
        },
    });
}

/// The positions of least entropy, as many as have together at most `gamma` nats beyond the largest
/// of them, which bounds the error of drawing them independently (Ben-Hamu et al. 2025).
struct EntropyBound {
    schedule: Schedule,
    gamma: f64,
}

impl Rule for EntropyBound {
    fn plan(&self, view: &View<'_>, _: &mut Rng) -> Plan {
        draw_all(&self.schedule, view)
    }

    fn choose(&self, _: &View<'_>, draws: &[Draw], _: &mut Rng) -> Vec<usize> {
        let certainty: Vec<f64> = draws.iter().map(|draw| -draw.entropy).collect();
        let mut entropies: Vec<f64> = draws.iter().map(|draw| draw.entropy).collect();
        entropies.sort_by(f64::total_cmp);
        // in rising order the largest of a prefix is its last, so the rest is the sum before it
        let mut before = 0.0;
        let fits = |entropy: &&f64| {
            let fits = before <= self.gamma;
            before += **entropy;
            fits
        };
        let count = entropies.iter().take_while(fits).count();
        largest(&certainty, count)
    }
}
