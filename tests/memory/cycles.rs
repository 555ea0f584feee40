//! Steps, models and samplers over and over: memory and buffers stay what they were.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};

use mdlm::device::Device;
use mdlm::{Canvas, Model, SampleConfig};
use mdlm_engine::gpu::DeviceClass;
use pollster::block_on;

use crate::alone;
use crate::common::Executor;
use crate::common::borrowed::open_with;
use crate::common::models::{small, write};
use crate::common::training::{Training, model};
use crate::common::trials::trials;
use crate::heap::live;

const SEED: u64 = 1;
/// What allocators and queues may hold more of than at the beginning, over all rounds.
const SLACK: usize = 256 << 10;

/// Stretches that are measured apart.
const PARTS: u64 = 5;

/// A GPU with the instance that counts what lives on it, or the twin.
struct Place {
    instance: Option<wgpu::Instance>,
    device: Device,
}

impl Place {
    fn both() -> [Self; 2] {
        let descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        let instance = wgpu::Instance::new(descriptor);
        let (device, queue) = open_with(&instance, wgpu::Limits::default());
        let gpu = Device::from_wgpu_as(device, queue, DeviceClass::Software).unwrap();
        [
            Self {
                instance: None,
                device: Executor::CpuF32.device(),
            },
            Self {
                instance: Some(instance),
                device: gpu,
            },
        ]
    }

    /// Buffers and bind groups that are alive on the GPU.
    fn alive(&self) -> [usize; 2] {
        let Some(instance) = &self.instance else {
            return [0; 2];
        };
        let (device, _) = self.device.context().unwrap().wgpu();
        device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        let report = instance.generate_report().unwrap();
        let hub = report.hub_report();
        [hub.buffers.num_allocated, hub.bind_groups.num_allocated]
    }

    /// Bytes of the process, resident.
    fn resident() -> usize {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = text
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<usize>().ok());
        4096 * pages.unwrap_or(0)
    }

    /// Does something again and again, a tenth of it to warm up. A leak is what grows in most of five parts: a thread
    /// of the pool that has its first product late takes its buffer once.
    fn flat(&self, what: &str, rounds: u64, mut round: impl FnMut(u64)) {
        let warm = rounds / 10 + 2;
        (0..warm).for_each(&mut round);
        let alive = self.alive();
        let part = rounds.div_ceil(PARTS);
        let (mut heap, mut resident) = (Vec::new(), Vec::new());
        for k in 0..PARTS {
            let before = (live(), Self::resident());
            let first = warm + k * part;
            (first..first + part).for_each(&mut round);
            heap.push(live().saturating_sub(before.0));
            resident.push(Self::resident().saturating_sub(before.1));
        }
        let after = self.alive();
        let middle = |grown: &mut Vec<usize>| {
            grown.sort_unstable();
            grown[grown.len() / 2] * grown.len()
        };
        let (more, grown) = (middle(&mut heap), middle(&mut resident));
        let name = &self.device.info().name;
        println!(
            "{what}, {name}: {} rounds, heap +{more} bytes (parts {heap:?}), resident +{} KiB, buffers and groups \
             {alive:?} and {after:?}",
            PARTS * part,
            grown >> 10
        );
        assert!(more < SLACK, "{what}: {more} bytes more");
        assert_eq!(alive, after, "{what}");
        assert!(
            grown as u64 <= (rounds << 10).max(16 << 20),
            "{what}: {grown} bytes more resident"
        );
    }
}

#[test]
fn steps_leave_nothing_behind() {
    let _turn = alone();
    let rounds = trials("training steps", 40, SEED);
    for place in Place::both() {
        let mut training = Training::new(&place.device, &model(true, 0.1), 2, usize::MAX).unwrap();
        place.flat("steps", rounds, |k| {
            assert!(training.step(k).unwrap().finite)
        });
        if let Some(context) = place.device.context() {
            println!(
                "{} submissions",
                context.counters.submissions.load(Ordering::Relaxed)
            );
        }
    }
}

#[test]
fn models_leave_nothing_behind() {
    let _turn = alone();
    let rounds = trials("models loaded and freed, a tenth of", 100, SEED).div_ceil(10);
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &small(16), None);
    for place in Place::both() {
        place.flat("models", rounds, |_| {
            let mut model = block_on(Model::load(&place.device, dir.path())).unwrap();
            block_on(model.logits(&[1, 2, 3], &[0.5])).unwrap();
        });
    }
}

#[test]
fn samplers_that_are_given_up_leave_nothing_behind() {
    let _turn = alone();
    let rounds = trials("samplers cancelled, a tenth of", 100, SEED).div_ceil(10);
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &small(16), None);
    for place in Place::both() {
        let mut model = block_on(Model::load(&place.device, dir.path())).unwrap();
        let config = SampleConfig {
            steps: 8,
            ..SampleConfig::default()
        };
        let whole = |model: &mut Model| {
            let mut sampler = model.sampler(Canvas::open(16), &config).unwrap();
            while block_on(sampler.step()).unwrap().is_some() {}
            sampler.canvas().clone()
        };
        let expected = whole(&mut model);
        place.flat("samplers", rounds, |k| {
            let mut sampler = model.sampler(Canvas::open(16), &config).unwrap();
            for _ in 0..k % 8 {
                block_on(sampler.step()).unwrap();
            }
            // a step that nobody waits for, given up before it begins or after it was asked once
            let mut step = pin!(sampler.step());
            if k % 2 == 0 {
                let _ = step.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            }
        });
        assert!(whole(&mut model) == expected, "what was given up is felt");
    }
}
