//! The next token given those before it: the baseline. Every token but the first is predicted, w is 1.

use crate::error::Result;
use crate::model::Pass;
use crate::objective::Objective;
use crate::objective::clean::{Clean, check};
use crate::ops::RowLoss;
use crate::process::Schedule;
use crate::rng::Rng;

/// Likelihood token by token; times and masks play no part.
#[derive(Clone, Debug)]
pub struct Autoregressive {
    vocab_size: usize,
}

impl Autoregressive {
    /// For a vocabulary of so many tokens, the mask included.
    pub fn new(vocab_size: usize) -> Self {
        Self { vocab_size }
    }
}

impl Objective for Autoregressive {
    fn row_loss(&self) -> RowLoss {
        RowLoss::Subs
    }

    fn schedule(&self) -> Option<&Schedule> {
        None
    }

    fn counted(&self, attended: usize) -> usize {
        attended.saturating_sub(1)
    }

    fn q_xt(&self, x0: &[u32], _: f64, _: &mut Rng, xt: &mut Vec<u32>) {
        xt.extend_from_slice(x0);
    }

    fn conditioning_of(&self, _: f64) -> f64 {
        0.0
    }

    fn passes(&self, clean: Clean<'_>, xt: Vec<u32>, t: &[f64]) -> Result<Vec<Pass>> {
        check(&clean, t)?;
        let length = clean.x0.len() / t.len();
        let next = |row: usize| (row % length + 1 < length).then(|| clean.x0[row + 1]);
        let mut pass = Pass::listing(clean.x0, xt, self.vocab_size, next)?;
        let weight = |&row: &u32| clean.share(row as usize + 1);
        pass.weights = pass.rows.iter().map(weight).collect();
        Ok(vec![pass])
    }
}
