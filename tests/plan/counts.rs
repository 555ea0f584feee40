//! What a training step creates, submits and holds.

use std::sync::atomic::Ordering;

use crate::common::Executor;
use crate::common::close::Report;
use crate::common::graphs::{Purpose, build};
use crate::common::training::{Training, model};
use mdlm::config::ModelConfig;
use mdlm_engine::gpu::DeviceClass;
use mdlm_engine::graph::{PARAMS, Session, Storage};
use mdlm_engine::ops::TRAINING;
use pollster::block_on;

#[test]
fn steps_create_nothing_and_submit_once() {
    for (time_conditioning, dropout) in [(false, 0.0), (true, 0.1)] {
        let device = Executor::Gpu.device();
        let context = device.context().unwrap();
        // a watchdog would split the work of a large model, not of this one
        let submissions = || context.counters.submissions.load(Ordering::Relaxed);
        let config = model(time_conditioning, dropout);
        let mut training = Training::new(&device, &config, 3, usize::MAX).unwrap();
        training.step(0).unwrap();
        let (created, mut submitted) = (context.counters.created(), submissions());
        for k in 1..4 {
            for (micro, update) in [(2 * k, false), (2 * k + 1, true)] {
                training.run(micro, update).unwrap();
                submitted += 1;
                assert_eq!(submissions(), submitted, "step {k}, update {update}");
            }
        }
        assert_eq!(context.counters.created(), created);
    }
}

#[test]
fn planned_bytes_are_those_allocated() {
    let device = Executor::Gpu.device();
    let context = device.context().unwrap();
    let config = ModelConfig {
        hidden_size: 128,
        length: 128,
        ..model(true, 0.1)
    };
    let before = context.counters.bytes.load(Ordering::Relaxed);
    let training = Training::new(&device, &config, 4, usize::MAX).unwrap();
    let allocated = context.counters.bytes.load(Ordering::Relaxed) - before;
    let graph = &training.session.graph.graph;
    let planned = graph
        .report(DeviceClass::Portable, &TRAINING)
        .unwrap()
        .total_bytes;
    let excess = allocated as f64 / planned as f64 - 1.0;
    println!("{planned} bytes planned, {allocated} allocated");
    assert!(excess.abs() < 0.02, "{planned} {allocated}");
}

#[test]
fn planned_bytes_are_those_allocated_without_training() {
    let device = Executor::Gpu.device();
    let bytes = || {
        device
            .context()
            .unwrap()
            .counters
            .bytes
            .load(Ordering::Relaxed)
    };
    let config = ModelConfig {
        hidden_size: 128,
        length: 128,
        ..model(true, 0.0)
    };
    for purpose in [Purpose::Eval, Purpose::Logits, Purpose::Draw] {
        let mut graph = build(&config, purpose, 8, 128);
        let before = bytes();
        let storage = block_on(Storage::new(&device, graph.layout(), &[PARAMS])).unwrap();
        let session = Session::new(&device, &mut graph, &storage, PARAMS, &[]);
        let _session = block_on(session).unwrap();
        let allocated = bytes() - before;
        let report = graph.report(DeviceClass::Portable, &[PARAMS]).unwrap();
        let planned = report.total_bytes;
        println!("{purpose:?}: {planned} bytes planned, {allocated} allocated");
        let excess = allocated as f64 / planned as f64 - 1.0;
        assert!(excess.abs() < 0.02, "{planned} {allocated}");
    }
}

/// Parameters in many slabs train like parameters in one.
#[test]
fn slabs_do_not_matter() {
    for (executor, bound) in [
        (Executor::CpuF64, 1e-10),
        (Executor::CpuF32, 1e-4),
        (Executor::Gpu, 1e-4),
    ] {
        let device = executor.shared();
        let config = model(true, 0.1);
        let mut one = Training::new(device, &config, 3, usize::MAX).unwrap();
        let mut many = Training::new(device, &config, 3, 25_000).unwrap();
        assert_eq!(one.backbone.layout.slabs().len(), 1);
        assert!(many.backbone.layout.slabs().len() > 4);
        let mut report = Report::new("slabs", executor);
        for k in 0..4 {
            let (a, b) = (one.step(k).unwrap(), many.step(k).unwrap());
            report.note(&format!("loss {k}"), (a.loss / b.loss - 1.0).abs(), bound);
            let norms = (a.grad_norm / b.grad_norm - 1.0).abs();
            report.note(&format!("norm {k}"), norms, bound);
        }
        report.finish();
    }
}
