//! What each token of a vocabulary adds to a text, byte by byte.

use rayon::prelude::*;

/// Sequences that are decoded to see whether tokens add what they are said to.
const TRIED: usize = 512;

/// Bytes of some tokens, one behind the other.
#[derive(Debug, Default)]
struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Whether a token stands for text at all.
    known: Vec<bool>,
}

impl Texts {
    fn of(texts: Vec<Option<Vec<u8>>>) -> Self {
        let mut made = Self::default();
        for text in texts {
            made.known.push(text.is_some());
            made.bytes.extend(text.unwrap_or_default());
            made.ends.push(made.bytes.len());
        }
        made
    }

    fn get(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let known = *self.known.get(id)?;
        let begin = if id == 0 { 0 } else { self.ends[id - 1] };
        known.then(|| &self.bytes[begin..self.ends[id]])
    }
}

/// The bytes that each token adds to a text: a text's tokens, decoded, are the bytes of its first token as that
/// begins a text and those of the others as they stand behind something.
#[derive(Debug)]
pub struct Vocabulary {
    first: Texts,
    behind: Texts,
    sorted: Vec<u32>,
}

impl Vocabulary {
    /// Of that many ids, by what each adds at a text's beginning or `behind` something, and by how texts are decoded;
    /// the error says that tokens do not add up to texts.
    pub(super) fn new(
        ids: usize,
        bytes: impl Fn(u32, bool) -> Option<Vec<u8>> + Sync,
        decode: impl Fn(&[u32]) -> String,
    ) -> Result<Self, String> {
        let ids = 0..ids as u32;
        let texts = |behind: bool| -> Texts {
            let all = ids.clone().into_par_iter();
            Texts::of(all.map(|id| bytes(id, behind)).collect())
        };
        let (first, behind) = (texts(false), texts(true));
        let mut sorted: Vec<u32> = ids.filter(|&id| behind.get(id).is_some()).collect();
        sorted.sort_by_key(|&id| behind.get(id));
        let made = Self {
            first,
            behind,
            sorted,
        };
        match made.misfit(decode) {
            Some(ids) => Err(format!(
                "its tokens {ids:?} together are another text than one by one, so that no text can be held to a constraint"
            )),
            None => Ok(made),
        }
    }

    /// Tokens that decode to something else than they add up to, if there are such among some that are tried.
    fn misfit(&self, decode: impl Fn(&[u32]) -> String) -> Option<[u32; 3]> {
        let pick = |i: usize| self.sorted[i * 7919 % self.sorted.len()];
        let tried = (0..TRIED.min(self.sorted.len() * 8))
            .map(|i| [pick(i), pick(3 * i + 1), pick(5 * i + 2)]);
        let mut tried = tried.filter(|ids| {
            let text = self.text(ids);
            // broken characters are shown in ways of their own
            let whole = text.and_then(|text| String::from_utf8(text).ok());
            whole.is_some_and(|text| text != decode(ids))
        });
        tried.next()
    }

    /// The bytes of a text of tokens; `None` if one of them stands for no text.
    pub fn text(&self, ids: &[u32]) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        for (i, &id) in ids.iter().enumerate() {
            text.extend(self.bytes(id, i > 0)?);
        }
        Some(text)
    }

    /// What a token adds at the beginning of a text or `behind` another token; `None` if it stands for no text, as the
    /// mask and special tokens.
    pub fn bytes(&self, id: u32, behind: bool) -> Option<&[u8]> {
        match behind {
            true => self.behind.get(id),
            false => self.first.get(id),
        }
    }

    /// How many ids there are.
    pub fn ids(&self) -> usize {
        self.behind.ends.len()
    }

    /// The tokens that stand for text, in the order of their bytes behind others.
    pub fn sorted(&self) -> &[u32] {
        &self.sorted
    }
}
