//! Text of ids: of all of them, of each where it stands, and of one for people to read.

use std::path::Path;
use std::sync::Arc;

use super::origin::TOKENIZER;
use super::special::Special;
use super::split::SEPARATOR;
use super::text8;
use super::tokenizer::{Kind, Tokenizer};
use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};

/// How the mask token is shown where nothing else was asked for.
const MASK_TEXT: &str = "[MASK]";

impl Tokenizer {
    /// Text of `ids`, in which the mask reads `[MASK]`. What begins, ends and pads all of it vanishes; where a
    /// text ends and another one follows, a line `<|endoftext|>` stands between them, as in a corpus.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.decode_with(ids, MASK_TEXT)
    }

    /// As [`Tokenizer::decode`], with `mask` in place of each mask token. Ids that stand for
    /// no text and broken UTF-8 become U+FFFD.
    pub fn decode_with(&self, ids: &[u32], mask: &str) -> String {
        let (mut text, mut ended) = (String::new(), false);
        let parts = ids.chunk_by(|&a, &b| self.part(a) == self.part(b));
        // whether something stands before in the same text
        let mut after = false;
        for part in parts {
            match self.part(part[0]) {
                Part::Pad => continue,
                Part::End => {
                    (ended, after) = (!text.is_empty(), false);
                    continue;
                }
                _ if ended => {
                    text += &format!("\n{SEPARATOR}\n");
                    ended = false;
                }
                _ => {}
            }
            if self.part(part[0]) == Part::Mask {
                text += &mask.repeat(part.len());
            } else {
                text += &self.text_of(part, after);
            }
            after = true;
        }
        text
    }

    /// The text that each of `ids` adds to those before it; a character of several tokens stands at its
    /// last one. Special tokens, masks among them, have no text here.
    pub fn pieces(&self, ids: &[u32]) -> Vec<String> {
        let (mut pieces, mut after) = (Vec::new(), false);
        // bytes of a character that is not complete
        let mut open = Vec::new();
        for (i, &id) in ids.iter().enumerate() {
            let mut piece = String::new();
            match (self.part(id), self.fragment(id)) {
                (Part::Text, Some(bytes)) => {
                    open.extend(bytes);
                    take_whole(&mut open, &mut piece);
                    let next = ids.get(i + 1).and_then(|&id| self.fragment(id));
                    if !open.is_empty() && next.is_none() {
                        piece.push(char::REPLACEMENT_CHARACTER);
                        open.clear();
                    }
                }
                (Part::Text, None) => piece = self.text_of(&[id], after),
                _ => {}
            }
            after = match self.part(id) {
                Part::Text | Part::Mask => true,
                Part::End => false,
                Part::Pad => after,
            };
            pieces.push(piece);
        }
        pieces
    }

    fn part(&self, id: u32) -> Part {
        let Special {
            bos,
            eos,
            pad,
            mask,
            ..
        } = self.special;
        match id {
            _ if id == mask => Part::Mask,
            _ if id == bos || id == eos => Part::End,
            _ if Some(id) == pad => Part::Pad,
            _ => Part::Text,
        }
    }

    /// Text of ids that are all text; `after`: something stands before them.
    fn text_of(&self, ids: &[u32], after: bool) -> String {
        match &self.kind {
            Kind::HuggingFace(tokenizer) => tokenizer.decode(ids, after),
            Kind::Characters(all) => spell(ids, |id| all.get(id as usize).copied()),
            Kind::Text8 => spell(ids, text8::character),
            Kind::Byte => {
                let mut bytes = Vec::new();
                for &id in ids {
                    match u8::try_from(id) {
                        Ok(byte) => bytes.push(byte),
                        Err(_) => bytes.extend("\u{FFFD}".bytes()),
                    }
                }
                String::from_utf8_lossy(&bytes).into_owned()
            }
        }
    }

    /// Bytes of a token that is only a part of a character, so that several of them can be put together.
    pub fn fragment(&self, id: u32) -> Option<Vec<u8>> {
        match (&self.kind, self.part(id)) {
            (Kind::HuggingFace(tokenizer), Part::Text) => tokenizer.fragment(id),
            (Kind::Byte, Part::Text) => {
                Some(vec![u8::try_from(id).ok().filter(|byte| *byte > 0x7F)?])
            }
            _ => None,
        }
    }

    /// What a token adds at the beginning of a text or `behind` something in it, down to parts of characters; `None` if it
    /// stands for no text.
    fn bytes(&self, id: u32, behind: bool) -> Option<Vec<u8>> {
        let fragment = self.fragment(id);
        let text = match &self.kind {
            _ if self.part(id) != Part::Text => return None,
            Kind::HuggingFace(tokenizer) if !tokenizer.stands_for_text(id) => return None,
            _ if fragment.is_some() => return fragment,
            _ => self.text_of(&[id], behind),
        };
        // what the other kinds show of ids that they do not have
        let known = matches!(self.kind, Kind::HuggingFace(_))
            || !text.contains(char::REPLACEMENT_CHARACTER);
        known.then(|| text.into_bytes())
    }

    /// What each token adds to a text; found out once, for all copies of this tokenizer.
    ///
    /// # Errors
    /// [`Error::Corpus`] for a tokenizer whose tokens are another text together than one by one.
    pub fn vocabulary(&self) -> Result<Arc<Vocabulary>> {
        let made = self.vocabulary.get_or_init(|| {
            let bytes = |id, behind| self.bytes(id, behind);
            Vocabulary::new(self.ids(), bytes, |ids| self.decode(ids)).map(Arc::new)
        });
        let told = |problem: &String| Error::corpus(Path::new(TOKENIZER), problem);
        made.as_ref().map(Arc::clone).map_err(told)
    }

    /// One token for people to read, as inside a text; special tokens by their names.
    pub fn token_text(&self, id: u32) -> String {
        match (&self.kind, self.part(id)) {
            (_, Part::Mask) => MASK_TEXT.to_owned(),
            (Kind::HuggingFace(tokenizer), Part::End | Part::Pad) => tokenizer.name(id),
            (Kind::Text8, _) => {
                text8::name(id).map_or_else(|| self.text_of(&[id], true), str::to_owned)
            }
            (_, Part::End) => SEPARATOR.to_owned(),
            (Kind::Byte, _) if (0x80..0x100).contains(&id) => format!("<0x{id:02X}>"),
            _ => self.text_of(&[id], true),
        }
    }
}

/// What an id is in a text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Text,
    Mask,
    /// Begins or ends a text.
    End,
    Pad,
}

/// Moves the characters that `bytes` begins with, broken ones as U+FFFD, to `text`; an unfinished one stays.
fn take_whole(bytes: &mut Vec<u8>, text: &mut String) {
    while !bytes.is_empty() {
        let (whole, broken) = match std::str::from_utf8(bytes) {
            Ok(all) => (all.len(), Some(0)),
            Err(e) => (e.valid_up_to(), e.error_len()),
        };
        text.push_str(&String::from_utf8_lossy(&bytes[..whole]));
        bytes.drain(..whole);
        match broken {
            None => return,
            Some(0) => {}
            Some(count) => {
                text.push(char::REPLACEMENT_CHARACTER);
                bytes.drain(..count);
            }
        }
    }
}

/// Text of a vocabulary of characters.
fn spell(ids: &[u32], character: impl Fn(u32) -> Option<char>) -> String {
    let known = |&id: &u32| character(id).unwrap_or(char::REPLACEMENT_CHARACTER);
    ids.iter().map(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundled(name: &str) -> Tokenizer {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"));
        Tokenizer::from_file(&path.join("corpora").join(name)).unwrap()
    }

    #[test]
    fn masks_and_special_tokens_in_decoded_text() {
        let names = [
            "tinystories-bpe2048.tokenizer.json",
            "gpt2.tokenizer.json.gz",
            "bert-base-uncased.tokenizer.json.gz",
        ];
        let built_in = [
            Tokenizer::byte(),
            Tokenizer::characters("the cat"),
            Tokenizer::text8(),
        ];
        for tokenizer in built_in.into_iter().chain(names.map(bundled)) {
            let mut sequence = vec![tokenizer.bos()];
            sequence.extend(tokenizer.encode("the").unwrap());
            sequence.push(tokenizer.mask_index());
            sequence.extend(tokenizer.encode(" cat").unwrap());
            sequence.push(tokenizer.eos());
            // A glyph that is also a letter of the byte-level alphabet.
            let shown = tokenizer.decode_with(&sequence, "·");
            assert!(
                ["the· cat", "the · cat"].contains(&shown.as_str()),
                "{shown}"
            );
            assert!(tokenizer.decode(&sequence).contains("[MASK]"));
            assert_eq!(tokenizer.token_text(tokenizer.mask_index()), "[MASK]");
            assert_eq!(tokenizer.decode(&[u32::MAX]), "\u{FFFD}");
        }
    }

    #[test]
    fn single_tokens_for_people() {
        let stories = bundled("tinystories-bpe2048.tokenizer.json");
        let the = stories.encode(" the").unwrap();
        assert_eq!(the.len(), 1);
        assert_eq!(stories.token_text(the[0]), " the");
        assert_eq!(stories.token_text(stories.eos()), "<|endoftext|>");
        let bert = bundled("bert-base-uncased.tokenizer.json.gz");
        assert_eq!(bert.token_text(bert.eos()), "[SEP]");
        let text8 = Tokenizer::from_spec("text8", "").unwrap();
        let names = [2, 3, 4, 8, 34].map(|id| text8.token_text(id));
        assert_eq!(names, ["[BOS]", "[EOS]", "[MASK]", "a", " "]);
        let byte = Tokenizer::byte();
        assert_eq!(
            (byte.token_text(97), byte.token_text(0xC3)),
            ("a".into(), "<0xC3>".into())
        );
    }

    #[test]
    fn texts_are_the_bytes_of_their_tokens() {
        let text = "Once upon a time, the cat's hat cost 12 of nothing. Nañ \u{1F600}";
        let names = [
            "tinystories-bpe2048.tokenizer.json",
            "gpt2.tokenizer.json.gz",
        ];
        let built_in = [Tokenizer::byte(), Tokenizer::characters(text)];
        for tokenizer in built_in.into_iter().chain(names.map(bundled)) {
            let vocabulary = tokenizer.vocabulary().unwrap();
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(vocabulary.text(&ids).unwrap(), text.as_bytes());
            for special in [tokenizer.mask_index(), tokenizer.eos(), u32::MAX] {
                assert_eq!(vocabulary.bytes(special, true), None, "{tokenizer:?}");
            }
        }
        // words have a space before them, but not the first one
        let bert = bundled("bert-base-uncased.tokenizer.json.gz");
        let vocabulary = bert.vocabulary().unwrap();
        let ids = bert.encode("the unhappily cat's.").unwrap();
        let decoded = bert.decode(&ids);
        assert_eq!(vocabulary.text(&ids).unwrap(), decoded.as_bytes());
        assert_eq!(vocabulary.bytes(ids[0], false), Some(&b"the"[..]));
        assert_eq!(vocabulary.bytes(ids[0], true), Some(&b" the"[..]));
        for special in [bert.bos(), bert.mask_index(), 0] {
            assert_eq!(vocabulary.bytes(special, true), None);
        }
    }

    #[test]
    fn tokens_that_change_each_other_are_refused() {
        // the end of a word is a space only if another one follows
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": null, "post_processor": null, "decoder": {"type": "BPEDecoder", "suffix": "</w>"},
            "model": {"type": "WordLevel", "vocab": {"a</w>": 0, "b</w>": 1, "<s>": 2, "</s>": 3}, "unk_token": "<s>"},
        });
        let tokenizer = Tokenizer::from_json(json.to_string().as_bytes()).unwrap();
        let error = tokenizer.vocabulary().unwrap_err().to_string();
        assert!(error.contains("one by one"), "{error}");
    }
}
