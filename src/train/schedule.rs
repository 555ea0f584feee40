//! Learning rate and moving-average decay as functions of the step.

use crate::config::{LrSchedule, OptimConfig};

/// Learning rate of step `k` from 0 (reference `get_constant_schedule_with_warmup`, or timm's
/// cosine with its warm-up from `min_lr`).
pub fn learning_rate(optim: &OptimConfig, steps: u64, k: u64) -> f64 {
    let warmup = optim.warmup.unwrap_or(0);
    let ramp = if warmup == 0 {
        1.0
    } else {
        (k as f64 / warmup as f64).min(1.0)
    };
    let peak = optim.peak();
    match optim.schedule {
        LrSchedule::Constant => peak * ramp,
        LrSchedule::Cosine if k < warmup => optim.min_lr + (peak - optim.min_lr) * ramp,
        LrSchedule::Cosine => {
            let span = steps.saturating_sub(warmup).max(1);
            let share = ((k - warmup) as f64 / span as f64).min(1.0);
            let cosine = 0.5 * (1.0 + (std::f64::consts::PI * share).cos());
            optim.min_lr + (peak - optim.min_lr) * cosine
        }
    }
}

/// Decay of the moving average at its n-th update from 1: `min(decay, (1 + n) / (10 + n))`.
pub fn ema_decay(decay: f64, n: u64) -> f64 {
    decay.min((1 + n) as f64 / (10 + n) as f64)
}
