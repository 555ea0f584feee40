//! Noise that changes tokens for others, and may mask them too.

use crate::rng::Rng;

/// How a token fares by time t.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Noise {
    /// That of GIDD (von Rütte et al. 2025): it is itself with probability `(1 - t) / C`, a mask with `t / C`, and with
    /// `c / C` any token but the mask, uniformly; `c = B sqrt(t (1 - t))` and `C = 1 + c`. B is such that at t = 1/2 that
    /// last share is p_uniform, in [0, 1). The network is told t, at least `t_eps` from 0 and from 1.
    Hybrid {
        /// The share.
        p_uniform: f64,
        /// The distance.
        t_eps: f64,
    },
    /// That of UDLM and Duo (Schiff et al. 2024; Sahoo et al. 2025): it is itself with probability
    /// `alpha_t = 1 - (1 - eps) t`, else any token, uniformly. The network is told `sigma = -log alpha_t`.
    Uniform {
        /// alpha_t at t = 1.
        eps: f64,
    },
}

impl Noise {
    /// Of tokens that noise has reached at t = 1/2, the share that it has changed for others.
    pub fn p_uniform(self) -> f64 {
        match self {
            Self::Hybrid { p_uniform, .. } => p_uniform,
            Self::Uniform { .. } => 1.0,
        }
    }
}

/// Noise over a vocabulary. The mask is never what a token is changed for: no text holds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hybrid {
    noise: Noise,
    /// Ids below this one are tokens.
    ids: usize,
    mask_index: u32,
}

impl Hybrid {
    /// Noise among `ids`, that of the mask included.
    pub fn new(noise: Noise, ids: usize, mask_index: u32) -> Self {
        Self {
            noise,
            ids,
            mask_index,
        }
    }

    /// Probabilities that a token at t is itself, a mask, and drawn anew from all others.
    pub fn shares(&self, t: f64) -> [f64; 3] {
        match self.noise {
            Noise::Hybrid { p_uniform, .. } => {
                let rate = 2.0 * p_uniform / (1.0 - p_uniform);
                let changed = rate * (t * (1.0 - t)).sqrt();
                [1.0 - t, t, changed].map(|share| share / (1.0 + changed))
            }
            Noise::Uniform { eps } => {
                let changed = (1.0 - eps) * t;
                [1.0 - changed, 0.0, changed]
            }
        }
    }

    /// Whether all of it ends as tokens: then a canvas begins with noise in place of masks.
    pub fn is_uniform(&self) -> bool {
        matches!(self.noise, Noise::Uniform { .. })
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

    /// What the network is told at time t: t itself, away from the ends, or sigma.
    pub fn told(&self, t: f64) -> f64 {
        match self.noise {
            Noise::Hybrid { t_eps, .. } => t.clamp(t_eps, 1.0 - t_eps),
            Noise::Uniform { eps } => -(-(1.0 - eps) * t).ln_1p(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    #[test]
    fn shares_are_those_of_the_publication() {
        let hybrid = Noise::Hybrid {
            p_uniform: 0.2,
            t_eps: 1e-4,
        };
        let noise = Hybrid::new(hybrid, 5, 2);
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
        let noise = Hybrid::new(Noise::Uniform { eps: 1e-3 }, 5, 2);
        let [same, mask, changed] = noise.shares(1.0);
        assert!((same - 1e-3).abs() < 1e-15 && mask == 0.0 && (changed - 0.999).abs() < 1e-15);
        assert!((noise.told(1.0) - 1000f64.ln()).abs() < 1e-9 && noise.told(0.0) == 0.0);
    }
}
