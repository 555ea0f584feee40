//! The same seed gives the same bits, whatever ran before and however many threads share the work. Rows that pad the
//! vocabulary change nothing. Every operation, also on extreme numbers.
#![allow(clippy::unwrap_used)]

mod common;

/// Each suite's cases, one after the other.
macro_rules! suites {
    ($($name:ident: $label:literal, $kernel:ident;)*) => {
        pub fn collect(suite: &mut super::suite::Suite) {
            $(
                suite.begin($label);
                $name(suite);
            )*
        }
    };
}

#[allow(dead_code)] // what checks results against each other
#[path = "ops/mod.rs"]
mod ops;
#[path = "determinism/suite.rs"]
mod suite;

use common::close::rel_l2;
use common::training::{Training, model};
use common::{Executor, case};
use mdlm::config::ModelConfig;

const STEPS: u64 = 5;

/// Wide enough that the twin splits its rows.
fn config(time_conditioning: bool) -> ModelConfig {
    ModelConfig {
        hidden_size: 128,
        length: 65,
        ..model(time_conditioning, 0.1)
    }
}

#[derive(Debug, PartialEq)]
struct Trace {
    losses: Vec<u64>,
    norms: Vec<u64>,
    state: Vec<u64>,
}

/// Losses, gradient norms and the whole state after some steps, as bits. The second of each pair
/// of micro-steps updates.
fn train(executor: Executor, time_conditioning: bool) -> Trace {
    let device = executor.device();
    let mut training = Training::new(&device, &config(time_conditioning), 4, usize::MAX).unwrap();
    let (mut losses, mut norms) = (vec![], vec![]);
    for k in 0..STEPS {
        for (micro, update) in [(2 * k, false), (2 * k + 1, true)] {
            let outcome = training.run(micro, update).unwrap();
            losses.push(outcome.loss.to_bits());
            if update {
                assert!(outcome.finite);
                norms.push(outcome.grad_norm.to_bits());
            }
        }
    }
    let state = training.state().into_iter().flatten().flatten();
    Trace {
        losses,
        norms,
        state: state.map(f64::to_bits).collect(),
    }
}

fn check(executor: Executor) {
    for time_conditioning in [false, true] {
        let (a, b) = (
            train(executor, time_conditioning),
            train(executor, time_conditioning),
        );
        assert!(a.losses[0] != a.losses[2], "nothing was learnt");
        assert!(a == b, "{executor:?}: {:?}\n{:?}", a.losses, b.losses);
    }
}

#[test]
fn gpu_repeats() {
    check(Executor::Gpu);
}

#[test]
fn twin_repeats() {
    check(Executor::CpuF32);
    check(Executor::CpuF64);
}

#[test]
fn threads_do_not_matter() {
    for executor in [Executor::CpuF32, Executor::CpuF64] {
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| train(executor, false))
        };
        let one = with(1);
        for threads in [2, 3, 5] {
            let many = with(threads);
            assert!(one == many, "{executor:?}, {threads} threads");
        }
    }
}

/// Phases one by one, with the gradients on the host in between, and steps submitted ahead: no bit changes.
fn phases_and_order_of_reading(executor: Executor) {
    let device = executor.device();
    let new = || Training::new(&device, &config(true), 4, 1 << 18).unwrap();
    let (mut whole, mut parts, mut ahead) = (new(), new(), new());
    let expected: Vec<_> = (0..3).map(|k| whole.step(k).unwrap()).collect();
    for (k, expected) in expected.iter().enumerate() {
        assert_eq!(parts.step_in_phases(k as u64).unwrap(), *expected);
    }
    assert_eq!(ahead.steps_ahead(0..3).unwrap(), expected);
    let state = whole.state();
    assert!(parts.state() == state && ahead.state() == state);
}

#[test]
fn phases_gpu() {
    phases_and_order_of_reading(Executor::Gpu);
}

#[test]
fn phases_cpu_f32() {
    phases_and_order_of_reading(Executor::CpuF32);
}

/// A table with 61 rows beyond the vocabulary, which start from what is not 0: the loss and every gradient are those of
/// the table without them, and they stay what they are. The gradient's norm is summed in other parts, so that what
/// depends on it may differ by rounding.
fn padding_rows(executor: Executor) {
    let device = executor.device();
    let plain = model(true, 0.1);
    let padded = ModelConfig {
        vocab_multiple: 64,
        ..plain.clone()
    };
    assert_eq!((plain.vocab_size, padded.table_rows()), (131, 192));
    let new = |config| Training::new(&device, config, 4, usize::MAX).unwrap();
    let (mut plain, mut padded) = (new(&plain), new(&padded));
    let started = padded.state();
    for k in 0..3 {
        let (a, b) = (plain.step(k).unwrap(), padded.step(k).unwrap());
        if k == 0 {
            assert_eq!(a.loss.to_bits(), b.loss.to_bits());
        }
        assert!((a.loss / b.loss - 1.0).abs() < 1e-6);
        assert!((a.grad_norm / b.grad_norm - 1.0).abs() < 1e-6);
    }
    let (rows, ended) = (plain.state(), padded.state());
    let keys = plain.backbone.layout.keys();
    for (arena, ended) in ended.iter().enumerate() {
        for (i, key) in keys.iter().enumerate() {
            let (got, beyond) = ended[i].split_at(key.len());
            let error = rel_l2(got, &rows[arena][i]);
            assert!(
                error < 1e-4,
                "{executor:?}, {arena}, {}: {error:e}",
                key.key
            );
            assert_eq!(beyond, &started[arena][i][key.len()..], "{}", key.key);
        }
    }
}

#[test]
fn padding_rows_gpu() {
    padding_rows(Executor::Gpu);
}

#[test]
fn padding_rows_cpu() {
    padding_rows(Executor::CpuF32);
    padding_rows(Executor::CpuF64);
}
