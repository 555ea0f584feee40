//! The reverse process of noise that masks tokens and changes them for others, and the correction of what it wrote.

use super::declare::{Choice, Declaration, SamplerKind};
use super::plan::{Draw, Filled, Plan, Rule, View, grid_times};
use crate::process::{Hybrid, Schedule};
use crate::rng::Rng;

const CORRECTIONS: Choice = Choice {
    key: "corrections",
    help: "Steps of `hybrid` after the reverse process, each of which changes one token for one that the network prefers.",
    default: 0.0,
    whole: true,
    holds: |x| (0.0..=65536.0).contains(&x),
    problem: "must be at most 65536",
};

const TEMPERATURE: Choice = Choice {
    key: "correction_temperature",
    help: "Temperature of the draws of these steps; 0: the most probable token.",
    default: 0.1,
    whole: false,
    holds: |x| x == 0.0 || (0.01..=100.0).contains(&x),
    problem: "must be 0 or in [0.01, 100]",
};

/// The time that the network is told when it corrects.
const CORRECTED: f64 = 0.01;

impl SamplerKind {
    /// The reverse process of hybrid noise, then self-correction (GIDD).
    pub const HYBRID: Self = Self(&Declaration {
        name: "hybrid",
        summary: "undoes masks and changed tokens, then corrects (GIDD)",
        has_steps: true,
        options: &[CORRECTIONS, TEMPERATURE],
        check: |_| Ok(()),
        make: |setting| {
            Box::new(Undo {
                noise: setting.hybrid,
                schedule: setting.schedule.clone(),
                steps: setting.steps,
                corrections: setting.options.get(&CORRECTIONS) as usize,
                temperature: setting.options.get(&TEMPERATURE),
            })
        },
    });
}

/// The posterior of GIDD (von Rütte et al. 2025) from t to s, given the token z at t and the network's x. With q the law
/// of the noised x, `q_s(v) q(z | v) / q_t(z)` is a mixture: z stays, but with probability `b(z) / q_t(z)`, where
/// `b = noise_t - alpha_t / alpha_s noise_s`, it becomes a draw from q_s, which is a mask, noise, or a draw from x.
///
/// Then corrections: at every position a token is drawn, and the most probable of those that differ from what stands is
/// written. A canvas that was given without masks is corrected only; a step that changes nothing is the last one. The
/// authors' program also stops when the share of most probable tokens has not risen for 32 steps, begins its grid of
/// times one step late, ends it at 1e-4, and may leave masks.
///
/// Without noise that changes tokens the process is [`SamplerKind::ANCESTRAL`]'s; under noise that only changes them (UDLM,
/// Duo) every open position begins as noise, and a canvas that was given whole is taken for such.
struct Undo {
    noise: Option<Hybrid>,
    schedule: Schedule,
    steps: usize,
    corrections: usize,
    temperature: f64,
}

impl Undo {
    /// Probabilities that a token at t is itself, a mask, and drawn anew.
    fn shares(&self, t: f64) -> [f64; 3] {
        match self.noise {
            Some(noise) => noise.shares(t),
            None if t == 0.0 => [1.0, 0.0, 0.0],
            None => [self.schedule.alpha_t(t), self.schedule.move_chance(t), 0.0],
        }
    }

    fn is_uniform(&self) -> bool {
        self.noise.is_some_and(|noise| noise.is_uniform())
    }

    /// The shares before and after a step.
    fn step(&self, view: &View<'_>) -> [[f64; 3]; 2] {
        let (t, s) = grid_times(view.step, self.steps);
        [self.shares(t), self.shares(s)]
    }

    fn corrects(&self, step: usize) -> bool {
        step >= self.steps
    }

    /// The draw that is most sure of another token than what stands, if one is.
    fn correction(draws: &[Draw]) -> Option<usize> {
        let differs = |&i: &usize| draws[i].stood != Some(draws[i].token);
        let sure = |&i: &usize| draws[i].probability;
        let others = (0..draws.len()).rev().filter(differs);
        others.max_by(|a, b| sure(a).total_cmp(&sure(b)))
    }
}

impl Rule for Undo {
    fn plan(&self, view: &View<'_>, rng: &mut Rng) -> Plan {
        if self.corrects(view.step) {
            let mut rows = [view.masked, view.filled].concat();
            rows.sort_unstable();
            return Plan {
                network_t: CORRECTED,
                rows,
                t: Some(0.0),
                ..Plan::default()
            };
        }
        let whole = view.step == 0 && view.masked.is_empty() && !self.is_uniform();
        if view.t == 0.0 || whole {
            return Plan {
                t: Some(0.0),
                ..Plan::default()
            };
        }
        let (t, s) = grid_times(view.step, self.steps);
        let [[same, mask, changed], [same_s, mask_s, changed_s]] = self.step(view);
        let kept = same / same_s;
        let revealed = (1.0 - kept * mask_s / mask) * (1.0 - mask_s);
        // of a changed token, whatever the network thinks of it
        let most = match changed > 0.0 {
            true => 1.0 - kept * changed_s / changed,
            false => 0.0,
        };
        let mut take = |positions: &[usize], chance: f64| -> Vec<usize> {
            let taken = positions.iter().filter(|_| rng.uniform() < chance);
            taken.copied().collect()
        };
        let mut rows = take(view.masked, revealed);
        rows.extend(take(view.filled, most));
        rows.sort_unstable();
        Plan {
            network_t: t,
            rows,
            t: Some(s),
            ..Plan::default()
        }
    }

    fn settle(&self, view: &View<'_>, draws: &mut [Draw], rng: &mut Rng) -> [Vec<usize>; 2] {
        if self.corrects(view.step) {
            return [Self::correction(draws).into_iter().collect(), Vec::new()];
        }
        let [[same, _, changed], [same_s, mask_s, changed_s]] = self.step(view);
        let each = self.noise.map_or(0.0, |noise| changed / noise.others());
        let [mut chosen, mut doubted] = [Vec::new(), Vec::new()];
        for (i, draw) in draws.iter_mut().enumerate() {
            // as many variates for each, so that a row's fate does not move the others'
            let [leaves, becomes] = [0; 2].map(|_| rng.uniform());
            let noise = self.noise.map(|noise| noise.token(rng));
            let (stays, mask_s) = match draw.stood {
                Some(_) => (leaves * (same * draw.probability + each) >= each, mask_s),
                // masks that stay masks were left out of the plan
                None => (false, 0.0),
            };
            let kind = becomes * (mask_s + changed_s + same_s);
            if stays {
                continue;
            }
            if kind < mask_s {
                doubted.push(i);
                continue;
            }
            if let Some(noise) = noise.filter(|_| kind < mask_s + changed_s) {
                draw.token = noise;
            }
            if draw.stood != Some(draw.token) {
                chosen.push(i);
            }
        }
        [chosen, doubted]
    }

    fn filled(&self, step: usize) -> Filled {
        match self.corrects(step) {
            true => Filled::Anew(self.temperature),
            false => Filled::Judged,
        }
    }

    fn begins(&self, rng: &mut Rng) -> Option<u32> {
        let noise = self.noise.filter(Hybrid::is_uniform)?;
        Some(noise.token(rng))
    }

    fn steps(&self) -> usize {
        self.steps + self.corrections
    }

    fn remasks(&self) -> bool {
        true
    }

    fn rests(&self, step: usize) -> bool {
        self.corrects(step)
    }
}
