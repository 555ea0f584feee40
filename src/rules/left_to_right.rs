//! From left to right.

use super::declare::{Declaration, SamplerKind};
use super::plan::{Plan, Rule, View};
use crate::process::Schedule;
use crate::rng::Rng;

impl SamplerKind {
    /// The leftmost masked position; how autoregressive models sample.
    pub const LEFT_TO_RIGHT: Self = Self(&Declaration {
        name: "left-to-right",
        summary: "the leftmost gap first",
        has_steps: false,
        options: &[],
        check: |_| Ok(()),
        make: |setting| {
            Box::new(LeftToRight {
                schedule: setting.schedule.clone(),
            })
        },
    });
}

/// The leftmost masked position, one a step.
struct LeftToRight {
    schedule: Schedule,
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
