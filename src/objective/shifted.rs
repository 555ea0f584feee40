//! Rows that predict the token behind their own, as denoisers do that were autoregressive models.

use std::sync::Arc;

use crate::error::Result;
use crate::model::Pass;
use crate::objective::{Clean, Objective};
use crate::ops::{NOT_LISTED, RowLoss};
use crate::process::Schedule;
use crate::rng::Rng;

/// An objective of masked diffusion whose losses stand a row before their tokens. Nothing predicts the first token of a
/// sequence, which has no loss.
#[derive(Clone, Debug)]
pub struct Shifted(pub Arc<dyn Objective>);

impl Objective for Shifted {
    fn row_loss(&self) -> RowLoss {
        self.0.row_loss()
    }

    fn schedule(&self) -> Option<&Schedule> {
        self.0.schedule()
    }

    fn is_subs(&self) -> bool {
        self.0.is_subs()
    }

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

    fn counted(&self, attended: usize) -> usize {
        attended.saturating_sub(1)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ModelConfig, NoiseConfig, ObjectiveConfig};

    #[test]
    fn losses_stand_a_row_before_their_tokens() {
        let model = ModelConfig {
            vocab_size: 9,
            mask_index: 8,
            ..ModelConfig::default()
        };
        let masked =
            crate::objective::make(&model, &NoiseConfig::default(), &ObjectiveConfig::default())
                .unwrap();
        let objective = Shifted(masked.clone());
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
