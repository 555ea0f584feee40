//! The forward process q(xt | x0).

use crate::rng::Rng;

/// Replaces each token by the mask with probability `move_chance`, independently; BOS, EOS and
/// pads too (reference `q_xt`).
pub fn q_xt(x0: &[u32], move_chance: f64, mask_index: u32, rng: &mut Rng, xt: &mut Vec<u32>) {
    xt.extend(x0.iter().map(|&token| {
        if rng.uniform() < move_chance {
            mask_index
        } else {
            token
        }
    }));
}

/// Masks `count` of the tokens, uniformly chosen, and returns a time that fits: the `count`-th
/// smallest of the uniforms that order the tokens, as t given the count is distributed.
pub fn mask_exactly(
    x0: &[u32],
    count: usize,
    mask_index: u32,
    rng: &mut Rng,
    xt: &mut Vec<u32>,
) -> f64 {
    let mut order: Vec<(f64, usize)> = (0..x0.len()).map(|i| (rng.uniform(), i)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let first = xt.len();
    xt.extend_from_slice(x0);
    for &(_, i) in &order[..count] {
        xt[first + i] = mask_index;
    }
    order[..count].last().map_or(0.0, |last| last.0)
}
