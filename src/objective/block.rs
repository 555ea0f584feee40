//! Block diffusion (BD3-LM): the noisy sequence beside the clean one, a noisy block seeing itself and the clean blocks
//! before it. One run scores every block given the true text before it.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::model::{Options, Pass, Positions, Sights};
use crate::objective::{Clean, Objective};
use crate::ops::RowLoss;
use crate::ops::visibility::block_diffusion;
use crate::process::Schedule;
use crate::rng::Rng;

/// An objective of masked diffusion, block by block.
#[derive(Clone, Debug)]
pub struct Block {
    inner: Arc<dyn Objective>,
    block: usize,
}

impl Block {
    /// Diffusion by `inner` within blocks of `block` tokens.
    ///
    /// # Errors
    /// [`Error::Argument`] for blocks of none.
    pub fn new(inner: Arc<dyn Objective>, block: usize) -> Result<Self> {
        if block == 0 {
            return Err(Error::argument("block size", 0, "must be at least 1"));
        }
        Ok(Self { inner, block })
    }
}

impl Objective for Block {
    fn row_loss(&self) -> RowLoss {
        self.inner.row_loss()
    }

    fn schedule(&self) -> Option<&Schedule> {
        self.inner.schedule()
    }

    fn options(&self, batch: usize, length: usize) -> Options {
        Options {
            batch,
            length: 2 * length,
            positions: Positions::Period(length),
            sights: Sights::Given { rows: 2 * length },
            ..Options::default()
        }
    }

    fn is_subs(&self) -> bool {
        self.inner.is_subs()
    }

    fn arranged(&self, pass: Pass, x0: &[u32], length: usize) -> Pass {
        beside_clean(pass, x0, length, self.block)
    }

    fn token_of(&self, row: usize, length: usize) -> usize {
        row / (2 * length) * length + row % (2 * length)
    }

    fn counted(&self, attended: usize) -> usize {
        self.inner.counted(attended)
    }

    fn time(&self, t: f64) -> f64 {
        self.inner.time(t)
    }

    fn q_xt(&self, x0: &[u32], t: f64, rng: &mut Rng, xt: &mut Vec<u32>) {
        self.inner.q_xt(x0, t, rng, xt);
    }

    fn conditioning_of(&self, move_chance: f64) -> f64 {
        self.inner.conditioning_of(move_chance)
    }

    fn passes(&self, clean: Clean<'_>, xt: Vec<u32>, t: &[f64]) -> Result<Vec<Pass>> {
        let length = clean.x0.len() / t.len().max(1);
        let passes = self.inner.passes(clean, xt, t)?.into_iter();
        Ok(passes
            .map(|pass| self.arranged(pass, clean.x0, length))
            .collect())
    }
}

/// A pass over noisy sequences of `length` tokens as one over `[xt, x0]`, `2 length` rows each, whose first halves keep
/// their losses.
pub fn beside_clean(pass: Pass, x0: &[u32], length: usize, block: usize) -> Pass {
    let place = |row: u32| row + row / length as u32 * length as u32;
    let halves = |noisy: &[u32], clean: &[u32]| -> Vec<u32> {
        let pairs = noisy.chunks_exact(length).zip(clean.chunks_exact(length));
        pairs
            .flat_map(|(a, b)| a.iter().chain(b))
            .copied()
            .collect()
    };
    let unlisted = vec![crate::ops::NOT_LISTED; x0.len()];
    Pass {
        xt: halves(&pass.xt, x0),
        rows: pass.rows.iter().map(|&row| place(row)).collect(),
        row_of: halves(&pass.row_of, &unlisted),
        sights: block_diffusion(length, block),
        ..pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ModelConfig, NoiseConfig, ObjectiveConfig};
    use crate::ops::NOT_LISTED;

    #[test]
    fn the_noisy_half_keeps_its_losses() {
        let model = ModelConfig {
            vocab_size: 9,
            mask_index: 8,
            ..ModelConfig::default()
        };
        let masked =
            crate::objective::make(&model, &NoiseConfig::default(), &ObjectiveConfig::default())
                .unwrap();
        let objective = Block::new(masked.clone(), 2).unwrap();
        let options = objective.options(2, 3);
        assert_eq!((options.batch, options.length), (2, 6));
        let x0 = [1, 2, 3, 4, 5, 6];
        let clean = Clean {
            x0: &x0,
            attention_mask: None,
            total: 6.0,
        };
        let (xt, t) = (vec![1, 8, 8, 8, 5, 6], [0.3, 0.7]);
        let pass = &objective.passes(clean, xt.clone(), &t).unwrap()[0];
        let plain = &masked.passes(clean, xt, &t).unwrap()[0];
        assert_eq!(pass.xt, [1, 8, 8, 1, 2, 3, 8, 5, 6, 4, 5, 6]);
        assert_eq!(pass.rows, [1, 2, 6]);
        for (row, &at) in pass.row_of.iter().enumerate() {
            assert!(at == NOT_LISTED || pass.rows[at as usize] as usize == row);
        }
        assert_eq!(
            (&pass.targets, &pass.weights),
            (&plain.targets, &plain.weights)
        );
        assert_eq!([1, 2, 6].map(|row| objective.token_of(row, 3)), [1, 2, 3]);
        assert_eq!(pass.sights.len(), 6);
        assert!(Block::new(masked, 0).is_err());
    }
}
