//! Text to token ids and back: characters, bytes, text8, or a Hugging Face `tokenizer.json`.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::huggingface::HuggingFace;
use super::text8;
use crate::error::{Error, Result};

/// How the mask token is shown where nothing else was asked for.
const MASK_TEXT: &str = "[MASK]";
/// Name of the token that separates documents.
const END_OF_TEXT: &str = "<|endoftext|>";
/// Largest `tokenizer.json`, unpacked.
#[cfg(not(target_arch = "wasm32"))]
const MAX_FILE_BYTES: u64 = 64 << 20;

/// A vocabulary with its special tokens. The mask is always one of its ids: the tokenizer's own
/// where it has one (BERT), else an id added at the end.
#[derive(Clone)]
pub struct Tokenizer {
    kind: Kind,
    special: Special,
}

#[derive(Clone)]
enum Kind {
    /// Sorted; the id of a character is its place.
    Characters(Vec<char>),
    Byte,
    Text8,
    HuggingFace(Box<HuggingFace>),
}

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

impl Special {
    /// `symbols` ordinary ids, then the end of text, then the mask.
    fn after(symbols: usize) -> Self {
        let eos = symbols as u32;
        Self {
            vocab_size: symbols + 2,
            mask: eos + 1,
            bos: eos,
            eos,
            pad: None,
        }
    }
}

/// The file form of the built-in tokenizers.
#[derive(Serialize, Deserialize)]
#[serde(tag = "mdlm_tokenizer", rename_all = "lowercase", deny_unknown_fields)]
enum BuiltIn {
    Char { characters: String },
    Byte {},
    Text8 {},
}

impl Tokenizer {
    /// The 256 bytes, then end of text = 256, mask = 257.
    pub fn byte() -> Self {
        Self {
            kind: Kind::Byte,
            special: Special::after(256),
        }
    }

    /// The 35 ids of text8, as in the reference: special tokens 0 to 7, `a` to `z` = 8 to 33, space = 34;
    /// mask = 4. Text in any other character is an error, where the reference would lower-case it or
    /// make it `[UNK]`.
    pub fn text8() -> Self {
        Self {
            kind: Kind::Text8,
            special: text8::SPECIAL,
        }
    }

    /// The distinct characters of `text` in order, then the end of text, then the mask.
    pub fn characters(text: &str) -> Self {
        Self::of_characters(&text.chars().collect())
    }

    /// As [`Tokenizer::characters`], from the characters themselves.
    pub(super) fn of_characters(distinct: &BTreeSet<char>) -> Self {
        let characters: Vec<char> = distinct.iter().copied().collect();
        let special = Special::after(characters.len());
        Self {
            kind: Kind::Characters(characters),
            special,
        }
    }

    /// Reads a Hugging Face `tokenizer.json`, or what [`Tokenizer::to_json`] has written.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let problem = |p: String| Error::corpus(Path::new("tokenizer.json"), p);
        let json: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|e| problem(format!("not JSON: {e}")))?;
        if json.get("mdlm_tokenizer").is_some() {
            match serde_json::from_value(json).map_err(|e| problem(e.to_string()))? {
                BuiltIn::Char { characters } => Ok(Self::characters(&characters)),
                BuiltIn::Byte {} => Ok(Self::byte()),
                BuiltIn::Text8 {} => Ok(Self::text8()),
            }
        } else {
            let (tokenizer, special) = HuggingFace::new(bytes).map_err(problem)?;
            Ok(Self {
                kind: Kind::HuggingFace(Box::new(tokenizer)),
                special,
            })
        }
    }

    /// `char` (the vocabulary is that of `training_text`), `byte`, `text8`, or the path of a
    /// `tokenizer.json`, plain or gzip-packed.
    pub fn from_spec(spec: &str, training_text: &str) -> Result<Self> {
        match spec {
            "char" => Ok(Self::characters(training_text)),
            "byte" => Ok(Self::byte()),
            "text8" => Ok(Self::text8()),
            path => Self::from_file(Path::new(path)),
        }
    }

    /// Reads a `tokenizer.json`, plain or gzip-packed.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_file(path: &Path) -> Result<Self> {
        let bytes = crate::io::read::read_unpacked(path, MAX_FILE_BYTES)?;
        Self::from_json(&bytes).map_err(|e| super::corpus::with_path(e, path))
    }

    #[cfg(target_arch = "wasm32")]
    fn from_file(path: &Path) -> Result<Self> {
        let problem = "there are no files here; load the tokenizer from bytes";
        Err(Error::config("data.tokenizer", path.display(), problem))
    }

    /// Everything [`Tokenizer::from_json`] needs to make this tokenizer again.
    pub fn to_json(&self) -> Vec<u8> {
        let built_in = match &self.kind {
            Kind::HuggingFace(tokenizer) => return tokenizer.json().to_vec(),
            Kind::Characters(all) => BuiltIn::Char {
                characters: all.iter().collect(),
            },
            Kind::Byte => BuiltIn::Byte {},
            Kind::Text8 => BuiltIn::Text8 {},
        };
        serde_json::to_vec(&built_in).expect("text and tags are always valid JSON")
    }

    /// Ids of `text`, without BOS or EOS. The names of special tokens mean nothing in it, so the
    /// mask never comes out.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match &self.kind {
            Kind::Byte => Ok(text.bytes().map(u32::from).collect()),
            Kind::Text8 => text8::encode(text).map_err(in_text),
            Kind::Characters(all) => text
                .chars()
                .enumerate()
                .map(|(position, c)| match all.binary_search(&c) {
                    Ok(id) => Ok(id as u32),
                    Err(_) => Err(in_text(format!(
                        "character {c:?} at position {position} is not among the {} known",
                        all.len()
                    ))),
                })
                .collect(),
            Kind::HuggingFace(tokenizer) => {
                let ids = tokenizer.encode(text).map_err(in_text)?;
                let foreign =
                    |&id: &u32| id as usize >= self.vocab_size() || id == self.special.mask;
                match ids.iter().copied().find(foreign) {
                    Some(id) => Err(in_text(format!(
                        "the tokenizer makes its reserved token {id} of it"
                    ))),
                    None => Ok(ids),
                }
            }
        }
    }

    /// Text of `ids`; BOS, EOS and pads vanish and the mask reads `[MASK]`.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.decode_with(ids, MASK_TEXT)
    }

    /// As [`Tokenizer::decode`], with `mask` in place of each mask token. Ids that stand for
    /// no text and broken UTF-8 become U+FFFD.
    pub fn decode_with(&self, ids: &[u32], mask: &str) -> String {
        let Special {
            bos,
            eos,
            pad,
            mask: mask_id,
            ..
        } = self.special;
        let shown = ids
            .iter()
            .copied()
            .filter(|&id| id != bos && id != eos && Some(id) != pad);
        match &self.kind {
            Kind::HuggingFace(tokenizer) => {
                let ids = shown.map(|id| (id != mask_id).then_some(id));
                tokenizer.decode(ids, mask)
            }
            Kind::Characters(all) => {
                spell(shown, mask_id, mask, |id| all.get(id as usize).copied())
            }
            Kind::Text8 => spell(shown, mask_id, mask, text8::character),
            Kind::Byte => {
                let mut bytes = Vec::new();
                for id in shown {
                    match u8::try_from(id) {
                        Ok(byte) => bytes.push(byte),
                        Err(_) if id == mask_id => bytes.extend(mask.bytes()),
                        Err(_) => bytes.extend("\u{FFFD}".bytes()),
                    }
                }
                String::from_utf8_lossy(&bytes).into_owned()
            }
        }
    }

    /// One token for people to read; special tokens by their names.
    pub fn token_text(&self, id: u32) -> String {
        match &self.kind {
            Kind::HuggingFace(tokenizer) if id != self.special.mask => tokenizer.token_text(id),
            _ if id == self.special.mask => MASK_TEXT.to_owned(),
            Kind::Text8 => text8::name(id).map_or_else(|| self.decode(&[id]), str::to_owned),
            _ if id == self.special.eos => END_OF_TEXT.to_owned(),
            Kind::Byte if (0x80..0x100).contains(&id) => format!("<0x{id:02X}>"),
            _ => self.decode(&[id]),
        }
    }

    /// Number of ids, the mask included.
    pub fn vocab_size(&self) -> usize {
        self.special.vocab_size
    }

    /// Id of the mask token; not always the last.
    pub fn mask_index(&self) -> u32 {
        self.special.mask
    }

    /// Id that begins a block.
    pub fn bos(&self) -> u32 {
        self.special.bos
    }

    /// Id that ends a document and a block.
    pub fn eos(&self) -> u32 {
        self.special.eos
    }

    /// Id of padding, if the vocabulary has one.
    pub fn pad(&self) -> Option<u32> {
        self.special.pad
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Characters(_) => "char",
            Kind::Byte => "byte",
            Kind::Text8 => "text8",
            Kind::HuggingFace(_) => "tokenizer.json",
        };
        f.debug_struct("Tokenizer")
            .field("kind", &kind)
            .field("special", &self.special)
            .finish()
    }
}

/// Text of a vocabulary of characters.
fn spell(
    ids: impl Iterator<Item = u32>,
    mask_id: u32,
    mask: &str,
    character: impl Fn(u32) -> Option<char>,
) -> String {
    let mut text = String::new();
    for id in ids {
        match character(id) {
            Some(c) => text.push(c),
            None if id == mask_id => text.push_str(mask),
            None => text.push(char::REPLACEMENT_CHARACTER),
        }
    }
    text
}

fn in_text(problem: String) -> Error {
    Error::corpus(Path::new("text"), problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundled(name: &str) -> Tokenizer {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpora")
            .join(name);
        Tokenizer::from_spec(path.to_str().unwrap(), "").unwrap()
    }

    fn refused(result: Result<impl fmt::Debug>, parts: &[&str]) {
        match result {
            Err(Error::Corpus { problem, .. }) => {
                assert!(parts.iter().all(|part| problem.contains(part)), "{problem}");
            }
            other => panic!("{other:?}"),
        }
    }

    /// Special ids as (vocab_size, mask, bos, eos, pad).
    fn ids(tokenizer: &Tokenizer) -> (usize, u32, u32, u32, Option<u32>) {
        let t = tokenizer;
        (t.vocab_size(), t.mask_index(), t.bos(), t.eos(), t.pad())
    }

    #[test]
    fn special_ids_of_every_kind() {
        assert_eq!(ids(&Tokenizer::byte()), (258, 257, 256, 256, None));
        assert_eq!(ids(&Tokenizer::characters("abba\n")), (5, 4, 3, 3, None));
        assert_eq!(ids(&Tokenizer::text8()), (35, 4, 2, 3, Some(5)));
        assert_eq!(
            ids(&bundled("tinystories-bpe2048.tokenizer.json")),
            (2049, 2048, 0, 0, None)
        );
        assert_eq!(
            ids(&bundled("gpt2.tokenizer.json.gz")),
            (50258, 50257, 50256, 50256, None)
        );
        let bert = bundled("bert-base-uncased.tokenizer.json.gz");
        assert_eq!(ids(&bert), (30522, 103, 101, 102, Some(0)));
    }

    #[test]
    fn known_ids() {
        assert_eq!(Tokenizer::byte().encode("aé").unwrap(), [97, 0xC3, 0xA9]);
        assert_eq!(
            Tokenizer::characters("cab").encode("abc").unwrap(),
            [0, 1, 2]
        );
        let gpt2 = bundled("gpt2.tokenizer.json.gz");
        assert_eq!(gpt2.encode("Hello world").unwrap(), [15496, 995]);
        let bert = bundled("bert-base-uncased.tokenizer.json.gz");
        assert_eq!(bert.encode("Hello world").unwrap(), [7592, 2088]);
    }

    #[test]
    fn text_survives_encoding_and_the_file() {
        let text =
            "Once upon a time, the cat's hat cost 12 <|endoftext|>\n\tof nothing. Nañ \u{1F600}";
        let lossless = [
            Tokenizer::byte(),
            Tokenizer::characters(text),
            bundled("tinystories-bpe2048.tokenizer.json"),
            bundled("gpt2.tokenizer.json.gz"),
        ];
        for tokenizer in lossless {
            let encoded = tokenizer.encode(text).unwrap();
            assert!(!encoded.contains(&tokenizer.eos()), "{tokenizer:?}");
            assert_eq!(tokenizer.decode(&encoded), text, "{tokenizer:?}");
            let again = Tokenizer::from_json(&tokenizer.to_json()).unwrap();
            assert_eq!(again.encode(text).unwrap(), encoded);
            assert_eq!(ids(&again), ids(&tokenizer));
        }
        let text8 = Tokenizer::from_json(br#"{"mdlm_tokenizer":"text8"}"#).unwrap();
        assert_eq!(text8.to_json(), br#"{"mdlm_tokenizer":"text8"}"#);
        let encoded = text8.encode("the cat").unwrap();
        assert_eq!(text8.decode(&encoded), "the cat");
        refused(text8.encode("the Cat"), &["'C' at position 4", "text8"]);
        let bert = bundled("bert-base-uncased.tokenizer.json.gz");
        let encoded = bert.encode("The cat, unhappily [MASK] SAT.").unwrap();
        assert_eq!(bert.decode(&encoded), "the cat, unhappily [ mask ] sat.");
        let again = Tokenizer::from_json(&bert.to_json()).unwrap();
        assert_eq!(
            again.encode("The cat, unhappily [MASK] SAT.").unwrap(),
            encoded
        );
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
    fn bad_input_is_named() {
        let unknown = Tokenizer::characters("abc").encode("abéc");
        refused(unknown, &["'é'", "position 2", "among the 3"]);
        refused(Tokenizer::from_json(b"{"), &["not JSON"]);
        refused(Tokenizer::from_json(b"{}"), &["not a tokenizer"]);
        refused(
            Tokenizer::from_json(br#"{"mdlm_tokenizer":"word"}"#),
            &["word"],
        );
        refused(
            Tokenizer::from_json(br#"{"mdlm_tokenizer":"byte","x":1}"#),
            &["x"],
        );
        refused(
            Tokenizer::from_json(br#"{"mdlm_tokenizer":"char"}"#),
            &["characters"],
        );
        let word_level = |vocab: &str| {
            Tokenizer::from_json(
                format!(r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,"pre_tokenizer":null,"post_processor":null,"decoder":null,"model":{{"type":"WordLevel","vocab":{vocab},"unk_token":"a"}}}}"#)
                    .as_bytes(),
            )
        };
        refused(word_level(r#"{"a":0}"#), &["[CLS]"]);
        refused(
            word_level(r#"{"a":0,"<s>":1,"</s>":4294967295}"#),
            &["4294967295"],
        );
        // A model that produces its own mask.
        let masked = word_level(r#"{"a":0,"<s>":1,"</s>":2,"<mask>":3}"#).unwrap();
        refused(masked.encode("<mask>"), &["reserved token 3"]);
        assert!(matches!(
            Tokenizer::from_spec("no/such/file", ""),
            Err(Error::Io { .. })
        ));
    }
}
