//! Which block of several sources comes when: a function of seed and number, with no table of the blocks.
//!
//! Numbers are cut into windows of [`WINDOW`] sequences. Of every window a source has as many as its weight asks for, and
//! chance deals them out. So the number of its sequences that came before is a product and a count inside of the window,
//! and that number says where the source stands in its own blocks, each epoch of which has an order of its own.

use super::blocks::Portion;
use super::permutation::Permutation;
use crate::rng::{Rng, Stream, stream_key, threefry2x32};

/// Sequences over which shares are exact.
pub(super) const WINDOW: usize = 1 << 16;

/// Hands out the blocks of sources by number.
#[derive(Clone, Debug)]
pub(super) struct Mixture {
    seed: u64,
    portions: Vec<Portion>,
    /// Sequences of each source in a window.
    quotas: Vec<u32>,
    window: Window,
}

/// Of each sequence of a window: its source, and how many of that source came before it there.
#[derive(Clone, Debug)]
struct Window {
    number: u64,
    places: Vec<(u32, u32)>,
}

/// How many of a window's sequences belong to each weight: the whole part of its share, and one more for those of the
/// largest remainders.
fn quotas(weights: &[f64]) -> Vec<u32> {
    let all: f64 = weights.iter().sum();
    let shares: Vec<f64> = weights.iter().map(|w| w / all * WINDOW as f64).collect();
    let mut quotas: Vec<u32> = shares.iter().map(|share| *share as u32).collect();
    let mut order: Vec<usize> = (0..shares.len()).collect();
    // stable, so that the first of equals comes first
    order.sort_by(|&a, &b| shares[b].fract().total_cmp(&shares[a].fract()));
    let left = (WINDOW as u32).saturating_sub(quotas.iter().sum());
    for &source in order.iter().cycle().take(left as usize) {
        quotas[source] += 1;
    }
    quotas
}

impl Window {
    fn new(quotas: &[u32], seed: u64, number: u64) -> Self {
        let sources = quotas.iter().zip(0..);
        let mut all: Vec<u32> = sources
            .flat_map(|(&quota, source)| std::iter::repeat_n(source, quota as usize))
            .collect();
        Rng::new(seed, Stream::Mixture, number).shuffle(&mut all);
        let mut counts = vec![0; quotas.len()];
        let place = |source: u32| {
            let count = &mut counts[source as usize];
            *count += 1;
            (source, *count - 1)
        };
        Self {
            number,
            places: all.into_iter().map(place).collect(),
        }
    }
}

impl Mixture {
    pub(super) fn new(portions: &[Portion], seed: u64) -> Self {
        let weights: Vec<f64> = portions.iter().map(|portion| portion.weight).collect();
        let quotas = quotas(&weights);
        Self {
            seed,
            portions: portions.to_vec(),
            window: Window::new(&quotas, seed, 0),
            quotas,
        }
    }

    /// The block of a sequence, which are numbered from the beginning of the run.
    pub(super) fn index(&mut self, number: u64) -> usize {
        let window = number / WINDOW as u64;
        if self.window.number != window {
            self.window = Window::new(&self.quotas, self.seed, window);
        }
        let (source, before) = self.window.places[(number % WINDOW as u64) as usize];
        let portion = &self.portions[source as usize];
        let turn = window * u64::from(self.quotas[source as usize]) + u64::from(before);
        let count = portion.blocks.len() as u64;
        let key = stream_key(self.seed, Stream::Order, turn / count);
        let order = Permutation::new(threefry2x32(key, [source, 0]), count);
        portion.blocks.start + order.at(turn % count) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn portions(all: &[(f64, usize)]) -> Vec<Portion> {
        let mut start = 0;
        let portion = |&(weight, count): &(f64, usize)| {
            start += count;
            let blocks = start - count..start;
            Portion { weight, blocks }
        };
        all.iter().map(portion).collect()
    }

    #[test]
    fn shares_fill_a_window() {
        assert_eq!(quotas(&[1.0]), [65536]);
        assert_eq!(quotas(&[3.0, 1.0]), [49152, 16384]);
        assert_eq!(quotas(&[1.0, 1.0, 1.0]), [21846, 21845, 21845]);
        assert_eq!(quotas(&[65535.0, 1.0]), [65535, 1]);
        let many: Vec<f64> = (1..500).map(f64::from).collect();
        assert_eq!(quotas(&many).iter().sum::<u32>(), 65536);
    }

    #[test]
    fn sources_come_by_weight_and_their_blocks_in_turn() {
        let portions = portions(&[(3.0, 500), (1.0, 7), (0.5, 100_000)]);
        let mut mixture = Mixture::new(&portions, 5);
        let numbers = 3 * WINDOW as u64 + 100;
        let all: Vec<usize> = (0..numbers).map(|number| mixture.index(number)).collect();
        for (Portion { weight, blocks }, name) in portions.iter().zip(0..) {
            let own: Vec<usize> = all.iter().copied().filter(|i| blocks.contains(i)).collect();
            let share = own.len() as f64 / all.len() as f64 * 4.5 / weight;
            assert!((share - 1.0).abs() < 0.01, "source {name}: {share}");
            // no block comes again before all have come, across windows
            for epoch in own.chunks(blocks.len()) {
                let mut epoch = epoch.to_vec();
                let count = epoch.len();
                epoch.sort_unstable();
                epoch.dedup();
                assert_eq!(epoch.len(), count);
            }
            let mut epochs = own.chunks_exact(blocks.len());
            if let (Some(first), Some(second)) = (epochs.next(), epochs.next()) {
                assert_ne!(first, second);
                let mut sorted = second.to_vec();
                sorted.sort_unstable();
                assert!(sorted.into_iter().eq(blocks.clone()), "source {name}");
            }
        }
    }

    #[test]
    fn a_sequence_is_a_function_of_seed_and_number() {
        let portions = portions(&[(2.0, 30), (1.0, 40)]);
        let mut forward = Mixture::new(&portions, 5);
        let numbers = [0, 1, 65535, 65536, 300_000, 300_001];
        let expected = numbers.map(|number| forward.index(number));
        for (number, expected) in numbers.into_iter().zip(expected).rev() {
            assert_eq!(Mixture::new(&portions, 5).index(number), expected);
            assert_eq!(forward.index(number), expected);
        }
        let mut other = Mixture::new(&portions, 6);
        assert_ne!(numbers.map(|number| other.index(number)), expected);
    }
}
