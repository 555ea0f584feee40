//! What a network sees in one run, and the rows of it that a loss is about.

use crate::error::{Error, Result};
use crate::ops::visibility::Sight;
use crate::ops::{NOT_LISTED, Segments, embedding_segments};

/// Inputs of one run of a network; what a graph does not ask for may be empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pass {
    /// Tokens, `[rows]`.
    pub xt: Vec<u32>,
    /// Rows that have a loss, as indices into `xt`, rising.
    pub rows: Vec<u32>,
    /// Place of each row in `rows`, or [`NOT_LISTED`].
    pub row_of: Vec<u32>,
    /// Token that each listed row should predict.
    pub targets: Vec<u32>,
    /// Weight of each listed row's nll in the loss.
    pub weights: Vec<f64>,
    /// Coefficients of each listed row, `[rows, 4]`, for losses that have them.
    pub coefficients: Vec<f64>,
    /// Noise level of each sequence: sigma, or what the objective takes in its place.
    pub conditioning: Vec<f64>,
    /// Rows grouped by token, for the gradient of the embedding: see [`Pass::for_training`].
    pub segments: Segments,
    /// Where each token stands, if not one after the other.
    pub positions: Vec<u32>,
    /// Who sees whom, if not as the network was made for: of one sequence's rows or of all.
    pub sights: Vec<Sight>,
    /// The rows that are kept, of all sequences, as keys.
    pub kept: Vec<Sight>,
}

impl Pass {
    /// Tokens alone, for logits.
    pub fn of(xt: &[u32]) -> Self {
        Self {
            xt: xt.to_vec(),
            ..Self::default()
        }
    }

    /// Lists the rows for which `target` is something. Weights and conditioning are left to the
    /// caller.
    ///
    /// # Errors
    /// [`Error::Token`] if a token is outside the vocabulary, [`Error::Shape`] if x0 and xt differ in
    /// size.
    pub fn listing(
        x0: &[u32],
        xt: Vec<u32>,
        vocab_size: usize,
        target: impl Fn(usize) -> Option<u32>,
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
        for row in 0..xt.len() {
            if let Some(token) = target(row) {
                out.row_of[row] = out.rows.len() as u32;
                out.rows.push(row as u32);
                out.targets.push(token);
            }
        }
        out.xt = xt;
        Ok(out)
    }

    /// Lists no row from `end` on. For scoring: the place of the others in `row_of` is not kept up.
    pub(crate) fn truncate(&mut self, end: u32) {
        let count = self.rows.partition_point(|&row| row < end);
        let coefficients = self.coefficients.len() / self.rows.len().max(1);
        self.rows.truncate(count);
        self.targets.truncate(count);
        self.weights.truncate(count);
        self.coefficients.truncate(count * coefficients);
    }

    /// Groups the rows by token; those of `frozen` train nothing.
    pub fn for_training(&mut self, frozen: Option<u32>) {
        embedding_segments(&self.xt, frozen, &mut self.segments);
    }
}

/// An error that names the first token outside the vocabulary.
pub(crate) fn check_tokens(tokens: &[u32], vocab_size: usize) -> Result<()> {
    match tokens.iter().position(|&id| id as usize >= vocab_size) {
        Some(position) => Err(Error::Token {
            id: tokens[position],
            vocab_size,
            position,
        }),
        None => Ok(()),
    }
}
