//! What is done with a damaged document.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mdlm::config::{SampleConfig, TrainConfig};
use mdlm::constraint::{Automaton, pattern};
use mdlm::data::{ChatTemplate, Documents, Message, Tokenizer};
use mdlm::io::checkpoint;
use mdlm::io::files::{Files, InMemory, Source};
use mdlm::io::gguf::header;
use mdlm::io::safetensors::{TensorSpec, read_each};
use mdlm::model::{Load, inspect_files};
use mdlm::sample::{Denoiser, DrawOptions, Drawn, Facts};
use mdlm::web::arguments::{self, How, Training};
use mdlm::{Canvas, Device, Error, Model, Result, Sampler};
use mdlm_engine::gpu::{Shader, Source as Wgsl};
use pollster::block_on;

use crate::common::models::{small, tokenizer};

/// Whether an input was accepted, or what is wrong with how it was refused.
pub type Body = Box<dyn FnMut(&[u8]) -> std::result::Result<bool, String>>;

/// Something that reads documents of one format.
pub struct Target {
    pub name: &'static str,
    /// Pieces of the format.
    pub words: &'static [&'static str],
    /// Bytes that an execution may hold.
    pub room: usize,
    pub body: fn() -> Body,
}

pub const TARGETS: &[Target] = &[
    Target {
        name: "checkpoint",
        words: &[
            "\"sha256\":",
            "\"bytes\":",
            "\"../x\"",
            "{",
            "}",
            "\"format\": 1,",
        ],
        room: 64 << 20,
        body: manifest,
    },
    Target {
        name: "safetensors",
        words: &[
            "\"F16\"",
            "[",
            "]",
            "{",
            "\"data_offsets\":",
            "__metadata__",
            "4294967296",
            "\"a\":",
        ],
        room: 64 << 20,
        body: safetensors,
    },
    Target {
        name: "gguf",
        words: &["GGUF", "\u{9}\0\0\0", "\u{8}\0\0\0", "\0\0\0\0\0\0\0\u{1}"],
        room: 64 << 20,
        body: gguf,
    },
    Target {
        name: "config-toml",
        words: &[
            "[",
            "]",
            "= ",
            "1e999",
            "nan",
            "-1",
            "\"\"",
            "[sampling]\n",
            "9223372036854775807",
            "'''",
        ],
        room: 64 << 20,
        body: config_toml,
    },
    Target {
        name: "config-json",
        words: &[
            "null",
            "-1",
            "1e999",
            "\"\"",
            "[]",
            "{}",
            "18446744073709551615",
            "\"model_type\":",
            ",",
        ],
        room: 64 << 20,
        body: config_json,
    },
    Target {
        name: "tokenizer",
        words: &[
            "null",
            "\"type\":",
            "\"BPE\"",
            "\"Regex\":",
            "(a*)*b",
            "\"id\":",
            "[]",
            "{}",
            "1048575",
            "\\ud800",
        ],
        room: 64 << 20,
        body: tokenizer_json,
    },
    Target {
        name: "chat-template",
        words: &[
            "{{",
            "}}",
            "{%",
            "%}",
            "for x in range(99999999)",
            "endfor",
            "messages",
            "|",
            "[::-1]",
            "macro f()",
            "f()",
            "~",
            "loop",
        ],
        room: 64 << 20,
        body: chat_template,
    },
    Target {
        name: "canvas",
        words: &[
            "[MASK",
            ":",
            "]",
            "99999999999",
            "0",
            "[MASK:3]",
            "\u{10FFFF}",
            "[[",
            "\\",
        ],
        room: 64 << 20,
        body: canvas,
    },
    Target {
        name: "shader",
        words: &[
            "//#if ",
            "//#else",
            "//#endif",
            "//#include ",
            "lib/math",
            "//#unroll i 33",
            "//#end",
            "//#params",
            "{",
            "}",
            "const N: u32 = ",
        ],
        room: 64 << 20,
        body: shader,
    },
    Target {
        name: "jsonl",
        words: &[
            "{\"text\":",
            "null",
            "\"",
            "\\u0000",
            "\\ud800",
            "[",
            "\n",
            "}",
            "\u{FEFF}",
        ],
        room: 64 << 20,
        body: json_lines,
    },
    Target {
        name: "schema",
        words: &[
            "\"type\":",
            "\"pattern\":",
            "\"items\":",
            "\"$ref\":",
            "\"maxLength\": 99999",
            "\"enum\":",
            "{}",
            "true",
            "\"#\"",
            "\"oneOf\":",
        ],
        room: 256 << 20,
        body: schema,
    },
    Target {
        name: "page",
        words: &[
            "\"steps\":",
            "\"length\":",
            "\"tokenizer\": \"byte\"",
            "\"regex\":",
            "\"json_schema\":",
            "\"weights\": \"q4\"",
            "null",
            "-1",
            "1e999",
            "18446744073709551615",
            "[MASK:9]",
            "\n\n",
        ],
        room: 256 << 20,
        body: page,
    },
];

/// Refusals must be typed, and of a kind that a document can be the cause of.
fn typed<T>(result: Result<T>) -> std::result::Result<Option<T>, String> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            let known = [
                "checkpoint",
                "config",
                "corpus",
                "io",
                "argument",
                "token",
                "shape",
                "unsupported",
            ];
            match known.contains(&error.code()) && !error.to_string().is_empty() {
                true => Ok(None),
                false => Err(format!("{}: {error}", error.code())),
            }
        }
    }
}

fn text(input: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(input)
}

/// One file in memory under every name.
struct One<'a>(&'a str, &'a [u8]);

impl Files for One<'_> {
    fn path(&self, name: &str) -> PathBuf {
        name.into()
    }

    fn has(&self, name: &str) -> bool {
        name == self.0
    }

    fn open(&self, name: &str) -> Result<impl Source> {
        match self.has(name) {
            true => Ok(InMemory(self.1)),
            false => Err(Error::io(Path::new(name), "open")(
                std::io::ErrorKind::NotFound.into(),
            )),
        }
    }
}

/// A folder whose manifest it is.
fn manifest() -> Body {
    let dir = tempfile::tempdir().unwrap();
    checkpoint::save(dir.path(), 1, |folder| {
        checkpoint::write_bytes(&folder.join("config.toml"), b"seed = 1\n")
    })
    .unwrap();
    Box::new(move |input| {
        let folder = dir.path().join(checkpoint::name(1));
        fs::write(folder.join("manifest.json"), input).unwrap();
        Ok(typed(checkpoint::verify(&folder))?.is_some())
    })
}

fn safetensors() -> Body {
    let expected = [TensorSpec::new("a", [2, 3]), TensorSpec::new("b", [4])];
    Box::new(move |input| {
        let files = One("model.safetensors", input);
        let mut keep = |index: usize, first: usize, values: &[f32]| {
            assert!(first + values.len() <= expected[index].count());
            assert!(values.iter().all(|x| x.is_finite()));
            Ok(())
        };
        let read = read_each(&files, "model.safetensors", &expected, &[], &mut keep);
        Ok(typed(block_on(read))?.is_some())
    })
}

fn gguf() -> Body {
    Box::new(|input| {
        let read = header::read(input, input.len() as u64, Path::new("model.gguf"));
        Ok(typed(read)?.is_some())
    })
}

fn config_toml() -> Body {
    Box::new(|input| {
        let Some(config) = typed(TrainConfig::from_toml(&text(input)))? else {
            return Ok(false);
        };
        let _ = typed(config.validate())?;
        let written = config.to_toml().map_err(|e| e.to_string())?;
        let again = TrainConfig::from_toml(&written).map_err(|e| format!("not read back: {e}"))?;
        match again.to_toml().is_ok_and(|again| again == written) {
            true => Ok(true),
            false => Err("written and read it is another".into()),
        }
    })
}

fn config_json() -> Body {
    Box::new(|input| {
        let how = Load {
            mask: Some(3),
            ..Load::default()
        };
        let (own, other) = (Load::default(), how);
        let files = One("config.json", input);
        let inspected = |how: &Load| typed(block_on(inspect_files(&files, how)));
        Ok(inspected(&own)?.is_some() | inspected(&other)?.is_some())
    })
}

fn tokenizer_json() -> Body {
    Box::new(|input| {
        let Some(made) = typed(Tokenizer::from_json(input))? else {
            return Ok(false);
        };
        if let Some(ids) =
            typed(made.encode("a cab, aaaaaaaaaaaaaaaaaaaaaaaaaaaaaac\u{e9} <mask>\n 12"))?
        {
            let top = ids.iter().find(|&&id| id as usize >= made.vocab_size());
            if let Some(id) = top {
                return Err(format!("encodes to {id} of {}", made.vocab_size()));
            }
            made.decode(&ids);
        }
        Ok(true)
    })
}

fn chat_template() -> Body {
    let said = [
        ("system", "be kind"),
        ("user", "hello"),
        ("assistant", "hi"),
        ("user", ""),
    ];
    let messages: Vec<Message> = said.map(|(role, text)| Message::new(role, text)).into();
    Box::new(move |input| {
        let names = BTreeMap::from([("eos_token".to_owned(), "</s>".to_owned())]);
        let Ok(made) = ChatTemplate::new(&text(input), names) else {
            return Ok(false);
        };
        Ok(typed(made.render(&messages, true, &serde_json::Map::new()))?.is_some())
    })
}

fn canvas() -> Body {
    let letters = tokenizer();
    let bytes = Tokenizer::byte();
    Box::new(move |input| {
        let (template, mut accepted) = (text(input), false);
        for tokenizer in [&letters, &bytes] {
            accepted |= typed(Canvas::parse(&template, tokenizer))?.is_some();
            accepted |= typed(Canvas::begin(&template, tokenizer, 64))?.is_some();
        }
        Ok(accepted)
    })
}

/// A shader's text; it is ours, so all that matters is that a mistake in it is told.
fn shader() -> Body {
    Box::new(|input| {
        // shaders are part of the program, so their texts are never freed
        let text: &'static str = Box::leak(text(input).into_owned().into_boxed_str());
        let mut source = Wgsl::new(Shader { name: "fuzz", text });
        (source.flags, source.consts) = (vec!["GRADIENT"], vec![("N", 3)]);
        Ok(source.expand().is_ok())
    })
}

/// Reads all documents of a file of that name.
fn documents(name: &'static str) -> Body {
    let dir = tempfile::tempdir().unwrap();
    Box::new(move |input| {
        let path = dir.path().join(name);
        fs::write(&path, input).unwrap();
        let Some(documents) = typed(Documents::open(&path, "text"))? else {
            return Ok(false);
        };
        let mut count = 0;
        for document in documents {
            if typed(document)?.is_none() {
                return Ok(false);
            }
            count += 1;
        }
        Ok(count > 0)
    })
}

fn json_lines() -> Body {
    documents("documents.jsonl")
}

/// A model that is never asked.
struct Nobody(Facts);

impl Denoiser for Nobody {
    fn facts(&self) -> Facts {
        self.0.clone()
    }

    async fn draw(&mut self, _: &[u32], _: &[f64], _: &[u32], _: &DrawOptions) -> Result<Drawn> {
        Err(Error::Cancelled)
    }
}

/// What the page's classes take from JavaScript: it is all of their arguments, one after the other.
fn page() -> Body {
    let model = block_on(Model::new(&Device::cpu(), &small(16), 1)).unwrap();
    let (letters, mut facts) = (tokenizer(), model.facts());
    facts.tokenizer = Some(letters.clone());
    Box::new(move |input| {
        let text = text(input);
        let mut accepted = false;
        if let Some(settings) = typed(arguments::options::<SampleConfig>("sampling", &text))? {
            let canvas = Canvas::open(1 + input.len() % 24);
            let made = Sampler::new(Nobody(facts.clone()), vec![canvas], &settings);
            accepted |= typed(made)?.is_some();
        }
        if let Some(how) = typed(arguments::options::<How>("how", &text))? {
            accepted |= typed(how.load())?.is_some();
        }
        let training = typed(arguments::options::<Training>("training", &text))?;
        accepted |= training.is_some();
        let training = training.unwrap_or_default();
        accepted |= typed(training.corpus(&text))?.is_some();
        if let Some(config) = typed(training.config())? {
            typed(config.validate())?;
        }
        let begin = (input.len() % 2 == 0).then_some(letters.bos());
        let canvas = arguments::canvas(&text, input.len(), &letters, begin, 64);
        Ok(accepted | typed(canvas)?.is_some())
    })
}

fn schema() -> Body {
    Box::new(|input| {
        let Ok(expression) = pattern(&text(input)) else {
            return Ok(false);
        };
        Ok(Automaton::new(&expression).is_ok())
    })
}
