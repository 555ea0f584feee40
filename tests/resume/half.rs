//! Training in half precision: what overflows is skipped, what a loss is scaled by is not seen, and a device that has no
//! such numbers says so.

use mdlm::config::Precision;
use mdlm::device::Device;
use mdlm::model::{Backbone, Options};
use mdlm::train::{StepOutcome, TrainSession, Trainer};
use mdlm_engine::graph::{PARAMS, Storage};
use mdlm_engine::ops::{BIAS1, BIAS2, LOSS_SCALE, LR, RowLoss, TRAINING};
use mdlm_engine::program::{Element, Step};
use pollster::block_on;

use crate::Padded;
use crate::common::Executor;
use crate::common::borrowed::open_of;
use crate::common::runs::{LENGTH, config, corpus, refused};
use crate::common::training::subs_batch;

/// A step at this scale from the same weights; its outcome, and whether it changed them.
fn step_at(executor: Executor, loss_scale: f64) -> (StepOutcome, bool) {
    let padded = Padded::new();
    let (device, model) = (executor.shared(), &padded.config.model);
    let backbone = Backbone::new(model, device.slab_limit()).unwrap();
    let mut storage = block_on(Storage::new(device, &backbone.layout, &TRAINING)).unwrap();
    padded.weights(&mut storage);
    let options = Options {
        precision: Element::F16,
        ..Options::of(4, LENGTH)
    };
    let optim = &padded.config.optim;
    let network = &backbone.network;
    let session = TrainSession::new(
        device,
        network,
        &storage,
        optim,
        RowLoss::Subs,
        options,
        None,
    );
    let mut session = block_on(session).unwrap();
    let total = padded.mask.iter().sum();
    let (xt, mask) = (padded.xt.clone(), Some(&padded.mask[..]));
    let batch = subs_batch(model, &padded.x0, xt, &padded.t, mask, total).unwrap();
    let step = Step::default()
        .with(LR, 1e-3)
        .with(BIAS1, 0.1)
        .with(BIAS2, 0.1)
        .with(LOSS_SCALE, loss_scale);
    let before = block_on(storage.read(PARAMS)).unwrap();
    let outcome = block_on(session.run(&mut storage, &batch, step, true)).unwrap();
    (outcome, block_on(storage.read(PARAMS)).unwrap() != before)
}

#[test]
fn an_overflow_is_skipped() {
    for executor in [Executor::CpuF32, Executor::Gpu] {
        let (plain, changed) = step_at(executor, 1.0);
        assert!(plain.finite && changed, "{executor:?}");
        let (scaled, changed) = step_at(executor, 65536.0);
        assert!(scaled.finite && changed, "{executor:?}");
        // the scale is not seen, but for what was too small without it
        let share = scaled.grad_norm / plain.grad_norm;
        assert_eq!(scaled.loss, plain.loss);
        assert!((share - 1.0).abs() < 2e-3, "{executor:?}: {share}");
        let (over, changed) = step_at(executor, 2f64.powi(40));
        assert!(!over.finite && !changed, "{executor:?}");
        assert_eq!(over.loss, plain.loss);
    }
}

#[test]
fn a_device_without_such_numbers_says_so() {
    let descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    let (instance, none) = (wgpu::Instance::new(descriptor), wgpu::Features::empty());
    let (device, queue) = open_of(&instance, wgpu::Limits::default(), none);
    let device = Device::from_wgpu(device, queue).unwrap();
    let mut config = config(1);
    config.training.precision = Precision::F16;
    let made = block_on(Trainer::new(&device, &config, corpus()));
    let parts = ["training.precision = f16", "16-bit floats in shaders"];
    refused(made, "config", &parts);
}
