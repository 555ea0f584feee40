//! Path planning: in each step the least certain positions are masks, whether they were before or not.

use super::declare::{Choice, Declaration, SamplerKind};
use super::plan::{Draw, Plan, Rule, View, draw_all, largest};
use crate::process::Schedule;
use crate::rng::Rng;

const DOUBT: Choice = Choice {
    key: "doubt",
    help: "Weight on the log-probabilities of tokens that stand already, in `p2`: above 1 they are masked again sooner, at 0 never.",
    default: 1.0,
    whole: false,
    holds: |x| x >= 0.0,
    problem: "must be finite and not negative",
};

impl SamplerKind {
    /// The surest positions stay, and the others become masks again (P2).
    pub const P2: Self = Self(&Declaration {
        name: "p2",
        summary: "masks again what the network doubts now (P2)",
        has_steps: true,
        options: &[DOUBT],
        check: |_| Ok(()),
        make: |setting| {
            Box::new(Path {
                schedule: setting.schedule.clone(),
                steps: setting.steps,
                doubt: setting.options.get(&DOUBT),
            })
        },
    });
}

/// The network plans for itself (Peng et al. 2025): after step i of n, `(1 - i / n)` of the open positions are masks, those
/// of the least log-probability; a standing token has the one that the network gives it now, times `doubt`. The authors'
/// program scores a standing token by another one, drawn at its place.
struct Path {
    schedule: Schedule,
    steps: usize,
    doubt: f64,
}

impl Path {
    /// The draws whose positions hold a token after the step, as rising indices.
    fn kept(&self, view: &View<'_>, draws: &[Draw]) -> Vec<usize> {
        let masks = draws.len() * self.steps.saturating_sub(view.step + 1) / self.steps.max(1);
        let scores: Vec<f64> = (rows(view).iter().zip(draws))
            .map(|(row, draw)| match view.masked.binary_search(row) {
                Ok(_) => draw.probability.ln(),
                // 0 times minus infinity is no number
                Err(_) if self.doubt == 0.0 => 0.0,
                Err(_) => self.doubt * draw.probability.ln(),
            })
            .collect();
        largest(&scores, draws.len() - masks)
    }
}

/// The open positions, rising.
fn rows(view: &View<'_>) -> Vec<usize> {
    let mut rows = [view.masked, view.filled].concat();
    rows.sort_unstable();
    rows
}

impl Rule for Path {
    fn plan(&self, view: &View<'_>, _: &mut Rng) -> Plan {
        Plan {
            rows: rows(view),
            ..draw_all(&self.schedule, view)
        }
    }

    fn choose(&self, view: &View<'_>, draws: &[Draw], _: &mut Rng) -> Vec<usize> {
        let rows = rows(view);
        let mut kept = self.kept(view, draws);
        kept.retain(|&i| view.masked.binary_search(&rows[i]).is_ok());
        kept
    }

    fn doubt(&self, view: &View<'_>, draws: &[Draw]) -> Vec<usize> {
        let (rows, kept) = (rows(view), self.kept(view, draws));
        let doubted = |i: &usize| {
            view.filled.binary_search(&rows[*i]).is_ok() && kept.binary_search(i).is_err()
        };
        (0..draws.len()).filter(doubted).collect()
    }

    fn steps(&self) -> usize {
        self.steps
    }

    fn remasks(&self) -> bool {
        true
    }
}
