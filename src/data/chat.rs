//! Chats as models were trained on them: the template of a `tokenizer_config.json`, rendered as `transformers` does.

use std::collections::BTreeMap;
use std::path::Path;

use minijinja::{Environment, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::gguf;
use crate::error::{Error, Result};
use crate::io::checkpoint::write_bytes;
use crate::io::gguf::Gguf;
use crate::io::{keyed, read};

/// Largest file that is read for a template.
const MAX_BYTES: u64 = 1 << 24;
/// Instructions that a template may take.
const FUEL: u64 = 5_000_000;
/// Longest text that a template may make, bytes.
const MAX_TEXT: usize = 1 << 24;
/// Files of a template and of the names of special tokens.
const TEMPLATE: &str = "chat_template.jinja";
const NAMES: &str = "tokenizer_config.json";
/// The template's name in errors.
const NAME: &str = "chat_template";

/// Something said in a chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who said it: `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

impl Message {
    /// A message of someone.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }
}

/// How a model wants to be told a chat.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: String,
    /// Names of special tokens, as templates know them: `bos_token` and so on.
    names: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Source {
    One(String),
    Several(Vec<Named>),
}

#[derive(Deserialize)]
struct Named {
    name: String,
    template: String,
}

impl ChatTemplate {
    /// A template with what it calls special tokens, such as `eos_token`; the error is for people.
    ///
    /// # Errors
    /// A sentence about what is wrong in it.
    pub fn new(source: &str, names: BTreeMap<String, String>) -> Result<Self, String> {
        let made = Self {
            source: source.to_owned(),
            names,
        };
        caught(|| {
            let environment = made.environment();
            let checked = environment.template_from_named_str(NAME, source);
            checked.map(drop)
        })?;
        Ok(made)
    }

    /// The template of a model's folder: `chat_template.jinja`, else that of `tokenizer_config.json`; or of a GGUF file;
    /// `None` for a model that was not made to chat.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a template or a file that is none; [`Error::Io`].
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        if dir.is_file() {
            let m = Gguf::open(dir)?.metadata;
            let found = gguf::chat_template(&m)?;
            let made = found.map(|(source, names)| Self::new(source, names));
            return made.transpose().map_err(|problem| m.damaged(problem));
        }
        let path = dir.join(NAMES);
        let damaged = |problem| Error::checkpoint(&path, None, problem);
        let mut config = BTreeMap::new();
        if path.is_file() {
            let bytes = read::read(&path, MAX_BYTES)?;
            config = keyed::parse::<BTreeMap<String, Value>>(&bytes).map_err(damaged)?;
        }
        let apart = dir.join(TEMPLATE);
        let (path, source) = if apart.is_file() {
            let text = String::from_utf8(read::read(&apart, MAX_BYTES)?);
            let text = text.map_err(|e| Error::checkpoint(&apart, None, e.to_string()))?;
            (&apart, Some(text))
        } else {
            let source = config.get(NAME).filter(|source| !source.is_null());
            let source = source.map(|source| chosen(source.clone())).transpose();
            (&path, source.map_err(damaged)?)
        };
        let name = |(key, value): (String, Value)| {
            let text = value.as_str().or_else(|| value["content"].as_str())?;
            key.ends_with("_token")
                .then(|| (key.clone(), text.to_owned()))
        };
        let names = config.into_iter().filter_map(name).collect();
        let made = source.map(|source| Self::new(&source, names)).transpose();
        made.map_err(|problem| Error::checkpoint(path, None, problem))
    }

    /// Writes what [`ChatTemplate::read`] reads into a folder: `chat_template.jinja`, and `tokenizer_config.json` with the
    /// names of special tokens if there are any.
    ///
    /// # Errors
    /// [`Error::Io`] that names the file.
    pub fn write(&self, dir: &Path) -> Result<()> {
        write_bytes(&dir.join(TEMPLATE), self.source.as_bytes())?;
        if self.names.is_empty() {
            return Ok(());
        }
        let names = serde_json::to_vec_pretty(&self.names);
        let names = names.map_err(|e| Error::Internal(e.to_string()))?;
        write_bytes(&dir.join(NAMES), &names)
    }

    /// The text of a chat; with `reply` up to where an answer begins. `more`: further variables, such as
    /// `enable_thinking`.
    ///
    /// # Errors
    /// [`Error::Argument`] with what the template says of messages that it does not take, or for one that does not end,
    /// or writes more than 16 MiB.
    pub fn render(
        &self,
        messages: &[Message],
        reply: bool,
        more: &serde_json::Map<String, Value>,
    ) -> Result<String> {
        let mut variables = more.clone();
        for (name, text) in &self.names {
            variables.insert(name.clone(), text.clone().into());
        }
        let said = serde_json::to_value(messages).map_err(|e| Error::Internal(e.to_string()))?;
        variables.insert("messages".into(), said);
        variables.insert("add_generation_prompt".into(), reply.into());
        let text = caught(|| {
            let environment = self.environment();
            let template = environment.template_from_named_str(NAME, &self.source)?;
            let mut text = Bounded(Vec::new());
            template.render_captured_to(variables, &mut text)?;
            Ok(String::from_utf8_lossy(&text.0).into_owned())
        });
        text.map_err(|problem| {
            let shown = format!("{} messages", messages.len());
            Error::argument(
                "messages",
                shown,
                format!("the chat template says: {problem}"),
            )
        })
    }

    fn environment(&self) -> Environment<'_> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |problem: String| {
            Err::<String, _>(minijinja::Error::new(ErrorKind::InvalidOperation, problem))
        });
        environment
    }
}

/// What a template has written, up to [`MAX_TEXT`].
struct Bounded(Vec<u8>);

impl std::io::Write for Bounded {
    fn write(&mut self, part: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + part.len() > MAX_TEXT {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What the template engine makes of something; its panics, which some templates can cause, are errors like others.
fn caught<T>(make: impl FnOnce() -> Result<T, minijinja::Error>) -> Result<T, String> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(make)) {
        Ok(made) => made.map_err(|e| told(&e)),
        Err(_) => Err("it cannot be carried out: the template engine gave up".to_owned()),
    }
}

/// The template of a configuration that has one, or the default one of several.
fn chosen(source: Value) -> Result<String, String> {
    match serde_json::from_value(source) {
        Ok(Source::One(source)) => Ok(source),
        Ok(Source::Several(mut all)) => {
            match all.iter().position(|named| named.name == "default") {
                Some(place) => Ok(all.swap_remove(place).template),
                None => Err(format!("{NAME}: has no template named default")),
            }
        }
        Err(_) => Err(format!(
            "{NAME}: expected text, or a list of named templates"
        )),
    }
}

/// What a template's error says, in a line.
fn told(error: &minijinja::Error) -> String {
    let what = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => "it takes too long".to_owned(),
        (ErrorKind::WriteFailure, _) => format!("it writes more than {MAX_TEXT} bytes"),
        (kind, None) => kind.to_string(),
        (_, Some(detail)) => detail.to_owned(),
    };
    match error.line() {
        Some(line) => format!("{what} (line {line})"),
        None => what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> Result<String> {
        let names = [("eos_token".to_owned(), "</s>".to_owned())];
        let template = ChatTemplate::new(source, names.into()).expect("a template");
        template.render(&[Message::new("user", " hi ")], true, &Default::default())
    }

    #[test]
    fn templates_see_the_chat() {
        let source = "{% for m in messages %}\n  {% if true %}\n{{ m['role'] }}: {{ m.content.strip() }}{{ eos_token }}\n\
                      {% endif %}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
        assert_eq!(
            render(source).unwrap_or_default(),
            "user: hi</s>\nassistant: "
        );
        assert_eq!(render("{{ nothing }}").unwrap_or_default(), "");
    }

    #[test]
    fn a_template_survives_its_files() {
        let dir = tempfile::tempdir().expect("a folder");
        for names in [
            BTreeMap::new(),
            [("eos_token".to_owned(), "</s>".to_owned())].into(),
        ] {
            let made = ChatTemplate::new("{{ messages[0].content }}{{ eos_token }}", names);
            let made = made.expect("a template");
            made.write(dir.path()).expect("written");
            let read = ChatTemplate::read(dir.path()).expect("read").expect("one");
            assert_eq!((read.source, read.names), (made.source, made.names));
        }
    }

    #[test]
    fn what_goes_wrong_is_told() {
        for (source, part) in [
            (
                "{{ raise_exception('roles must alternate') }}",
                "roles must alternate",
            ),
            (
                "{% for i in range(100000000) %}x{% endfor %}",
                "chat template says",
            ),
            (
                "{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}",
                "too long",
            ),
            (
                "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
                "chat template says",
            ),
            ("{{ messages.nothing.at.all }}", "chat template says"),
            ("{{ 'x' * 99999999 }}", "writes more than 16777216 bytes"),
            ("{{ 'x' * 999999999 }}", "too large"),
            (
                "{% for i in range(9999) %}{{ 'x' * 9999 }}{% endfor %}",
                "writes more than",
            ),
        ] {
            let error = render(source).expect_err(source).to_string();
            assert!(error.contains(part), "{source}: {error}");
        }
        let problem = ChatTemplate::new("{% for %}", BTreeMap::new()).expect_err("no template");
        assert!(problem.contains("line 1"), "{problem}");
    }
}
