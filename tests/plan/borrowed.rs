//! A device that an application owns: used like our own, and left as it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::common::Executor;
use crate::common::borrowed::open;
use crate::common::close::Report;
use crate::common::training::{Training, model};
use mdlm::device::Device;
use mdlm_engine::gpu::DeviceClass;

#[test]
fn the_applications_handlers_stay() {
    let (device, queue) = open(wgpu::Limits::default());
    let [errors, losses] = [(); 2].map(|()| Arc::new(AtomicU32::new(0)));
    let count = |counter: &Arc<AtomicU32>| counter.load(Ordering::SeqCst);
    let counter = errors.clone();
    device.on_uncaptured_error(Arc::new(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
    }));
    let counter = losses.clone();
    device.set_device_lost_callback(move |_, _| {
        counter.fetch_add(1, Ordering::SeqCst);
    });

    let adapter = device.adapter_info();
    let ours = Device::from_wgpu(device.clone(), queue).unwrap();
    assert_eq!(ours.class(), DeviceClass::of(&adapter));
    assert_eq!(ours.info().name, adapter.name);
    let mut training = Training::new(&ours, &model(true, 0.1), 2, usize::MAX).unwrap();
    let mut twin =
        Training::new(Executor::CpuF64.shared(), &model(true, 0.1), 2, usize::MAX).unwrap();
    let mut report = Report::new("training", Executor::Borrowed);
    for k in 0..3 {
        let (got, exact) = (training.step(k).unwrap(), twin.step(k).unwrap());
        report.note(
            &format!("loss {k}"),
            (got.loss / exact.loss - 1.0).abs(),
            1e-4,
        );
    }
    report.finish();
    assert_eq!((count(&errors), count(&losses)), (0, 0));

    // a mistake of the application
    let _ = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 16,
        usage: wgpu::BufferUsages::empty(),
        mapped_at_creation: false,
    });
    assert_eq!((count(&errors), count(&losses)), (1, 0));
    device.destroy();
    device.poll(wgpu::PollType::wait_indefinitely()).ok();
    assert_eq!((count(&errors), count(&losses)), (1, 1));
    drop(training);
    assert_eq!(count(&errors), 1);
}
