//! Reading, writing and overriding a [`TrainConfig`] as TOML. Every value, from a file or from a
//! flag, goes through [`TrainConfig::assign`] on its own, so an error can always name its key.

use toml::{Table, Value};

use super::BaseConfig;
use super::train::TrainConfig;
use crate::error::{Error, Result};

/// Keys in which a resumed run may differ from the one that was saved.
const FREE_ON_RESUME: [&str; 6] = [
    "training.steps",
    "training.save_every",
    "training.patience",
    "training.recompute",
    "training.shard",
    "data.cache",
];

impl TrainConfig {
    /// Reads a TOML file's text over the defaults. Values are checked for type only; see
    /// [`TrainConfig::validate`].
    pub fn from_toml(text: &str) -> Result<Self> {
        let file: Table = text.parse().map_err(|e: toml::de::Error| {
            let start = e.span().map_or(0, |span| span.start);
            let line = 1 + text.bytes().take(start).filter(|&b| b == b'\n').count();
            Error::config("(file)", format!("line {line}"), e.message())
        })?;
        let mut config = Self::default();
        for (key, value) in leaves(&file, &known()?) {
            config.assign(&key, value)?;
        }
        Ok(config)
    }

    /// The whole configuration as TOML, defaults written out.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::config("(all)", "…", e.to_string()))
    }

    /// Overrides one value, given as `section.key=value`. Text needs no quotes.
    pub fn set(&mut self, assignment: &str) -> Result<()> {
        let Some((key, text)) = assignment.split_once('=') else {
            return Err(Error::config(assignment, "", "expected section.key=value"));
        };
        let (key, text) = (key.trim(), text.trim());
        let known = known()?;
        let number = || text.parse::<f64>().ok().map(Value::Float);
        let value = match (lookup(&known, key), text.parse::<Value>().ok()) {
            (_, Some(Value::String(quoted))) => Value::String(quoted),
            // Text that happens to look like something else.
            (Some(Value::String(_)), _) => Value::String(text.to_owned()),
            (_, Some(other)) => other,
            // TOML's integers end earlier than those that people write, and its numbers are spelled in one way.
            (Some(Value::Integer(_)), None) if text.parse::<i128>().is_ok() => {
                let outside = |_| Error::config(key, text, format!("must be in 0..={}", i64::MAX));
                Value::Integer(text.parse().map_err(outside)?)
            }
            (Some(Value::Integer(_) | Value::Float(_)), None) => {
                number().unwrap_or_else(|| Value::String(text.to_owned()))
            }
            (_, None) => Value::String(text.to_owned()),
        };
        self.assign(key, value)
    }

    /// The first dotted key in which two configurations differ, apart from what a resumed run
    /// may change: its length, the distance between checkpoints, patience, what is computed again, what ranks keep, and
    /// where blocks are cached.
    pub fn difference(&self, other: &Self) -> Option<String> {
        self.difference_but(other, &FREE_ON_RESUME)
    }

    /// The first dotted key in which the settings of two ranks differ, apart from where blocks are cached.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn difference_among_ranks(&self, other: &Self) -> Option<String> {
        self.difference_but(other, &["data.cache"])
    }

    fn difference_but(&self, other: &Self, free: &[&str]) -> Option<String> {
        let tables = (Table::try_from(self), Table::try_from(other));
        let (Ok(ours), Ok(theirs)) = tables else {
            return Some("seed".to_owned());
        };
        let nothing = Table::new();
        let (ours, theirs) = (leaves(&ours, &nothing), leaves(&theirs, &nothing));
        let differs = |(key, value): &&(String, Value), side: &[(String, Value)]| {
            !free.contains(&key.as_str()) && !side.iter().any(|(k, v)| k == key && v == value)
        };
        let left = ours.iter().find(|leaf| differs(leaf, &theirs));
        let right = || theirs.iter().find(|leaf| differs(leaf, &ours));
        left.or_else(right).map(|(key, _)| key.clone())
    }

    /// The value of a dotted key, for people to read.
    pub(crate) fn value(&self, key: &str) -> String {
        let table = Table::try_from(self).unwrap_or_default();
        lookup(&table, key).map_or_else(|| "nothing".to_owned(), shown)
    }

    fn assign(&mut self, key: &str, value: Value) -> Result<()> {
        let known = known()?;
        if !matches!(lookup(&known, key), Some(v) if !v.is_table()) {
            return Err(unknown_key(&known, key, &value));
        }
        let shown = shown(&value);
        if let Some(problem) = lookup(&known, key).and_then(|known| mismatch(known, &value)) {
            return Err(Error::config(key, shown, problem));
        }
        let mut all = Table::try_from(&*self).map_err(|e| Error::Internal(e.to_string()))?;
        match key.split_once('.') {
            None => drop(all.insert(key.to_owned(), value)),
            Some((section, name)) => {
                let section = all.entry(section).or_insert(Value::Table(Table::new()));
                if let Value::Table(section) = section {
                    section.insert(name.to_owned(), value);
                }
            }
        }
        *self = all.try_into().map_err(|e: toml::de::Error| {
            let range = format!("expected a whole number up to {}", u32::MAX);
            Error::config(key, shown, e.message().replace("expected u32", &range))
        })?;
        Ok(())
    }
}

/// What is wrong with the type of a value where one like `known` belongs.
fn mismatch(known: &Value, value: &Value) -> Option<String> {
    let kind = |value: &Value| match value {
        Value::String(_) => "text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Array(_) => "a list",
        Value::Datetime(_) => "a time",
        Value::Table(_) => "a section",
    };
    match (known, value) {
        (Value::Float(_), Value::Integer(_)) => None,
        // no setting counts below nothing
        (Value::Integer(_), Value::Integer(n)) if *n < 0 => Some("must not be negative".to_owned()),
        (known, value) if kind(known) == kind(value) => None,
        (known, value) => Some(format!(
            "invalid type: {}, expected {}",
            kind(value),
            kind(known)
        )),
    }
}

/// A table in which every key is present, optional ones too.
fn known() -> Result<Table> {
    let mut config = TrainConfig::default();
    config.resolve();
    config.objective.shift = true;
    config.lora.rank = 1;
    (config.data.sources, config.data.weights) = (vec![String::new()], vec![1.0]);
    config.base = BaseConfig {
        path: "DIR".to_owned(),
        model_type: Some(String::new()),
        mask: Some(0),
        shift: Some(false),
        weights: Some(String::new()),
    };
    Table::try_from(config).map_err(|e| Error::Internal(e.to_string()))
}

fn lookup<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((section, rest)) => lookup(table.get(section)?.as_table()?, rest),
    }
}

/// Dotted keys and values. A table counts as a value where `known` has a plain value.
fn leaves(table: &Table, known: &Table) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (key, value) in table {
        let section = match (value, known.get(key)) {
            (Value::Table(section), Some(Value::Table(_))) => Some(section),
            // An empty unknown section must not pass unseen.
            (Value::Table(section), None) if !section.is_empty() => Some(section),
            _ => None,
        };
        match section {
            Some(section) => {
                found.extend(
                    section
                        .iter()
                        .map(|(k, v)| (format!("{key}.{k}"), v.clone())),
                );
            }
            None => found.push((key.clone(), value.clone())),
        }
    }
    found
}

fn unknown_key(known: &Table, key: &str, value: &Value) -> Error {
    let section = key.split_once('.').map(|(section, _)| section);
    let (place, keys) = match section.and_then(|s| Some((s, known.get(s)?.as_table()?))) {
        Some((section, table)) => (format!("[{section}]"), table),
        None => ("the file".to_owned(), known),
    };
    let names: Vec<&str> = keys.keys().map(String::as_str).collect();
    let problem = match lookup(known, key) {
        Some(_) => format!("is a section; {place} has {}", names.join(", ")),
        None => format!("unknown key; {place} has {}", names.join(", ")),
    };
    Error::config(key, shown(value), problem)
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Table(_) => "a section".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LrSchedule, ModelConfig};

    fn refused(result: Result<impl std::fmt::Debug>, key: &str, part: &str) {
        match result {
            Err(Error::Config {
                key: k, problem, ..
            }) if k == key => {
                assert!(problem.contains(part), "{problem}");
            }
            other => panic!("expected an error about {key}, got {other:?}"),
        }
    }

    #[test]
    fn toml_round_trip() {
        let mut config = TrainConfig::default();
        assert_eq!(TrainConfig::from_toml("").unwrap(), config);
        config.model = ModelConfig::preset("mini").unwrap();
        config.optim.schedule = LrSchedule::Cosine;
        config.resolve();
        let text = config.to_toml().unwrap();
        assert_eq!(TrainConfig::from_toml(&text).unwrap(), config);
    }

    #[test]
    fn file_errors_name_the_dotted_key() {
        let file = |text: &str| TrainConfig::from_toml(text);
        refused(file("[training]\nbatsh = 3"), "training.batsh", "batch");
        refused(file("[train]\nbatch = 3"), "train.batch", "training");
        refused(file("sead = 3"), "sead", "seed");
        refused(
            file("[training]\nbatch = \"many\""),
            "training.batch",
            "invalid type",
        );
        refused(
            file("[training]\nbatch = -1"),
            "training.batch",
            "must not be negative",
        );
        refused(
            file("[optim]\nschedule = \"linear\""),
            "optim.schedule",
            "cosine",
        );
        refused(
            file("[noise]\ntype = \"sigmoid\""),
            "noise.type",
            "loglinear",
        );
        refused(file("training = 3"), "training", "section");
        refused(
            file("[training.batch]\nx = 1"),
            "training.batch",
            "invalid type",
        );
        refused(file("seed = 1\n[training"), "(file)", "");
        refused(file("[trainnig]"), "trainnig", "unknown key");
        assert_eq!(file("[training]").unwrap(), TrainConfig::default());
        assert_eq!(file("\u{FEFF}seed = 3").unwrap().seed, 3);
        assert_eq!(file("[optim]\nlr = 1").unwrap().optim.lr, Some(1.0));
    }

    #[test]
    fn set_overrides_one_value() {
        let mut config = TrainConfig::default();
        config.set("training.batch=7").unwrap();
        config.set("optim.lr = 1e-3").unwrap();
        config.set("optim.warmup=12").unwrap();
        config.set("data.train=2020").unwrap();
        config.set("data.valid=a/b.txt.gz").unwrap();
        config.set("data.tokenizer=\"char\"").unwrap();
        config.set("model.time_conditioning=true").unwrap();
        config.set("seed=9").unwrap();
        config.set("optim.clip=NaN").unwrap();
        assert!(config.optim.clip.is_nan());
        config.set("optim.clip=1").unwrap();
        assert_eq!((config.training.batch, config.optim.lr), (7, Some(1e-3)));
        assert_eq!((config.optim.warmup, config.seed), (Some(12), 9));
        assert_eq!(
            (config.data.train.as_str(), config.data.valid.as_str()),
            ("2020", "a/b.txt.gz")
        );
        assert_eq!(config.data.tokenizer, "char");
        assert!(config.model.time_conditioning);

        let before = config.clone();
        refused(
            config.set("training.batch"),
            "training.batch",
            "section.key=value",
        );
        refused(config.set("training.bach=3"), "training.bach", "batch");
        refused(config.set("training=3"), "training", "section");
        refused(
            config.set("model.dropout=high"),
            "model.dropout",
            "invalid type",
        );
        refused(config.set("a.b.c=1"), "a.b.c", "unknown");
        let number = "expected a whole number";
        refused(config.set("seed=many"), "seed", number);
        refused(config.set("training.batch=1.5"), "training.batch", number);
        let large = "seed=9223372036854775808";
        refused(
            config.set(large),
            "seed",
            "must be in 0..=9223372036854775807",
        );
        refused(
            config.set("training.batch=-1"),
            "training.batch",
            "must not be negative",
        );
        let problem = "expected true or false";
        refused(config.set("data.wrap=1"), "data.wrap", problem);
        refused(config.set("data.wrap=yes"), "data.wrap", problem);
        assert_eq!(config, before);
    }

    #[test]
    fn difference_ignores_what_a_resume_may_change() {
        let saved = TrainConfig::default();
        let mut given = saved.clone();
        given.training.steps = 5;
        given.training.save_every = 1;
        given.training.patience = 2;
        assert_eq!(given.difference(&saved), None);
        given.optim.warmup = Some(3);
        assert_eq!(given.difference(&saved).as_deref(), Some("optim.warmup"));
        assert_eq!(saved.difference(&given).as_deref(), Some("optim.warmup"));
        given.optim.warmup = None;
        given.seed = 4;
        assert_eq!(given.difference(&saved).as_deref(), Some("seed"));
    }
}
