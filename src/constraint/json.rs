//! JSON whose objects keep their order.

use std::fmt;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// A value of JSON. Members of objects stay in the order in which they were written, which is the order in which an
/// answer has them; displayed as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number as it was written, up to what a float holds.
    Number(serde_json::Number),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Json>),
    /// An object.
    Object(IndexMap<String, Json>),
}

impl Json {
    /// The value at a pointer into an object or a list: `$defs/name`.
    pub(super) fn at(&self, pointer: &str) -> Option<&Self> {
        pointer.split('/').try_fold(self, |value, name| {
            let name = name.replace("~1", "/").replace("~0", "~");
            match value {
                Self::Object(members) => members.get(&name),
                Self::List(items) => items.get(name.parse::<usize>().ok()?),
                _ => None,
            }
        })
    }

    /// What type of a schema it is of; a whole number is an `integer`.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Number(number) if number.is_f64() => "number",
            Self::Number(_) => "integer",
            Self::Text(_) => "string",
            Self::List(_) => "array",
            Self::Object(_) => "object",
        }
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}
