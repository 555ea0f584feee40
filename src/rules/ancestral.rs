//! The reverse process on a uniform grid of t that ends at 0, where everything left is revealed
//! (the reference stops at 1e-5 and fills the rest greedily).

use super::declare::{Declaration, SamplerKind};
use super::plan::{Plan, Rule, View, binomial, choose, grid_times};
use crate::process::Schedule;
use crate::rng::Rng;

impl SamplerKind {
    /// The reverse process on a grid of t.
    pub const ANCESTRAL: Self = Self(&Declaration {
        name: "ancestral",
        summary: "the reverse process, step by step (the paper's)",
        has_steps: true,
        options: &[],
        check: |_| Ok(()),
        make: |setting| {
            Box::new(Ancestral {
                schedule: setting.schedule.clone(),
                steps: setting.steps,
            })
        },
    });
}

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
