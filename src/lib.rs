//! Masked diffusion language models (MDLM) in Rust and WGSL.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod config;
pub mod cpu;
pub mod device;
pub mod error;
pub mod gpu;
pub mod graph;
pub mod ops;
pub mod progress;
pub mod rng;

pub use error::{Error, Result};
