//! What a recipe makes of the settings that are left open; `ablate -- recipe` compares them.

use super::{HiddenUpdate, LossWeights, ModelKind, Parameterization, Recipe, TrainConfig};
use crate::error::{Error, Result};

/// Peak rate of Muon on hidden matrices: its updates have a spectral norm that does not depend on width.
const MUON_LR: f64 = 0.02;
/// Peak rate of the rest at `WIDTH`.
const REST_LR: f64 = 1.2e-2;
/// Peak rate on all of a published model.
const TUNING_LR: f64 = 1e-5;
/// Peak rate of adapters on one.
const ADAPTER_LR: f64 = 2e-4;
/// Width at which it was found; above, it falls with the width.
const WIDTH: f64 = 128.0;
/// Share of the steps with short sequences.
const SHORT_SHARE: f64 = 0.3;
/// Shortest pieces that are worth it.
const SHORTEST: usize = 16;

impl TrainConfig {
    /// Fills in what is absent, as `optim.recipe` says. A run stores the result, so that a resumed one keeps it even if
    /// its number of steps has changed.
    ///
    /// | setting | `fast` | `reference` |
    /// | --- | --- | --- |
    /// | `optim.hidden`, `hidden_lr` | `muon`, 0.02 | `adamw`, `lr` |
    /// | `optim.lr` | 0.012 x 128 / `model.hidden_size`, at most 0.012 | 3e-4 |
    /// | `optim.warmup` | a twentieth of the run, at most 2500 steps | the same |
    /// | `training.loss_weights` | `flat` where that can be | `elbo` |
    /// | `training.short_share` | 0.3 where sequences can be cut | 0 |
    ///
    /// On a published model (`base.path`) both take AdamW alone, at 1e-5 or with adapters at 2e-4, and sequences of one
    /// length.
    pub fn resolve(&mut self) {
        if !self.base.path.is_empty() {
            self.model.kind = ModelKind::Published;
            let lr = match self.lora.is_none() {
                true => TUNING_LR,
                false => ADAPTER_LR,
            };
            self.optim.lr.get_or_insert(lr);
            self.optim.hidden.get_or_insert(HiddenUpdate::Adamw);
            self.training.short_share.get_or_insert(0.0);
        }
        let fast = self.optim.recipe == Recipe::Fast;
        let steps = self.training.steps;
        self.optim.warmup.get_or_insert((steps / 20).min(2500));
        let rest = REST_LR * (WIDTH / self.model.hidden_size.max(1) as f64).min(1.0);
        let lr = match fast {
            true => rest,
            false => self.optim.peak(),
        };
        let lr = *self.optim.lr.get_or_insert(lr);
        let hidden = match fast {
            true => HiddenUpdate::Muon,
            false => HiddenUpdate::Adamw,
        };
        let hidden = *self.optim.hidden.get_or_insert(hidden);
        self.optim.hidden_lr.get_or_insert(match hidden {
            HiddenUpdate::Muon => MUON_LR,
            HiddenUpdate::Adamw => lr,
        });
        let flat = fast && self.can_be_flat();
        self.training.loss_weights.get_or_insert(match flat {
            true => LossWeights::Flat,
            false => LossWeights::Elbo,
        });
        let quarter = self.model.length / 4;
        let cut = quarter >= SHORTEST && self.model.length.is_multiple_of(4);
        // a piece of a response would not see its prompt
        let fast = fast && !self.data.has_prompts();
        let share = match fast && (cut || self.training.short_length.is_some()) {
            true => SHORT_SHARE,
            false => 0.0,
        };
        if *self.training.short_share.get_or_insert(share) > 0.0 && cut {
            self.training.short_length.get_or_insert(quarter);
        }
    }

    /// Fills in what is absent as a saved run has it, which comes back filled in: one of a time before recipes has the
    /// reference's.
    #[must_use]
    #[cfg_attr(target_arch = "wasm32", expect(dead_code))]
    pub(crate) fn settle(&mut self, mut saved: Self) -> Self {
        if saved.optim.hidden.is_none() {
            saved.optim.recipe = Recipe::Reference;
            self.optim.recipe = Recipe::Reference;
            saved.resolve();
        }
        let (o, t) = (&mut self.optim, &mut self.training);
        o.warmup = o.warmup.or(saved.optim.warmup);
        o.lr = o.lr.or(saved.optim.lr);
        o.hidden = o.hidden.or(saved.optim.hidden);
        o.hidden_lr = o.hidden_lr.or(saved.optim.hidden_lr);
        t.loss_weights = t.loss_weights.or(saved.training.loss_weights);
        t.short_share = t.short_share.or(saved.training.short_share);
        t.short_length = t.short_length.or(saved.training.short_length);
        saved
    }

    /// Steps with short sequences, from the first on; 0 for settings that are not resolved.
    pub fn short_steps(&self) -> u64 {
        (self.training.steps as f64 * self.training.short_share.unwrap_or(0.0)) as u64
    }

    /// Tokens of a sequence of step `k`, from 0.
    pub fn length_at(&self, k: u64) -> usize {
        match k < self.short_steps() {
            true => self.training.short_length.unwrap_or(self.model.length),
            false => self.model.length,
        }
    }

    /// Whether plain cross-entropy trains this model.
    fn can_be_flat(&self) -> bool {
        let o = &self.objective;
        let plain = !o.importance_sampling && !o.change_of_variables;
        let continuous = o.t_steps == 0 && o.parameterization == Parameterization::Subs;
        !self.model.autoregressive() && continuous && plain
    }

    /// Refuses settings of a recipe that do not go together.
    pub(super) fn check_recipe(&self) -> Result<()> {
        let t = &self.training;
        if t.loss_weights == Some(LossWeights::Flat) && !self.can_be_flat() {
            let problem = "is for masked diffusion with parameterization = subs, T = 0 and neither importance_sampling nor change_of_variables";
            return Err(Error::config("training.loss_weights", "flat", problem));
        }
        let momentum = super::OptimConfig::default().momentum;
        if self.optim.hidden == Some(HiddenUpdate::Adamw) && self.optim.momentum != momentum {
            let problem = "has no effect; leave it out, or set optim.hidden to muon";
            return Err(Error::config(
                "optim.momentum",
                self.optim.momentum,
                problem,
            ));
        }
        if let Some(share) = t.short_share
            && !(0.0..=1.0).contains(&share)
        {
            return Err(Error::config(
                "training.short_share",
                share,
                "must be in [0, 1]",
            ));
        }
        if t.short_share.is_some_and(|share| share > 0.0) && t.short_length.is_none() {
            let quarter = self.model.length / 4;
            if quarter < SHORTEST || !self.model.length.is_multiple_of(4) {
                let problem = "set training.short_length too: a quarter of model.length is no length of pieces";
                return Err(Error::config("training.short_share", "above 0", problem));
            }
        }
        if let Some(short) = t.short_length {
            let length = self.model.length;
            if short < 2 || short > length || !length.is_multiple_of(short) {
                let problem = format!("must be at least 2 and divide model.length = {length}");
                return Err(Error::config("training.short_length", short, problem));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_is_resolved_once() {
        let mut config = TrainConfig::default();
        config.training.steps = 300;
        config.resolve();
        assert_eq!(config.optim.warmup, Some(15));
        assert_eq!(config.training.short_length, Some(32));
        assert_eq!(
            (
                config.short_steps(),
                config.length_at(89),
                config.length_at(90)
            ),
            (90, 32, 128)
        );
        let first = config.clone();
        config.resolve();
        assert_eq!(config, first);
        config.training.steps = 1_000_000;
        config.resolve();
        assert_eq!(config.optim.warmup, Some(15));
        config.optim.warmup = None;
        config.resolve();
        assert_eq!(config.optim.warmup, Some(2500));
    }

    #[test]
    fn the_reference_is_one_setting_away() {
        let mut config = TrainConfig::default();
        config.optim.recipe = Recipe::Reference;
        config.resolve();
        let (optim, training) = (&config.optim, &config.training);
        assert_eq!((optim.lr, optim.hidden_lr), (Some(3e-4), Some(3e-4)));
        assert_eq!(optim.hidden, Some(HiddenUpdate::Adamw));
        assert_eq!(training.loss_weights, Some(LossWeights::Elbo));
        assert_eq!(config.short_steps(), 0);
    }

    #[test]
    fn what_cannot_be_flat_or_cut_is_left_as_it_is() {
        let mut config = TrainConfig::default();
        (config.objective.t_steps, config.model.length) = (100, 30);
        config.resolve();
        assert_eq!(config.training.loss_weights, Some(LossWeights::Elbo));
        assert_eq!((config.short_steps(), config.length_at(0)), (0, 30));
        config.validate().unwrap();
    }
}
