//! Compute shaders checked for every backend of wgpu, with or without the hardware.

pub mod external;
mod limits;
mod translate;

pub use limits::check_limits;
pub use translate::{Translation, translate, translate_cooperative};
