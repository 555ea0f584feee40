//! What the integration tests share.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // each test crate uses a part of it

pub mod borrowed;
pub mod case;
pub mod close;
pub mod examples;
pub mod fixtures;
pub mod gguf;
pub mod graphs;
pub mod hybrid;
pub mod models;
pub mod mutate;
pub mod runs;
pub mod shared;
pub mod statistics;
pub mod suite;
pub mod training;
pub mod trials;

use std::sync::LazyLock;

use mdlm::device::{AdapterChoice, Device};
use mdlm_engine::gpu::DeviceClass;

/// The executors under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executor {
    Gpu,
    /// The same GPU as if an application owned it: the limits and kernel constants of portable
    /// devices.
    Borrowed,
    /// The same GPU with products of f16 on its matrix units, as if its subgroups had so many lanes: 4, 8 or 16.
    Cooperative(u32),
    CpuF32,
    CpuF64,
}

pub const EXECUTORS: [Executor; 4] = [
    Executor::Gpu,
    Executor::Borrowed,
    Executor::CpuF32,
    Executor::CpuF64,
];

impl Executor {
    /// Opens it; a GPU test without an adapter fails, it never skips.
    pub fn device(self) -> Device {
        match self {
            Self::Gpu => pollster::block_on(Device::gpu(&AdapterChoice::Any)).unwrap(),
            Self::Borrowed => {
                let (device, queue) = borrowed::open(wgpu::Limits::default());
                Device::from_wgpu_as(device, queue, DeviceClass::Portable).unwrap()
            }
            Self::Cooperative(lanes) => borrowed::cooperative(lanes),
            Self::CpuF32 => Device::cpu(),
            Self::CpuF64 => Device::oracle(),
        }
    }

    /// The one of this process, so that its pipelines are compiled once.
    pub fn shared(self) -> &'static Device {
        static GPU: LazyLock<Device> = LazyLock::new(|| Executor::Gpu.device());
        static BORROWED: LazyLock<Device> = LazyLock::new(|| Executor::Borrowed.device());
        static COOPERATIVE: LazyLock<[Device; 3]> =
            LazyLock::new(|| [4, 8, 16].map(|lanes| Executor::Cooperative(lanes).device()));
        static CPU_F32: LazyLock<Device> = LazyLock::new(|| Executor::CpuF32.device());
        static CPU_F64: LazyLock<Device> = LazyLock::new(|| Executor::CpuF64.device());
        match self {
            Self::Gpu => &GPU,
            Self::Borrowed => &BORROWED,
            Self::Cooperative(lanes) => &COOPERATIVE[lanes.ilog2() as usize - 2],
            Self::CpuF32 => &CPU_F32,
            Self::CpuF64 => &CPU_F64,
        }
    }

    /// The f32 bound, or what f64 must reach.
    pub fn bound(self, f32_bound: f64) -> f64 {
        if self == Self::CpuF64 {
            1e-6
        } else {
            f32_bound
        }
    }
}
