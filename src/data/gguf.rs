//! The tokenizer and the chat template that a GGUF file carries.
//!
//! Such a file names the way in which text is cut into words and does not spell it out; [`WORDS`] does. What files leave
//! out is as in the `tokenizer.json` of the models that have that name.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::data::special::SpecialNames;
use crate::error::Result;
use crate::io::gguf::Metadata;

/// A way to cut text into words.
struct Words {
    /// What files call it.
    names: &'static [&'static str],
    /// Each match is a word, and so is what lies between two; none: GPT-2's.
    pattern: Option<&'static str>,
    /// Whether text is composed first (NFC).
    composed: bool,
    /// Whether a word that is a token is not cut any further.
    whole: bool,
}

impl Words {
    /// As a `tokenizer.json` has it.
    fn cut(&self) -> Value {
        let Some(pattern) = self.pattern else {
            return byte_level(true);
        };
        let split = json!({
            "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false,
        });
        json!({"type": "Sequence", "pretokenizers": [split, byte_level(false)]})
    }
}

/// Bytes as letters, with GPT-2's words or none.
fn byte_level(words: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": words})
}

/// Of GPT-2; Qwen 2 and 3, Dream; Llama 3; LLaDA, which has Ling's.
const WORDS: [Words; 4] = [
    Words {
        names: &["gpt-2"],
        pattern: None,
        composed: false,
        whole: false,
    },
    Words {
        names: &["qwen2", "deepseek-r1-qwen"],
        pattern: Some(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        composed: true,
        whole: false,
    },
    Words {
        names: &["llama-bpe", "llama3", "llama-v3"],
        pattern: Some(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        composed: false,
        whole: true,
    },
    Words {
        names: &["bailingmoe", "bailingmoe2", "llada-moe"],
        pattern: Some(
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        ),
        composed: false,
        whole: false,
    },
];

/// Types of tokens, by their number in files.
const NORMAL: i128 = 1;
const UNKNOWN: i128 = 2;
const CONTROL: i128 = 3;
const USER: i128 = 4;
const UNUSED: i128 = 5;

/// Most tokens.
const MAX_TOKENS: usize = 1 << 20;

/// What tokens are called that begin and end texts and so on, in files and in templates.
const ROLES: [(&str, &str); 6] = [
    ("bos", "bos_token"),
    ("eos", "eos_token"),
    ("mask", "mask_token"),
    ("padding", "pad_token"),
    ("unknown", "unk_token"),
    ("seperator", "sep_token"),
];

/// A file's tokenizer as a `tokenizer.json`, with the names of its special tokens; `None` for a file without one.
///
/// # Errors
/// [`crate::Error::Checkpoint`] that names what is missing, damaged or not supported.
pub fn tokenizer(m: &Metadata) -> Result<Option<(Vec<u8>, SpecialNames)>> {
    match m.text("tokenizer.ggml.model")? {
        None | Some("none" | "no_vocab") => return Ok(None),
        Some("gpt2") => {}
        Some(other) => {
            let problem = format!(
                "tokenizer.ggml.model is {other}, which is not supported: only gpt2, byte pairs over bytes"
            );
            return Err(m.damaged(problem));
        }
    }
    let tokens = tokens(m)?;
    let description = describe(m, &tokens)?;
    let name = |role| Ok::<_, crate::error::Error>(named(m, &tokens, role)?.unwrap_or_default());
    let names = SpecialNames {
        bos_token: name("bos")?,
        eos_token: name("eos")?,
        mask_token: name("mask")?,
        pad_token: name("padding")?,
    };
    Ok(Some((description.to_string().into_bytes(), names)))
}

/// A file's chat template, with what it may call special tokens.
///
/// # Errors
/// As [`tokenizer`].
pub fn chat_template(m: &Metadata) -> Result<Option<(&str, BTreeMap<String, String>)>> {
    let Some(template) = m.text("tokenizer.chat_template")? else {
        return Ok(None);
    };
    let (tokens, mut names) = (tokens(m)?, BTreeMap::new());
    for (role, name) in ROLES {
        if let Some(token) = named(m, &tokens, role)? {
            names.insert(name.to_owned(), token);
        }
    }
    Ok(Some((template, names)))
}

/// A token: its name and type.
type Token<'a> = (&'a str, i128);

/// All tokens by their ids; those that stand for nothing are of type [`UNUSED`].
fn tokens(m: &Metadata) -> Result<Vec<Token<'_>>> {
    const TOKENS: &str = "tokenizer.ggml.tokens";
    const TYPES: &str = "tokenizer.ggml.token_type";
    let names = m.required(TOKENS, m.texts(TOKENS)?)?;
    if names.len() > MAX_TOKENS {
        let problem = format!(
            "{TOKENS}: {} tokens; at most {MAX_TOKENS} are read",
            names.len()
        );
        return Err(m.damaged(problem));
    }
    let types = m.required(TYPES, m.wholes(TYPES)?)?;
    if types.len() != names.len() {
        let problem = format!(
            "{TYPES} has {} values for {} tokens",
            types.len(),
            names.len()
        );
        return Err(m.damaged(problem));
    }
    let mut tokens: Vec<Token<'_>> = names.into_iter().zip(types).collect();
    for (id, (name, kind)) in tokens.iter_mut().enumerate() {
        match *kind {
            NORMAL | UNKNOWN | CONTROL | UNUSED => {}
            // as older converters fill up gaps
            USER if *name == format!("[PAD{id}]") => *kind = UNUSED,
            USER => {}
            other => {
                let problem = format!("{TYPES}: token {id}, {name:?}, has type {other}");
                return Err(m.damaged(problem));
            }
        }
    }
    Ok(tokens)
}

/// The name of the token that has a role.
fn named(m: &Metadata, tokens: &[Token<'_>], role: &str) -> Result<Option<String>> {
    let key = format!("tokenizer.ggml.{role}_token_id");
    let Some(id) = m.whole(&key)? else {
        return Ok(None);
    };
    match tokens.get(id) {
        Some((name, kind)) if *kind != UNUSED => Ok(Some((*name).to_owned())),
        _ => Err(m.damaged(format!("{key} is {id}, which is no token"))),
    }
}

fn describe(m: &Metadata, tokens: &[Token<'_>]) -> Result<Value> {
    let words = words(m)?;
    let (mut vocabulary, mut added) = (serde_json::Map::new(), Vec::new());
    for (id, &(name, kind)) in tokens.iter().enumerate() {
        if kind == UNUSED {
            continue;
        }
        if let Some(other) = vocabulary.insert(name.to_owned(), id.into()) {
            return Err(m.damaged(format!("tokens {other} and {id} are both {name:?}")));
        }
        if kind != NORMAL {
            added.push(json!({
                "id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": kind != USER,
            }));
        }
    }
    let composed = words.composed.then(|| json!({"type": "NFC"}));
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": composed,
        "pre_tokenizer": words.cut(), "post_processor": frame(m, tokens)?, "decoder": byte_level(true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": words.whole,
            "vocab": vocabulary, "merges": merges(m)?,
        },
    }))
}

/// How the file's text is cut.
fn words(m: &Metadata) -> Result<&'static Words> {
    const KEY: &str = "tokenizer.ggml.pre";
    let name = m.required(KEY, m.text(KEY)?)?;
    let known = WORDS.iter().find(|words| words.names.contains(&name));
    known.ok_or_else(|| {
        let all: Vec<&str> = WORDS
            .iter()
            .flat_map(|words| words.names)
            .copied()
            .collect();
        m.damaged(format!(
            "{KEY} is {name}, which is not known: {}",
            all.join(", ")
        ))
    })
}

/// Pairs of tokens that become one, the first ones first.
fn merges(m: &Metadata) -> Result<Vec<[&str; 2]>> {
    const KEY: &str = "tokenizer.ggml.merges";
    let merges = m.required(KEY, m.texts(KEY)?)?;
    let mut pairs = Vec::with_capacity(merges.len());
    for (i, merge) in merges.into_iter().enumerate() {
        match merge.split(' ').collect::<Vec<_>>()[..] {
            [left, right] if !left.is_empty() && !right.is_empty() => pairs.push([left, right]),
            _ => return Err(m.damaged(format!("{KEY}: number {i}, {merge:?}, is no pair"))),
        }
    }
    Ok(pairs)
}

/// What the tokenizer puts around a text by itself.
fn frame(m: &Metadata, tokens: &[Token<'_>]) -> Result<Option<Value>> {
    let mut single = vec![json!({"Sequence": {"id": "A", "type_id": 0}})];
    let mut special = serde_json::Map::new();
    for role in ["bos", "eos"] {
        let key = format!("tokenizer.ggml.add_{role}_token");
        if m.flag(&key)? != Some(true) {
            continue;
        }
        let of = format!("tokenizer.ggml.{role}_token_id");
        let (id, name) = (m.whole(&of)?, m.required(&of, named(m, tokens, role)?)?);
        let at = if role == "bos" { 0 } else { single.len() };
        single.insert(at, json!({"SpecialToken": {"id": name, "type_id": 0}}));
        special.insert(
            name.clone(),
            json!({"id": name, "ids": [id], "tokens": [name]}),
        );
    }
    Ok((single.len() > 1).then(|| {
        let pair = json!([{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]);
        json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special})
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::{
        OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, PreTokenizerWrapper,
    };

    fn cut(name: &str, text: &str) -> Vec<String> {
        let words = WORDS.iter().find(|words| words.names.contains(&name));
        let made: PreTokenizerWrapper = serde_json::from_value(words.unwrap().cut()).unwrap();
        let mut pieces = PreTokenizedString::from(text);
        made.pre_tokenize(&mut pieces).unwrap();
        let all = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
        let place = all.into_iter().map(|(_, place, _)| place);
        place.map(|(from, to)| text[from..to].to_owned()).collect()
    }

    #[test]
    fn text_is_cut_as_the_name_says() {
        let text = "It'S 2024!!\n\n  ok  don't";
        let with = |middle: &[&'static str]| {
            let ends = ["!!\n\n", " ", " ok", " ", " don", "'t"];
            [&["It", "'S", " "], middle, &ends].concat()
        };
        let single = with(&["2", "0", "2", "4"]);
        assert_eq!(cut("qwen2", text), single);
        assert_eq!(cut("bailingmoe", text), single);
        assert_eq!(cut("llama-bpe", text), with(&["202", "4"]));
        let gpt2 = [
            "It", "'", "S", " 2024", "!!", "\n\n ", " ok", " ", " don", "'t",
        ];
        assert_eq!(cut("gpt-2", text), gpt2);
    }
}
