//! Objectives whose rows lie otherwise in the network's sequences than their tokens do.

use std::fmt::Debug;
use std::sync::Arc;

use crate::error::Result;
use crate::model::{Options, Pass};
use crate::objective::{Clean, Objective};
use crate::ops::RowLoss;
use crate::process::Schedule;
use crate::rng::Rng;

/// How rows lie: the part of an [`Objective`] that an arrangement decides.
pub trait Arrangement: Debug + Send + Sync {
    /// As [`Objective::options`].
    fn options(&self, batch: usize, length: usize) -> Options {
        Options::of(batch, length)
    }

    /// As [`Objective::arranged`].
    fn arranged(&self, pass: Pass, x0: &[u32], length: usize) -> Pass;

    /// As [`Objective::token_of`].
    fn token_of(&self, row: usize, length: usize) -> usize;

    /// How many of `counted` tokens that have a loss in the objective still have one.
    fn counted(&self, counted: usize) -> usize {
        counted
    }
}

/// An objective with its rows arranged.
#[derive(Clone, Debug)]
pub struct Arranged<A>(pub Arc<dyn Objective>, pub A);

impl<A: Arrangement> Objective for Arranged<A> {
    fn row_loss(&self) -> RowLoss {
        self.0.row_loss()
    }

    fn schedule(&self) -> Option<&Schedule> {
        self.0.schedule()
    }

    fn is_subs(&self) -> bool {
        self.0.is_subs()
    }

    fn options(&self, batch: usize, length: usize) -> Options {
        self.1.options(batch, length)
    }

    fn arranged(&self, pass: Pass, x0: &[u32], length: usize) -> Pass {
        self.1.arranged(pass, x0, length)
    }

    fn token_of(&self, row: usize, length: usize) -> usize {
        self.1.token_of(row, length)
    }

    fn counted(&self, attended: usize) -> usize {
        self.1.counted(self.0.counted(attended))
    }

    fn time(&self, t: f64) -> f64 {
        self.0.time(t)
    }

    fn q_xt(&self, x0: &[u32], t: f64, rng: &mut Rng, xt: &mut Vec<u32>) {
        self.0.q_xt(x0, t, rng, xt);
    }

    fn conditioning_of(&self, move_chance: f64) -> f64 {
        self.0.conditioning_of(move_chance)
    }

    fn passes(&self, clean: Clean<'_>, xt: Vec<u32>, t: &[f64]) -> Result<Vec<Pass>> {
        let length = clean.x0.len() / t.len().max(1);
        let passes = self.0.passes(clean, xt, t)?.into_iter();
        Ok(passes
            .map(|pass| self.arranged(pass, clean.x0, length))
            .collect())
    }
}
