//! Masked diffusion language models (MDLM) in Rust and WGSL.

pub mod config;
pub mod cpu;
pub mod data;
pub mod device;
pub mod diffusion;
pub mod error;
pub mod eval;
pub mod gpu;
pub mod graph;
pub mod io;
pub mod model;
pub mod ops;
pub mod progress;
pub mod rng;
pub mod sample;
pub mod train;

pub use error::{Error, Result};
