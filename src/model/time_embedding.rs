//! Sinusoidal embedding of sigma, made on the host: WGSL's sin and cos are too coarse.

use crate::config::ModelConfig;

/// Width of the embedding: 128 cosines, then 128 sines (reference `TimestepEmbedder`).
pub(crate) const TIME_FEATURES: usize = 256;

/// `[cos(sigma f_k), sin(sigma f_k)]`, f_k = exp(-ln(10000) k / 128), k = 0..128; appended to `out`.
pub(crate) fn time_embedding(sigma: f64, out: &mut Vec<f64>) {
    let half = TIME_FEATURES / 2;
    // the reference makes the frequencies in f32
    let angle =
        |k: usize| sigma * f64::from((-(10000f64.ln()) * k as f64 / half as f64).exp() as f32);
    out.extend((0..half).map(|k| angle(k).cos()));
    out.extend((0..half).map(|k| angle(k).sin()));
}

/// The embeddings that a batch's network needs: one row for each sigma with time conditioning,
/// else a single one, of sigma 0, for all; none for an autoregressive model.
pub(crate) fn time_rows(config: &ModelConfig, sigma: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut rows = Vec::new();
    if !config.conditioned() {
        return rows;
    }
    if config.time_conditioning {
        sigma
            .into_iter()
            .for_each(|sigma| time_embedding(sigma, &mut rows));
    } else {
        time_embedding(0.0, &mut rows);
    }
    rows
}
