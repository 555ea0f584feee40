//! Masked diffusion language models (MDLM: Sahoo et al., NeurIPS 2024) in Rust and WGSL: training,
//! evaluation and sampling on any GPU through wgpu, and on the CPU.
//!
//! - [`device::Device`]: where to compute.
//! - [`model::Model`]: load or make a denoiser; [`sample`]: fill a canvas with it.
//! - [`train::Trainer`]: train one on a [`data::Corpus`]; [`eval`]: its perplexity.
//! - `web`: classes for JavaScript, on wasm32.
//! - [`graph`], [`ops`], [`gpu`], [`cpu`]: the engine underneath.
//!
//! Everything that can wait is `async`; [`blocking::wait`] is for callers that are not.

#[cfg(not(target_arch = "wasm32"))]
pub mod blocking;
pub mod config;
pub mod cpu;
pub mod data;
pub mod device;
pub mod error;
pub mod eval;
pub mod gpu;
pub mod graph;
pub mod io;
pub mod model;
pub mod objective;
pub mod ops;
pub mod process;
pub mod program;
pub mod progress;
pub mod rng;
pub mod sample;
pub mod train;
#[cfg(target_arch = "wasm32")]
pub mod web;

pub use error::{Error, Result};
