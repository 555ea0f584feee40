//! One position after the other: at random times, or from left to right.

use super::plan::{Plan, Rule, View, choose};
use crate::process::Schedule;
use crate::rng::Rng;

/// The first-hitting sampler (Zheng et al. 2024): the reverse process in continuous time, without
/// steps that do nothing. Of n masked positions the first one is revealed at the time at which
/// P(mask) has fallen by a factor `u^(1 / n)`; which one is uniform. Filling k positions in each
/// call lets time pass for all of them but predicts them together, at the time of the first.
pub struct FirstHitting {
    pub schedule: Schedule,
    pub tokens_per_call: usize,
}

impl Rule for FirstHitting {
    fn plan(&self, view: &View<'_>, rng: &mut Rng) -> Plan {
        let n = view.masked.len();
        let count = self.tokens_per_call.min(n);
        let mut move_chance = self.schedule.move_chance(view.t);
        let mut first = view.t;
        for revealed in 0..count {
            // in (0, 1], so that the time stays above 0
            let u = 1.0 - rng.uniform();
            move_chance *= u.powf(1.0 / (n - revealed) as f64);
            if revealed == 0 {
                first = self.schedule.time_at(move_chance);
            }
        }
        let t = if count == n {
            0.0
        } else {
            self.schedule.time_at(move_chance)
        };
        Plan {
            network_t: first,
            rows: choose(rng, view.masked, count),
            t: Some(t),
            ..Plan::default()
        }
    }
}

/// The leftmost masked position, one a step.
pub struct LeftToRight {
    pub schedule: Schedule,
}

impl Rule for LeftToRight {
    fn plan(&self, view: &View<'_>, _: &mut Rng) -> Plan {
        Plan {
            network_t: self.schedule.time_at(view.share()),
            rows: view.masked.iter().take(1).copied().collect(),
            ..Plan::default()
        }
    }
}
