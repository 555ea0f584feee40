//! Who sees whom in attention, as data: four integers a row.
//!
//! A query sees a key if both are of one group, or if the key's rank lies in the query's range:
//! `own_q = own_k or from_q <= rank_k < upto_q`. Bidirectional and causal attention, sliding windows, prefixes, packed
//! documents, padding and block diffusion are all of this form, so one kernel and one gradient serve them.

/// The group of a row that shares none.
pub const NO_GROUP: u32 = u32::MAX;
/// The rank of a key that no range holds.
pub const NO_RANK: u32 = u32::MAX;

/// What a row is as a key (`own`, `rank`) and what it sees as a query (`own`, `from`, `upto`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Group whose members see each other; [`NO_GROUP`]: none.
    pub own: u32,
    /// Rank as a key, to lie in queries' ranges; [`NO_RANK`]: in none.
    pub rank: u32,
    /// First rank that it sees.
    pub from: u32,
    /// End of the ranks that it sees.
    pub upto: u32,
}

impl Sight {
    /// A row of this rank that sees the ranks of a range.
    pub fn new(rank: usize, seen: std::ops::Range<usize>) -> Self {
        Self {
            own: NO_GROUP,
            rank: rank as u32,
            from: seen.start as u32,
            upto: seen.end as u32,
        }
    }

    /// A row that nobody sees and that sees nobody.
    pub fn none() -> Self {
        Self {
            own: NO_GROUP,
            rank: NO_RANK,
            from: 0,
            upto: 0,
        }
    }

    /// The row as a key that nobody sees.
    #[must_use]
    pub fn unseen(self) -> Self {
        Self {
            own: NO_GROUP,
            rank: NO_RANK,
            ..self
        }
    }

    /// Whether a query of this sight sees a key.
    #[inline(always)]
    pub fn sees(&self, key: &Self) -> bool {
        (self.own == key.own && self.own != NO_GROUP)
            || (self.from <= key.rank && key.rank < self.upto)
    }

    /// `[own, rank, from, upto]`: a row of what attention reads.
    pub fn words(self) -> [u32; 4] {
        [self.own, self.rank, self.from, self.upto]
    }

    #[inline(always)]
    pub(crate) fn of(words: &[u32]) -> Self {
        Self {
            own: words[0],
            rank: words[1],
            from: words[2],
            upto: words[3],
        }
    }
}

/// Every row sees every row.
pub fn all(length: usize) -> Vec<Sight> {
    (0..length).map(|i| Sight::new(i, 0..length)).collect()
}

/// Every row sees itself and those before it.
pub fn causal(length: usize) -> Vec<Sight> {
    (0..length).map(|i| Sight::new(i, 0..i + 1)).collect()
}

/// Every row sees those at most `reach` away, both ways.
pub fn window(length: usize, reach: usize) -> Vec<Sight> {
    let seen = |i: usize| i.saturating_sub(reach)..(i + reach + 1).min(length);
    (0..length).map(|i| Sight::new(i, seen(i))).collect()
}

/// The first `prefix` rows see each other, the others the prefix and those up to themselves.
pub fn prefix(length: usize, prefix: usize) -> Vec<Sight> {
    let seen = |i: usize| 0..prefix.max(i + 1);
    (0..length).map(|i| Sight::new(i, seen(i))).collect()
}

/// Every row sees the block of `block` rows that it is in and those before it.
pub fn blocks(length: usize, block: usize) -> Vec<Sight> {
    let end = |i: usize| (i / block + 1).saturating_mul(block).min(length);
    (0..length).map(|i| Sight::new(i, 0..end(i))).collect()
}

/// Documents that lie one after the other and do not see each other; `lengths` of each.
pub fn packed(lengths: &[usize]) -> Vec<Sight> {
    let mut rows = Vec::new();
    for &n in lengths {
        let first = rows.len();
        rows.extend((first..first + n).map(|i| Sight::new(i, first..first + n)));
    }
    rows
}

/// Sequences of `length` rows that see those of their sequence that `mask` holds. What it leaves out is not seen and, if
/// `blind`, sees nothing.
pub fn padded(mask: &[bool], length: usize, blind: bool) -> Vec<Sight> {
    let row = |(i, &held): (usize, &bool)| {
        let sight = Sight::new(i % length, 0..length);
        match held {
            true => sight,
            false if blind => Sight::none(),
            false => sight.unseen(),
        }
    };
    mask.iter().enumerate().map(row).collect()
}

/// The training rows of block diffusion, `length` noisy ones and then the clean ones (BD3-LM): a noisy block sees
/// itself and the clean blocks before it, a clean block the clean ones up to itself.
pub fn block_diffusion(length: usize, block: usize) -> Vec<Sight> {
    let noisy = (0..length).map(|i| Sight {
        own: (i / block) as u32,
        ..Sight::new(0, 0..i / block).unseen_rank()
    });
    let clean = (0..length).map(|i| Sight::new(i / block, 0..i / block + 1));
    noisy.chain(clean).collect()
}

impl Sight {
    fn unseen_rank(self) -> Self {
        Self {
            rank: NO_RANK,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, rows: &[Sight], sees: impl Fn(usize, usize) -> bool) {
        for (i, query) in rows.iter().enumerate() {
            for (j, key) in rows.iter().enumerate() {
                assert_eq!(
                    query.sees(key),
                    sees(i, j),
                    "{name} of {}: {i} {j}",
                    rows.len()
                );
            }
        }
    }

    #[test]
    fn masks_are_those_of_their_predicates() {
        for n in [1, 2, 7, 12] {
            check("all", &all(n), |_, _| true);
            check("causal", &causal(n), |i, j| j <= i);
            for reach in [0, 1, 3] {
                check("window", &window(n, reach), |i, j| i.abs_diff(j) <= reach);
            }
            for p in [0, 1, n] {
                check("prefix", &prefix(n, p), |i, j| j <= i || j < p);
            }
            for block in [1, 3, 4, n] {
                check("blocks", &blocks(n, block), |i, j| j / block <= i / block);
                let half = |i: usize| i >= n;
                let at = |i: usize| i % n / block;
                check(
                    "block diffusion",
                    &block_diffusion(n, block),
                    |i, j| match (half(i), half(j)) {
                        (false, false) => at(i) == at(j),
                        (false, true) => at(j) < at(i),
                        (true, true) => at(j) <= at(i),
                        (true, false) => false,
                    },
                );
            }
        }
        let lengths = [3, 1, 5];
        let document = [0, 0, 0, 1, 2, 2, 2, 2, 2];
        check("packed", &packed(&lengths), |i, j| {
            document[i] == document[j]
        });
        let mut padded = all(6);
        padded[4..].iter_mut().for_each(|row| *row = row.unseen());
        padded[5] = Sight::none();
        check("padded", &padded, |i, j| j < 4 && i != 5);
    }
}
