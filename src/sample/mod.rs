//! Sampling: canvases of frozen and open positions, and samplers that fill them step by step.
//!
//! A [`Sampler`] decides on the host, in f64, *which* positions a step fills; *what* they become is
//! drawn on the device, at those positions only, by a [`Denoiser`].

mod canvas;
mod check;
mod denoiser;
mod fit;
mod grammar;
mod limits;
mod report;
mod sampler;
mod window;

pub use crate::rules::Draw;
pub use canvas::Canvas;
pub use denoiser::{Denoiser, DrawOptions, Drawn, Facts, Guidance, Reading};
pub use report::{Remasked, Revealed, StepReport};
pub use sampler::Sampler;
