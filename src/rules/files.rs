//! Samplers and their options in files of settings: names, and numbers under their keys.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{ALL, Options, SamplerKind, choices};

impl Serialize for SamplerKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

impl<'de> Deserialize<'de> for SamplerKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let found = ALL.iter().find(|kind| kind.name == name);
        found.copied().ok_or_else(|| {
            let names: Vec<_> = ALL.iter().map(|kind| format!("`{}`", kind.name)).collect();
            D::Error::custom(format!(
                "unknown sampler `{name}`, expected one of {}",
                names.join(", ")
            ))
        })
    }
}

/// All options with their values, so that a file says everything.
impl Serialize for Options {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let choices = choices();
        let mut map = serializer.serialize_map(Some(choices.len()))?;
        for choice in &choices {
            let value = self.get(choice);
            match choice.whole {
                true => map.serialize_entry(choice.key, &(value as u64))?,
                false => map.serialize_entry(choice.key, &value)?,
            }
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Options {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Numbers)
    }
}

struct Numbers;

impl<'de> Visitor<'de> for Numbers {
    type Value = Options;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("options of samplers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Options, A::Error> {
        let (choices, mut options) = (choices(), Options::default());
        while let Some(key) = map.next_key::<String>()? {
            let Some(choice) = choices.iter().find(|choice| choice.key == key) else {
                return Err(A::Error::custom(format!("unknown field `{key}`")));
            };
            let named = |e: A::Error| A::Error::custom(format!("{key}: {e}"));
            let value: f64 = map.next_value().map_err(named)?;
            if value != choice.default {
                options.set(&key, value);
            }
        }
        Ok(options)
    }
}
