//! Which tokens of a vocabulary begin and end texts, mask and pad.

use serde::{Deserialize, Serialize};

use crate::config::DataConfig;

/// Largest vocabulary that is read, the mask included.
const MAX_VOCABULARY: usize = 1 << 20;

/// Tokens that begin and end a text, by convention; the first pair that a vocabulary has. (The reference's
/// wrapping ends BERT's documents with `[CLS]` by accident; `[SEP]` is meant.)
const PAIRS: [(&str, &str); 10] = [
    ("[CLS]", "[SEP]"),
    ("<|startoftext|>", "<|endoftext|>"),
    ("<|endoftext|>", "<|endoftext|>"),
    ("<s>", "</s>"),
    ("<|begin_of_text|>", "<|end_of_text|>"),
    ("<bos>", "<eos>"),
    ("[BOS]", "[EOS]"),
    ("<BOS>", "<EOS>"),
    ("<cls>", "<eos>"),
    ("<cls>", "<sep>"),
];
/// Tokens that end a text in vocabularies that have none to begin one; they then do both.
const ENDS: [&str; 6] = [
    "</s>",
    "<eos>",
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
        }
    }

    /// The special tokens of a tokenizer; the error is for people.
    pub(super) fn of(inner: &tokenizers::Tokenizer, names: &SpecialNames) -> Result<Self, String> {
        let find = |names: &[&str]| names.iter().find_map(|name| inner.token_to_id(name));
        let named = |key: &str, name: &str| match name {
            "" => Ok(None),
            name => match inner.token_to_id(name) {
                Some(id) => Ok(Some(id)),
                None => Err(format!("it has no token {name:?}, which {key} names")),
            },
        };
        let pair = PAIRS
            .iter()
            .find_map(|&(bos, eos)| Some((inner.token_to_id(bos)?, inner.token_to_id(eos)?)))
            .or_else(|| find(&ENDS).map(|end| (end, end)));
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
            },
            None => Self {
                vocab_size: size + 1,
                mask: size as u32,
                bos,
                eos,
                pad,
            },
        })
    }
}
