//! One position after the other, at random times.

use super::declare::{Choice, Declaration, SamplerKind};
use super::plan::{Plan, Rule, View, choose};
use crate::process::Schedule;
use crate::rng::Rng;

const TOKENS_PER_CALL: Choice = Choice {
    key: "tokens_per_call",
    help: "Positions filled in each network call; above 1 an approximation.",
    default: 1.0,
    whole: true,
    holds: |x| (1.0..=65536.0).contains(&x),
    problem: "must be in 1..=65536",
};

impl SamplerKind {
    /// The reverse process in continuous time, one position after the other.
    pub const FIRST_HITTING: Self = Self(&Declaration {
        name: "first-hitting",
        summary: "the same in continuous time, token after token",
        has_steps: false,
        options: &[TOKENS_PER_CALL],
        check: |_| Ok(()),
        make: |setting| {
            Box::new(FirstHitting {
                schedule: setting.schedule.clone(),
                tokens_per_call: setting.options.get(&TOKENS_PER_CALL) as usize,
            })
        },
    });
}

/// The first-hitting sampler (Zheng et al. 2024): the reverse process in continuous time, without
/// steps that do nothing. Of n masked positions the first one is revealed at the time at which
/// P(mask) has fallen by a factor `u^(1 / n)`; which one is uniform. Filling k positions in each
/// call lets time pass for all of them but predicts them together, at the time of the first.
struct FirstHitting {
    schedule: Schedule,
    tokens_per_call: usize,
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
