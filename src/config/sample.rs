//! How to sample.

use serde::{Deserialize, Serialize};

use super::limits::{MAX_INTEGER, check, check_range};
use crate::constraint::{Automaton, pattern};
use crate::error::{Error, Result};
use crate::rules::{ALL, Options, SamplerKind, choices};

/// Characters of a constraint that its error shows.
const SHOWN: usize = 60;

/// How to sample: which positions a step fills (`sampler` and its options), and what with
/// (`temperature`, `top_k`, `top_p`).
///
/// ```
/// use mdlm::{SampleConfig, SamplerKind};
///
/// let config = SampleConfig {
///     sampler: SamplerKind::THRESHOLD,
///     temperature: 0.8,
///     ..SampleConfig::default()
/// };
/// config.with("threshold", 0.7).validate()?;
/// // what the sampler would ignore is refused
/// assert!(SampleConfig::default().with("threshold", 0.7).validate().is_err());
/// # Ok::<(), mdlm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SampleConfig {
    /// Steps of a window, for samplers that have a number of them; the others take as many as they need.
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
    /// Options of samplers, in files beside the other keys; see [`Declaration::options`](crate::rules::Declaration).
    /// One that the chosen sampler does not read must keep its default.
    #[serde(flatten)]
    pub options: Options,
    /// Positions by which the window moves over a canvas longer than the model; 0: half of it.
    pub stride: usize,
    /// Positions that are filled before the next ones are begun, counted from the end of a prompt, or, if there are
    /// gaps to fill, from the beginning; `steps` are those of such a block. 0: all of a window, or the blocks that the
    /// model was trained with.
    pub block: usize,
    /// How far logits are moved away from those that the network gives without what the canvas began with
    /// (classifier-free guidance): `l + guidance (l - m)`. Takes two network calls in one.
    pub guidance: f64,
    /// Which keys and values are kept from call to call.
    pub cache: Cache,
    /// Tokens that end what is written: a canvas is done once a block has been filled with one in it, and ends with that
    /// block.
    pub ends: Vec<u32>,
    /// Tokens that are never written, such as the end of a text.
    pub suppress: Vec<u32>,
    /// Tokens that samplers which go by the predictions write last, however sure the model is: ends of texts, which a
    /// model is sure of long before it knows what stands before them.
    pub late: Vec<u32>,
    /// A regular expression that what is written must match as a whole: the text from the first open position to the
    /// last, decoded by itself. It may be followed by ends of texts, if nothing else stands behind. Empty: none.
    pub regex: String,
    /// A JSON schema under which what is written must be valid, likewise; see [`pattern`](crate::constraint::pattern)
    /// for what is read of it. Empty: none.
    pub json_schema: String,
}

/// Which keys and values are kept from call to call, so that only the other rows are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// Those that cannot change: of finished blocks in a network that sees block by block, of the text so far in an
    /// autoregressive one. Elsewhere none.
    #[default]
    Exact,
    /// None.
    Off,
    /// Those before the block, as they were when it was begun, though the network would see the block in them
    /// (Fast-dLLM's prefix cache).
    Prefix,
    /// Those before and behind the block, as they were when it was begun (Fast-dLLM's dual cache).
    Dual,
}

impl std::fmt::Display for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Exact => "exact",
            Self::Off => "off",
            Self::Prefix => "prefix",
            Self::Dual => "dual",
        })
    }
}

impl Cache {
    /// Whether any are kept of a network whose rows do, or do not, see less than all.
    pub(crate) fn keeps(self, partial: bool) -> bool {
        match self {
            Self::Exact => partial,
            Self::Off => false,
            Self::Prefix | Self::Dual => true,
        }
    }
}

impl Default for SampleConfig {
    fn default() -> Self {
        Self {
            steps: 128,
            seed: 1,
            sampler: SamplerKind::ANCESTRAL,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            options: Options::default(),
            stride: 0,
            block: 0,
            guidance: 0.0,
            cache: Cache::Exact,
            ends: Vec::new(),
            suppress: Vec::new(),
            late: Vec::new(),
            regex: String::new(),
            json_schema: String::new(),
        }
    }
}

impl SampleConfig {
    /// The same with an option of a sampler, such as `threshold`.
    #[must_use]
    pub fn with(mut self, key: &str, value: f64) -> Self {
        self.options.set(key, value);
        self
    }

    /// Checks every value, and that the sampler reads every option that was changed.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key and what would do.
    pub fn validate(&self) -> Result<()> {
        self.checked().map(drop)
    }

    /// As [`SampleConfig::validate`], with what [`SampleConfig::constraint`] makes, which takes long to make.
    ///
    /// # Errors
    /// As [`SampleConfig::validate`].
    pub(crate) fn checked(&self) -> Result<Option<Automaton>> {
        check_range("sampling.steps", self.steps as u64, 1..=1 << 24)?;
        check_range("sampling.seed", self.seed, 0..=MAX_INTEGER)?;
        let warm = |x| x == 0.0 || (0.01..=100.0).contains(&x);
        let problem = "must be 0 or in [0.01, 100]";
        check("sampling.temperature", self.temperature, warm, problem)?;
        let share = |x| x > 0.0 && x <= 1.0;
        check("sampling.top_p", self.top_p, share, "must be in (0, 1]")?;
        check_range("sampling.stride", self.stride as u64, 0..=1 << 24)?;
        check_range("sampling.block", self.block as u64, 0..=1 << 24)?;
        let problem = "must be in [0, 100]";
        let holds = |x| (0.0..=100.0).contains(&x);
        check("sampling.guidance", self.guidance, holds, problem)?;
        if matches!(self.cache, Cache::Prefix | Cache::Dual) && self.block == 0 {
            let problem = "is about blocks: set sampling.block";
            return Err(Error::config("sampling.cache", self.cache, problem));
        }
        for (key, value, changed) in [
            ("top_k", self.top_k.to_string(), self.top_k != 0),
            ("top_p", self.top_p.to_string(), self.top_p != 1.0),
        ] {
            if self.temperature == 0.0 && changed {
                let problem = "has no effect at sampling.temperature = 0; leave one of them out";
                return Err(Error::config(format!("sampling.{key}"), value, problem));
            }
        }
        for (key, value) in self.options.iter() {
            self.check_option(key, value)?;
        }
        (self.sampler.check)(&self.options)?;
        self.constraint()
    }

    /// What texts must be, if anything was said of it.
    ///
    /// # Errors
    /// [`Error::Config`] for what is no regular expression or no JSON schema, for more than is read of one, and for
    /// both at once.
    pub fn constraint(&self) -> Result<Option<Automaton>> {
        let (schema, regex) = (&self.json_schema, &self.regex);
        let made = match (schema.is_empty(), regex.is_empty()) {
            (true, true) => return Ok(None),
            (true, false) => Automaton::new(regex),
            (false, true) => pattern(schema).and_then(|pattern| Automaton::new(&pattern)),
            (false, false) => Err("is given beside sampling.regex; leave one of them out".into()),
        };
        made.map(Some).map_err(|problem| self.unfit(problem))
    }

    /// The error of a constraint.
    pub(crate) fn unfit(&self, problem: impl Into<String>) -> Error {
        let (key, text) = match self.json_schema.is_empty() {
            true => ("sampling.regex", &self.regex),
            false => ("sampling.json_schema", &self.json_schema),
        };
        let mut shown: String = text.chars().take(SHOWN).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        Error::config(key, shown, problem)
    }

    /// Checks that `count` samples, whose seeds count up from this one, have seeds that can be.
    ///
    /// # Errors
    /// [`Error::Config`] that names the last one.
    pub fn check_seeds(&self, count: u64) -> Result<()> {
        let last = self.seed.saturating_add(count.saturating_sub(1));
        check_range("sampling.seed of the last sample", last, 0..=MAX_INTEGER)
    }

    /// Refuses an option that no sampler has, a value outside its bounds, and one that the sampler would ignore.
    fn check_option(&self, key: &str, value: f64) -> Result<()> {
        let name = format!("sampling.{key}");
        let mut choices = choices();
        // a sampler that a program has brought may have others
        let own = self.sampler.options.iter();
        let others = own.filter(|own| choices.iter().all(|known| known.key != own.key));
        let others: Vec<_> = others.copied().collect();
        choices.extend(others);
        let Some(choice) = choices.iter().find(|choice| choice.key == key) else {
            let keys: Vec<_> = choices.iter().map(|choice| choice.key).collect();
            let problem = format!("no sampler has it; their options are {}", keys.join(", "));
            return Err(Error::config(name, value, problem));
        };
        let holds = |x: f64| (choice.holds)(x) && (!choice.whole || x.fract() == 0.0);
        check(&name, value, holds, choice.problem)?;
        let reads = |kind: &SamplerKind| kind.options.iter().any(|read| read.key == key);
        if value != choice.default && !reads(&self.sampler) {
            let readers = ALL.iter().filter(|kind| reads(kind));
            let names: Vec<_> = readers.map(|kind| kind.name).collect();
            let problem = format!(
                "{} does not read it; leave it out, or set sampling.sampler to {}",
                self.sampler.name,
                names.join(" or ")
            );
            return Err(Error::config(name, value, problem));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Choice, Declaration};

    const OWN: Choice = Choice {
        key: "patience",
        help: "",
        default: 1.0,
        whole: true,
        holds: |x| x >= 1.0,
        problem: "must be at least 1",
    };
    const MINE: SamplerKind = SamplerKind(&Declaration {
        name: "mine",
        options: &[OWN],
        ..*SamplerKind::LEFT_TO_RIGHT.0
    });

    #[test]
    fn a_sampler_of_ones_own_has_options_of_its_own() {
        let config = SampleConfig {
            sampler: MINE,
            ..SampleConfig::default()
        };
        config.clone().with("patience", 3.0).validate().unwrap();
        for (key, value) in [("patience", 0.0), ("patience", 1.5), ("gamma", 3.0)] {
            assert!(config.clone().with(key, value).validate().is_err());
        }
        let other = SampleConfig::default().with("patience", 3.0);
        assert!(other.validate().is_err());
    }
}
