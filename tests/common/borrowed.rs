//! A wgpu device as an application would own it.

use mdlm::device::Device;
use mdlm_engine::gpu::{Cooperative, DeviceClass, Tuning};
use pollster::block_on;

/// Opens the machine's first adapter with these limits, and with 16-bit floats if it has them.
pub fn open(limits: wgpu::Limits) -> (wgpu::Device, wgpu::Queue) {
    let descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    open_with(&wgpu::Instance::new(descriptor), limits)
}

/// As [`open`], of an instance that is there.
pub fn open_with(instance: &wgpu::Instance, limits: wgpu::Limits) -> (wgpu::Device, wgpu::Queue) {
    open_of(instance, limits, wgpu::Features::SHADER_F16)
}

/// As [`open_with`], with what the adapter has of these features.
pub fn open_of(
    instance: &wgpu::Instance,
    limits: wgpu::Limits,
    features: wgpu::Features,
) -> (wgpu::Device, wgpu::Queue) {
    let adapters = block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
    let adapter = adapters.first().expect("a GPU adapter");
    let device = adapter.request_device(&wgpu::DeviceDescriptor {
        required_limits: limits,
        required_features: adapter.features() & features,
        ..Default::default()
    });
    block_on(device).unwrap()
}

fn first() -> wgpu::Adapter {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
    adapters.into_iter().next().expect("a GPU adapter")
}

/// Whether the first adapter has matrix units.
pub fn has_units() -> bool {
    Cooperative::of(&first()).is_some()
}

/// The first adapter with products of f16 on its matrix units, as if its subgroups had so many lanes.
pub fn cooperative(lanes: u32) -> Device {
    let adapter = first();
    let units = Cooperative::of(&adapter).expect("an adapter with matrix units");
    let device = adapter.request_device(&wgpu::DeviceDescriptor {
        required_limits: adapter.limits(),
        required_features: Cooperative::FEATURES,
        experimental_features: Cooperative::experimental(),
        ..Default::default()
    });
    let (device, queue) = block_on(device).unwrap();
    let class = DeviceClass::of(&adapter.get_info());
    let tuning = Tuning {
        cooperative: Some(Cooperative { lanes, ..units }),
        ..Tuning::of(class)
    };
    Device::from_wgpu_with(device, queue, class, tuning).unwrap()
}
