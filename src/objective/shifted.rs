//! Rows that predict the token behind their own, as denoisers do that were autoregressive models.

use crate::model::Pass;
use crate::objective::Arrangement;
use crate::ops::NOT_LISTED;

/// Losses stand a row before their tokens. Nothing predicts the first token of a sequence, which has no loss.
#[derive(Clone, Copy, Debug)]
pub struct Shifted;

impl Arrangement for Shifted {
    fn arranged(&self, pass: Pass, _x0: &[u32], length: usize) -> Pass {
        let kept: Vec<usize> = (0..pass.rows.len())
            .filter(|&i| !(pass.rows[i] as usize).is_multiple_of(length))
            .collect();
        let rows: Vec<u32> = kept.iter().map(|&i| pass.rows[i] - 1).collect();
        let mut row_of = vec![NOT_LISTED; pass.row_of.len()];
        for (place, &row) in rows.iter().enumerate() {
            row_of[row as usize] = place as u32;
        }
        // an exact evaluation gives its weights before, the objective's after
        let weights = match pass.weights.is_empty() {
            true => Vec::new(),
            false => kept.iter().map(|&i| pass.weights[i]).collect(),
        };
        Pass {
            targets: kept.iter().map(|&i| pass.targets[i]).collect(),
            rows,
            row_of,
            weights,
            ..pass
        }
    }

    fn token_of(&self, row: usize, _length: usize) -> usize {
        row + 1
    }

    fn counted(&self, counted: usize) -> usize {
        counted.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::tests::masked;
    use crate::objective::{Clean, Objective};

    #[test]
    fn losses_stand_a_row_before_their_tokens() {
        let (masked, objective) = masked(Shifted);
        let (x0, t) = ([1, 2, 3, 4, 5, 6], [0.3, 0.7]);
        let clean = Clean {
            x0: &x0,
            attention_mask: Some(&[0.0, 1.0, 1.0, 1.0, 1.0, 0.0]),
            total: 4.0,
        };
        let xt = vec![1, 8, 8, 8, 5, 8];
        let pass = &objective.passes(clean, xt.clone(), &t).unwrap()[0];
        let plain = &masked.passes(clean, xt.clone(), &t).unwrap()[0];
        assert_eq!(pass.xt, xt);
        // rows 1, 2 and 5 move up; row 3 begins a sequence
        assert_eq!(
            (&pass.rows[..], &pass.targets[..]),
            (&[0, 1, 4][..], &[2, 3, 6][..])
        );
        let plain = [0, 1, 3].map(|i| plain.weights[i]);
        assert_eq!(pass.weights, plain);
        assert_eq!(pass.row_of, [0, 1, NOT_LISTED, NOT_LISTED, 2, NOT_LISTED]);
        assert_eq!(objective.token_of(4, 3), 5);
        assert_eq!((objective.scored([3, 0]), objective.scored([3, 2])), (2, 1));
    }
}
