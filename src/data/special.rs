//! Which tokens of a vocabulary begin and end texts, mask and pad.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::DataConfig;

/// Largest vocabulary that is read, the mask included.
const MAX_VOCABULARY: usize = 1 << 20;

/// Tokens that begin and end a text, by convention; the first pair that a vocabulary has. (The reference's
/// wrapping ends BERT's documents with `[CLS]` by accident; `[SEP]` is meant.)
const PAIRS: [(&str, &str); 12] = [
    ("[CLS]", "[SEP]"),
    ("<|startoftext|>", "<|endoftext|>"),
    ("<|beginoftext|>", "<|endoftext|>"),
    ("<|endoftext|>", "<|endoftext|>"),
    ("<s>", "</s>"),
    ("<|begin_of_text|>", "<|end_of_text|>"),
    ("<bos>", "<eos>"),
    ("[BOS]", "[EOS]"),
    ("<BOS>", "<EOS>"),
    ("<cls>", "<eos>"),
    ("<cls>", "<sep>"),
    ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
];
/// Tokens that end a text in vocabularies that have none to begin one; they then do both.
const ENDS: [&str; 7] = [
    "</s>",
    "<eos>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "[EOS]",
    "[SEP]",
    "<EOS>",
];
const MASKS: [&str; 5] = ["[MASK]", "<mask>", "<|mask|>", "<MASK>", "<|mdm_mask|>"];
const PADS: [&str; 5] = ["[PAD]", "<pad>", "<|pad|>", "<PAD>", "<|padding|>"];

/// Ids with a meaning of their own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Special {
    /// Number of ids, the mask included.
    pub(super) vocab_size: usize,
    pub(super) mask: u32,
    pub(super) bos: u32,
    pub(super) eos: u32,
    pub(super) pad: Option<u32>,
    /// Whether the vocabulary had no mask, so that one was added behind it.
    pub(super) added: bool,
}

/// Names of special tokens where a `tokenizer.json` has others than the usual ones; empty: as usual.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpecialNames {
    /// Begins a text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bos_token: String,
    /// Ends a text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub eos_token: String,
    /// Stands where a token is missing. A vocabulary without one gets it behind its last id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mask_token: String,
    /// Fills up short texts.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pad_token: String,
}

impl From<&DataConfig> for SpecialNames {
    fn from(data: &DataConfig) -> Self {
        Self {
            bos_token: data.bos_token.clone(),
            eos_token: data.eos_token.clone(),
            mask_token: data.mask_token.clone(),
            pad_token: data.pad_token.clone(),
        }
    }
}

impl Special {
    /// `symbols` ordinary ids, then the end of text, then the mask.
    pub(super) fn after(symbols: usize) -> Self {
        let eos = symbols as u32;
        Self {
            vocab_size: symbols + 2,
            mask: eos + 1,
            bos: eos,
            eos,
            pad: None,
            added: true,
        }
    }

    /// The special tokens of a tokenizer; the error is for people.
    pub(super) fn of(inner: &tokenizers::Tokenizer, names: &SpecialNames) -> Result<Self, String> {
        let vocabulary = Vocabulary::new(inner);
        let find = |names: &[&str]| vocabulary.find(names);
        let named = |key: &str, name: &str| match name {
            "" => Ok(None),
            name => match inner.token_to_id(name) {
                Some(id) => Ok(Some(id)),
                None => Err(format!("it has no token {name:?}, which {key} names")),
            },
        };
        let pair = vocabulary.ends();
        let bos = named("bos_token", &names.bos_token)?;
        let eos = named("eos_token", &names.eos_token)?;
        let unknown = || {
            format!(
                "it has none of the usual tokens that begin and end a text ({}): name its own by data.bos_token and \
                 data.eos_token",
                PAIRS
                    .map(|(bos, eos)| format!("{bos} with {eos}"))
                    .join(", ")
            )
        };
        let (bos, eos) = match (bos, eos, pair) {
            (Some(bos), Some(eos), _) => (bos, eos),
            (bos, eos, Some(pair)) => (bos.unwrap_or(pair.0), eos.unwrap_or(pair.1)),
            (bos, eos, None) => bos.or(eos).map(|only| (only, only)).ok_or_else(unknown)?,
        };
        let mask = named("mask_token", &names.mask_token)?.or_else(|| find(&MASKS));

        if let Some(mask) = mask.filter(|&mask| mask == bos || mask == eos) {
            let name = inner.id_to_token(mask).unwrap_or_default();
            return Err(format!(
                "its mask {name:?} also begins or ends a text: name others by data.mask_token, data.bos_token and \
                 data.eos_token"
            ));
        }
        // Ids of the model and of all that may come up later. Special tokens added behind the model's
        // vocabulary and not used here, such as a pad for GPT-2, do not count.
        let model = inner.get_vocab(false).into_values();
        let added = inner.get_added_tokens_decoder();
        let added = added
            .into_iter()
            .filter(|(_, token)| !token.special)
            .map(|(id, _)| id);
        let named_pad = named("pad_token", &names.pad_token)?;
        let largest = model
            .chain(added)
            .chain([bos, eos])
            .chain(mask)
            .chain(named_pad)
            .max()
            .unwrap_or(0);
        if largest as usize >= MAX_VOCABULARY - 1 {
            return Err(format!(
                "token id {largest}; at most {MAX_VOCABULARY} ids are supported"
            ));
        }
        let size = largest as usize + 1;
        let pad = named_pad.or_else(|| find(&PADS).filter(|&id| id <= largest));
        let pad = pad.filter(|&id| Some(id) != mask);
        Ok(match mask {
            Some(mask) => Self {
                vocab_size: size,
                mask,
                bos,
                eos,
                pad,
                added: false,
            },
            None => Self {
                vocab_size: size + 1,
                mask: size as u32,
                bos,
                eos,
                pad,
                added: true,
            },
        })
    }
}

/// What a tokenizer says of its tokens.
struct Vocabulary<'a> {
    inner: &'a tokenizers::Tokenizer,
    special: HashSet<String>,
}

impl<'a> Vocabulary<'a> {
    fn new(inner: &'a tokenizers::Tokenizer) -> Self {
        let added = inner.get_added_tokens_decoder().into_values();
        let special = added.filter(|token| token.special);
        Self {
            inner,
            special: special.map(|token| token.content).collect(),
        }
    }

    fn id(&self, name: &str, special: bool) -> Option<u32> {
        let fits = !special || self.special.contains(name);
        fits.then(|| self.inner.token_to_id(name)).flatten()
    }

    /// The first of the names that is a special token, else that is a token at all.
    fn find(&self, names: &[&str]) -> Option<u32> {
        let first = |special| names.iter().find_map(|name| self.id(name, special));
        first(true).or_else(|| first(false))
    }

    /// Beginning and end: what the tokenizer itself puts around a text, completed by convention; else by
    /// convention among its special tokens, else among all tokens. (Ordinary tokens may have such names: HTML's
    /// `<s>`, or what was another vocabulary's end.)
    fn ends(&self) -> Option<(u32, u32)> {
        let (before, after) = template(self.inner);
        let pair = |special, begins: Option<&str>, ends: Option<&str>| {
            let fits = |&&(bos, eos): &&(&str, &str)| {
                begins.is_none_or(|name| name == bos) && ends.is_none_or(|name| name == eos)
            };
            let mut known = PAIRS.iter().filter(fits);
            known.find_map(|(bos, eos)| Some((self.id(bos, special)?, self.id(eos, special)?)))
        };
        let only = |special| {
            let end = ENDS.iter().find_map(|end| self.id(end, special))?;
            Some((end, end))
        };
        let (begins, ends) = (before.as_deref(), after.as_deref());
        let template = match (begins, ends) {
            (Some(bos), Some(eos)) => self.id(bos, false).zip(self.id(eos, false)),
            (None, None) => None,
            // half of a pair
            (begins, ends) => pair(true, begins, ends)
                .or_else(|| pair(false, begins, ends))
                .or_else(|| {
                    Some((
                        self.id(begins?, false)?,
                        only(true).or_else(|| only(false))?.1,
                    ))
                })
                .or_else(|| self.id(ends?, false).map(|end| (end, end))),
        };
        template
            .or_else(|| pair(true, None, None))
            .or_else(|| only(true))
            .or_else(|| pair(false, None, None))
            .or_else(|| only(false))
    }
}

/// Ids of the tokens that a tokenizer itself puts before and behind a text.
pub(super) fn frame(inner: &tokenizers::Tokenizer) -> [Option<u32>; 2] {
    let (before, after) = template(inner);
    [before, after].map(|name| inner.token_to_id(&name?))
}

/// The tokens that the tokenizer's own template puts before and behind a text.
fn template(inner: &tokenizers::Tokenizer) -> (Option<String>, Option<String>) {
    let json = inner.get_post_processor().map(serde_json::to_value);
    let Some(Ok(json)) = json else {
        return (None, None);
    };
    let steps = match json.get("processors").and_then(Value::as_array) {
        Some(steps) => steps.clone(),
        None => vec![json],
    };
    let (mut before, mut after) = (None, None);
    for step in &steps {
        let text = |value: Option<&Value>| Some(value?.as_str()?.to_owned());
        // of BERT and RoBERTa: name and id
        before = text(step.pointer("/cls/0")).or(before);
        after = text(step.pointer("/sep/0")).or(after);
        let template = step.get("single").and_then(Value::as_array);
        let mut seen = false;
        for piece in template.into_iter().flatten() {
            seen |= piece.get("Sequence").is_some();
            if let Some(name) = text(piece.pointer("/SpecialToken/id")) {
                *(if seen { &mut after } else { &mut before }) = Some(name);
            }
        }
    }
    (before, after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Names of beginning, end, mask and pad in a vocabulary in which the `special` words are special tokens and
    /// the `plain` ones are not.
    fn found(special: &[&str], plain: &[&str], template: Value) -> [String; 4] {
        let words = special.iter().chain(plain);
        let ids: serde_json::Map<String, Value> = words
            .enumerate()
            .map(|(id, word)| ((*word).to_owned(), id.into()))
            .collect();
        let added: Vec<Value> = special
            .iter()
            .enumerate()
            .map(|(id, word)| {
                json!({"id": id, "content": word, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true})
            })
            .collect();
        let json = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": null, "pre_tokenizer": null, "post_processor": template, "decoder": null,
            "model": {"type": "WordLevel", "vocab": ids, "unk_token": special[0]}});
        let inner = tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap();
        let s = Special::of(&inner, &SpecialNames::default()).unwrap();
        let name = |id: u32| inner.id_to_token(id).unwrap_or_default();
        [
            name(s.bos),
            name(s.eos),
            name(s.mask),
            s.pad.map(name).unwrap_or_default(),
        ]
    }

    fn template(before: &[&str], after: &[&str]) -> Value {
        let token = |name: &&str| json!({"SpecialToken": {"id": name, "type_id": 0}});
        let mut single: Vec<Value> = before.iter().map(token).collect();
        single.push(json!({"Sequence": {"id": "A", "type_id": 0}}));
        single.extend(after.iter().map(token));
        let pair = json!([{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]);
        let names = before.iter().chain(after);
        let tokens: serde_json::Map<String, Value> = names
            .map(|name| {
                (
                    (*name).to_owned(),
                    json!({"id": name, "ids": [0], "tokens": [name]}),
                )
            })
            .collect();
        json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens})
    }

    #[test]
    fn tokens_of_well_known_vocabularies() {
        let roberta = json!({"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0],
            "trim_offsets": true, "add_prefix_space": false});
        let xlm = ["<s>", "</s>", "<mask>", "<pad>"];
        for (name, found, expected) in [
            (
                "RoBERTa, BART",
                found(
                    &["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
                    &["a", "<|endoftext|>"],
                    roberta,
                ),
                xlm,
            ),
            (
                "Gemma",
                found(
                    &["<pad>", "<eos>", "<bos>", "<mask>"],
                    &["<s>", "</s>"],
                    template(&["<bos>"], &[]),
                ),
                ["<bos>", "<eos>", "<mask>", "<pad>"],
            ),
            (
                "MPNet",
                found(
                    &["<s>", "<pad>", "</s>", "<mask>"],
                    &["[CLS]", "[SEP]", "[MASK]", "[PAD]"],
                    Value::Null,
                ),
                xlm,
            ),
            (
                "Llama 3",
                found(
                    &["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"],
                    &["a"],
                    template(&["<|begin_of_text|>"], &[]),
                ),
                ["<|begin_of_text|>", "<|end_of_text|>", "", ""],
            ),
            (
                "T5",
                found(
                    &["<pad>", "</s>", "<unk>"],
                    &["a"],
                    template(&[], &["</s>"]),
                ),
                ["</s>", "</s>", "", "<pad>"],
            ),
            (
                "ModernBERT",
                found(
                    &[
                        "<|endoftext|>",
                        "[UNK]",
                        "[CLS]",
                        "[SEP]",
                        "[PAD]",
                        "[MASK]",
                    ],
                    &["a"],
                    template(&["[CLS]"], &["[SEP]"]),
                ),
                ["[CLS]", "[SEP]", "[MASK]", "[PAD]"],
            ),
            (
                "GPT-2",
                found(&["<|endoftext|>"], &["a"], Value::Null),
                ["<|endoftext|>", "<|endoftext|>", "", ""],
            ),
            (
                "LLaDA",
                found(
                    &["<|startoftext|>", "<|endoftext|>", "<|mdm_mask|>"],
                    &["a"],
                    Value::Null,
                ),
                ["<|startoftext|>", "<|endoftext|>", "<|mdm_mask|>", ""],
            ),
            (
                "Dream",
                found(
                    &[
                        "<|endoftext|>",
                        "<|im_start|>",
                        "<|beginoftext|>",
                        "<|mask|>",
                    ],
                    &["a"],
                    Value::Null,
                ),
                ["<|beginoftext|>", "<|endoftext|>", "<|mask|>", ""],
            ),
        ] {
            assert_eq!(found, expected, "{name}");
        }
    }
}
