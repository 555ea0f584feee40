//! Initial values, as the reference's: embedding U(±1/sqrt(D)), linear layers U(±1/sqrt(fan_in)) for
//! weight and bias, norms 1, adaLN and output layer 0 (so the first logits are 0).

use crate::graph::Key;
use crate::rng::{Rng, Stream};

/// The bias of a block's adaLN with which the block computes as if there were none (shift, scale and gate of
/// attention, then of the MLP: gates 1, the rest 0); `None` for every other parameter.
pub fn unmodulated(key: &Key) -> Option<Vec<f64>> {
    let name = key.key.as_str();
    if !(name.contains(".blocks.") && name.ends_with("adaLN_modulation.bias")) {
        return None;
    }
    let of = |i: usize| f64::from(u8::from(6 * i / key.len() % 3 == 2));
    Some((0..key.len()).map(of).collect())
}

/// Initial elements of the `index`-th parameter, rounded to f32 so that every executor starts
/// from the same numbers. `fan_in` is the input width of the layer a bias belongs to.
pub fn initial(key: &Key, index: usize, fan_in: usize, seed: u64) -> Vec<f64> {
    let name = key.key.as_str();
    let n = key.len();
    if name.contains("adaLN_modulation") || name.contains("output_layer.linear") {
        return vec![0.0; n];
    }
    if name.contains(".norm") {
        return vec![1.0; n];
    }
    let bound = 1.0 / (fan_in as f64).sqrt();
    let mut rng = Rng::new(seed, Stream::Init, index as u64);
    (0..n)
        .map(|_| f64::from((bound * (2.0 * rng.uniform() - 1.0)) as f32))
        .collect()
}
