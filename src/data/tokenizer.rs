//! Text to token ids and back: characters, bytes, text8, or a Hugging Face `tokenizer.json`.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use super::huggingface::HuggingFace;
use super::origin::{TOKENIZER, in_text};
use super::special::{Special, SpecialNames};
use super::text8;
use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};
use crate::io::keyed;

/// Largest `tokenizer.json`, unpacked.
pub(super) const MAX_FILE_BYTES: u64 = 64 << 20;

/// A vocabulary with its special tokens. The mask is always one of its ids: the tokenizer's own
/// where it has one (BERT), else an id added at the end.
///
/// ```
/// let tokenizer = mdlm::Tokenizer::characters("abc ");
/// let ids = tokenizer.encode("cab")?;
/// assert_eq!(tokenizer.decode(&ids), "cab");
/// assert!((tokenizer.mask_index() as usize) < tokenizer.vocab_size());
/// # Ok::<(), mdlm::Error>(())
/// ```
#[derive(Clone)]
pub struct Tokenizer {
    pub(super) kind: Kind,
    pub(super) special: Special,
    names: SpecialNames,
    /// What its tokens add to texts, once somebody has asked.
    pub(super) vocabulary: Arc<OnceLock<Result<Arc<Vocabulary>, String>>>,
}

#[derive(Clone)]
pub(super) enum Kind {
    /// Sorted; the id of a character is its place.
    Characters(Vec<char>),
    Byte,
    Text8,
    HuggingFace(Arc<HuggingFace>),
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
        Self::built_in(Kind::Byte, Special::after(256))
    }

    /// The 35 ids of text8, as in the reference: special tokens 0 to 7, `a` to `z` = 8 to 33, space = 34;
    /// mask = 4. Text in any other character is an error, where the reference would lower-case it or
    /// make it `[UNK]`.
    pub fn text8() -> Self {
        Self::built_in(Kind::Text8, text8::SPECIAL)
    }

    fn built_in(kind: Kind, special: Special) -> Self {
        Self {
            kind,
            special,
            names: SpecialNames::default(),
            vocabulary: Arc::default(),
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
        Self::built_in(Kind::Characters(characters), special)
    }

    /// Reads a Hugging Face `tokenizer.json`, or what [`Tokenizer::to_json`] has written.
    ///
    /// # Errors
    /// [`Error::Corpus`] that says what is wrong.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        Self::from_json_named(bytes, &SpecialNames::default())
    }

    /// As [`Tokenizer::from_json`], of a `tokenizer.json` whose special tokens have names of their own.
    ///
    /// # Errors
    /// [`Error::Corpus`], also for a name that no token has.
    pub fn from_json_named(bytes: &[u8], names: &SpecialNames) -> Result<Self> {
        let problem = |p: String| Error::corpus(Path::new(TOKENIZER), p);
        let bytes = keyed::without_mark(bytes);
        let json: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|e| problem(format!("not JSON: {e}")))?;
        if json.get("mdlm_tokenizer").is_some() {
            let built_in = match serde_json::from_value(json).map_err(|e| problem(e.to_string()))? {
                BuiltIn::Char { characters } => Self::characters(&characters),
                BuiltIn::Byte {} => Self::byte(),
                BuiltIn::Text8 {} => Self::text8(),
            };
            return built_in.renamed(names);
        }
        if json.get("model").is_none() {
            let what = "not a tokenizer: it has no `model`, as a tokenizer.json has";
            return Err(problem(what.to_owned()));
        }
        let (tokenizer, special) = HuggingFace::new(bytes, names).map_err(problem)?;
        Ok(Self {
            kind: Kind::HuggingFace(Arc::new(tokenizer)),
            special,
            names: names.clone(),
            vocabulary: Arc::default(),
        })
    }

    /// Refuses names for what has no names.
    pub(super) fn renamed(self, names: &SpecialNames) -> Result<Self> {
        if *names != SpecialNames::default() {
            let problem = "only the tokens of a tokenizer.json have names";
            return Err(Error::config(
                "data.bos_token and its like",
                "given",
                problem,
            ));
        }
        Ok(self)
    }

    /// `char` (the vocabulary is that of `training_text`), `byte`, `text8`, or the path of a
    /// `tokenizer.json`, plain or gzip-packed.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Corpus`] for a file that is no tokenizer.
    pub fn from_spec(spec: &str, training_text: &str) -> Result<Self> {
        Self::from_spec_named(spec, training_text, &SpecialNames::default())
    }

    /// As [`Tokenizer::from_spec`], with names as in [`Tokenizer::from_json_named`].
    ///
    /// # Errors
    /// As both.
    pub fn from_spec_named(spec: &str, training_text: &str, names: &SpecialNames) -> Result<Self> {
        match spec {
            "char" => Self::characters(training_text).renamed(names),
            "byte" => Self::byte().renamed(names),
            "text8" => Self::text8().renamed(names),
            // a kind that does not exist looks like a file that does not
            name if !name.contains(['.', '/', '\\']) && !Path::new(name).exists() => {
                let problem = "is neither char, byte nor text8, and there is no file of that name";
                Err(Error::config("data.tokenizer", name, problem))
            }
            path => Self::from_file_named(Path::new(path), names),
        }
    }

    /// Reads a `tokenizer.json`, plain or gzip-packed.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Corpus`] for a file that is no tokenizer.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_file(path: &Path) -> Result<Self> {
        Self::from_file_named(path, &SpecialNames::default())
    }

    /// As [`Tokenizer::from_file`], with names as in [`Tokenizer::from_json_named`].
    ///
    /// # Errors
    /// As both.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_file_named(path: &Path, names: &SpecialNames) -> Result<Self> {
        let bytes = crate::io::read::read_unpacked(path, MAX_FILE_BYTES)?;
        Self::from_named(path, &bytes, names)
    }

    #[cfg(target_arch = "wasm32")]
    fn from_file_named(path: &Path, _: &SpecialNames) -> Result<Self> {
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
    ///
    /// # Errors
    /// [`Error::Corpus`] for text that the vocabulary does not have.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match &self.kind {
            Kind::HuggingFace(tokenizer) => self.own(tokenizer.encode(text).map_err(in_text)?),
            _ => self.symbols(text),
        }
    }

    /// Ids of a part of a text. `after`: something unknown stands right before it, so no token begins a text
    /// and none gets the space that some vocabularies put there. `before`: something unknown follows, so that
    /// a space at the end belongs to the next word, as in running text, and makes no token of its own.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_part(&self, text: &str, after: bool, before: bool) -> Result<Vec<u32>> {
        match &self.kind {
            _ if text.is_empty() => Ok(Vec::new()),
            Kind::HuggingFace(tokenizer) => {
                let ids = tokenizer.encode_part(text, after, before);
                self.own(ids.map_err(in_text)?)
            }
            _ => self.symbols(text),
        }
    }

    /// As [`Tokenizer::encode`], with the number of characters that each id adds to those before it.
    pub(super) fn encode_counted(&self, text: &str) -> Result<(Vec<u32>, Vec<u32>)> {
        match &self.kind {
            Kind::HuggingFace(tokenizer) => {
                let (ids, added) = tokenizer.encode_counted(text).map_err(in_text)?;
                Ok((self.own(ids)?, added))
            }
            Kind::Byte => {
                let begins = |byte: u8| u32::from(byte & 0xC0 != 0x80);
                Ok((self.symbols(text)?, text.bytes().map(begins).collect()))
            }
            Kind::Characters(_) | Kind::Text8 => {
                let ids = self.symbols(text)?;
                let ones = vec![1; ids.len()];
                Ok((ids, ones))
            }
        }
    }

    /// An error if an id stands for something else than text.
    fn own(&self, ids: Vec<u32>) -> Result<Vec<u32>> {
        let foreign = |&id: &u32| id as usize >= self.vocab_size() || id == self.special.mask;
        match ids.iter().copied().find(foreign) {
            Some(id) => Err(in_text(format!(
                "the tokenizer makes its reserved token {id} of it, {:?}, which stands for no text",
                self.token_text(id)
            ))),
            None => Ok(ids),
        }
    }

    /// Ids of the vocabularies whose tokens are bytes or characters.
    fn symbols(&self, text: &str) -> Result<Vec<u32>> {
        match &self.kind {
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
            Kind::Byte | Kind::HuggingFace(_) => Ok(text.bytes().map(u32::from).collect()),
        }
    }

    /// Names of the special tokens, where they are not the usual ones.
    pub fn special_names(&self) -> &SpecialNames {
        &self.names
    }

    /// Number of ids, the mask included.
    pub fn vocab_size(&self) -> usize {
        self.special.vocab_size
    }

    /// Number of ids that stand for something, reserved tokens behind the vocabulary included.
    pub fn ids(&self) -> usize {
        match &self.kind {
            Kind::HuggingFace(tokenizer) => tokenizer.ids().max(self.special.vocab_size),
            _ => self.special.vocab_size,
        }
    }

    /// Name of a token in a `tokenizer.json`; `None` for ids that it does not have, such as a mask that was added.
    pub fn token_name(&self, id: u32) -> Option<String> {
        match &self.kind {
            Kind::HuggingFace(tokenizer) => tokenizer.known(id),
            _ => None,
        }
    }

    /// What the tokenizer itself puts before and behind a text.
    pub fn frame(&self) -> [Option<u32>; 2] {
        match &self.kind {
            Kind::HuggingFace(tokenizer) => tokenizer.frame(),
            _ => [None; 2],
        }
    }

    /// Id of the mask token; not always the last.
    pub fn mask_index(&self) -> u32 {
        self.special.mask
    }

    /// Whether the vocabulary has no mask that it calls so; the id behind it stands in, which may have another meaning.
    pub(crate) fn lacks_mask(&self) -> bool {
        self.special.added
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
