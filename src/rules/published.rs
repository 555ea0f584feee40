//! Samplers as published programs count and order: for models that were trained and measured with them.
//!
//! Counts are formed in f32 as there, since halves are rounded one way or the other by the last bit.

use super::declare::{Choice, Declaration, SamplerKind, Setting};
use super::plan::{Draw, Plan, Rule, View, draw_all, largest};
use crate::process::Schedule;
use crate::rng::Rng;

const FACTOR: Choice = Choice {
    key: "factor",
    help: "The r-th surest token is accepted from a probability of 1 - factor / (r + 1).",
    default: 1.0,
    whole: false,
    holds: |x| x > 0.0 && x <= 100.0,
    problem: "must be in (0, 100]",
};

/// Where Dream's grid of times ends.
const DREAM_END: f32 = 1e-3;

impl SamplerKind {
    /// The most probable tokens first, as many in a step as the linear schedule expects (dllm's MDLM sampler).
    pub const SCHEDULED: Self = Self(&Declaration {
        name: "scheduled",
        summary: "the surest first, as many as the linear schedule expects",
        has_steps: true,
        options: &[],
        check: |_| Ok(()),
        make: |setting| counted(setting, scheduled, |draw| draw.probability),
    });
    /// The most probable tokens first, counted as Dream does (`maskgit_plus`).
    pub const DREAM: Self = Self(&Declaration {
        name: "dream",
        summary: "the surest first, counted as Dream does",
        has_steps: true,
        options: &[],
        check: |_| Ok(()),
        make: |setting| counted(setting, dream, |draw| draw.probability),
    });
    /// The positions of least entropy first, counted as Dream does (`entropy`).
    pub const DREAM_ENTROPY: Self = Self(&Declaration {
        name: "dream-entropy",
        summary: "the least entropy first, counted as Dream does",
        has_steps: true,
        options: &[],
        check: |_| Ok(()),
        make: |setting| counted(setting, dream, |draw| -draw.entropy),
    });
    /// The positions whose best token is furthest ahead of the next one, counted as Dream does (`topk_margin`).
    pub const DREAM_MARGIN: Self = Self(&Declaration {
        name: "dream-margin",
        summary: "the clearest decision first, counted as Dream does",
        has_steps: true,
        options: &[],
        check: |_| Ok(()),
        make: |setting| counted(setting, dream, |draw| draw.margin),
    });
    /// Every token that is probable enough for its rank (Fast-dLLM's factor).
    pub const FACTOR: Self = Self(&Declaration {
        name: "factor",
        summary: "all that are sure enough for their rank",
        has_steps: false,
        options: &[FACTOR],
        check: |_| Ok(()),
        make: |setting| {
            Box::new(Factor {
                schedule: setting.schedule.clone(),
                factor: setting.options.get(&FACTOR),
            })
        },
    });
}

/// The best positions by a score, as many in each step as a list says, which is a function of the open positions and
/// the steps.
struct Counted {
    schedule: Schedule,
    steps: usize,
    counts: fn(usize, usize) -> Vec<usize>,
    score: fn(&Draw) -> f64,
}

fn counted(
    setting: &Setting<'_>,
    counts: fn(usize, usize) -> Vec<usize>,
    score: fn(&Draw) -> f64,
) -> Box<dyn Rule> {
    Box::new(Counted {
        schedule: setting.schedule.clone(),
        steps: setting.steps,
        counts,
        score,
    })
}

impl Counted {
    fn count(&self, view: &View<'_>) -> usize {
        let open = view.masked.len() + view.filled.len();
        let counts = (self.counts)(open, self.steps);
        counts.get(view.step).copied().unwrap_or(0)
    }
}

impl Rule for Counted {
    fn plan(&self, view: &View<'_>, _: &mut Rng) -> Plan {
        match self.count(view) {
            0 => Plan::default(),
            _ => draw_all(&self.schedule, view),
        }
    }

    fn choose(&self, view: &View<'_>, draws: &[Draw], _: &mut Rng) -> Vec<usize> {
        let scores: Vec<f64> = draws.iter().map(self.score).collect();
        largest(&scores, self.count(view))
    }

    fn steps(&self) -> usize {
        self.steps
    }
}

/// Expected numbers under alpha = 1 - t, halves to even; steps that reveal nothing are left out.
fn scheduled(open: usize, steps: usize) -> Vec<usize> {
    let mut left = open;
    let count = |done: usize| {
        let t = (steps - done) as f64 / steps as f64;
        let share = |t: f64| 1.0 - (1.0 - t as f32);
        let moved = 1.0 - share(t - 1.0 / steps as f64) / share(t);
        let count = (left as f64 * f64::from(moved)).round_ties_even() as usize;
        left -= count;
        count
    };
    (0..steps).map(count).filter(|&count| count > 0).collect()
}

/// `floor(masked (1 - s / t))` on a grid from 1 to [`DREAM_END`], in the last step all.
fn dream(open: usize, steps: usize) -> Vec<usize> {
    let step = (DREAM_END - 1.0) / steps as f32;
    // from the nearer end, rounded once
    let time = |i: usize| match i < steps.div_ceil(2) {
        true => step.mul_add(i as f32, 1.0),
        false => (-step).mul_add((steps - i) as f32, DREAM_END),
    };
    let mut left = open;
    let count = |i: usize| {
        let share = 1.0 - time(i + 1) / time(i);
        let count = match i + 1 == steps {
            true => left,
            false => (left as f32 * share) as usize,
        };
        left -= count;
        count
    };
    (0..steps).map(count).collect()
}

/// With the probabilities falling, as many of the first as there are ranks that fulfil `p_r >= 1 - factor / (r + 1)`;
/// the first in any case (Fast-dLLM, Wu et al. 2025).
struct Factor {
    schedule: Schedule,
    factor: f64,
}

impl Rule for Factor {
    fn plan(&self, view: &View<'_>, _: &mut Rng) -> Plan {
        draw_all(&self.schedule, view)
    }

    fn choose(&self, _: &View<'_>, draws: &[Draw], _: &mut Rng) -> Vec<usize> {
        let mut falling: Vec<f64> = draws.iter().map(|draw| draw.probability).collect();
        let scores = falling.clone();
        falling.sort_by(|a, b| b.total_cmp(a));
        let accepted = |&(i, p): &(usize, &f64)| *p >= 1.0 - self.factor / (i + 2) as f64;
        let count = falling.iter().enumerate().filter(accepted).count();
        largest(&scores, count.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_the_published_programs() {
        assert_eq!(scheduled(16, 5), [3, 3, 3, 4, 3]);
        assert_eq!(scheduled(3, 8).iter().sum::<usize>(), 3);
        assert_eq!(dream(16, 8), [1, 2, 2, 2, 2, 2, 2, 3]);
        assert_eq!(dream(12, 6), [1, 2, 2, 2, 2, 3]);
        assert_eq!(dream(10, 7), [1, 1, 1, 1, 1, 2, 3]);
        assert_eq!((dream(5, 1), scheduled(5, 1)), (vec![5], vec![5]));
    }
}
