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
mod work;

pub use crate::rules::Draw;
pub use canvas::Canvas;
pub use denoiser::{Denoiser, DrawOptions, Drawn, Facts, Guidance, Reading};
pub use report::{Remasked, Revealed, StepReport};
pub use sampler::Sampler;

use crate::config::SampleConfig;
use crate::error::Result;
use crate::model::Model;

impl Model {
    /// A sampler for the open positions of `canvas`.
    ///
    /// # Errors
    /// As [`Sampler::new`].
    pub fn sampler(&mut self, canvas: Canvas, config: &SampleConfig) -> Result<Sampler<&mut Self>> {
        Sampler::new(self, vec![canvas], config)
    }

    /// A sampler for several canvases, filled together. They may be of different lengths if the model takes the longest.
    ///
    /// # Errors
    /// As [`Sampler::new`].
    pub fn sampler_batch(
        &mut self,
        canvases: Vec<Canvas>,
        config: &SampleConfig,
    ) -> Result<Sampler<&mut Self>> {
        Sampler::new(self, canvases, config)
    }
}
