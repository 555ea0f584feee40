//! A device that goes away is an error, whenever it happens.

use crate::common::Executor;
use crate::common::training::{Training, model};
use mdlm::device::Device;
use mdlm::error::{Error, Result};
use mdlm_engine::graph::PARAMS;
use mdlm_engine::graph::Storage;
use pollster::block_on;

fn lost<T>(result: Result<T>, during: &str) {
    match result {
        Err(Error::DeviceLost { .. }) => {}
        Err(error) => panic!("{during}: {error}"),
        Ok(_) => panic!("{during}: worked on a lost device"),
    }
}

fn destroy(device: &Device) {
    device.context().unwrap().wgpu().0.destroy();
}

fn check(executor: Executor) {
    let config = model(false, 0.1);
    let make = |device: &Device| Training::new(device, &config, 2, usize::MAX);

    let device = executor.device();
    destroy(&device);
    lost(make(&device), "allocation");

    let device = executor.device();
    let mut training = make(&device).unwrap();
    destroy(&device);
    lost(training.step(0), "the first step");
    lost(training.step(0), "the step after a failed one");

    let device = executor.device();
    let mut training = make(&device).unwrap();
    training.step(0).unwrap();
    destroy(&device);
    lost(
        block_on(training.storage.read(PARAMS)),
        "a read of the weights",
    );
    lost(training.run(1, false), "a later step");
    let arenas = [PARAMS];
    let storage = Storage::new(&device, &training.backbone.layout, &arenas);
    lost(block_on(storage), "a further allocation");
}

#[test]
fn our_own_device() {
    check(Executor::Gpu);
}

#[test]
fn the_applications_device() {
    check(Executor::Borrowed);
}
