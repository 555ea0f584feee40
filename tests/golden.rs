//! The executors against the reference implementation's numbers (see `tests/golden/README.md`).
#![allow(clippy::unwrap_used)]

mod common;
#[path = "golden_parts/forward.rs"]
mod forward;
#[path = "golden_parts/training.rs"]
mod training;

use common::Executor;
use common::close::Report;
use common::fixtures::Fixture;
use forward::{dit_forward, published_layout};
use mdlm::config::{LrSchedule, OptimConfig};
use mdlm::diffusion::{Schedule, stratified};
use mdlm::train::learning_rate;
use training::{losses_and_gradients, train_fast, train_ref};

/// One test for each executor.
macro_rules! executors {
    ($name:ident, $check:ident) => {
        mod $name {
            #[test]
            fn gpu() {
                pollster::block_on(super::$check(super::Executor::Gpu));
            }
            #[test]
            fn cpu_f32() {
                pollster::block_on(super::$check(super::Executor::CpuF32));
            }
            #[test]
            fn cpu_f64() {
                pollster::block_on(super::$check(super::Executor::CpuF64));
            }
        }
    };
}

executors!(a_dit_forward, dit_forward);
executors!(b_losses_and_gradients, losses_and_gradients);
executors!(c_train_ref, train_ref);
executors!(c_train_fast, train_fast);
executors!(g_published_layout, published_layout);

#[test]
fn e_time_and_noise() {
    let Some(fixture) = Fixture::load("E_time_noise") else {
        return;
    };
    let mut report = Report::new("E_time_noise", Executor::CpuF64);
    for key in fixture
        .keys()
        .filter(|k| k.starts_with("sample_t.") && k.ends_with(".u"))
        .collect::<Vec<_>>()
    {
        let name = key.trim_end_matches('u');
        let Some(u) = fixture.get(key) else { continue };
        if let Some(golden) = fixture.get(&format!("{name}anti")) {
            report.relative_to_max(&format!("{name}anti"), &stratified(u, 1e-3), golden, 1e-6);
        }
    }
    if let Some(grid) = fixture.get("grid") {
        type Function = fn(&Schedule, f64) -> f64;
        let functions: [(&str, Function); 4] = [
            ("sigma", Schedule::sigma),
            ("dsigma", Schedule::dsigma),
            ("move_chance", Schedule::move_chance),
            ("weight", Schedule::weight),
        ];
        for (name, f) in functions {
            let Some(golden) = fixture.get(&format!("loglinear.{name}")) else {
                continue;
            };
            for (&t, &golden) in grid.iter().zip(golden) {
                let got = f(&Schedule::default(), t);
                let same = got == golden;
                report.note(
                    &format!("loglinear.{name}({t})"),
                    if same {
                        0.0
                    } else {
                        (got / golden - 1.0).abs()
                    },
                    1e-6,
                );
            }
        }
    }
    let (Some(steps), Some(constant), Some(cosine)) = (
        fixture.get("lr.steps"),
        fixture.get("lr.constant"),
        fixture.get("lr.cosine"),
    ) else {
        return;
    };
    for (schedule, warmup, golden) in [
        (LrSchedule::Constant, 2500, constant),
        (LrSchedule::Cosine, 100_000, cosine),
    ] {
        let optim = OptimConfig {
            schedule,
            warmup: Some(warmup),
            ..OptimConfig::default()
        };
        let got: Vec<f64> = steps
            .iter()
            .map(|&k| learning_rate(&optim, 1_000_000, k as u64))
            .collect();
        report.relative_to_max(&format!("lr {schedule:?}"), &got, golden, 1e-6);
    }
    report.finish();
}
