//! The limits of the training sections; model, noise, objective and sampling check themselves.

use super::limits::{MAX_INTEGER, check, check_range};
use super::{
    DataConfig, LrSchedule, ModelKind, NoiseKind, Precision, TrainConfig, TrainingConfig, Wire,
};
use crate::error::{Error, Result};

/// Least share of a source: it is dealt out over so many sequences.
const LEAST_WEIGHT: f64 = 1.0 / 65536.0;

/// Most tokens of an optimiser step.
const MAX_TOKENS: u64 = 1 << 28;

impl DataConfig {
    /// Checks that there is something to read. Apart from [`TrainConfig::validate`], because a
    /// corpus may also be handed over as text.
    pub fn validate(&self) -> Result<()> {
        let keys = [
            ("data.train", &self.train),
            ("data.tokenizer", &self.tokenizer),
            ("data.field", &self.field),
        ];
        let known = usize::from(!self.sources.is_empty());
        if let Some((key, _)) = keys[known..].iter().find(|(_, value)| value.is_empty()) {
            return Err(Error::config(*key, "\"\"", "must not be empty"));
        }
        let refuse =
            |key: &str, value: &str, problem: &str| Err(Error::config(key, value, problem));
        let (prompts, messages) = (self.prompt_field.as_str(), self.messages_field.as_str());
        let template = self.chat_template.as_str();
        if !self.has_prompts() && !template.is_empty() {
            let problem = "has no effect without prompts or messages";
            return refuse("data.chat_template", template, problem);
        }
        if self.has_prompts() && !self.cache.is_empty() {
            let (key, field) = match messages {
                "" => ("data.prompt_field", prompts),
                messages => ("data.messages_field", messages),
            };
            return refuse(key, field, "pairs are held in memory: leave data.cache out");
        }
        if !messages.is_empty() && !prompts.is_empty() {
            let problem = "holds prompts already: leave data.prompt_field out";
            return refuse("data.messages_field", messages, problem);
        }
        if !messages.is_empty() && template.is_empty() {
            let problem =
                "needs data.chat_template, the folder of the model that says how they are put";
            return refuse("data.messages_field", messages, problem);
        }
        self.check_sources()?;
        self.check_packing()
    }

    /// Checks that sources have names, and weights that can be kept.
    fn check_sources(&self) -> Result<()> {
        let sources = format!("{:?}", self.sources);
        let refuse = |problem: &str| Err(Error::config("data.sources", &sources, problem));
        if !self.sources.is_empty() && !self.train.is_empty() {
            return refuse("are there in place of data.train: leave it out (data.train = \"\")");
        }
        if !self.sources.is_empty() && self.has_prompts() {
            return refuse(
                "are texts; pairs of prompts and responses are read from one file, data.train",
            );
        }
        if self.sources.iter().any(String::is_empty) {
            return refuse("must have names");
        }
        if !self.weights.is_empty() && self.weights.len() != self.sources.len() {
            let problem = format!(
                "must be one for each of the {} data.sources",
                self.sources.len()
            );
            let weights = format!("{:?}", self.weights);
            return Err(Error::config("data.weights", weights, problem));
        }
        let check = |good: &dyn Fn(f64) -> bool, problem: &str| {
            let mut pairs = self.weights.iter().zip(&self.sources);
            match pairs.find(|(weight, _)| !good(**weight)) {
                None => Ok(()),
                Some((weight, source)) => {
                    let problem = format!("that of {source} {problem}");
                    Err(Error::config("data.weights", weight, problem))
                }
            }
        };
        check(
            &|weight| weight > 0.0 && weight.is_finite(),
            "must be finite and above 0; leave the source out instead",
        )?;
        let all: f64 = self.weights.iter().sum();
        let share = |weight: f64| weight / all;
        check(
            &|weight| share(weight) >= LEAST_WEIGHT,
            "must be at least a 65536th of all",
        )?;
        Ok(())
    }

    /// Whether there are prompts, which are given and never masked.
    pub fn has_prompts(&self) -> bool {
        !self.prompt_field.is_empty() || !self.messages_field.is_empty()
    }

    /// Checks that the ways of packing go together.
    pub(crate) fn check_packing(&self) -> Result<()> {
        if !self.wrap && !self.insert_eos {
            let problem =
                "a document in a block of its own (data.wrap = false) always ends with EOS";
            return Err(Error::config("data.insert_eos", false, problem));
        }
        Ok(())
    }
}

impl TrainingConfig {
    /// Sequences per optimiser step, of each rank.
    pub fn global_batch(&self) -> usize {
        self.batch * self.accumulation
    }

    /// Checks every value, and that `patience` has validations to count.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key.
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
        check_range("training.patience", self.patience, 0..=MAX_INTEGER)?;
        if self.patience > 0 && self.val_every == 0 {
            let problem = "needs training.val_every above 0";
            return Err(Error::config("training.patience", self.patience, problem));
        }
        if self.shard && self.wire != Wire::F32 {
            let problem = "is for ranks that keep everything: leave training.shard out";
            return Err(Error::config("training.wire", "f16", problem));
        }
        if self.precision != Precision::F32 && self.wire != Wire::F32 {
            let problem = "keeps what it rounds away from step to step, while training.precision = f16 changes their scale: leave one out";
            return Err(Error::config("training.wire", "f16", problem));
        }
        check_range(
            "training.val_blocks",
            self.val_blocks as u64,
            0..=MAX_INTEGER,
        )
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
        if !self.base.path.is_empty() {
            model.kind = ModelKind::Published;
        }
        model.validate()?;
        if model.length < 3 {
            return Err(Error::config(
                "model.length",
                model.length,
                "training needs at least 3: a token between BOS and EOS",
            ));
        }
        self.check_base()?;
        self.objective.validate(&self.noise, &model)?;
        self.optim.validate()?;
        self.training.validate()?;
        let tokens = self.training.global_batch() as u64 * model.length as u64;
        if tokens > MAX_TOKENS {
            let problem = format!(
                "with training.batch and model.length makes {tokens} tokens a step; at most {MAX_TOKENS}"
            );
            let accumulation = self.training.accumulation;
            return Err(Error::config(
                "training.accumulation",
                accumulation,
                problem,
            ));
        }
        self.check_recipe()?;
        self.check_unread()?;
        self.sampling.validate()
    }

    /// Checks that adapters have something to adapt, and that what is said of a base goes together.
    fn check_base(&self) -> Result<()> {
        let (base, published) = (&self.base, self.model.kind == ModelKind::Published);
        let weights = base.weights.as_deref().unwrap_or("f32");
        self.lora.validate()?;
        if base.path.is_empty() {
            let problem = "has no effect without base.path, the folder of a published model";
            return match (published, self.lora.is_none(), base.is_none()) {
                (true, ..) => Err(Error::config("model.kind", "published", problem)),
                (_, false, _) => Err(Error::config("lora.rank", self.lora.rank, problem)),
                (_, _, false) => Err(Error::config("base", "given", problem)),
                _ => Ok(()),
            };
        }
        if weights != "f32" && self.lora.is_none() {
            let problem = "is for adapters (lora.rank): what is trained is f32";
            return Err(Error::config("base.weights", weights, problem));
        }
        match self.model.autoregressive() {
            false => Ok(()),
            true => {
                let problem = "has no published models: leave it out, or leave base.path out";
                Err(Error::config("model.kind", "ar", problem))
            }
        }
    }

    /// Refuses a changed setting that the rest of the configuration makes meaningless.
    fn check_unread(&self) -> Result<()> {
        let d = Self::default();
        let (noise, kind) = (&self.noise, self.noise.kind);
        let sigmas = matches!(kind, NoiseKind::Linear | NoiseKind::Geometric);
        let polynomial = kind == NoiseKind::Polynomial;
        let cosine = self.optim.schedule == LrSchedule::Cosine;
        for (key, changed, read, reader) in [
            (
                "noise.sigma_min",
                noise.sigma_min != d.noise.sigma_min,
                sigmas,
                "noise.type to linear or geometric",
            ),
            (
                "noise.sigma_max",
                noise.sigma_max != d.noise.sigma_max,
                sigmas,
                "noise.type to linear or geometric",
            ),
            (
                "noise.power",
                noise.power != d.noise.power,
                polynomial,
                "noise.type to polynomial",
            ),
            (
                "optim.min_lr",
                self.optim.min_lr != d.optim.min_lr,
                cosine,
                "optim.schedule to cosine",
            ),
        ] {
            if changed && !read {
                let problem = format!("has no effect; leave it out, or set {reader}");
                return Err(Error::config(key, self.value(key), problem));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;
    use crate::rules::ALL;

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
            "model.vocab_multiple=0",
            "model.vocab_multiple=4097",
            "model.vocab_multiple=1.5",
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
            "training.patience=3",
            "sampling.steps=0",
            "sampling.sampler=ddpm",
            "sampling.temperature=-1",
            "sampling.temperature=0.001",
            "sampling.temperature=nan",
            "sampling.top_k=-1",
            "sampling.top_p=0",
            "sampling.top_p=1.1",
            "sampling.tokens_per_call=0",
            "sampling.order_noise=-1",
            "sampling.threshold=1.5",
            "sampling.gamma=-0.1",
            "sampling.gamma=inf",
            "sampling.eta=-0.1",
            "sampling.eta=2",
            "sampling.t_on=1",
            "sampling.t_off=0.6",
            "sampling.alpha_on=0",
            "sampling.stride=-1",
            // valid, but not read by the default sampler
            "sampling.tokens_per_call=4",
            "sampling.order_noise=1",
            "sampling.threshold=0.5",
            "sampling.gamma=1",
            "sampling.eta=0.5",
            "sampling.t_on=0.5",
            "sampling.t_off=0.1",
            "sampling.alpha_on=0.5",
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
    fn sources_have_names_and_weights() {
        let check = |settings: &[&str]| {
            let mut config = TrainConfig::default();
            config.set("data.tokenizer=byte").unwrap();
            let mut set = settings.iter().map(|s| config.set(s));
            set.find(Result::is_err).unwrap_or(Ok(()))?;
            let text = config.to_toml()?;
            let again = TrainConfig::from_toml(&text)?;
            assert_eq!(format!("{:?}", again.data), format!("{:?}", config.data));
            config.data.validate()
        };
        let two = "data.sources=[\"a.txt\", \"b/*.jsonl\"]";
        check(&[two]).unwrap();
        check(&[two, "data.weights=[3, 0.5]"]).unwrap();
        check(&[two, "data.weights=[65535, 1]"]).unwrap();
        for (bad, part) in [
            (&["data.sources=[]"][..], "data.train"),
            (&["data.sources=[\"\"]"], "must have names"),
            (&[two, "data.train=a.txt"], "leave it out"),
            (&[two, "data.prompt_field=p"], "read from one file"),
            (&[two, "data.weights=[1]"], "one for each of the 2"),
            (
                &["data.train=a", "data.weights=[1]"],
                "one for each of the 0",
            ),
            (
                &[two, "data.weights=[1, 0]"],
                "data.weights = 0: that of b/*.jsonl must be finite",
            ),
            (
                &[two, "data.weights=[nan, 1]"],
                "data.weights = NaN: that of a.txt must be finite",
            ),
            (
                &[two, "data.weights=[1, inf]"],
                "that of b/*.jsonl must be finite",
            ),
            (
                &[two, "data.weights=[-1, 1]"],
                "that of a.txt must be finite",
            ),
            (&[two, "data.weights=[1e308, 1e308]"], "a 65536th of all"),
            (
                &[two, "data.weights=[1, 70000]"],
                "that of a.txt must be at least a 65536th",
            ),
            (&[two, "data.weights=3"], "expected a list"),
            (&[two, "data.weights=[\"much\"]"], "data.weights"),
        ] {
            let error = check(bad).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn sampling_options_go_with_their_sampler() {
        let check = |settings: &[&str]| {
            let mut config = TrainConfig::default();
            let mut set = settings.iter().map(|s| config.set(s));
            set.find(Result::is_err).unwrap_or(Ok(()))?;
            config.validate()
        };
        for kind in ALL {
            check(&[&format!("sampling.sampler={}", kind.name)]).unwrap();
        }
        for good in [
            &[
                "sampling.sampler=first-hitting",
                "sampling.tokens_per_call=4",
            ][..],
            &["sampling.sampler=confidence", "sampling.order_noise=2"],
            &["sampling.sampler=remdm-cap", "sampling.eta=0.5"],
            &["sampling.temperature=0"],
            &[
                "sampling.top_k=5",
                "sampling.top_p=0.5",
                "sampling.temperature=0.01",
            ],
        ] {
            check(good).unwrap();
        }
        for (bad, parts) in [
            (
                &["sampling.sampler=threshold", "sampling.gamma=2"][..],
                "sampling.gamma = 2: threshold does not read it; leave it out, or set \
                 sampling.sampler to entropy-bound",
            ),
            (
                &["sampling.temperature=0", "sampling.top_p=0.9"],
                "sampling.top_p = 0.9: has no effect",
            ),
            (
                &["sampling.sampler=remdm-loop", "sampling.eta=0.2"],
                "sampling.eta = 0.2: must be at most 0.1111",
            ),
            (&["sampling.sampler=remdm"], "remdm-cap"),
        ] {
            let error = check(bad).unwrap_err().to_string();
            assert!(error.contains(parts), "{error}");
        }
    }
}
