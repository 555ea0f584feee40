//! A micro-batch, ready for upload.

use crate::config::ModelConfig;
use crate::diffusion::{Noised, Schedule};
use crate::error::{Error, Result};
use crate::model::time_rows;
use crate::ops::{Segments, embedding_segments};

/// What one micro-step uploads.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Noisy tokens and masked rows.
    pub noised: Noised,
    /// Rows grouped by token, for the embedding's gradient.
    pub segments: Segments,
    /// Embedded sigma, one row for each sequence or one for all.
    pub time: Vec<f64>,
}

impl Batch {
    /// Prepares `t.len()` sequences. The loss is the sum over tokens of
    /// `weight(t) attention_mask nll / total`, so with `total` = the attention mask summed over the
    /// global batch it is the mean over all its tokens, masked or not (reference `_loss`).
    ///
    /// # Errors
    /// [`Error::Shape`] if sizes do not agree, [`Error::Token`] for a token outside the vocabulary,
    /// [`Error::Config`] for a time outside (0, 1] or a total that is not positive.
    pub fn new(
        model: &ModelConfig,
        x0: &[u32],
        xt: Vec<u32>,
        t: &[f64],
        attention_mask: Option<&[f64]>,
        total: f64,
    ) -> Result<Self> {
        let length = x0.len() / t.len().max(1);
        if t.is_empty() || length * t.len() != x0.len() {
            let expected = format!("a multiple of {} sequences", t.len());
            let got = vec![x0.len()];
            return Err(Error::Shape {
                op: "batch",
                tensor: "x0".into(),
                expected,
                got,
            });
        }
        if let Some(mask) = attention_mask.filter(|m| m.len() != x0.len()) {
            let (expected, got) = (format!("{} elements", x0.len()), vec![mask.len()]);
            return Err(Error::Shape {
                op: "batch",
                tensor: "attention_mask".into(),
                expected,
                got,
            });
        }
        if !(total.is_finite() && total > 0.0) {
            let problem = "the tokens that count must be more than none";
            return Err(Error::config("batch total", total, problem));
        }
        if let Some(&t) = t.iter().find(|&&t| !(t > 0.0 && t <= 1.0)) {
            return Err(Error::config("diffusion time", t, "must be in (0, 1]"));
        }
        let weight = |row: usize| {
            Schedule::default().weight(t[row / length]) * attention_mask.map_or(1.0, |m| m[row])
                / total
        };
        let noised = Noised::new(x0, xt, model.vocab_size, model.mask_index, weight)?;
        let mut segments = Segments::default();
        embedding_segments(&noised.xt, &mut segments);
        let time = time_rows(model, t.iter().map(|&t| Schedule::default().sigma(t)));
        Ok(Self {
            noised,
            segments,
            time,
        })
    }
}
