//! The process of hybrid noise by its definition, in plain loops.

/// Alpha and the law of noise, over `tokens` tokens and the mask behind them, at time t.
fn noise(p_uniform: f64, t: f64, tokens: usize) -> (f64, Vec<f64>) {
    let b = 2.0 * p_uniform / (1.0 - p_uniform);
    let c = b * t.sqrt() * (1.0 - t).sqrt();
    let mut law = vec![c / tokens as f64 / (1.0 + c); tokens];
    law.push(t / (1.0 + c));
    ((1.0 - t) / (1.0 + c), law)
}

/// The law of what stands at s, given z at t and what the network predicts of the token.
pub fn posterior(p_uniform: f64, times: [f64; 2], z: u32, x: &[f64]) -> Vec<f64> {
    undone(times.map(|t| noise(p_uniform, t, x.len())), z, x)
}

/// The same under noise that only changes tokens.
pub fn uniform_posterior(eps: f64, times: [f64; 2], z: u32, x: &[f64]) -> Vec<f64> {
    let noise = |t: f64| {
        let changed = (1.0 - eps) * t;
        let mut law = vec![changed / x.len() as f64; x.len()];
        law.push(0.0);
        (1.0 - changed, law)
    };
    undone(times.map(noise), z, x)
}

/// `q(z | v) q_s(v) / q_t(z)`, as it is published.
fn undone([(alpha, at), (alpha_s, at_s)]: [(f64, Vec<f64>); 2], z: u32, x: &[f64]) -> Vec<f64> {
    let z = z as usize;
    let x = |v: usize| x.get(v).copied().unwrap_or(0.0);
    let share = alpha / alpha_s;
    let law = (0..at.len()).map(|v| {
        let between = share * f64::from(u8::from(v == z)) + at[z] - share * at_s[z];
        between * (alpha_s * x(v) + at_s[v]) / (alpha * x(z) + at[z])
    });
    law.collect()
}
