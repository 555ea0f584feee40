//! How a sampler declares itself: its name, what it says of itself, its options, and how its rule is made.

use std::collections::BTreeMap;

use super::plan::Rule;
use crate::error::Result;
use crate::process::{Hybrid, Schedule};

/// A sampler: what settings, command lines and the page know of it.
pub struct Declaration {
    /// Its name in settings.
    pub name: &'static str,
    /// What it does, in half a line.
    pub summary: &'static str,
    /// Whether it reads [`SampleConfig::steps`](crate::config::SampleConfig::steps); the others take as many as they
    /// need.
    pub has_steps: bool,
    /// The options that it reads.
    pub options: &'static [Choice],
    /// An error if options do not go together that are fine one by one.
    pub check: fn(&Options) -> Result<()>,
    /// Its rule for a model and settings.
    pub make: fn(&Setting<'_>) -> Box<dyn Rule>,
}

/// An option of samplers: a number with a default and bounds.
#[derive(Clone, Copy)]
pub struct Choice {
    /// Its key in `[sampling]`.
    pub key: &'static str,
    /// What it does: a sentence for the help of flags.
    pub help: &'static str,
    /// Its value in settings that do not set it.
    pub default: f64,
    /// Whether only whole numbers make sense; files then hold an integer.
    pub whole: bool,
    /// Whether a finite value lies within its bounds.
    pub holds: fn(f64) -> bool,
    /// What to say of one that is not: `must be ...`.
    pub problem: &'static str,
}

/// Which positions a step fills: one of [`ALL`](super::ALL), or a declaration of one's own.
///
/// ```
/// use mdlm::SamplerKind;
///
/// for kind in mdlm::rules::ALL {
///     println!("{}: {}", kind.name, kind.summary);
/// }
/// assert!(SamplerKind::CONFIDENCE.has_steps && !SamplerKind::THRESHOLD.has_steps);
/// assert_eq!(SamplerKind::THRESHOLD.options[0].key, "threshold");
/// ```
#[derive(Clone, Copy)]
pub struct SamplerKind(pub &'static Declaration);

impl std::ops::Deref for SamplerKind {
    type Target = Declaration;

    fn deref(&self) -> &Declaration {
        self.0
    }
}

impl PartialEq for SamplerKind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for SamplerKind {}

impl std::fmt::Debug for SamplerKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Values of options, by key; an option that is not there has its default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options(pub(super) BTreeMap<String, f64>);

impl Options {
    /// The value of an option.
    pub fn get(&self, choice: &Choice) -> f64 {
        self.0.get(choice.key).copied().unwrap_or(choice.default)
    }

    /// Sets an option. Whether there is such a one, and whether the value will do, is said when the settings are
    /// validated.
    pub fn set(&mut self, key: &str, value: f64) {
        self.0.insert(key.to_owned(), value);
    }

    /// What was set, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(key, &value)| (key.as_str(), value))
    }
}

/// What a rule is made for.
pub struct Setting<'a> {
    /// The noise of the model.
    pub schedule: &'a Schedule,
    /// That noise where it also changes tokens for others.
    pub hybrid: Option<Hybrid>,
    /// Steps of a window.
    pub steps: usize,
    /// Whether the model predicts scores (SEDD) instead of tokens.
    pub scores: bool,
    /// Number of tokens, the mask included.
    pub vocab_size: usize,
    /// Options of the samplers.
    pub options: &'a Options,
}
