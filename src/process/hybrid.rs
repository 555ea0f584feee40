//! Noise that masks tokens and also changes them for others.

use crate::rng::Rng;

/// The noise of GIDD (von Rütte et al. 2025): at time t a token is itself with probability `(1 - t) / C`, a mask with
/// `t / C`, and with `c / C` any token but the mask, uniformly; `c = B sqrt(t (1 - t))` and `C = 1 + c`. B is such that
/// at t = 1/2 that last share is p_uniform.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hybrid {
    /// B.
    rate: f64,
    /// Where the network's times end, from 0 and from 1.
    t_eps: f64,
    /// Ids below this one are tokens.
    ids: usize,
    mask_index: u32,
}

impl Hybrid {
    /// Noise with a share `p_uniform`, in [0, 1), of tokens that are changed, among `ids`, that of the mask included.
    pub fn new(p_uniform: f64, t_eps: f64, ids: usize, mask_index: u32) -> Self {
        Self {
            rate: 2.0 * p_uniform / (1.0 - p_uniform),
            t_eps,
            ids,
            mask_index,
        }
    }

    /// Probabilities that a token at t is itself, a mask, and drawn anew from all others.
    pub fn shares(&self, t: f64) -> [f64; 3] {
        let changed = self.rate * (t * (1.0 - t)).sqrt();
        [1.0 - t, t, changed].map(|share| share / (1.0 + changed))
    }

    /// Tokens that noise draws from.
    pub fn others(&self) -> f64 {
        self.ids.saturating_sub(1).max(1) as f64
    }

    /// One of them.
    pub fn token(&self, rng: &mut Rng) -> u32 {
        let token = rng.below(self.others() as u64) as u32;
        token + u32::from(token >= self.mask_index)
    }

    /// What the network is told at time t: t itself, away from the ends.
    pub fn told(&self, t: f64) -> f64 {
        t.clamp(self.t_eps, 1.0 - self.t_eps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    #[test]
    fn shares_are_those_of_the_publication() {
        let noise = Hybrid::new(0.2, 1e-4, 5, 2);
        assert_eq!(noise.shares(0.0), [1.0, 0.0, 0.0]);
        assert_eq!(noise.shares(1.0), [0.0, 1.0, 0.0]);
        let [same, mask, changed] = noise.shares(0.5);
        assert!((changed - 0.2).abs() < 1e-12 && (same - 0.4).abs() < 1e-12 && same == mask);
        let mut seen = [0; 5];
        let mut rng = Rng::new(1, Stream::Reveal, 0);
        (0..1000).for_each(|_| seen[noise.token(&mut rng) as usize] += 1);
        assert!(
            seen[2] == 0 && [0, 1, 3, 4].iter().all(|&id| seen[id] > 180),
            "{seen:?}"
        );
        assert_eq!(
            [0.0, 0.3, 1.0].map(|t| noise.told(t)),
            [1e-4, 0.3, 1.0 - 1e-4]
        );
    }
}
