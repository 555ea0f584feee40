//! What a rule sees and decides, and what several rules need for it.

use crate::process::Schedule;
use crate::rng::Rng;

/// A token drawn at a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// The token; never the mask.
    pub token: u32,
    /// Its probability under the model, before temperature and truncation, without the mask.
    pub probability: f64,
    /// Entropy of that distribution, nats.
    pub entropy: f64,
    /// Log-sum-exp of the logits without the mask's: the total score of a SEDD model.
    pub log_total: f64,
    /// By how much the most probable token is ahead of the next one.
    pub margin: f64,
    /// The Kullback-Leibler divergence of that distribution from the one of the draw before at this row, nats; infinite
    /// if there was none, or nobody asked ([`Rule::drifts`]).
    pub drift: f64,
    /// What stood at the row; `None` at a mask.
    pub stood: Option<u32>,
}

/// What is drawn at rows that are not masked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Filled {
    /// What stands there, said again with the probability that the network gives it now.
    #[default]
    Said,
    /// Another token, with the probability of the one that stands there.
    Judged,
    /// Another token, with its own probability, as at masked rows: a draw at a temperature of its own, which all that is
    /// said of it has too, unless it is 0.
    Anew(f64),
}

/// A canvas in a window, as a rule sees it; positions count from the window's beginning.
pub struct View<'a> {
    /// Steps done in this window.
    pub step: usize,
    /// Diffusion time t of the canvas, from 1 down to 0.
    pub t: f64,
    /// Masked positions, rising.
    pub masked: &'a [usize],
    /// Positions open in this window that hold a token, rising.
    pub filled: &'a [usize],
    /// Probability of each position's token when it was revealed; 1 where that was not here.
    pub probability: &'a [f64],
    /// The drift of each position in the step before; infinite where nothing was drawn then.
    pub drift: &'a [f64],
}

impl View<'_> {
    /// Share of the open positions that is masked.
    pub fn share(&self) -> f64 {
        self.masked.len() as f64 / (self.masked.len() + self.filled.len()).max(1) as f64
    }
}

/// What a rule does in a step before it has seen any prediction.
#[derive(Debug, Default)]
pub struct Plan {
    /// Time that the network is told.
    pub network_t: f64,
    /// Positions at which to draw, rising; at filled ones as [`Rule::filled`] says.
    pub rows: Vec<usize>,
    /// Filled positions that become masks, rising.
    pub remask: Vec<usize>,
    /// Time after the step; `None`: the share that is masked then.
    pub t: Option<f64>,
}

/// How a sampler chooses positions.
pub trait Rule: Send {
    /// What to draw and what to mask again.
    fn plan(&self, view: &View<'_>, rng: &mut Rng) -> Plan;

    /// Which of the plan's draws are revealed, as rising indices.
    fn choose(&self, view: &View<'_>, draws: &[Draw], rng: &mut Rng) -> Vec<usize> {
        let _ = (view, rng);
        (0..draws.len()).collect()
    }

    /// Which of the plan's draws are about filled positions that become masks, as rising indices.
    fn doubt(&self, view: &View<'_>, draws: &[Draw]) -> Vec<usize> {
        let _ = (view, draws);
        Vec::new()
    }

    /// Which draws are revealed, and which are about filled positions that become masks, as rising indices: what
    /// [`Rule::choose`] and [`Rule::doubt`] say, but for a rule that has tokens of its own to put in place of drawn ones.
    fn settle(&self, view: &View<'_>, draws: &mut [Draw], rng: &mut Rng) -> [Vec<usize>; 2] {
        [self.choose(view, draws, rng), self.doubt(view, draws)]
    }

    /// What the draws of a step are at filled positions.
    fn filled(&self, step: usize) -> Filled {
        let _ = step;
        Filled::Said
    }

    /// Whether its draws are to have a [`Draw::drift`].
    fn drifts(&self) -> bool {
        false
    }

    /// Steps of a window; 0: as many as it takes to fill it.
    fn steps(&self) -> usize {
        0
    }

    /// Whether a canvas is done in which that step has changed nothing.
    fn rests(&self, step: usize) -> bool {
        let _ = step;
        false
    }

    /// What an open position holds before the first step of its window; `None`: a mask.
    fn begins(&self, rng: &mut Rng) -> Option<u32> {
        let _ = rng;
        None
    }

    /// Whether it goes on with a canvas that is full.
    fn remasks(&self) -> bool {
        false
    }
}

/// Exact draw from Binomial(n, p), one trial after the other.
pub fn binomial(rng: &mut Rng, n: usize, p: f64) -> usize {
    (0..n).filter(|_| rng.uniform() < p).count()
}

/// Takes `count` of the candidates, uniformly, in rising order.
pub fn choose(rng: &mut Rng, candidates: &[usize], count: usize) -> Vec<usize> {
    let mut chosen = candidates.to_vec();
    rng.shuffle(&mut chosen);
    chosen.truncate(count);
    chosen.sort_unstable();
    chosen
}

/// A plan that draws at every masked position. Rules that choose by the predictions have no time of their own; a
/// network that wants one is told the time at which as large a share of the tokens is masked as of the open positions.
pub fn draw_all(schedule: &Schedule, view: &View<'_>) -> Plan {
    Plan {
        network_t: schedule.time_at(view.share()),
        rows: view.masked.to_vec(),
        ..Plan::default()
    }
}

/// Indices of the `count` largest scores, rising; of equal ones the first.
pub fn largest(scores: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.truncate(count);
    order.sort_unstable();
    order
}

/// Times before and after step `step` of a uniform grid from 1 to 0.
pub fn grid_times(step: usize, steps: usize) -> (f64, f64) {
    let time = |done: usize| 1.0 - done as f64 / steps as f64;
    (time(step), time(step + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    #[test]
    fn binomial_has_its_mean_and_variance() {
        let mut rng = Rng::new(5, Stream::Reveal, 0);
        let (n, p, draws) = (40, 0.3, 20_000);
        let all: Vec<f64> = (0..draws)
            .map(|_| binomial(&mut rng, n, p) as f64)
            .collect();
        let mean = all.iter().sum::<f64>() / draws as f64;
        let var = all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws as f64;
        assert!((mean - 12.0).abs() < 0.1, "{mean}");
        assert!((var - 8.4).abs() < 0.4, "{var}");
    }
}
