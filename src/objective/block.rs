//! Block diffusion (BD3-LM): the noisy sequence beside the clean one, a noisy block seeing itself and the clean blocks
//! before it. One run scores every block given the true text before it.

use crate::error::{Error, Result};
use crate::model::{Options, Pass, Positions, Sights};
use crate::objective::Arrangement;
use crate::ops::visibility::block_diffusion;

/// Diffusion within blocks of so many tokens.
#[derive(Clone, Copy, Debug)]
pub struct Block(usize);

impl Block {
    /// Blocks of `block` tokens.
    ///
    /// # Errors
    /// [`Error::Argument`] for blocks of none.
    pub fn new(block: usize) -> Result<Self> {
        match block {
            0 => Err(Error::argument("block size", 0, "must be at least 1")),
            block => Ok(Self(block)),
        }
    }
}

impl Arrangement for Block {
    fn options(&self, batch: usize, length: usize) -> Options {
        Options {
            batch,
            length: 2 * length,
            positions: Positions::Period(length),
            sights: Sights::Given { rows: 2 * length },
            ..Options::default()
        }
    }

    fn arranged(&self, pass: Pass, x0: &[u32], length: usize) -> Pass {
        beside_clean(pass, x0, length, self.0)
    }

    fn token_of(&self, row: usize, length: usize) -> usize {
        row / (2 * length) * length + row % (2 * length)
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
    use crate::objective::tests::masked;
    use crate::objective::{Clean, Objective};
    use crate::ops::NOT_LISTED;

    #[test]
    fn the_noisy_half_keeps_its_losses() {
        let (masked, objective) = masked(Block::new(2).unwrap());
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
        assert!(Block::new(0).is_err());
    }
}
