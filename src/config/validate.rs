//! The limits of every section but the model's own, which checks itself.

use super::{DataConfig, OptimConfig, SampleConfig, TrainConfig, TrainingConfig};
use crate::error::{Error, Result};

/// Largest integer that TOML can hold; seeds and counts stay below it so that they can be saved.
const MAX_INTEGER: u64 = i64::MAX as u64;

/// Checks `value` with `holds`; a NaN holds nothing.
fn check(key: &str, value: f64, holds: impl FnOnce(f64) -> bool, problem: &str) -> Result<()> {
    if value.is_finite() && holds(value) {
        return Ok(());
    }
    Err(Error::config(key, value, problem))
}

/// Checks that a count lies in a range.
fn check_range(key: &str, value: u64, range: std::ops::RangeInclusive<u64>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let (low, high) = range.into_inner();
    Err(Error::config(
        key,
        value,
        format!("must be in {low}..={high}"),
    ))
}

impl DataConfig {
    /// Checks that there is something to read. Apart from [`TrainConfig::validate`], because a
    /// corpus may also be handed over as text.
    pub fn validate(&self) -> Result<()> {
        let keys = [
            ("data.train", &self.train),
            ("data.tokenizer", &self.tokenizer),
        ];
        match keys.into_iter().find(|(_, value)| value.is_empty()) {
            Some((key, _)) => Err(Error::config(key, "\"\"", "must not be empty")),
            None => Ok(()),
        }
    }
}

impl OptimConfig {
    /// Checks every value.
    pub fn validate(&self) -> Result<()> {
        check(
            "optim.lr",
            self.lr,
            |x| x > 0.0,
            "must be finite and above 0",
        )?;
        for (key, beta) in [("optim.beta1", self.beta1), ("optim.beta2", self.beta2)] {
            check(key, beta, |x| (0.0..1.0).contains(&x), "must be in [0, 1)")?;
        }
        check(
            "optim.eps",
            self.eps,
            |x| x > 0.0,
            "must be finite and above 0",
        )?;
        for (key, value) in [
            ("optim.weight_decay", self.weight_decay),
            ("optim.clip", self.clip),
        ] {
            check(key, value, |x| x >= 0.0, "must be finite and not negative")?;
        }
        let lr = self.lr;
        check(
            "optim.min_lr",
            self.min_lr,
            |x| (0.0..=lr).contains(&x),
            "must be in [0, optim.lr]",
        )?;
        check_range("optim.warmup", self.warmup.unwrap_or(0), 0..=MAX_INTEGER)
    }
}

impl TrainingConfig {
    /// Sequences per optimiser step.
    pub fn global_batch(&self) -> usize {
        self.batch * self.accumulation
    }

    /// Checks every value.
    pub fn validate(&self) -> Result<()> {
        check_range("training.steps", self.steps, 1..=MAX_INTEGER)?;
        check_range("training.batch", self.batch as u64, 1..=1 << 16)?;
        check_range(
            "training.accumulation",
            self.accumulation as u64,
            1..=1 << 14,
        )?;
        check(
            "training.ema",
            self.ema,
            |x| (0.0..1.0).contains(&x),
            "must be in [0, 1)",
        )?;
        let inside = |x: f64| x > 0.0 && x < 1.0;
        check(
            "training.sampling_eps",
            self.sampling_eps,
            inside,
            "must be above 0 and below 1",
        )?;
        check_range("training.save_every", self.save_every, 0..=MAX_INTEGER)?;
        check_range("training.keep", self.keep as u64, 1..=MAX_INTEGER)?;
        check_range("training.val_every", self.val_every, 0..=MAX_INTEGER)?;
        check_range(
            "training.val_blocks",
            self.val_blocks as u64,
            0..=MAX_INTEGER,
        )
    }
}

impl SampleConfig {
    /// Checks every value.
    pub fn validate(&self) -> Result<()> {
        check_range("sampling.steps", self.steps as u64, 1..=1 << 24)?;
        check_range("sampling.seed", self.seed, 0..=MAX_INTEGER)
    }
}

impl TrainConfig {
    /// Checks every section but the paths in `data` (see [`DataConfig::validate`]). The model's
    /// vocabulary may still be open (`model.vocab_size = 0`).
    pub fn validate(&self) -> Result<()> {
        check_range("seed", self.seed, 0..=MAX_INTEGER)?;
        let mut model = self.model.clone();
        if model.vocab_size == 0 {
            // Stands for whatever the tokenizer will say.
            (model.vocab_size, model.mask_index) = (2, 1);
        }
        model.validate()?;
        if model.length < 3 {
            return Err(Error::config(
                "model.length",
                model.length,
                "training needs at least 3: a token between BOS and EOS",
            ));
        }
        self.objective.validate(&self.noise, &model)?;
        self.optim.validate()?;
        self.training.validate()?;
        self.sampling.validate()
    }

    /// Fixes `optim.warmup` if it is open: 2500 steps or a twentieth of the run, whichever is
    /// less. A run stores the result, so that a resumed one with more steps keeps its warm-up.
    pub fn resolve_warmup(&mut self) {
        let steps = self.training.steps;
        self.optim.warmup.get_or_insert((steps / 20).min(2500));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;

    #[test]
    fn defaults_and_presets_are_valid() {
        for name in ModelConfig::PRESETS {
            let model = ModelConfig::preset(name).unwrap();
            TrainConfig {
                model,
                ..TrainConfig::default()
            }
            .validate()
            .unwrap();
        }
    }

    #[test]
    fn every_bad_value_is_named() {
        let cases = [
            "seed=-1",
            "model.hidden_size=0",
            "model.n_heads=3",
            "model.length=2",
            "model.length=70000",
            "model.dropout=1.0",
            "model.dropout=nan",
            "model.vocab_size=1",
            "optim.lr=0",
            "optim.lr=inf",
            "optim.lr=nan",
            "optim.beta1=1",
            "optim.beta2=-0.1",
            "optim.eps=0",
            "optim.weight_decay=-1",
            "optim.clip=-1",
            "optim.min_lr=1",
            "training.steps=0",
            "training.batch=0",
            "training.accumulation=0",
            "training.ema=1",
            "training.sampling_eps=0",
            "training.sampling_eps=1",
            "training.keep=0",
            "sampling.steps=0",
        ];
        for case in cases {
            let key = case.split_once('=').unwrap().0;
            let mut config = TrainConfig::default();
            let result = config.set(case).and_then(|()| config.validate());
            match result {
                Err(Error::Config { key: named, .. }) => assert_eq!(named, key, "{case}"),
                other => panic!("{case}: {other:?}"),
            }
        }
        let config = TrainConfig {
            seed: u64::MAX,
            ..TrainConfig::default()
        };
        assert!(matches!(config.validate(), Err(Error::Config { key, .. }) if key == "seed"));
        let unread = DataConfig::default().validate();
        assert!(matches!(unread, Err(Error::Config { key, .. }) if key == "data.train"));
    }

    #[test]
    fn warmup_is_resolved_once() {
        let mut config = TrainConfig::default();
        config.training.steps = 300;
        config.resolve_warmup();
        assert_eq!(config.optim.warmup, Some(15));
        config.training.steps = 1_000_000;
        config.resolve_warmup();
        assert_eq!(config.optim.warmup, Some(15));
        config.optim.warmup = None;
        config.resolve_warmup();
        assert_eq!(config.optim.warmup, Some(2500));
    }
}
