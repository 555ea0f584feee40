//! Rules that read the predictions: every masked position is drawn, and the most certain ones are
//! revealed. What is left is drawn anew in the next step.
//!
//! They have no time of their own; a network that wants one is told the time at which as large a
//! share of the tokens is masked as of the open positions.

use super::plan::{Plan, Rule, View};
use crate::process::Schedule;
use crate::rng::Rng;
use crate::sample::Draw;

fn draw_all(schedule: &Schedule, view: &View<'_>) -> Plan {
    Plan {
        network_t: schedule.time_at(view.share()),
        rows: view.masked.to_vec(),
        ..Plan::default()
    }
}

/// Indices of the `count` largest scores, rising; of equal ones the first.
fn largest(scores: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.truncate(count);
    order.sort_unstable();
    order
}

/// The most probable tokens, as many in each step as are left divided by the steps that are left.
/// Gumbel noise on the log-probabilities, scaled by `noise` and the masked share, loosens the order
/// at the beginning (MaskGIT).
pub struct Confidence {
    pub schedule: Schedule,
    pub steps: usize,
    pub noise: f64,
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

/// Every token with at least this probability, and the most probable one in any case
/// (Fast-dLLM, Wu et al. 2025).
pub struct Threshold {
    pub schedule: Schedule,
    pub threshold: f64,
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

/// The positions of least entropy, as many as have together at most `gamma` nats beyond the largest
/// of them, which bounds the error of drawing them independently (Ben-Hamu et al. 2025).
pub struct EntropyBound {
    pub schedule: Schedule,
    pub gamma: f64,
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
