//! A micro-batch, ready for upload.

use crate::config::ModelConfig;
use crate::error::Result;
use crate::model::time_rows;
use crate::objective::{Clean, Noised, Objective};
use crate::ops::{Segments, embedding_segments};

/// What one pass of the training graph uploads.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Noisy tokens and listed rows.
    pub noised: Noised,
    /// Rows grouped by token, for the embedding's gradient.
    pub segments: Segments,
    /// Embedded sigma, one row for each sequence or one for all.
    pub time: Vec<f64>,
}

impl Batch {
    /// Prepares the passes over sequences whose noisy form at the times `t` is `xt`; see
    /// [`Objective::passes`], and for its errors.
    ///
    /// # Errors
    /// As [`Objective::passes`].
    pub fn passes(
        model: &ModelConfig,
        objective: &Objective,
        clean: Clean<'_>,
        xt: Vec<u32>,
        t: &[f64],
    ) -> Result<Vec<Self>> {
        let passes = objective.passes(clean, xt, t)?.into_iter();
        let prepare = |noised: Noised| {
            let mut segments = Segments::default();
            embedding_segments(&noised.xt, &mut segments);
            let time = time_rows(model, noised.conditioning.iter().copied());
            Self {
                noised,
                segments,
                time,
            }
        };
        Ok(passes.map(prepare).collect())
    }
}
