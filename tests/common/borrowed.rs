//! A wgpu device as an application would own it.

use pollster::block_on;

/// Opens the machine's first adapter with these limits, and with 16-bit floats if it has them.
pub fn open(limits: wgpu::Limits) -> (wgpu::Device, wgpu::Queue) {
    open_with(limits, wgpu::Features::SHADER_F16)
}

/// Opens the machine's first adapter with these limits, and what it has of these features.
pub fn open_with(limits: wgpu::Limits, features: wgpu::Features) -> (wgpu::Device, wgpu::Queue) {
    let descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    let instance = wgpu::Instance::new(descriptor);
    let adapters = block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
    let adapter = adapters.first().expect("a GPU adapter");
    let device = adapter.request_device(&wgpu::DeviceDescriptor {
        required_limits: limits,
        required_features: adapter.features() & features,
        ..Default::default()
    });
    block_on(device).unwrap()
}
