//! Dropout masks: a pure function of (key, site, element), so nothing is stored for the backward
//! pass and both executors draw the same.

use crate::cpu::Float;
use crate::program::{Scalar, Step};
use crate::rng::threefry2x32;

/// Key of a micro-step's dropout masks.
pub const DROPOUT_KEY: Scalar<[u32; 2]> = Scalar::key("dropout_key");

/// Dropout at one place of the network.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dropout {
    /// Probability of a zero; what is kept is scaled by `1 / (1 - p)`.
    pub p: f64,
    /// Number of the place, so that places differ.
    pub site: u32,
}

/// Draws the factors of one step.
pub(crate) struct Mask<F> {
    key: [u32; 2],
    site: u32,
    threshold: u32,
    scale: F,
}

impl Dropout {
    pub(crate) fn threshold(self) -> u32 {
        (self.p * 4_294_967_296.0) as u32
    }

    pub(crate) fn scale(self) -> f32 {
        (1.0 / (1.0 - self.p)) as f32
    }

    pub(crate) fn mask<F: Float>(self, step: &Step) -> Mask<F> {
        Mask {
            key: step.get(DROPOUT_KEY),
            site: self.site,
            threshold: self.threshold(),
            scale: F::of(1.0 / (1.0 - self.p)),
        }
    }
}

impl<F: Float> Mask<F> {
    /// Factors of the elements from `first` on.
    #[inline(always)]
    pub(crate) fn fill(&self, first: usize, out: &mut [F]) {
        if self.threshold == 0 {
            out.fill(F::ONE);
            return;
        }
        let factor = |word: u32| {
            if word >= self.threshold {
                self.scale
            } else {
                F::ZERO
            }
        };
        let mut at = 0;
        if first % 2 == 1 && !out.is_empty() {
            out[0] = factor(threefry2x32(self.key, [(first >> 1) as u32, self.site])[1]);
            at = 1;
        }
        let base = (first + at) >> 1;
        for (i, pair) in out[at..].chunks_mut(2).enumerate() {
            let words = threefry2x32(self.key, [(base + i) as u32, self.site]);
            for (o, w) in pair.iter_mut().zip(words) {
                *o = factor(w);
            }
        }
    }
}
