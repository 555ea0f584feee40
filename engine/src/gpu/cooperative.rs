//! Matrix units that multiply f16 and add in f32, which shaders reach as cooperative matrices: a feature of wgpu that is
//! experimental, on Vulkan and Metal.
#![allow(unsafe_code)] // only to say that an experimental feature is wanted

use wgpu::CooperativeScalarType::{F16, F32};

/// The units of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cooperative {
    /// Rows and columns of their matrices: 8 or 16.
    pub side: u32,
    /// Lanes of a subgroup, which multiplies together.
    pub lanes: u32,
}

/// Tile of the cooperative matmul kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CooperativeTile {
    /// Output rows of a workgroup.
    pub m: u32,
    /// Output columns of a workgroup.
    pub n: u32,
    /// Depth staged at once.
    pub k: u32,
    /// Invocations of a workgroup.
    pub threads: u32,
    /// Whether a subgroup makes 4 x 4 blocks and not 4 x 2.
    pub wide: bool,
}

/// Bytes of workgroup memory that the largest tile needs.
const WORKGROUP_BYTES: u32 = 32 << 10;

impl Cooperative {
    /// What shaders need for it.
    pub const FEATURES: wgpu::Features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
        .union(wgpu::Features::SUBGROUP)
        .union(wgpu::Features::SHADER_F16);

    /// The units that an adapter has, if the kernel can use them.
    pub fn of(adapter: &wgpu::Adapter) -> Option<Self> {
        let enough = adapter.features().contains(Self::FEATURES)
            && adapter.limits().max_compute_workgroup_storage_size >= WORKGROUP_BYTES;
        let lanes = adapter.get_info().subgroup_max_size;
        let sides = adapter.cooperative_matrix_properties().into_iter();
        let fit = sides.filter(|p| {
            let cube = p.m_size == p.n_size && p.n_size == p.k_size;
            cube && matches!(p.m_size, 8 | 16) && (p.ab_type, p.cr_type) == (F16, F32)
        });
        let side = fit.map(|p| p.m_size).max()?;
        let fits = enough && matches!(lanes, 8 | 16 | 32 | 64);
        fits.then_some(Self { side, lanes })
    }

    /// What a device must be asked for with, beside [`Cooperative::FEATURES`].
    pub fn experimental() -> wgpu::ExperimentalFeatures {
        // SAFETY: the promise is to put up with errors in wgpu and to report them
        unsafe { wgpu::ExperimentalFeatures::enabled() }
    }

    /// The tile of large products, or of those with few output tiles.
    pub const fn tile(self, small: bool) -> CooperativeTile {
        // parts of 4 x 4 blocks let less be read from workgroup memory, and take the registers of 64 lanes
        let wide = self.lanes == 64 && !small;
        let blocks = if small { 4 } else { 8 };
        let edge = blocks * self.side;
        let parts = blocks * blocks / if wide { 16 } else { 8 };
        CooperativeTile {
            m: edge,
            n: edge,
            k: 32,
            threads: parts * self.lanes,
            wide,
        }
    }
}
