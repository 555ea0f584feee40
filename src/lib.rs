//! Masked diffusion language models (MDLM: Sahoo et al., NeurIPS 2024) in Rust and WGSL: training,
//! evaluation and sampling on any GPU through wgpu, and on the CPU.
//!
//! - [`Device`]: where to compute.
//! - [`model::Model`]: load or make a denoiser; [`sample`]: fill a canvas with it.
//! - [`train::Trainer`]: train one on a [`data::Corpus`]; [`eval`]: its perplexity.
//! - `web`: classes for JavaScript, on wasm32.
//! - [`engine`]: graphs, operations and executors underneath, a crate of its own.
//!
//! Everything that can wait is `async`; [`blocking::wait`] is for callers that are not.

#[cfg(not(target_arch = "wasm32"))]
pub mod blocking;
pub mod config;
pub mod data;
pub mod eval;
pub mod io;
pub mod model;
pub mod objective;
pub mod process;
pub mod progress;
pub mod rules;
pub mod sample;
pub mod train;
#[cfg(target_arch = "wasm32")]
pub mod web;

pub use mdlm_engine as engine;
pub use mdlm_engine::device::{self, Device};
pub use mdlm_engine::error::{self, Error, Result};
pub(crate) use mdlm_engine::{graph, ops, program, rng};
