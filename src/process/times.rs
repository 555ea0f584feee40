//! Diffusion times: one for each sequence, stratified over the whole global batch.

use crate::rng::Rng;

/// The low-discrepancy sampler: `t_i = (1 - eps) ((u_i / n + i / n) mod 1) + eps`, an independent
/// u_i in each of n strata (reference `_sample_t`).
pub fn stratified(u: &[f64], eps: f64) -> Vec<f64> {
    let n = u.len() as f64;
    u.iter()
        .enumerate()
        .map(|(i, &u)| (1.0 - eps) * ((u + i as f64) / n).fract() + eps)
        .collect()
}

/// Times of a global batch of `n` sequences, stratified or independent.
pub fn sample_times(rng: &mut Rng, n: usize, eps: f64, antithetic: bool) -> Vec<f64> {
    let u: Vec<f64> = (0..n).map(|_| rng.uniform()).collect();
    if antithetic {
        stratified(&u, eps)
    } else {
        u.iter().map(|&u| (1.0 - eps) * u + eps).collect()
    }
}
