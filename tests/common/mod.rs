//! What the integration tests share.
#![allow(dead_code, clippy::unwrap_used)]

pub mod close;
pub mod fixtures;

use mdlm::device::{AdapterChoice, Device};

/// The executors under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executor {
    Gpu,
    CpuF32,
    CpuF64,
}

impl Executor {
    /// Opens it; a GPU test without an adapter fails, it never skips.
    pub fn device(self) -> Device {
        match self {
            Self::Gpu => pollster::block_on(Device::gpu(&AdapterChoice::Any)).unwrap(),
            Self::CpuF32 => Device::cpu(),
            Self::CpuF64 => Device::oracle(),
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
