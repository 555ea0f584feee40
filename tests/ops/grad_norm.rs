//! The global gradient norm, its clip factor, and what is not finite.

use std::sync::Arc;

use crate::common::case::random;
use crate::common::close::{Kernel, Report};
use crate::common::{EXECUTORS, Executor};
use mdlm_engine::graph::FORWARD;
use mdlm_engine::graph::{GRADS, PARAMS};
use mdlm_engine::graph::{Graph, Layout, Session, Storage};
use mdlm_engine::program::Step;
use pollster::block_on;

/// [norm, clip factor, finite] of gradients laid out in slabs of at most `limit` elements.
fn stats(executor: Executor, limit: usize, grads: &[Vec<f64>], clip: f64) -> [f64; 3] {
    let device = executor.shared();
    let mut layout = Layout::builder(limit);
    for (i, values) in grads.iter().enumerate() {
        layout.tensor(&i.to_string(), &[values.len()]).unwrap();
    }
    let layout = Arc::new(layout.finish(|name| name.parse().unwrap()));
    let mut g = Graph::new(layout.clone());
    let stats = g.grad_norm(clip).unwrap();
    let mut storage = block_on(Storage::new(device, &layout, &[GRADS])).unwrap();
    let of = |key: &str| grads[key.parse::<usize>().unwrap()].clone();
    storage.write(GRADS, |_, key| Ok(of(&key.key))).unwrap();
    let outputs = [stats];
    let session = Session::new(device, &mut g, &storage, PARAMS, &outputs);
    let mut session = block_on(session).unwrap();
    let stats = block_on(session.run(&mut storage, &Step::default(), &[FORWARD])).unwrap();
    [stats[0], stats[1], stats[2]]
}

#[test]
fn norm_and_clip_factor() {
    for executor in EXECUTORS {
        let mut report = Report::new("grad_norm", executor);
        for (sizes, limit) in [
            (vec![1], 1),
            (vec![7, 130], 1000),
            (vec![255, 1, 257], 300),
            (vec![70_001, 16_385, 9], 70_001),
        ] {
            let grads: Vec<Vec<f64>> = (0..).zip(&sizes).map(|(i, &n)| random(i, n, 1.0)).collect();
            let exact = grads.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
            for clip in [0.0, 0.5, 1e6] {
                let [norm, factor, finite] = stats(executor, limit, &grads, clip);
                let expected = match clip {
                    0.0 => 1.0,
                    clip => (clip / (exact + 1e-6)).min(1.0),
                };
                let n: usize = sizes.iter().sum();
                let bound = executor.bound(Kernel::Sum.bound(n));
                let name = format!("{sizes:?}, clip {clip}");
                report.note(&format!("{name}: norm"), norm / exact - 1.0, bound);
                report.note(&format!("{name}: factor"), factor / expected - 1.0, bound);
                assert_eq!(finite, 1.0, "{name}");
            }
        }
        report.finish();
    }
}

#[test]
fn what_is_not_finite_is_seen_wherever_it_is() {
    for executor in EXECUTORS {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for at in [(0, 0), (0, 299), (1, 0), (1, 256)] {
                let mut grads = vec![random(0, 300, 1.0), random(1, 257, 1.0)];
                grads[at.0][at.1] = bad;
                let [_, _, finite] = stats(executor, 300, &grads, 1.0);
                assert_eq!(finite, 0.0, "{executor:?}: {bad} at {at:?}");
            }
        }
        // finite numbers whose squares are not
        let [_, _, finite] = stats(executor, 300, &[vec![1e30; 3]], 1.0);
        let expected = if executor == Executor::CpuF64 {
            1.0
        } else {
            0.0
        };
        assert_eq!(finite, expected, "{executor:?}: overflow of the norm");
    }
}
