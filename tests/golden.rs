//! The executors against the reference implementation's numbers (see `tests/golden/README.md`).
#![allow(clippy::unwrap_used)]

mod common;
#[path = "golden_parts/forward.rs"]
mod forward;
#[path = "../examples/bench/reference.rs"]
mod reference;
#[path = "golden_parts/sampling.rs"]
mod sampling;
#[path = "golden_parts/training.rs"]
mod training;

use common::Executor;
use common::close::Report;
use common::fixtures::Fixture;
use forward::{
    autoregressive_forward, dit_forward, dit_forward_half, published_layout, weights_at_rest,
};
use mdlm::config::{LrSchedule, NoiseConfig, NoiseKind, OptimConfig};
use mdlm::process::{Schedule, stratified};
use mdlm::train::learning_rate;
use sampling::{autoregressive_run, single_steps, whole_runs};
use training::{
    autoregressive, losses_and_gradients, losses_and_gradients_half, train_fast, train_ref,
    train_shared,
};

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
executors!(a_weights_at_rest, weights_at_rest);
executors!(b_losses_and_gradients, losses_and_gradients);
executors!(a_dit_forward_half, dit_forward_half);
executors!(b_losses_and_gradients_half, losses_and_gradients_half);
executors!(c_train_ref, train_ref);
executors!(c_train_fast, train_fast);
executors!(d_autoregressive, autoregressive);
executors!(d_autoregressive_forward, autoregressive_forward);
executors!(d_autoregressive_run, autoregressive_run);
executors!(f_whole_runs, whole_runs);
executors!(g_published_layout, published_layout);

#[test]
fn c_train_shared() {
    for executor in [Executor::CpuF32, Executor::Gpu] {
        train_shared(executor);
    }
}

#[test]
fn f_single_steps() {
    single_steps();
}

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
        let iid: Vec<f64> = u.iter().map(|&u| (1.0 - 1e-3) * u + 1e-3).collect();
        let transformed = |kind| {
            let schedule = schedule(kind, 1e-3, 7.0);
            let times = stratified(u, 1e-3).into_iter();
            times.map(|t| schedule.importance_time(t)).collect()
        };
        for (kind, got) in [
            ("anti", stratified(u, 1e-3)),
            ("iid", iid),
            ("anti_is_loglinear", transformed(NoiseKind::Loglinear)),
            ("anti_is_linear", transformed(NoiseKind::Linear)),
        ] {
            let name = format!("{name}{kind}");
            if let Some(golden) = fixture.get(&name) {
                report.relative_to_max(&name, &got, golden, 1e-6);
            }
        }
    }
    if let Some(grid) = fixture.get("grid") {
        for (name, schedule) in [
            ("loglinear", schedule(NoiseKind::Loglinear, 1e-3, 7.0)),
            ("linear", schedule(NoiseKind::Linear, 1e-3, 7.0)),
            ("cosine", schedule(NoiseKind::Cosine, 1e-3, 7.0)),
            ("cosinesqr", schedule(NoiseKind::Cosinesqr, 1e-3, 7.0)),
            (
                "geometric_1em3_1",
                schedule(NoiseKind::Geometric, 1e-3, 1.0),
            ),
            (
                "geometric_1em4_20",
                schedule(NoiseKind::Geometric, 1e-4, 20.0),
            ),
        ] {
            grid_of(&mut report, &fixture, grid, name, &schedule);
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

fn schedule(kind: NoiseKind, sigma_min: f64, sigma_max: f64) -> Schedule {
    let config = NoiseConfig {
        kind,
        sigma_min,
        sigma_max,
        ..NoiseConfig::default()
    };
    Schedule::new(&config).unwrap()
}

/// All quantities of a schedule on the grid of times, element by element.
fn grid_of(report: &mut Report, fixture: &Fixture, grid: &[f64], name: &str, schedule: &Schedule) {
    let functions: [(&str, &dyn Fn(f64) -> f64); 5] = [
        ("sigma", &|t| schedule.sigma(t)),
        ("dsigma", &|t| schedule.dsigma(t)),
        ("move_chance", &|t| schedule.move_chance(t)),
        ("weight", &|t| schedule.weight(t)),
        ("is_transform", &|t| schedule.importance_time(t)),
    ];
    for (function, f) in functions {
        let key = format!("{name}.{function}");
        if function == "is_transform" && !["loglinear", "linear"].contains(&name) {
            continue;
        }
        let Some(golden) = fixture.get(&key) else {
            continue;
        };
        for (&t, &golden) in grid.iter().zip(golden) {
            let got = f(t);
            // at t = 0 infinite, or 0 / 0 in the reference's cosines, where ours are infinite; 0 at the
            // ends of a cosine up to the rounding of pi
            let undefined = golden.is_nan() && t == 0.0 && got == f64::INFINITY;
            let error = if undefined || got == golden || (golden.abs() < 1e-12 && got.abs() < 1e-12)
            {
                0.0
            } else {
                (got / golden - 1.0).abs()
            };
            report.note(&format!("{key}({t})"), error, 1e-6);
        }
    }
    let range = format!("{name}.sigma_minmax");
    if fixture.keys().any(|k| k == range)
        && let Some(golden) = fixture.get(&range)
    {
        let sigma = schedule.log_move_range().map(|log| -(-log.exp()).ln_1p());
        report.relative_to_max(&range, &sigma, golden, 1e-6);
    }
}
