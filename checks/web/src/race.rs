//! How close the draws of a run were: what would have to change for another token to win.

use mdlm::blocking::wait;
use mdlm::config::SampleConfig;
use mdlm::model::Model;
use mdlm::sample::Canvas;
use mdlm_engine::rng::{Stream, stream_key, threefry2x32};

/// A finished run.
pub struct Run {
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// Smallest lead of a winner over the next token, in units of logits over temperature.
    pub margin: f64,
    /// Revealed positions with their probabilities, step by step.
    pub probabilities: Vec<(usize, f64)>,
}

/// Logarithm of the exponential variate that a token races with.
fn log_exponential(words: [u32; 2]) -> f64 {
    let mantissa = 0.5 + f64::from(words[0] >> 9) * 2f64.powi(-24);
    let u = mantissa * 2f64.powi(-(words[1].leading_zeros() as i32));
    (-(-u).ln_1p()).ln()
}

/// Fills a canvas natively without truncation, and computes every race again from the logits.
pub fn run(model: &mut Model, canvas: Canvas, config: &SampleConfig) -> mdlm::Result<Run> {
    assert!(config.top_p == 1.0 && config.top_k == 0 && config.temperature > 0.0);
    let (vocab, mask) = (model.vocab_size(), model.mask_index());
    let mut before = canvas.tokens(mask);
    let mut steps = Vec::new();
    let mut sampler = model.sampler(canvas, config)?;
    while let Some(report) = wait(sampler.step())? {
        steps.push((before, report));
        before = sampler.canvas().tokens(mask);
    }
    drop(sampler);
    let (mut margin, mut probabilities) = (f64::INFINITY, Vec::new());
    for (xt, report) in &steps {
        if report.revealed.is_empty() {
            continue;
        }
        let logits = wait(model.logits(xt, &[0.0]))?;
        let key = stream_key(config.seed, Stream::Token, report.step as u64 - 1);
        for revealed in &report.revealed {
            let z = &logits[revealed.position * vocab..][..vocab];
            let mut scores: Vec<(f64, u32)> = (0..vocab as u32)
                .filter(|&v| v != mask)
                .map(|v| {
                    let e = log_exponential(threefry2x32(key, [v, revealed.position as u32]));
                    (f64::from(z[v as usize]) / config.temperature - e, v)
                })
                .collect();
            scores.sort_by(|a, b| b.0.total_cmp(&a.0));
            assert_eq!(
                scores[0].1, revealed.token,
                "the race was computed otherwise"
            );
            margin = margin.min(scores[0].0 - scores[1].0);
            probabilities.push((revealed.position, revealed.probability));
        }
    }
    Ok(Run {
        tokens: before,
        margin,
        probabilities,
    })
}
