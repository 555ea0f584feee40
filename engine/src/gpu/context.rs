//! A wgpu device with its pipeline cache, error handling and counters.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{self, Poll, Waker};

use super::{DeviceClass, Source, Tuning};
use crate::error::{Error, Result};

/// How often something was created or submitted; tests read it.
#[derive(Debug, Default)]
pub struct Counters {
    /// Buffers created.
    pub buffers: AtomicU64,
    /// Bytes of all buffers created, freed ones included.
    pub bytes: AtomicU64,
    /// Pipelines compiled.
    pub pipelines: AtomicU64,
    /// Pipelines compiled or waiting for it: while a plan is made, `pipelines` of so many are there.
    pub wanted: AtomicU64,
    /// Bind groups created.
    pub bind_groups: AtomicU64,
    /// Command buffers submitted.
    pub submissions: AtomicU64,
}

impl Counters {
    /// Buffers, pipelines and bind groups created so far.
    pub fn created(&self) -> [u64; 3] {
        [&self.buffers, &self.pipelines, &self.bind_groups].map(|c| c.load(Ordering::Relaxed))
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A compiled kernel with the layout of its operands.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) operands: wgpu::BindGroupLayout,
}

/// A source, and for each binding number whether it is written (`None`: not used).
pub(super) type PipelineKey = (Source, Vec<Option<bool>>);

/// A GPU ready for work. Cheap to share; dropping the last handle frees it.
#[derive(Debug)]
pub struct Context {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) step_layout: wgpu::BindGroupLayout,
    /// Limits of the device, not only of the adapter.
    pub limits: wgpu::Limits,
    /// What kind of adapter it is; `Portable` for a device that the application owns.
    pub class: DeviceClass,
    /// Kernel constants: those of the class, see [`Tuning::of`], and the matrix units of the adapter.
    pub tuning: Tuning,
    /// Whether its matrix units multiply right; not known before a graph wants to use them.
    pub units_right: OnceLock<bool>,
    /// Whether shaders may have 16-bit floats.
    pub f16: bool,
    /// Whether a system watchdog may kill long submissions, so that long runs are cut into several.
    pub watchdog: bool,
    /// What was created and submitted since the device was opened.
    pub counters: Counters,
    pipelines: Mutex<HashMap<PipelineKey, Arc<Pipeline>>>,
    lost: Arc<Mutex<Option<String>>>,
}

impl Context {
    /// Wraps a device. `owned`: it is ours, so a lost-device callback may be installed on it.
    pub fn new(
        device: wgpu::Device,
        queue: wgpu::Queue,
        class: DeviceClass,
        tuning: Tuning,
        owned: bool,
    ) -> Self {
        let lost = Arc::new(Mutex::new(None));
        if owned {
            let lost = lost.clone();
            device.set_device_lost_callback(move |reason, message| {
                *lost.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(format!("{reason:?}: {message}"));
            });
        }
        let step_layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("step"),
            entries: &[layout_entry(0, wgpu::BufferBindingType::Uniform)],
        });
        Self {
            limits: device.limits(),
            f16: device.features().contains(wgpu::Features::SHADER_F16),
            device,
            queue,
            step_layout,
            class,
            tuning,
            units_right: OnceLock::new(),
            watchdog: class != DeviceClass::Software,
            counters: Counters::default(),
            pipelines: Mutex::default(),
            lost,
        }
    }

    /// The wgpu device and queue.
    pub fn wgpu(&self) -> (&wgpu::Device, &wgpu::Queue) {
        (&self.device, &self.queue)
    }

    /// An error if the device is known to be lost.
    pub fn check(&self, during: &'static str) -> Result<()> {
        match &*self.lost.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(reason) => Err(Error::DeviceLost {
                reason: reason.clone(),
                during,
            }),
            None => Ok(()),
        }
    }

    /// Runs `f` with every wgpu error caught and typed.
    pub async fn guarded<T>(
        &self,
        during: &'static str,
        what: &str,
        bytes: u64,
        f: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
        let scopes =
            [OutOfMemory, Internal, Validation].map(|filter| self.device.push_error_scope(filter));
        let result = f();
        // Scopes are a stack: the last one pushed is popped first, and before any await.
        let [memory, internal, validation] = scopes;
        let errors = [validation.pop(), internal.pop(), memory.pop()].map(Box::pin);
        let mut first = None;
        for error in errors {
            first = first.or(error.await);
        }
        // A lost device makes every later call fail in odd ways, so it is looked at first.
        self.check(during)?;
        let Some(error) = first else {
            return result;
        };
        self.ensure_alive(during)?;
        Err(match error {
            wgpu::Error::OutOfMemory { .. } => Error::OutOfMemory {
                what: what.to_owned(),
                bytes,
            },
            error => Error::Internal(format!("{during} ({what}): {error}")),
        })
    }

    /// [`Context::guarded`] for callers that cannot wait. The web tells errors later: there they
    /// show up in the next call that does wait.
    pub(super) fn guarded_now(
        &self,
        during: &'static str,
        what: &str,
        f: impl FnOnce(),
    ) -> Result<()> {
        let done = pin!(self.guarded(during, what, 0, || {
            f();
            Ok(())
        }));
        match done.poll(&mut task::Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    /// An error if the device is lost, also where no callback of ours would know: calls on a lost
    /// device fail in silence, but memory mapped at creation must exist.
    pub(super) fn ensure_alive(&self, during: &'static str) -> Result<()> {
        self.check(during)?;
        let probe = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("probe"),
            size: 4,
            usage: wgpu::BufferUsages::MAP_WRITE,
            mapped_at_creation: true,
        });
        match probe.get_mapped_range(..) {
            Ok(_) => Ok(()),
            Err(problem) => Err(Error::DeviceLost {
                reason: problem.to_string(),
                during,
            }),
        }
    }

    /// A buffer of `bytes`, rounded up to whole words and never empty.
    pub(super) fn buffer(
        &self,
        label: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> wgpu::Buffer {
        let size = bytes.max(4).next_multiple_of(4);
        count(&self.counters.buffers);
        self.counters.bytes.fetch_add(size, Ordering::Relaxed);
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        })
    }

    /// Compiles those of a plan's pipelines that are not there yet, one after the other, so that on the
    /// web, where compilation goes on elsewhere, whoever waits sees how far it is.
    pub(super) async fn compile(&self, wanted: &[PipelineKey]) -> Result<()> {
        let missing: Vec<&PipelineKey> = {
            let cache = self
                .pipelines
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let mut seen = HashSet::new();
            wanted
                .iter()
                .filter(|&key| !cache.contains_key(key) && seen.insert(key))
                .collect()
        };
        let compiled = self.counters.pipelines.load(Ordering::Relaxed);
        self.counters
            .wanted
            .store(compiled + missing.len() as u64, Ordering::Relaxed);
        for (source, writable) in missing {
            let make = || self.pipeline(source, writable).map(drop);
            self.guarded("compilation", source.shader.name, 0, make)
                .await?;
        }
        Ok(())
    }

    /// The pipeline of a source whose operands are writable as in `writable`; compiled once, but for threads that ask for it
    /// at the same time: the cache is not locked meanwhile, so that they compile others side by side.
    pub(super) fn pipeline(
        &self,
        source: &Source,
        writable: &[Option<bool>],
    ) -> Result<Arc<Pipeline>> {
        let key = (source.clone(), writable.to_vec());
        let cache = || {
            let cache = self.pipelines.lock();
            cache.unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(found) = cache().get(&key) {
            return Ok(found.clone());
        }
        count(&self.counters.pipelines);
        let label = source.label();
        let text = source.expand().map_err(Error::Internal)?;
        let module = self
            .device
            .create_shader_module(wgpu::ShaderModuleDescriptor {
                label: Some(&label),
                source: wgpu::ShaderSource::Wgsl(text.into()),
            });
        let mut entries: Vec<_> = (0..)
            .zip(writable)
            .filter_map(|(i, &w)| {
                Some(layout_entry(
                    i,
                    wgpu::BufferBindingType::Storage { read_only: !w? },
                ))
            })
            .collect();
        entries.push(layout_entry(
            writable.len() as u32,
            wgpu::BufferBindingType::Uniform,
        ));
        let operands = self
            .device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some(&label),
                entries: &entries,
            });
        let layout = self
            .device
            .create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(&label),
                bind_group_layouts: &[Some(&operands), Some(&self.step_layout)],
                immediate_size: 0,
            });
        let pipeline = self
            .device
            .create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&label),
                layout: Some(&layout),
                module: &module,
                entry_point: Some(source.entry),
                compilation_options: wgpu::PipelineCompilationOptions {
                    // kernels never read workgroup memory before writing it
                    zero_initialize_workgroup_memory: false,
                    ..Default::default()
                },
                cache: None,
            });
        let made = Arc::new(Pipeline { pipeline, operands });
        Ok(cache().entry(key).or_insert(made).clone())
    }
}

fn layout_entry(binding: u32, ty: wgpu::BufferBindingType) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty,
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    }
}
