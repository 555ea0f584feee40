//! Sampling: a canvas of frozen and open positions, and samplers that fill it step by step.

mod canvas;
pub mod reference;
mod reveal;
mod sampler;

pub use canvas::Canvas;
pub use reveal::binomial;
pub use sampler::{Revealed, Sampler, StepReport};
