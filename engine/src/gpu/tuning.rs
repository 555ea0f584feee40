//! Small constants of the kernels, as data: one row per device class.

use super::Cooperative;

/// What kind of adapter runs the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceClass {
    /// A driver that computes on the CPU, such as lavapipe.
    Software,
    /// Integrated GPUs, the web, anything within WebGPU's default limits.
    Portable,
    /// Discrete GPUs.
    Desktop,
}

impl DeviceClass {
    /// The class of an adapter.
    pub fn of(adapter: &wgpu::AdapterInfo) -> Self {
        match adapter.device_type {
            wgpu::DeviceType::Cpu => Self::Software,
            wgpu::DeviceType::DiscreteGpu => Self::Desktop,
            _ => Self::Portable,
        }
    }
}

/// Tile of the matmul kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatmulTile {
    /// Output rows of a workgroup.
    pub m: u32,
    /// Output columns of a workgroup.
    pub n: u32,
    /// Depth staged at once.
    pub k: u32,
    /// Output rows of an invocation: 4 or 8.
    pub thread_m: u32,
    /// Output columns of an invocation: 4 or 8.
    pub thread_n: u32,
    /// Terms of a slice that are written out; the rest is a loop.
    pub terms: u32,
}

impl MatmulTile {
    const fn new(m: u32, n: u32, k: u32, thread_m: u32, thread_n: u32) -> Self {
        Self {
            m,
            n,
            k,
            thread_m,
            thread_n,
            terms: k,
        }
    }

    /// For compilers that take minutes for long code.
    const fn looped(self) -> Self {
        Self { terms: 4, ..self }
    }

    /// Invocations of a workgroup.
    pub const fn threads(self) -> u32 {
        (self.m / self.thread_m) * (self.n / self.thread_n)
    }
}

/// The constants of one device class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Matmul tile of large products.
    pub matmul: MatmulTile,
    /// Matmul tile of products with few output tiles.
    pub matmul_small: MatmulTile,
    /// Output tiles of the large tile below which the small one is taken.
    pub matmul_small_below: u32,
    /// Matrix units, for products of f16; no class has them of itself.
    pub cooperative: Option<Cooperative>,
    /// Query rows (or keys, in the backward pass) of an attention workgroup.
    pub attention_rows: u32,
    /// Whether attention's code is short: loops stay loops, and no load runs ahead.
    pub attention_loops: bool,
    /// Invocations of a row or column kernel's workgroup.
    pub row_threads: u32,
}

impl Tuning {
    /// The constants that kernels of a class are compiled with.
    pub const fn of(class: DeviceClass) -> Self {
        let portable = Self {
            matmul: MatmulTile::new(64, 64, 16, 4, 4),
            matmul_small: MatmulTile::new(32, 32, 16, 4, 4),
            matmul_small_below: 64,
            cooperative: None,
            attention_rows: 64,
            attention_loops: false,
            row_threads: 256,
        };
        match class {
            DeviceClass::Software => Self {
                matmul: MatmulTile::new(64, 64, 16, 8, 8).looped(),
                matmul_small: MatmulTile::new(32, 32, 16, 4, 4).looped(),
                attention_loops: true,
                row_threads: 64,
                ..portable
            },
            DeviceClass::Portable => portable,
            DeviceClass::Desktop => Self {
                matmul: MatmulTile::new(128, 128, 16, 8, 8),
                matmul_small: portable.matmul,
                ..portable
            },
        }
    }
}
