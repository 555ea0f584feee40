//! Which tokens the rows of a draw may become.

use std::borrow::Cow;

/// Sets of tokens, and the one of each row; without rows every token is allowed everywhere.
///
/// ```
/// use mdlm::model::TokenSets;
///
/// let mut sets = TokenSets::new(100);
/// sets.add([3, 97]);
/// sets.push_row();
/// assert!(sets.allows(0, 97) && !sets.allows(0, 4));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenSets {
    /// Words of a set.
    words: usize,
    /// One behind the other: bit `v % 32` of word `v / 32` says whether token v is in a set.
    sets: Vec<u32>,
    /// The set of each row.
    choice: Vec<u32>,
}

impl TokenSets {
    /// No sets, of a vocabulary's size.
    pub fn new(vocab_size: usize) -> Self {
        Self {
            words: vocab_size.div_ceil(32),
            ..Self::default()
        }
    }

    /// Every token for each of some rows.
    pub fn all(vocab_size: usize, rows: usize) -> Self {
        let mut made = Self::new(vocab_size);
        made.sets.resize(made.words, u32::MAX);
        made.choice.resize(rows, 0);
        made
    }

    /// Adds a set. A token outside the vocabulary is none.
    pub fn add(&mut self, tokens: impl IntoIterator<Item = u32>) {
        insert(self.add_empty(), tokens);
    }

    /// Adds a set without tokens, to be filled.
    pub(crate) fn add_empty(&mut self) -> &mut [u32] {
        let begin = self.sets.len();
        self.sets.resize(begin + self.words, 0);
        &mut self.sets[begin..]
    }

    /// Adds a set of all tokens but some.
    pub fn add_without(&mut self, tokens: &[u32]) {
        let set = self.add_empty();
        insert(set, tokens.iter().copied());
        set.iter_mut().for_each(|word| *word = !*word);
    }

    /// Adds a row that may become what the last set has.
    pub fn push_row(&mut self) {
        self.choice.push(self.count().saturating_sub(1) as u32);
    }

    /// Adds the rows of another draw of the same vocabulary behind these, with their sets.
    pub fn append(&mut self, other: &Self) {
        let before = self.count() as u32;
        self.sets.extend(&other.sets);
        self.choice
            .extend(other.choice.iter().map(|set| before + set));
    }

    /// How many sets there are.
    fn count(&self) -> usize {
        self.sets.len().checked_div(self.words).unwrap_or(0)
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.choice.len()
    }

    /// Whether a row may become a token.
    pub fn allows(&self, row: usize, token: u32) -> bool {
        let set = self.choice[row] as usize * self.words;
        self.sets[set + token as usize / 32] >> (token % 32) & 1 == 1
    }

    /// Whether the sets are those of `vocab_size` tokens, and no more than there are rows.
    pub(crate) fn fits(&self, vocab_size: usize) -> bool {
        let sets = self.count();
        let chosen = self.choice.iter().all(|&set| (set as usize) < sets);
        self.words == vocab_size.div_ceil(32) && sets <= self.choice.len() && chosen
    }

    /// The sets of the tokens below `vocab_size` alone.
    pub(crate) fn sets(&self, vocab_size: usize) -> Cow<'_, [u32]> {
        let words = vocab_size.div_ceil(32);
        if words == self.words {
            return Cow::Borrowed(&self.sets);
        }
        let kept = self.sets.chunks_exact(self.words.max(1));
        Cow::Owned(kept.flat_map(|set| &set[..words]).copied().collect())
    }

    pub(crate) fn choice(&self) -> &[u32] {
        &self.choice
    }
}

/// Puts tokens into a set.
pub(crate) fn insert(set: &mut [u32], tokens: impl IntoIterator<Item = u32>) {
    for token in tokens {
        if let Some(word) = set.get_mut(token as usize / 32) {
            *word |= 1 << (token % 32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_keep_their_tokens() {
        let mut made = TokenSets::new(70);
        made.add([0, 31, 32, 69]);
        made.push_row();
        made.push_row();
        made.add_without(&[32]);
        made.push_row();
        let allowed = |row| {
            (0..70)
                .filter(|&id| made.allows(row, id))
                .collect::<Vec<_>>()
        };
        assert_eq!((allowed(0), allowed(1)), (vec![0, 31, 32, 69], allowed(0)));
        assert_eq!(allowed(2).len(), 69);
        assert!(made.fits(70) && !made.fits(64) && made.rows() == 3);
        // what lies above is cut off
        assert_eq!(*made.sets(40), [1 | 1 << 31, 1, u32::MAX, u32::MAX - 1]);
        let mut both = TokenSets::all(70, 2);
        both.append(&made);
        assert!(both.allows(1, 5) && !both.allows(2, 5) && both.allows(4, 5) && both.fits(70));
    }
}
