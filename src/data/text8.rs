//! The vocabulary of text8: eight special tokens, the lower-case letters and the space, with the ids of
//! the reference's `Text8Tokenizer`.

use super::special::Special;

/// In the order of their ids.
const NAMES: [&str; FIRST as usize] = [
    "[CLS]",
    "[SEP]",
    "[BOS]",
    "[EOS]",
    "[MASK]",
    "[PAD]",
    "[RESERVED]",
    "[UNK]",
];
/// Id of `a`.
const FIRST: u32 = 8;
const SPACE: u32 = FIRST + 26;

pub(super) const SPECIAL: Special = Special {
    vocab_size: SPACE as usize + 1,
    mask: 4,
    bos: 2,
    eos: 3,
    pad: Some(5),
    added: false,
};

/// Ids of `text`. The reference lower-cases first and turns what is then unknown into `[UNK]`; here both
/// are errors, because a text that needs either is not text8.
pub(super) fn encode(text: &str) -> Result<Vec<u32>, String> {
    let id = |(position, c): (usize, char)| match c {
        'a'..='z' => Ok(FIRST + (u32::from(c) - u32::from('a'))),
        ' ' => Ok(SPACE),
        _ => Err(format!(
            "character {c:?} at position {position} is not in text8, which has lower-case a to z and \
             spaces only: convert the text, or use another tokenizer"
        )),
    };
    text.chars().enumerate().map(id).collect()
}

/// The character of an id that stands for one.
pub(super) fn character(id: u32) -> Option<char> {
    match id {
        SPACE => Some(' '),
        FIRST..SPACE => char::from_u32(id - FIRST + u32::from('a')),
        _ => None,
    }
}

/// The name of a special token.
pub(super) fn name(id: u32) -> Option<&'static str> {
    NAMES.get(id as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_has_one_meaning() {
        assert_eq!(encode("az ").unwrap(), [8, 33, 34]);
        for id in 0..SPECIAL.vocab_size as u32 {
            assert!(
                character(id).is_some() != name(id).is_some(),
                "{id} has two meanings, or none"
            );
            if let Some(c) = character(id) {
                assert_eq!(encode(&c.to_string()).unwrap(), [id]);
            }
        }
        assert_eq!((character(35), name(35)), (None, None));
        assert_eq!(name(SPECIAL.mask), Some("[MASK]"));
        assert_eq!(name(SPECIAL.bos), Some("[BOS]"));
        assert_eq!(name(SPECIAL.eos), Some("[EOS]"));
        assert_eq!(SPECIAL.pad.and_then(name), Some("[PAD]"));
    }

    #[test]
    fn other_characters_are_named() {
        for (text, part) in [
            ("the Cat", "'C' at position 4"),
            ("a\n", "'\\n' at position 1"),
            ("é", "'é' at position 0"),
        ] {
            let problem = encode(text).unwrap_err();
            assert!(
                problem.contains(part) && problem.contains("lower-case a to z"),
                "{problem}"
            );
        }
    }
}
