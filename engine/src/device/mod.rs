//! Where the work runs: a GPU through wgpu, or the CPU twin.

mod handle;
mod select;

pub(crate) use handle::Backend;
pub use handle::{Device, DeviceInfo};
pub use select::{AdapterChoice, adapters};
