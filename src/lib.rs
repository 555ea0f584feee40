//! Masked diffusion language models (MDLM: Sahoo et al., NeurIPS 2024) in Rust and WGSL: training,
//! evaluation and sampling on any GPU through wgpu, and on the CPU.
//!
//! What a program needs lies at the root:
//!
//! - [`Device`]: where to compute; [`Error`]: what went wrong, and what to do.
//! - [`Model`]: load or make a denoiser. [`Canvas`], [`Sampler`], [`SampleConfig`]: fill text with it.
//! - [`Corpus`], [`Tokenizer`], [`Trainer`], [`TrainConfig`]: train one. [`perplexity`]: how good it is.
//!
//! The modules hold what these are made of, for a network, an objective or a sampler of one's own: [`model`],
//! [`objective`], [`rules`] and, underneath, [`engine`], a crate of its own with graphs, operations and executors.
//! `web` has the classes for JavaScript, on wasm32.
//!
//! Everything that can wait is `async`; [`blocking::wait`] is for callers that are not.

#[cfg(not(target_arch = "wasm32"))]
pub mod blocking;
pub mod config;
pub mod constraint;
pub mod data;
pub mod eval;
pub mod io;
pub mod model;
pub mod objective;
pub mod process;
pub mod progress;
pub mod ranks;
pub mod rules;
pub mod sample;
pub mod train;
#[cfg(target_arch = "wasm32")]
pub mod web;
/// What the page's classes read, for tests.
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
pub mod web {
    pub mod arguments;
}

#[doc(inline)]
pub use config::{ModelConfig, SampleConfig, SamplerKind, TrainConfig};
#[doc(inline)]
pub use data::{Corpus, Tokenizer};
#[doc(inline)]
pub use eval::{EvalConfig, Perplexity, perplexity};
pub use mdlm_engine as engine;
pub use mdlm_engine::device::{self, Device};
pub use mdlm_engine::error::{self, Error, Result};
#[doc(inline)]
pub use model::Model;
#[doc(inline)]
pub use progress::{Event, Flow, Observer};
#[doc(inline)]
pub use sample::{Canvas, Sampler, StepReport};
#[doc(inline)]
pub use train::Trainer;

pub(crate) use mdlm_engine::{graph, ops, program, rng};
