//! How to sample.

use serde::{Deserialize, Serialize};

use super::limits::{MAX_INTEGER, check, check_range};
use crate::error::{Error, Result};

/// How to sample: which positions a step fills (`sampler` and its options), and what with
/// (`temperature`, `top_k`, `top_p`).
///
/// An option that the chosen sampler does not read must keep its default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SampleConfig {
    /// Steps of a window, for the samplers on a grid of t and for `confidence`; the others take as
    /// many as they need.
    pub steps: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// Which positions a step fills.
    pub sampler: SamplerKind,
    /// Divides the logits; 0: always the most probable token.
    pub temperature: f64,
    /// Draw among the most probable tokens only; 0: among all.
    pub top_k: u32,
    /// Draw among the most probable tokens that together have this probability; 1: among all.
    pub top_p: f64,
    /// Positions filled in each network call of `first-hitting`; above 1 an approximation.
    pub tokens_per_call: usize,
    /// Gumbel noise on the order of `confidence`, times t; 0: none.
    pub order_noise: f64,
    /// Probability from which `threshold` accepts a token.
    pub threshold: f64,
    /// Entropy in nats, beyond the largest, that `entropy-bound` accepts in a step.
    pub gamma: f64,
    /// Chance of masking a token again in a step: the cap of `remdm-cap`, the share of the most
    /// that is possible in `remdm-rescale`, the chance inside the loop of `remdm-loop`.
    pub eta: f64,
    /// Time at which the loop of `remdm-loop` begins.
    pub t_on: f64,
    /// Time at which it ends.
    pub t_off: f64,
    /// Share of tokens that are not masked in the loop.
    pub alpha_on: f64,
    /// Positions by which the window moves over a canvas longer than the model; 0: half of it.
    pub stride: usize,
}

impl Default for SampleConfig {
    fn default() -> Self {
        Self {
            steps: 128,
            seed: 1,
            sampler: SamplerKind::Ancestral,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            tokens_per_call: 1,
            order_noise: 0.0,
            threshold: 0.9,
            gamma: 0.1,
            eta: 0.02,
            t_on: 0.55,
            t_off: 0.05,
            alpha_on: 0.9,
            stride: 0,
        }
    }
}

/// Which positions a step fills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SamplerKind {
    /// The reverse process on a uniform grid of t (reference `ddpm_cache`).
    #[default]
    Ancestral,
    /// The same in continuous time, one position after the other (Zheng et al. 2024).
    FirstHitting,
    /// Tweedie denoising of the scores (SEDD's sampler); for a denoiser of tokens, `ancestral`.
    Analytic,
    /// The most probable tokens first, evenly over the steps.
    Confidence,
    /// Every token that is probable enough (Fast-dLLM).
    Threshold,
    /// As many tokens as keep their joint error bounded (EB-sampler).
    EntropyBound,
    /// Remasking at a capped rate (ReMDM).
    RemdmCap,
    /// Remasking at a share of the largest rate.
    RemdmRescale,
    /// Remasking of the tokens that were least probable when they were revealed.
    RemdmConf,
    /// Remasking at a constant number of masks in between.
    RemdmLoop,
    /// The leftmost masked position; how autoregressive models sample.
    LeftToRight,
}

impl SamplerKind {
    /// Every sampler.
    pub const ALL: [Self; 11] = [
        Self::Ancestral,
        Self::FirstHitting,
        Self::Analytic,
        Self::Confidence,
        Self::Threshold,
        Self::EntropyBound,
        Self::RemdmCap,
        Self::RemdmRescale,
        Self::RemdmConf,
        Self::RemdmLoop,
        Self::LeftToRight,
    ];

    /// Whether it reads [`SampleConfig::steps`]; the others take as many steps as they need.
    pub fn has_steps(self) -> bool {
        !matches!(
            self,
            Self::FirstHitting | Self::Threshold | Self::EntropyBound | Self::LeftToRight
        )
    }

    /// Its name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ancestral => "ancestral",
            Self::FirstHitting => "first-hitting",
            Self::Analytic => "analytic",
            Self::Confidence => "confidence",
            Self::Threshold => "threshold",
            Self::EntropyBound => "entropy-bound",
            Self::RemdmCap => "remdm-cap",
            Self::RemdmRescale => "remdm-rescale",
            Self::RemdmConf => "remdm-conf",
            Self::RemdmLoop => "remdm-loop",
            Self::LeftToRight => "left-to-right",
        }
    }
}

impl SampleConfig {
    /// Checks every value, and that the sampler reads every option that was changed.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key and what would do.
    pub fn validate(&self) -> Result<()> {
        check_range("sampling.steps", self.steps as u64, 1..=1 << 24)?;
        check_range("sampling.seed", self.seed, 0..=MAX_INTEGER)?;
        let warm = |x| x == 0.0 || (0.01..=100.0).contains(&x);
        let problem = "must be 0 or in [0.01, 100]";
        check("sampling.temperature", self.temperature, warm, problem)?;
        let share = |x| x > 0.0 && x <= 1.0;
        check("sampling.top_p", self.top_p, share, "must be in (0, 1]")?;
        let calls = self.tokens_per_call as u64;
        check_range("sampling.tokens_per_call", calls, 1..=1 << 16)?;
        for (key, value) in [
            ("sampling.order_noise", self.order_noise),
            ("sampling.gamma", self.gamma),
        ] {
            check(key, value, |x| x >= 0.0, "must be finite and not negative")?;
        }
        let chance = |x: f64| (0.0..=1.0).contains(&x);
        for (key, value) in [
            ("sampling.threshold", self.threshold),
            ("sampling.eta", self.eta),
        ] {
            check(key, value, chance, "must be in [0, 1]")?;
        }
        let inside = |x: f64| x > 0.0 && x < 1.0;
        for (key, value) in [
            ("sampling.t_on", self.t_on),
            ("sampling.alpha_on", self.alpha_on),
        ] {
            check(key, value, inside, "must be above 0 and below 1")?;
        }
        let before = |x: f64| x > 0.0 && x < self.t_on;
        let problem = "must be above 0 and below sampling.t_on";
        check("sampling.t_off", self.t_off, before, problem)?;
        check_range("sampling.stride", self.stride as u64, 0..=1 << 24)?;
        self.check_unread()?;
        self.check_loop()
    }

    /// Checks that `count` samples, whose seeds count up from this one, have seeds that can be.
    ///
    /// # Errors
    /// [`Error::Config`] that names the last one.
    pub fn check_seeds(&self, count: u64) -> Result<()> {
        let last = self.seed.saturating_add(count.saturating_sub(1));
        check_range("sampling.seed of the last sample", last, 0..=MAX_INTEGER)
    }

    /// Refuses a changed option that the sampler would ignore.
    fn check_unread(&self) -> Result<()> {
        use SamplerKind::{
            Confidence, EntropyBound, FirstHitting, RemdmCap, RemdmLoop, RemdmRescale, Threshold,
        };
        let d = Self::default();
        let greedy = self.temperature == 0.0;
        for (key, value, changed) in [
            ("top_k", self.top_k.to_string(), self.top_k != d.top_k),
            ("top_p", self.top_p.to_string(), self.top_p != d.top_p),
        ] {
            if greedy && changed {
                let problem = "has no effect at sampling.temperature = 0; leave one of them out";
                return Err(Error::config(format!("sampling.{key}"), value, problem));
            }
        }
        let options: [(&str, f64, f64, &[SamplerKind]); 8] = [
            (
                "tokens_per_call",
                self.tokens_per_call as f64,
                d.tokens_per_call as f64,
                &[FirstHitting],
            ),
            (
                "order_noise",
                self.order_noise,
                d.order_noise,
                &[Confidence],
            ),
            ("threshold", self.threshold, d.threshold, &[Threshold]),
            ("gamma", self.gamma, d.gamma, &[EntropyBound]),
            ("eta", self.eta, d.eta, &[RemdmCap, RemdmRescale, RemdmLoop]),
            ("t_on", self.t_on, d.t_on, &[RemdmLoop]),
            ("t_off", self.t_off, d.t_off, &[RemdmLoop]),
            ("alpha_on", self.alpha_on, d.alpha_on, &[RemdmLoop]),
        ];
        for (key, value, default, readers) in options {
            if value != default && !readers.contains(&self.sampler) {
                let names: Vec<_> = readers.iter().map(|kind| kind.name()).collect();
                let problem = format!(
                    "{} does not read it; leave it out, or set sampling.sampler to {}",
                    self.sampler.name(),
                    names.join(" or ")
                );
                return Err(Error::config(format!("sampling.{key}"), value, problem));
            }
        }
        Ok(())
    }

    /// Refuses a loop that would mask more than it can fill again.
    fn check_loop(&self) -> Result<()> {
        let most = (1.0 - self.alpha_on) / self.alpha_on;
        if self.sampler == SamplerKind::RemdmLoop && self.eta > most {
            let problem = format!("must be at most {most:.4}, (1 - alpha_on) / alpha_on");
            return Err(Error::config("sampling.eta", self.eta, problem));
        }
        Ok(())
    }
}
