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

/// 1 at the tokens of each sequence that count: the leading ones of which so many are attended, but not those of them
/// that are given; 0 at the others. `None` where all count. `counts`: attended and given ones of each sequence.
pub fn attention_mask(counts: &[[usize; 2]], length: usize) -> Option<Vec<f64>> {
    let row = |&[attended, given]: &[usize; 2]| {
        (0..length).map(move |i| f64::from(u8::from((given..attended).contains(&i))))
    };
    let all = counts.iter().all(|&counts| counts == [length, 0]);
    (!all).then(|| counts.iter().flat_map(row).collect())
}

/// Puts back what is given of sequences of `length` tokens, which no noise reaches.
pub fn restore(xt: &mut [u32], x0: &[u32], counts: &[[usize; 2]], length: usize) {
    for (i, &[_, given]) in counts.iter().enumerate() {
        let row = i * length..i * length + given;
        xt[row.clone()].copy_from_slice(&x0[row]);
    }
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
