//! A Hugging Face `tokenizer.json` and which of its ids play which part.

use super::tokenizer::Special;

/// Stands for the mask inside a decoder: a noncharacter, so no text contains it and no decoder
/// gives it a meaning.
const PLACEHOLDER: &str = "\u{FFFF}";

/// Largest vocabulary that is read, the mask included.
const MAX_VOCABULARY: usize = 1 << 20;

#[derive(Clone)]
pub(super) struct HuggingFace {
    inner: tokenizers::Tokenizer,
    json: Vec<u8>,
}

impl HuggingFace {
    pub(super) fn new(json: &[u8]) -> Result<(Self, Special), String> {
        let mut inner =
            tokenizers::Tokenizer::from_bytes(json).map_err(|e| format!("not a tokenizer: {e}"))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| e.to_string())?;
        // Special tokens are ours to place; their names inside a text are text.
        inner.set_encode_special_tokens(true);
        let special = special_tokens(&inner)?;
        Ok((
            Self {
                inner,
                json: json.to_vec(),
            },
            special,
        ))
    }

    pub(super) fn json(&self) -> &[u8] {
        &self.json
    }

    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|e| e.to_string())?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Text of `ids`, in which `None` is the mask.
    pub(super) fn decode(&self, ids: impl Iterator<Item = Option<u32>>, mask: &str) -> String {
        let tokens = ids.map(|id| match id {
            None => PLACEHOLDER.to_owned(),
            Some(id) => self
                .inner
                .id_to_token(id)
                .unwrap_or_else(|| "\u{FFFD}".to_owned()),
        });
        self.join(tokens.collect()).replace(PLACEHOLDER, mask)
    }

    pub(super) fn token_text(&self, id: u32) -> String {
        self.decode(std::iter::once(Some(id)), "")
    }

    fn join(&self, tokens: Vec<String>) -> String {
        use tokenizers::Decoder;
        let plain = tokens.join(" ");
        let decoded = self
            .inner
            .get_decoder()
            .map(|decoder| decoder.decode(tokens));
        match decoded {
            Some(Ok(text)) => text,
            // Without a decoder, or where it gives up, the bare tokens are better than nothing.
            Some(Err(_)) | None => plain,
        }
    }
}

fn special_tokens(inner: &tokenizers::Tokenizer) -> Result<Special, String> {
    let find = |names: &[&str]| names.iter().find_map(|name| inner.token_to_id(name));
    let pairs = [
        ("<|endoftext|>", "<|endoftext|>"),
        // The reference's wrapping ends BERT's documents with [CLS] by accident; [SEP] is meant.
        ("[CLS]", "[SEP]"),
        ("<s>", "</s>"),
    ];
    let (bos, eos) = pairs
        .iter()
        .find_map(|&(bos, eos)| Some((inner.token_to_id(bos)?, inner.token_to_id(eos)?)))
        .ok_or("it has none of <|endoftext|>, [CLS] with [SEP], <s> with </s>")?;
    let mask = find(&["[MASK]", "<mask>"]);

    // Ids of the model and of all that may come up later. Special tokens added behind the model's
    // vocabulary and not used here, such as a pad for GPT-2, do not count.
    let model = inner.get_vocab(false).into_values();
    let added = inner.get_added_tokens_decoder();
    let added = added
        .into_iter()
        .filter(|(_, token)| !token.special)
        .map(|(id, _)| id);
    let largest = model
        .chain(added)
        .chain([bos, eos])
        .chain(mask)
        .max()
        .unwrap_or(0);
    if largest as usize >= MAX_VOCABULARY - 1 {
        return Err(format!(
            "token id {largest}; at most {MAX_VOCABULARY} ids are supported"
        ));
    }
    let size = largest as usize + 1;
    let pad = find(&["[PAD]", "<pad>"]).filter(|&id| id <= largest && Some(id) != mask);
    Ok(match mask {
        Some(mask) => Special {
            vocab_size: size,
            mask,
            bos,
            eos,
            pad,
        },
        None => Special {
            vocab_size: size + 1,
            mask: size as u32,
            bos,
            eos,
            pad,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference adds a pad to GPT-2's vocabulary, whose id is that of the mask.
    #[test]
    fn a_pad_behind_the_vocabulary_is_none() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = path.join("corpora/gpt2.tokenizer.json.gz");
        let bytes = crate::io::read::read_unpacked(&path, 64 << 20).unwrap();
        let mut json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let mut pad = json["added_tokens"][0].clone();
        (pad["id"], pad["content"]) = (50257.into(), "[PAD]".into());
        json["added_tokens"].as_array_mut().unwrap().push(pad);
        let (_, special) = HuggingFace::new(json.to_string().as_bytes()).unwrap();
        assert_eq!((special.vocab_size, special.mask), (50258, 50257));
        assert_eq!((special.eos, special.pad), (50256, None));
    }
}
