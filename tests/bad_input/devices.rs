//! Devices that are not there or too small.

use mdlm::config::ModelConfig;
use mdlm::device::{AdapterChoice, Device};
use mdlm::model::{Backbone, Model, Options};
use mdlm::train::TrainSession;
use mdlm_engine::graph::Storage;
use mdlm_engine::ops::RowLoss;
use mdlm_engine::ops::TRAINING;
use pollster::block_on;

use crate::common::Executor;
use crate::common::models::small;
use crate::common::runs::{config, refused};

#[test]
fn an_absent_adapter_is_answered_with_what_there_is() {
    let found = Executor::Gpu.shared().info().name.clone();
    let name = AdapterChoice::Name("no such adapter".to_owned());
    let error = refused(
        block_on(Device::gpu(&name)),
        "no_adapter",
        &["\"no such adapter\"", &found],
    );
    let hint = error.hint().unwrap();
    assert!(hint.contains("install a Vulkan driver"), "{hint}");
    refused(
        block_on(Device::gpu(&AdapterChoice::Index(99))),
        "no_adapter",
        &["adapter 99", &found],
    );
    refused(
        block_on(Device::parse("no such device")),
        "no_adapter",
        &["no such device"],
    );
}

#[test]
fn a_device_below_the_defaults_is_refused() {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
    let request = wgpu::DeviceDescriptor {
        required_limits: wgpu::Limits::downlevel_defaults(),
        ..Default::default()
    };
    let (device, queue) = block_on(adapters[0].request_device(&request)).unwrap();
    let error = refused(
        Device::from_wgpu(device, queue),
        "unsupported",
        &["storage buffers per stage: needs 8, the device has 4"],
    );
    assert!(error.hint().is_some());
}

#[test]
fn what_is_too_large_is_refused_before_anything_is_allocated() {
    let device = Executor::Gpu.shared();
    let created = || device.context().unwrap().counters.created();
    let before = created();
    let wide = ModelConfig {
        vocab_size: 1 << 20,
        mask_index: 0,
        hidden_size: 1 << 14,
        n_heads: 128,
        ..small(16)
    };
    let error = refused(
        block_on(Model::new(device, &wide, 1)),
        "unsupported",
        &["bytes of parameter backbone.", "in one buffer"],
    );
    assert!(error.hint().unwrap().contains("--device cpu"));
    assert_eq!(created(), before);

    let long = small(1 << 16);
    let backbone = Backbone::new(&long, device.slab_limit()).unwrap();
    let storage = block_on(Storage::new(device, &backbone.layout, &TRAINING)).unwrap();
    let before = created();
    let optim = config(1).optim;
    let session = TrainSession::new(
        device,
        &backbone.network,
        &storage,
        &optim,
        RowLoss::Subs,
        Options::of(1 << 12, 1 << 16),
        None,
    );
    let error = refused(block_on(session), "unsupported", &["bytes"]);
    assert!(error.hint().unwrap().contains("batch size"));
    assert_eq!(created(), before);
}
