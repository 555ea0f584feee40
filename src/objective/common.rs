//! What all objectives have in common.

use std::fmt::Debug;

use crate::error::Result;
use crate::model::{Options, Pass};
use crate::objective::Clean;
use crate::ops::RowLoss;
use crate::process::{Schedule, sample_times};
use crate::rng::Rng;

/// What a network is trained for: how times are drawn, tokens masked, and each row weighted.
///
/// With a the attention mask and `total` its sum over the global batch, the loss is the sum over listed rows of
/// `weight nll`, weight = w a / total (reference `_loss`); w is the objective's.
pub trait Objective: Debug + Send + Sync {
    /// What listed rows are scored by.
    fn row_loss(&self) -> RowLoss;

    /// The noise schedule; none for an objective without noise.
    fn schedule(&self) -> Option<&Schedule>;

    /// Whether it scores token by token, without noise.
    fn autoregressive(&self) -> bool {
        self.schedule().is_none()
    }

    /// Whether it is SUBS, in continuous time or in steps, whose bound the exact evaluation computes.
    fn is_subs(&self) -> bool {
        false
    }

    /// How graphs over `batch` sequences of `length` tokens are built.
    fn options(&self, batch: usize, length: usize) -> Options {
        Options::of(batch, length)
    }

    /// A pass over noisy sequences of `length` tokens as one over what its graphs take.
    fn arranged(&self, pass: Pass, _x0: &[u32], _length: usize) -> Pass {
        pass
    }

    /// The token, among those of all sequences of `length`, that a row of an arranged pass is about.
    fn token_of(&self, row: usize, _length: usize) -> usize {
        row
    }

    /// How many of a sequence's `attended` leading tokens have a loss.
    fn counted(&self, attended: usize) -> usize {
        attended
    }

    /// How many tokens of a sequence have a loss: of the attended ones those that are not given.
    fn scored(&self, [attended, given]: [usize; 2]) -> usize {
        match given {
            0 => self.counted(attended),
            _ => attended.saturating_sub(given),
        }
    }

    /// Turns a uniform time into the objective's: importance sampling's, or the end of a step of T.
    fn time(&self, t: f64) -> f64 {
        t
    }

    /// Appends to `xt` what the tokens `x0` have become at time t.
    fn q_xt(&self, x0: &[u32], t: f64, rng: &mut Rng, xt: &mut Vec<u32>);

    /// The value of [`Pass::conditioning`] where tokens are masked with probability `move_chance`.
    fn conditioning_of(&self, move_chance: f64) -> f64;

    /// The passes over sequences whose noisy form at the times `t` (as [`Objective::time`] gives
    /// them) is `xt`: one, or two where there is a reconstruction term.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if sizes do not agree, [`crate::Error::Token`] for a token outside the vocabulary,
    /// [`crate::Error::Argument`] for a time outside (0, 1] or a total that is not positive.
    fn passes(&self, clean: Clean<'_>, xt: Vec<u32>, t: &[f64]) -> Result<Vec<Pass>>;

    /// Times of a global batch of `n` sequences.
    fn times(&self, rng: &mut Rng, n: usize, eps: f64, antithetic: bool) -> Vec<f64> {
        let times = sample_times(rng, n, eps, antithetic);
        times.into_iter().map(|t| self.time(t)).collect()
    }

    /// As [`Objective::passes`], with what training needs besides; the embedding of the token `frozen` is not trained.
    ///
    /// # Errors
    /// As [`Objective::passes`].
    fn training_passes(
        &self,
        clean: Clean<'_>,
        xt: Vec<u32>,
        t: &[f64],
        frozen: Option<u32>,
    ) -> Result<Vec<Pass>> {
        let mut passes = self.passes(clean, xt, t)?;
        passes.iter_mut().for_each(|pass| pass.for_training(frozen));
        Ok(passes)
    }
}
