//! A handle to whatever computes.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::gpu::{Context, DeviceClass, Tuning};
use crate::program::Room;

/// What a [`Device`] is, and why it was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Name of the adapter, or `CPU twin`.
    pub name: String,
    /// Graphics interface and driver, or the number of threads.
    pub detail: String,
    /// Whether it is GPU hardware: false for software drivers and the twin.
    pub hardware_gpu: bool,
    /// Why it was taken, for people: `asked for`, `hardware GPU`, or why no GPU was.
    pub reason: String,
}

impl DeviceInfo {
    pub(super) fn of(adapter: &wgpu::AdapterInfo, reason: &str) -> Self {
        let (driver, version) = (&adapter.driver, &adapter.driver_info);
        Self {
            name: adapter.name.clone(),
            detail: format!("{:?}, {driver} {version}", adapter.backend),
            hardware_gpu: adapter.device_type != wgpu::DeviceType::Cpu,
            reason: reason.to_owned(),
        }
    }
}

impl std::fmt::Display for DeviceInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}): {}", self.name, self.detail, self.reason)
    }
}

#[derive(Debug)]
pub(crate) enum Backend {
    Gpu(Arc<Context>),
    CpuF32,
    #[cfg(not(target_arch = "wasm32"))]
    CpuF64,
}

/// A handle to whatever computes. Cheap to clone.
///
/// ```
/// use mdlm_engine::device::Device;
///
/// // a hardware GPU where there is one, else the CPU
/// let device = pollster::block_on(Device::auto());
/// println!("{}", device.info());
/// ```
#[derive(Clone, Debug)]
pub struct Device {
    inner: Arc<(Backend, DeviceInfo)>,
}

impl Device {
    pub(crate) fn new(backend: Backend, info: DeviceInfo) -> Self {
        Self {
            inner: Arc::new((backend, info)),
        }
    }

    /// A device that the application owns. Nothing is installed on it: no callback, no handler.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if its limits are below WebGPU's defaults.
    pub fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue) -> Result<Self> {
        let class = DeviceClass::of(&device.adapter_info());
        Self::from_wgpu_as(device, queue, class)
    }

    /// As [`Device::from_wgpu`], with the kernels of a class that need not be the adapter's.
    ///
    /// # Errors
    /// As [`Device::from_wgpu`].
    pub fn from_wgpu_as(
        device: wgpu::Device,
        queue: wgpu::Queue,
        class: DeviceClass,
    ) -> Result<Self> {
        Self::from_wgpu_with(device, queue, class, Tuning::of(class))
    }

    /// As [`Device::from_wgpu_as`], with constants of the kernels that need not be the class's: with
    /// `tuning.cooperative` of [`Cooperative::of`](crate::gpu::Cooperative::of), products of f16 run on the matrix units
    /// of a device that was made with their features.
    ///
    /// # Errors
    /// As [`Device::from_wgpu`].
    pub fn from_wgpu_with(
        device: wgpu::Device,
        queue: wgpu::Queue,
        class: DeviceClass,
        tuning: Tuning,
    ) -> Result<Self> {
        let limits = device.limits();
        for (what, need, have) in [
            (
                "storage buffers per stage",
                8,
                limits.max_storage_buffers_per_shader_stage,
            ),
            (
                "invocations per workgroup",
                256,
                limits.max_compute_invocations_per_workgroup,
            ),
            (
                "bytes of workgroup memory",
                16384,
                limits.max_compute_workgroup_storage_size,
            ),
            (
                "workgroups per dimension",
                32768,
                limits.max_compute_workgroups_per_dimension,
            ),
        ] {
            if have < need {
                return Err(Error::Unsupported {
                    what: what.into(),
                    need: need.into(),
                    have: have.into(),
                });
            }
        }
        let info = DeviceInfo::of(&device.adapter_info(), "given by the application");
        let context = Context::new(device, queue, class, tuning, false);
        Ok(Self::new(Backend::Gpu(Arc::new(context)), info))
    }

    /// The CPU twin in f32.
    pub fn cpu() -> Self {
        Self::twin(Backend::CpuF32, "asked for")
    }

    /// The CPU twin in f64: the oracle of the tests, slow and exact. A page has no use for it, and its module no room.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn oracle() -> Self {
        Self::twin(Backend::CpuF64, "asked for, in f64")
    }

    pub(crate) fn twin(backend: Backend, reason: &str) -> Self {
        let info = DeviceInfo {
            name: "CPU twin".into(),
            detail: format!("{} threads", crate::cpu::threads()),
            hardware_gpu: false,
            reason: reason.to_owned(),
        };
        Self::new(backend, info)
    }

    /// What it is and why it was taken.
    pub fn info(&self) -> &DeviceInfo {
        &self.inner.1
    }

    /// The GPU behind it, for counters and for sharing; `None` for the twin.
    pub fn context(&self) -> Option<&Arc<Context>> {
        match &self.inner.0 {
            Backend::Gpu(context) => Some(context),
            _ => None,
        }
    }

    /// Whether products of f16 run on matrix units: those that multiplied right when a graph first wanted them. `None`
    /// before that, and on a device that has none.
    pub fn on_matrix_units(&self) -> Option<bool> {
        self.context()?.units_right.get().copied()
    }

    /// Whether what a graph computes can be kept in f16: on a GPU whose shaders have such numbers, and on the twin, which
    /// rounds to them.
    pub fn has_f16(&self) -> bool {
        self.context().is_none_or(|context| context.f16)
    }

    /// Device class whose kernels it runs; the twin's reports are those of a portable GPU.
    pub fn class(&self) -> DeviceClass {
        self.context()
            .map_or(DeviceClass::Portable, |context| context.class)
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.inner.0
    }

    /// Most elements of a parameter slab that can be bound whole: the f32 that fit one buffer binding. The twin has no
    /// bound.
    pub fn slab_limit(&self) -> usize {
        let room = self.room();
        room.binding.min(room.buffer)
    }

    /// What a parameter slab has room for. The twin has no bound.
    pub fn room(&self) -> Room {
        self.context()
            .map_or(Room::from(usize::MAX / 8), |context| Room {
                binding: (context.limits.max_storage_buffer_binding_size / 4) as usize,
                buffer: (context.limits.max_buffer_size / 4) as usize,
            })
    }
}
