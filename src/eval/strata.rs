//! Where each draw of each sequence falls in [0, 1): the quantile of its time, or of its number of masks.

use crate::rng::{Rng, Stream};

/// Sequences whose strata are dealt out together. Groups are independent of each other, so that they tell
/// the error.
pub(super) const GROUP: usize = 16;

/// Every variate is uniform on its own, whatever the batch and the place in it, so an estimate is unbiased.
/// The draws of a sequence lie in strata of their own, and within each of those the sequences of a group do,
/// in random order.
#[derive(Debug)]
pub(super) struct Strata {
    seed: u64,
    sequences: usize,
    draws: usize,
    stratified: bool,
    /// Number of the group in hand, and its variates, `[sequences of the group][draws]`.
    group: Option<(usize, Vec<Vec<f64>>)>,
}

impl Strata {
    pub(super) fn new(seed: u64, sequences: usize, draws: usize, stratified: bool) -> Self {
        Self {
            seed,
            sequences,
            draws,
            stratified,
            group: None,
        }
    }

    /// The variates of a sequence, one a draw.
    pub(super) fn of(&mut self, sequence: usize) -> &[f64] {
        let (number, place) = (sequence / GROUP, sequence % GROUP);
        let group = match self.group.take() {
            Some(group) if group.0 == number => group,
            _ => (number, self.deal(number)),
        };
        &self.group.insert(group).1[place]
    }

    fn deal(&self, number: usize) -> Vec<Vec<f64>> {
        let mut rng = Rng::new(self.seed, Stream::Strata, number as u64);
        let count = GROUP.min(self.sequences - number * GROUP);
        let mut variates = vec![Vec::with_capacity(self.draws); count];
        let mut order: Vec<usize> = (0..count).collect();
        for draw in 0..self.draws {
            rng.shuffle(&mut order);
            for (variates, &stratum) in variates.iter_mut().zip(&order) {
                let u = rng.uniform();
                variates.push(if self.stratified {
                    let inner = (stratum as f64 + u) / count as f64;
                    (draw as f64 + inner) / self.draws as f64
                } else {
                    u
                });
            }
        }
        variates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stratum_is_hit_once_in_a_group() {
        let (sequences, draws) = (2 * GROUP + 5, 3);
        let mut strata = Strata::new(7, sequences, draws, true);
        let all: Vec<Vec<f64>> = (0..sequences).map(|i| strata.of(i).to_vec()).collect();
        for group in all.chunks(GROUP) {
            let n = (group.len() * draws) as f64;
            let mut hit: Vec<usize> = group.iter().flatten().map(|u| (u * n) as usize).collect();
            hit.sort_unstable();
            assert_eq!(hit, (0..group.len() * draws).collect::<Vec<_>>());
        }
        // in any order of asking
        for i in [30, 0, 36, 16] {
            assert_eq!(strata.of(i), all[i]);
        }
    }

    #[test]
    fn every_place_sees_all_of_the_interval() {
        for (sequences, stratified) in [(1, true), (2, true), (21, true), (3, false)] {
            let seeds = 4000;
            for place in [0, sequences - 1] {
                let mean = |seed| Strata::new(seed, sequences, 1, stratified).of(place)[0];
                let sum: f64 = (0..seeds).map(mean).sum();
                // five standard errors of a uniform variate's mean
                let error = 5.0 * (1.0 / 12.0 / seeds as f64).sqrt();
                assert!(
                    (sum / seeds as f64 - 0.5).abs() < error,
                    "{sequences} {place}"
                );
            }
        }
    }
}
