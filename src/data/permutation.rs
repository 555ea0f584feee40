//! An order of many things that takes no room: a Feistel network (Luby and Rackoff, SIAM J. Comput. 17, 1988) on the
//! least power of two that holds them, walked until it comes back inside (Black and Rogaway, CT-RSA 2002).

use crate::rng::threefry2x32;

/// Rounds of the network. Four make it look random to whoever sees few places; few things want more.
const ROUNDS: u32 = 8;

/// A bijection of `0..count`, each place on its own a function of the key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Permutation {
    key: [u32; 2],
    count: u64,
    /// Bits of the two halves.
    bits: [u32; 2],
}

impl Permutation {
    /// That of `count` things, at least one, under a key.
    pub(super) fn new(key: [u32; 2], count: u64) -> Self {
        let all = (u64::BITS - count.saturating_sub(1).leading_zeros()).max(2);
        let bits = [all / 2, all - all / 2];
        Self { key, count, bits }
    }

    /// What stands at a place, which must be below the count.
    pub(super) fn at(&self, place: u64) -> u64 {
        let mut at = place;
        loop {
            at = self.once(at);
            if at < self.count {
                return at;
            }
        }
    }

    fn once(&self, x: u64) -> u64 {
        let mask = |bits: u32| ((1u64 << bits) - 1) as u32;
        let [left, right] = self.bits;
        let mut halves = [(x >> right) as u32, x as u32 & mask(right)];
        for round in 0..ROUNDS {
            // the halves take turns, so that they may differ in size
            let (to, from, bits) = match round % 2 {
                0 => (0, 1, left),
                _ => (1, 0, right),
            };
            halves[to] ^= threefry2x32(self.key, [halves[from], round])[0] & mask(bits);
        }
        u64::from(halves[0]) << right | u64::from(halves[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_stands_somewhere_once() {
        for count in [1, 2, 3, 4, 5, 7, 8, 9, 100, 1023, 1024, 1025] {
            for key in [[1, 2], [7, 7]] {
                let order = Permutation::new(key, count);
                let mut all: Vec<u64> = (0..count).map(|place| order.at(place)).collect();
                assert!(count < 100 || !all.is_sorted());
                all.sort_unstable();
                assert_eq!(all, (0..count).collect::<Vec<_>>());
            }
        }
        let large = Permutation::new([1, 2], u64::MAX);
        assert_ne!(large.at(0), large.at(1));
    }

    /// Chi-squared over keys of what stands at a place, and of how two neighbours are ordered.
    #[test]
    fn every_thing_is_as_likely_at_every_place() {
        let keys = 20_000u32;
        for count in [2u64, 5, 16, 33] {
            for place in [0, count - 1] {
                let mut found = vec![0f64; count as usize];
                let mut ahead = 0f64;
                for key in 0..keys {
                    let order = Permutation::new([key, 3], count);
                    let (here, next) = (order.at(place), order.at((place + 1) % count));
                    found[here as usize] += 1.0;
                    ahead += f64::from(here < next);
                }
                let expected = f64::from(keys) / count as f64;
                let chi: f64 = found
                    .iter()
                    .map(|n| (n - expected).powi(2) / expected)
                    .sum();
                let freedom = count as f64 - 1.0;
                // five standard deviations
                assert!(
                    chi < freedom + 5.0 * (2.0 * freedom).sqrt() + 10.0,
                    "{count} {place}: {chi}"
                );
                let off = (ahead - f64::from(keys) / 2.0).abs();
                assert!(
                    off < 2.5 * f64::from(keys).sqrt(),
                    "{count} {place}: {ahead}"
                );
            }
        }
    }
}
