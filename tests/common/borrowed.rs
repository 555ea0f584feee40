//! A wgpu device as an application would own it.

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
