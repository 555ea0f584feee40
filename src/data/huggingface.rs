//! A Hugging Face `tokenizer.json`: its ids, and the text of ids where they stand.

use std::sync::OnceLock;

use tokenizers::ModelWrapper;

use super::oniguruma;
use super::special::{Special, SpecialNames, frame};

/// Stand before a part of a text that is not its beginning, so that it is read as what goes on: the first of
/// them that shares no token with the part is taken.
const BEFORE: [&str; 8] = ["q", "x", "a", "e", "s", "z", ")", "\u{2016}"];
/// Stands behind a part that ends with a space and goes on.
const WORD: &str = "a";

#[derive(Clone)]
pub(super) struct HuggingFace {
    inner: tokenizers::Tokenizer,
    json: Vec<u8>,
    /// Tokens that stand before others when a text is taken up in its middle, and their text.
    context: (Vec<String>, String),
    /// What stands between tokens where there is no decoder.
    glue: &'static str,
    /// How tokens begin that go on with a word.
    continuing: Option<String>,
    /// The same for texts in which the names of special tokens stand for them.
    marked: OnceLock<Box<tokenizers::Tokenizer>>,
}

impl HuggingFace {
    pub(super) fn new(json: &[u8], names: &SpecialNames) -> Result<(Self, Special), String> {
        let mut inner = match oniguruma::translated(json) {
            Some(json) => tokenizers::Tokenizer::from_bytes(json),
            None => tokenizers::Tokenizer::from_bytes(json),
        }
        .map_err(|e| format!("not a tokenizer: {e}"))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| e.to_string())?;
        // Special tokens are ours to place; their names inside a text are text.
        inner.set_encode_special_tokens(true);
        let special = Special::of(&inner, names)?;
        let mut made = Self {
            inner,
            json: json.to_vec(),
            context: Default::default(),
            glue: " ",
            continuing: None,
            marked: OnceLock::new(),
        };
        if let ModelWrapper::WordPiece(model) = made.inner.get_model() {
            made.continuing = Some(model.continuing_subword_prefix.clone());
        }
        if made.inner.get_decoder().is_none() && made.spells() {
            made.glue = "";
        }
        made.context = made.find_context();
        Ok((made, special))
    }

    pub(super) fn json(&self) -> &[u8] {
        &self.json
    }

    /// One more than its largest id.
    pub(super) fn ids(&self) -> usize {
        let largest = self.inner.get_vocab(true).into_values().max();
        largest.map_or(0, |id| id as usize + 1)
    }

    /// A token's name, if there is such a token.
    pub(super) fn known(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Whether there is such a token, and it is no special one.
    pub(super) fn stands_for_text(&self, id: u32) -> bool {
        let special = |name: &String| self.inner.get_added_vocabulary().is_special_token(name);
        self.known(id).is_some_and(|name| !special(&name))
    }

    /// What stands before and behind a text by its own template.
    pub(super) fn frame(&self) -> [Option<u32>; 2] {
        frame(&self.inner)
    }

    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        let encoding = self.inner.encode_fast(text, false);
        Ok(encoding.map_err(|e| e.to_string())?.get_ids().to_vec())
    }

    /// Ids of a text in which the names of special tokens stand for them.
    pub(super) fn encode_marked(&self, text: &str) -> Result<Vec<u32>, String> {
        let marked = self.marked.get_or_init(|| {
            let mut inner = Box::new(self.inner.clone());
            inner.set_encode_special_tokens(false);
            inner
        });
        let encoding = marked.encode_fast(text, false);
        Ok(encoding.map_err(|e| e.to_string())?.get_ids().to_vec())
    }

    pub(super) fn id_of(&self, name: &str) -> Option<u32> {
        self.inner.token_to_id(name)
    }

    /// As [`HuggingFace::encode`], with the characters that each id adds to those before it.
    pub(super) fn encode_counted(&self, text: &str) -> Result<(Vec<u32>, Vec<u32>), String> {
        let encoding = self.inner.encode_char_offsets(text, false);
        let encoding = encoding.map_err(|e| e.to_string())?;
        let mut done = 0;
        let offsets = encoding.get_offsets().iter();
        let mut added: Vec<u32> = offsets
            .map(|&(_, end)| {
                let more = end.saturating_sub(done);
                done += more;
                more as u32
            })
            .collect();
        // what a tokenizer drops at the end belongs to the last token
        if let Some(last) = added.last_mut() {
            *last += text.chars().count().saturating_sub(done) as u32;
        }
        Ok((encoding.get_ids().to_vec(), added))
    }

    /// Ids of a part of a text. `after`: something unknown stands right before it, so that it does not begin
    /// a text. `before`: something unknown follows, so that a space at its end is that of the next word's
    /// token, as in running text, and not a token of its own.
    pub(super) fn encode_part(
        &self,
        text: &str,
        after: bool,
        before: bool,
    ) -> Result<Vec<u32>, String> {
        let lefts: &[&str] = if after { &BEFORE } else { &[""] };
        if before && text.ends_with(char::is_whitespace) {
            let word = lefts.iter().find_map(|left| self.between(left, text, WORD));
            if let Some(ids) = word {
                return Ok(ids);
            }
            let text = text.strip_suffix(' ').unwrap_or(text);
            return self.encode_part(text, after, false);
        }
        match lefts.iter().find_map(|left| self.between(left, text, "")) {
            Some(ids) => Ok(ids),
            None => self.encode(text),
        }
    }

    /// Ids of `text` between two others, if no token has letters of it and of another one. A token of
    /// the spaces at its end and of `right` belongs to `right`.
    fn between(&self, left: &str, text: &str, right: &str) -> Option<Vec<u32>> {
        let whole = [left, text, right].concat();
        let (from, to) = (left.len(), left.len() + text.len());
        let encoding = self.inner.encode(&whole[..], false).ok()?;
        let mut ids = Vec::new();
        for (&id, &(start, end)) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
            if from > 0 && end <= from || !right.is_empty() && start >= to {
                continue;
            }
            if start < from {
                return None;
            }
            if end <= to {
                ids.push(id);
            } else if !whole[start..to].trim().is_empty() {
                return None;
            }
        }
        Some(ids)
    }

    /// Text of ids. `after`: others stand before them, so that they do not begin a text.
    pub(super) fn decode(&self, ids: &[u32], after: bool) -> String {
        let names = ids.iter().map(|&id| self.name(id));
        let goes_on = |name: String| {
            let prefix = self.continuing.as_deref();
            prefix.is_some_and(|prefix| !prefix.is_empty() && name.starts_with(prefix))
        };
        let after = after || names.clone().next().is_some_and(goes_on);
        let (before, text) = &self.context;
        if after {
            let whole = self.join(before.iter().cloned().chain(names.clone()).collect());
            if let Some(rest) = whole.strip_prefix(text.as_str()) {
                return rest.to_owned();
            }
        }
        self.join(names.collect())
    }

    /// Bytes of a token that is a part of a character, in the two ways in which vocabularies name such tokens.
    pub(super) fn fragment(&self, id: u32) -> Option<Vec<u8>> {
        let name = self.inner.id_to_token(id)?;
        let spelled = name
            .strip_prefix("<0x")
            .and_then(|name| name.strip_suffix('>'));
        let bytes = match spelled {
            Some(digits) => vec![u8::from_str_radix(digits, 16).ok()?],
            None => name.chars().map(byte_of).collect::<Option<_>>()?,
        };
        // other vocabularies have tokens with such names, which are whole characters
        let broken = std::str::from_utf8(&bytes).is_err();
        let shown = || self.decode(&[id], true);
        (broken && shown().contains(char::REPLACEMENT_CHARACTER)).then_some(bytes)
    }

    pub(super) fn name(&self, id: u32) -> String {
        let name = self.inner.id_to_token(id);
        name.unwrap_or_else(|| char::REPLACEMENT_CHARACTER.to_string())
    }

    fn join(&self, tokens: Vec<String>) -> String {
        use tokenizers::Decoder;
        let plain = tokens.join(self.glue);
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

    fn find_context(&self) -> (Vec<String>, String) {
        let found = BEFORE.iter().find_map(|&left| {
            let ids = self.encode(left).ok()?;
            let names: Vec<String> = ids.iter().map(|&id| self.name(id)).collect();
            let text = self.join(names.clone());
            (text.trim() == left).then_some((names, text))
        });
        found.unwrap_or_default()
    }

    /// Whether tokens one behind the other are a text that has these tokens.
    fn spells(&self) -> bool {
        const TRIED: u32 = 64;
        let alone = |id: &u32| self.encode(&self.name(*id)).is_ok_and(|ids| ids == [*id]);
        let plain: Vec<u32> = (0..TRIED).filter(alone).collect();
        let pairs = plain.windows(2);
        let kept = |pair: &&[u32]| {
            let text = self.name(pair[0]) + &self.name(pair[1]);
            self.encode(&text).is_ok_and(|ids| ids == *pair)
        };
        2 * pairs.clone().filter(kept).count() > pairs.len()
    }
}

/// The byte that a letter of GPT-2's alphabet stands for: printable ones for themselves, and those that are not, in
/// order, for the letters from U+0100 on.
fn byte_of(letter: char) -> Option<u8> {
    let printable = |byte: &u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    match u32::from(letter) {
        code @ 0..=0xFF => u8::try_from(code).ok().filter(printable),
        code => (0..=u8::MAX)
            .filter(|byte| !printable(byte))
            .nth(code as usize - 0x100),
    }
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
        let names = SpecialNames::default();
        let (_, special) = HuggingFace::new(json.to_string().as_bytes(), &names).unwrap();
        assert_eq!((special.vocab_size, special.mask), (50258, 50257));
        assert_eq!((special.eos, special.pad), (50256, None));
    }
}
