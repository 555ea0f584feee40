//! Validation, which ranks share out.

use crate::error::Result;
use crate::eval::{EvalConfig, Evaluator, Perplexity};
use crate::graph::PARAMS;
use crate::ops::EMA;
use crate::train::Trainer;
use crate::train::shared::{gather_owned, several};

impl Trainer {
    /// Perplexity of the moving average on the held-out blocks.
    ///
    /// # Errors
    /// [`crate::Error::Busy`] while a step is on its way, [`crate::Error::DeviceLost`] and its kin.
    pub async fn validate(&mut self, progress: impl FnMut(u64, u64)) -> Result<Perplexity> {
        self.check_settled()?;
        let weights = match self.is_shared() {
            true => Some(self.stand_in().await?),
            false => None,
        };
        let found = self.evaluate(progress).await;
        for (slab, data) in weights.into_iter().flatten() {
            self.storage.write_slab(PARAMS, slab, &data)?;
        }
        // what came from a rank that died meanwhile may be cut short, so nothing counts before all have it
        if several(&*self.ranks) {
            self.ranks.barrier()?;
        }
        found
    }

    /// Whether moments and moving average are shared out among ranks.
    pub(super) fn is_shared(&self) -> bool {
        self.config.training.shard && several(&*self.ranks)
    }

    /// Lets the moving average take the weights' place, and returns those.
    async fn stand_in(&mut self) -> Result<Vec<(usize, Vec<f32>)>> {
        let layout = self.network().layout.clone();
        let mut weights = Vec::new();
        for slab in layout.trained() {
            weights.push((slab, self.storage.read_slab(PARAMS, slab).await?));
        }
        let mut average = Vec::new();
        let keep = |slab, data| {
            average.push((slab, data));
            Ok(())
        };
        gather_owned(&*self.ranks, &self.storage, EMA, keep).await?;
        for (slab, data) in average {
            self.storage.write_slab(PARAMS, slab, &data)?;
        }
        Ok(weights)
    }

    async fn evaluate(&mut self, progress: impl FnMut(u64, u64)) -> Result<Perplexity> {
        let arena = if self.is_shared() { PARAMS } else { EMA };
        let (training, model) = (&self.config.training, &self.config.model);
        let evaluator = match &mut self.evaluator {
            Some(made) => made,
            slot => {
                let batch = training.batch.min(self.corpus.valid.count().max(1));
                let made = Evaluator::new(
                    &self.device,
                    self.family.network(),
                    &self.objective,
                    &self.storage,
                    arena,
                    batch,
                    model.length,
                );
                slot.insert(made.await?)
            }
        };
        let eval = EvalConfig {
            // other bounds than SUBS' are sampled in t as well
            samples: if self.objective.is_subs() { 1 } else { 4 },
            most: training.val_blocks,
            seed: self.config.seed,
            ..EvalConfig::default()
        };
        let blocks = &self.corpus.valid;
        evaluator
            .perplexity(
                &*self.ranks,
                &mut self.storage,
                model,
                blocks,
                &eval,
                progress,
            )
            .await
    }
}
