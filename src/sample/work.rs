//! What a sampler keeps of each canvas, and has in hand in a step.

use std::ops::Range;

use crate::rng::Rng;
use crate::rules::{Draw, Plan};
use crate::sample::Canvas;

/// The entropy, in nats, that tokens which come late are said to have.
const UNSURE: f64 = 1e6;

/// A canvas and what its rule remembers of it.
pub struct Work {
    pub canvas: Canvas,
    /// Diffusion time in the window.
    pub t: f64,
    /// Probability of each token when it was revealed.
    pub probability: Vec<f64>,
    /// How far the prediction of each position moved in the last step.
    pub drift: Vec<f64>,
    /// Whether nothing is left to change in the window.
    pub rests: bool,
}

impl Work {
    /// Puts tokens in place of the masks of a window, if there are any to put.
    pub fn begin(&mut self, reach: Range<usize>, mut token: impl FnMut() -> Option<u32>) {
        for position in reach.start..reach.end.min(self.canvas.len()) {
            let open = self.canvas.token(position).is_none();
            if let Some(token) = open.then(&mut token).flatten() {
                self.canvas.reveal(position, token);
            }
        }
    }
}

/// What is done with a canvas in a step, before its draws are known.
pub struct Planned {
    pub masked: Vec<usize>,
    pub filled: Vec<usize>,
    pub rng: Rng,
    pub plan: Plan,
}

/// Draws as rules see them: of tokens that come late the network is said to be unsure. What is said of a `judged` draw
/// where a token stands is about that token, and stays.
pub fn ranked(draws: &[Draw], late: &[u32], judged: bool) -> Vec<Draw> {
    let mut ranked = draws.to_vec();
    for draw in &mut ranked {
        let own = draw.stood.is_none() || !judged;
        if own && late.contains(&draw.token) {
            (draw.probability, draw.margin, draw.entropy) = (0.0, 0.0, UNSURE);
        }
    }
    ranked
}
