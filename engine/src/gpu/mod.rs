//! The GPU executor: shaders, pipelines, buffers and submissions over wgpu. It knows dispatches
//! and bytes, not what they mean.

mod context;
mod cooperative;
mod executor;
mod limits;
mod memory;
mod program;
mod readback;
pub mod shader;
mod tuning;

pub use context::{Context, Counters};
pub use cooperative::{Cooperative, CooperativeTile};
pub use executor::{Gpu, RUNS, Running};
pub use memory::Memory;
pub use program::{Binding, Dispatch, Grid, Program};
pub use shader::{Shader, Source};
pub use tuning::{DeviceClass, MatmulTile, Tuning};
