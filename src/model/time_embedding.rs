//! Sinusoidal embedding of sigma, made on the host: WGSL's sin and cos are too coarse.

/// Width of the embedding.
pub const TIME_FEATURES: usize = 256;

/// `[cos(sigma f_k), sin(sigma f_k)]`, f_k = exp(-ln(10000) k / 128), k = 0..128; appended to `out`.
pub fn time_embedding(sigma: f64, out: &mut Vec<f64>) {
    let half = TIME_FEATURES / 2;
    // the reference makes the frequencies in f32
    let angle =
        |k: usize| sigma * f64::from((-(10000f64.ln()) * k as f64 / half as f64).exp() as f32);
    out.extend((0..half).map(|k| angle(k).cos()));
    out.extend((0..half).map(|k| angle(k).sin()));
}
