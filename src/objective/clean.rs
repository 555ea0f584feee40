//! Sequences to score.

use crate::error::{Error, Result};

/// Sequences to score, `[batch, length]`.
#[derive(Clone, Copy, Debug)]
pub struct Clean<'a> {
    /// Their tokens, `[batch * length]`.
    pub x0: &'a [u32],
    /// 1 where a token counts and 0 at pads, `[batch * length]`; `None`: all count.
    pub attention_mask: Option<&'a [f64]>,
    /// Tokens that count in the global batch, over which the loss is a mean.
    pub total: f64,
}

impl Clean<'_> {
    /// What a row's token counts for: 1, or what the mask says.
    pub(crate) fn counts(&self, row: usize) -> f64 {
        self.attention_mask.map_or(1.0, |mask| mask[row])
    }

    /// Its weight in the mean.
    pub(crate) fn share(&self, row: usize) -> f64 {
        self.counts(row) / self.total
    }
}

/// 1 at the leading tokens of each sequence that count, 0 at its pads; `None` where all count.
pub fn attention_mask(attended: &[usize], length: usize) -> Option<Vec<f64>> {
    let row = |&n: &usize| (0..length).map(move |i| if i < n { 1.0 } else { 0.0 });
    let padded = attended.iter().any(|&n| n < length);
    padded.then(|| attended.iter().flat_map(row).collect())
}

/// An error unless sizes, times and total can be.
pub(super) fn check(clean: &Clean<'_>, t: &[f64]) -> Result<()> {
    let n = clean.x0.len();
    let shape = |tensor: &str, expected: String, got: usize| Error::Shape {
        op: "batch",
        tensor: tensor.into(),
        expected,
        got: vec![got],
    };
    if t.is_empty() || !n.is_multiple_of(t.len()) {
        return Err(shape(
            "x0",
            format!("a multiple of {} sequences", t.len()),
            n,
        ));
    }
    if let Some(mask) = clean.attention_mask.filter(|m| m.len() != n) {
        return Err(shape("attention_mask", format!("{n} elements"), mask.len()));
    }
    if !(clean.total.is_finite() && clean.total > 0.0) {
        let problem = "the tokens that count must be more than none";
        return Err(Error::argument("batch total", clean.total, problem));
    }
    match t.iter().find(|&&t| !(t > 0.0 && t <= 1.0)) {
        Some(&t) => Err(Error::argument("diffusion time", t, "must be in (0, 1]")),
        None => Ok(()),
    }
}
