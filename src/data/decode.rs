//! Text of ids: of all of them, of each where it stands, and of one for people to read.

use super::special::Special;
use super::split::SEPARATOR;
use super::text8;
use super::tokenizer::{Kind, Tokenizer};

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
    use std::path::Path;

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
}
