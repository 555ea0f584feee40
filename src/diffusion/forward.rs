//! The forward process q(xt | x0) and what the loss needs of it.

use crate::error::{Error, Result};
use crate::model::check_tokens;
use crate::ops::NOT_LISTED;
use crate::rng::Rng;

/// Replaces each token by the mask with probability `move_chance`, independently; BOS, EOS and
/// pads too (reference `q_xt`).
pub fn q_xt(x0: &[u32], move_chance: f64, mask_index: u32, rng: &mut Rng, xt: &mut Vec<u32>) {
    xt.extend(x0.iter().map(|&token| {
        if rng.uniform() < move_chance {
            mask_index
        } else {
            token
        }
    }));
}

/// Masks `count` of the tokens, uniformly chosen, and returns a time that fits: the `count`-th
/// smallest of the uniforms that order the tokens, as t given the count is distributed.
pub fn mask_exactly(
    x0: &[u32],
    count: usize,
    mask_index: u32,
    rng: &mut Rng,
    xt: &mut Vec<u32>,
) -> f64 {
    let mut order: Vec<(f64, usize)> = (0..x0.len()).map(|i| (rng.uniform(), i)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let first = xt.len();
    xt.extend_from_slice(x0);
    for &(_, i) in &order[..count] {
        xt[first + i] = mask_index;
    }
    order[..count].last().map_or(0.0, |last| last.0)
}

/// A noised batch: the masked rows with their targets and weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Noised {
    /// Noisy tokens, `[rows]`.
    pub xt: Vec<u32>,
    /// The masked rows.
    pub rows: Vec<u32>,
    /// Place of each row in `rows`, or [`NOT_LISTED`].
    pub row_of: Vec<u32>,
    /// Clean token of each masked row.
    pub targets: Vec<u32>,
    /// Weight of each masked row.
    pub weights: Vec<f64>,
}

impl Noised {
    /// Lists the masked rows of `xt`. The weight of a row is `row_weight(row)`.
    ///
    /// # Errors
    /// [`Error::Token`] if a token is outside the vocabulary, [`Error::Shape`] if x0 and xt differ in
    /// size.
    pub fn new(
        x0: &[u32],
        xt: Vec<u32>,
        vocab_size: usize,
        mask_index: u32,
        row_weight: impl Fn(usize) -> f64,
    ) -> Result<Self> {
        if x0.len() != xt.len() {
            let (expected, got) = (format!("{} tokens, as x0", x0.len()), vec![xt.len()]);
            return Err(Error::Shape {
                op: "noise",
                tensor: "xt".into(),
                expected,
                got,
            });
        }
        for tokens in [x0, &xt[..]] {
            check_tokens(tokens, vocab_size)?;
        }
        let mut out = Self {
            row_of: vec![NOT_LISTED; xt.len()],
            ..Self::default()
        };
        for (row, &token) in xt.iter().enumerate() {
            if token == mask_index {
                out.row_of[row] = out.rows.len() as u32;
                out.rows.push(row as u32);
                out.targets.push(x0[row]);
                out.weights.push(row_weight(row));
            }
        }
        out.xt = xt;
        Ok(out)
    }
}
