//! What a file says of itself: keys with typed values.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The value of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An integer of any of the format's types.
    Whole(i128),
    /// An f32 or f64.
    Number(f64),
    /// True or false.
    Flag(bool),
    /// UTF-8.
    Text(String),
    /// Values of one type, none of them a list.
    List(Vec<Value>),
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::Whole(_) => "a whole number",
            Self::Number(_) => "a number",
            Self::Flag(_) => "true or false",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => value.fmt(f),
            Self::Number(value) => value.fmt(f),
            Self::Flag(value) => value.fmt(f),
            Self::Text(value) => f.pad(value),
            Self::List(values) => write!(f, "a list of {}", values.len()),
        }
    }
}

/// All keys of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    path: PathBuf,
    pub(super) values: BTreeMap<String, Value>,
}

impl Metadata {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            values: BTreeMap::new(),
        }
    }

    /// Keys in alphabetical order, with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// An error about the file as a whole.
    pub fn damaged(&self, problem: impl Into<String>) -> Error {
        Error::checkpoint(&self.path, None, problem.into())
    }

    /// What a file must say.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] that names the key if nothing was found.
    pub fn required<T>(&self, key: &str, found: Option<T>) -> Result<T> {
        found.ok_or_else(|| self.damaged(format!("its metadata has no {key}")))
    }

    fn get<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        take: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.values.get(key) else {
            return Ok(None);
        };
        let wrong = || {
            let problem = format!("{key} is {}, expected {expected}", value.kind());
            self.damaged(problem)
        };
        take(value).map(Some).ok_or_else(wrong)
    }

    /// Text.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] that names the key if its value is of another type; so in those that follow.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        self.get(key, "text", |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A whole number from 0 to 2^31 - 1.
    ///
    /// # Errors
    /// As [`Metadata::text`].
    pub fn whole(&self, key: &str) -> Result<Option<usize>> {
        self.get(key, "a whole number below 2^31", |value| match value {
            Value::Whole(whole) => i32::try_from(*whole).ok()?.try_into().ok(),
            _ => None,
        })
    }

    /// A number that is finite.
    ///
    /// # Errors
    /// As [`Metadata::text`].
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        self.get(key, "a finite number", |value| match value {
            Value::Number(number) => Some(*number).filter(|x| x.is_finite()),
            _ => None,
        })
    }

    /// True or false.
    ///
    /// # Errors
    /// As [`Metadata::text`].
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.get(key, "true or false", |value| match value {
            Value::Flag(flag) => Some(*flag),
            _ => None,
        })
    }

    /// A list of texts.
    ///
    /// # Errors
    /// As [`Metadata::text`].
    pub fn texts<'a>(&'a self, key: &str) -> Result<Option<Vec<&'a str>>> {
        self.get(key, "a list of texts", |value| {
            let Value::List(values) = value else {
                return None;
            };
            let text = |value: &'a Value| match value {
                Value::Text(text) => Some(text.as_str()),
                _ => None,
            };
            values.iter().map(text).collect()
        })
    }

    /// A list of whole numbers.
    ///
    /// # Errors
    /// As [`Metadata::text`].
    pub fn wholes(&self, key: &str) -> Result<Option<Vec<i128>>> {
        self.get(key, "a list of whole numbers", |value| {
            let Value::List(values) = value else {
                return None;
            };
            let whole = |value: &Value| match value {
                Value::Whole(whole) => Some(*whole),
                _ => None,
            };
            values.iter().map(whole).collect()
        })
    }
}
