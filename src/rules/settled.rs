//! Every token that is certain enough and whose prediction has come to rest.

use super::declare::{Choice, Declaration, SamplerKind};
use super::plan::{Draw, Plan, Rule, View, draw_all, largest};
use super::threshold::THRESHOLD;
use crate::process::Schedule;
use crate::rng::Rng;

const DRIFT: Choice = Choice {
    key: "drift",
    help: "Nats below which two steps in a row may move a prediction that `klass` accepts.",
    default: 0.01,
    whole: false,
    holds: |x| x > 0.0,
    problem: "must be finite and above 0",
};

impl SamplerKind {
    /// Every token that is probable enough and whose prediction has settled (KLASS).
    pub const KLASS: Self = Self(&Declaration {
        name: "klass",
        summary: "all that are sure and settled enough",
        has_steps: false,
        options: &[THRESHOLD, DRIFT],
        check: |_| Ok(()),
        make: |setting| {
            Box::new(Settled {
                schedule: setting.schedule.clone(),
                threshold: setting.options.get(&THRESHOLD),
                drift: setting.options.get(&DRIFT),
            })
        },
    });
}

/// Every token with more than a probability, whose distribution has moved by less than so many nats of Kullback-Leibler
/// divergence in each of the last two steps; the most probable one where there is none (Kim et al. 2025). A block's first
/// step has nothing to move from; the authors' program measures from what it predicted in the block before.
struct Settled {
    schedule: Schedule,
    threshold: f64,
    drift: f64,
}

impl Rule for Settled {
    fn plan(&self, view: &View<'_>, _: &mut Rng) -> Plan {
        draw_all(&self.schedule, view)
    }

    fn choose(&self, view: &View<'_>, draws: &[Draw], _: &mut Rng) -> Vec<usize> {
        let rests = |position: usize, draw: &Draw| draw.drift.max(view.drift[position]) < self.drift;
        let ready = |(i, draw): (usize, &Draw)| {
            let ready = draw.probability > self.threshold && rests(view.masked[i], draw);
            ready.then_some(i)
        };
        let chosen: Vec<usize> = draws.iter().enumerate().filter_map(ready).collect();
        if !chosen.is_empty() {
            return chosen;
        }
        let probability: Vec<f64> = draws.iter().map(|draw| draw.probability).collect();
        largest(&probability, 1)
    }

    fn drifts(&self) -> bool {
        true
    }
}
