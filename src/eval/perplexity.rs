//! Perplexity with its standard error.

use crate::error::{Error, Result};
use crate::ranks::Ranks;

/// Perplexity, or an upper bound on it, estimated.
///
/// ```
/// use mdlm::Perplexity;
///
/// let found = Perplexity {
///     ppl: 2.0f64.exp(),
///     nats_per_token: 2.0,
///     nats_std_err: Some(0.1),
///     tokens: 4096,
///     independent: 32,
/// };
/// let [low, high] = found.interval().unwrap();
/// assert!(low < found.ppl && found.ppl < high);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Perplexity {
    /// exp of `nats_per_token`.
    pub ppl: f64,
    /// Mean negative log-likelihood of a token, or its bound, nats.
    pub nats_per_token: f64,
    /// Standard error of `nats_per_token`; of a single sequence nothing can be said.
    pub nats_std_err: Option<f64>,
    /// Tokens that were scored: no padding, and none that are context only.
    pub tokens: u64,
    /// Independent samples that the error is estimated from.
    pub independent: usize,
}

/// What one sequence contributed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scored {
    /// Estimate of its nats, summed over its tokens.
    pub(super) nats: f64,
    /// Its tokens that count.
    pub(super) tokens: u64,
}

/// What all ranks have scored of `count` sequences, in order: batch after batch is the next rank's.
pub(super) fn gathered(
    ranks: &dyn Ranks,
    mine: Vec<Scored>,
    count: usize,
    batch: usize,
) -> Result<Vec<Scored>> {
    if ranks.size() == 1 {
        return Ok(mine);
    }
    let bytes = |s: &Scored| [s.nats.to_le_bytes(), s.tokens.to_le_bytes()].concat();
    let all = ranks.gather(&mine.iter().flat_map(bytes).collect::<Vec<u8>>())?;
    let mut left: Vec<_> = all.iter().map(|bytes| bytes.as_chunks::<8>().0).collect();
    let missing = || Error::Internal("a rank has scored too little".into());
    let next = |i: usize| {
        let of = &mut left[i / batch % ranks.size()];
        let ([nats, tokens], rest) = of.split_first_chunk::<2>().ok_or_else(missing)?;
        *of = rest;
        Ok(Scored {
            nats: f64::from_le_bytes(*nats),
            tokens: u64::from_le_bytes(*tokens),
        })
    };
    (0..count).map(next).collect()
}

/// Groups from which an error is estimated, at least.
const FEWEST_GROUPS: usize = 16;

impl Perplexity {
    /// From scored sequences, in order, whose draws are stratified over consecutive groups of `group` (1: they
    /// are independent). The groups are the independent samples; where they are few, the sequences give a
    /// wider, still valid, error.
    pub(super) fn estimate(sequences: &[Scored], group: usize) -> Self {
        let sum = |all: &[Scored]| {
            all.iter().fold((0.0, 0), |(nats, tokens), s| {
                (nats + s.nats, tokens + s.tokens)
            })
        };
        let (nats, tokens) = sum(sequences);
        let mean = nats / tokens as f64;
        let whole = sequences.chunks_exact(group.max(1));
        let groups: Vec<(f64, u64)> = if whole.len() >= FEWEST_GROUPS {
            whole.map(sum).collect()
        } else {
            sequences.iter().map(|s| (s.nats, s.tokens)).collect()
        };
        // of a ratio of sums, to first order
        let n = groups.len() as f64;
        let weight = groups.iter().map(|g| g.1).sum::<u64>() as f64 / n;
        let centre = groups.iter().map(|g| g.0).sum::<f64>() / (n * weight);
        let residual =
            |(nats, tokens): &(f64, u64)| ((nats - centre * *tokens as f64) / weight).powi(2);
        let squares = groups.iter().map(residual).sum::<f64>();
        let error = (squares / (n - 1.0) / n).sqrt();
        Self {
            ppl: mean.exp(),
            nats_per_token: mean,
            nats_std_err: (groups.len() > 1).then_some(error),
            tokens,
            independent: groups.len(),
        }
    }

    /// Standard error of the perplexity, to first order.
    pub fn std_err(&self) -> Option<f64> {
        self.nats_std_err.map(|error| self.ppl * error)
    }

    /// The 95 % confidence interval of the perplexity, from Student's distribution; from 1 on, since less cannot be.
    pub fn interval(&self) -> Option<[f64; 2]> {
        let width = student(self.independent.checked_sub(1)?) * self.nats_std_err?;
        Some([-width, width].map(|w| (self.nats_per_token + w).max(0.0).exp()))
    }

    /// `12.3 ± 0.4`, or the number alone where there is no error.
    pub fn shown(&self) -> String {
        match self.std_err() {
            Some(error) => format!("{:.2} ± {error:.2}", self.ppl),
            None => format!("{:.2}", self.ppl),
        }
    }
}

/// The 97.5 % quantile of Student's distribution, within 1 %: the first terms of its expansion around the
/// normal one (Abramowitz and Stegun 26.7.5).
fn student(freedom: usize) -> f64 {
    match freedom {
        0 => f64::INFINITY,
        1 => 12.706,
        2 => 4.303,
        _ => {
            let (z, n) = (1.959_964_f64, freedom as f64);
            let [z3, z5, z7] = [3, 5, 7].map(|k| z.powi(k));
            let first = (z3 + z) / 4.0;
            let second = (5.0 * z5 + 16.0 * z3 + 3.0 * z) / 96.0;
            let third = (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * z) / 384.0;
            z + (first + (second + third / n) / n) / n
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(all: &[(f64, u64)]) -> Vec<Scored> {
        let of = |&(nats, tokens)| Scored { nats, tokens };
        all.iter().map(of).collect()
    }

    #[test]
    fn one_sequence_has_no_error() {
        let one = Perplexity::estimate(&scored(&[(20.0, 10)]), 16);
        assert_eq!((one.nats_per_token, one.tokens), (2.0, 10));
        assert_eq!((one.std_err(), one.interval()), (None, None));
        assert_eq!(one.shown(), "7.39");
    }

    #[test]
    fn errors_by_hand() {
        // residuals -1, 0, 1 nats a token
        let p = Perplexity::estimate(&scored(&[(1.0, 1), (2.0, 1), (3.0, 1)]), 1);
        assert!((p.nats_std_err.unwrap() - (1.0f64 / 3.0).sqrt()).abs() < 1e-12);
        let [low, high] = p.interval().unwrap();
        assert!((high.ln() - 2.0 - 4.303 * (1.0f64 / 3.0).sqrt()).abs() < 1e-9);
        assert_eq!(low, 1.0);
        // pairs that balance leave nothing between the groups
        let pairs = [(1.0, 1), (3.0, 1)].repeat(FEWEST_GROUPS);
        let p = Perplexity::estimate(&scored(&pairs), 2);
        assert_eq!((p.nats_std_err, p.independent), (Some(0.0), FEWEST_GROUPS));
        let p = Perplexity::estimate(&scored(&pairs[2..]), 2);
        assert!(p.nats_std_err.unwrap() > 0.1);
    }

    #[test]
    fn quantiles_of_student() {
        for (freedom, expected) in [(3, 3.182), (5, 2.571), (15, 2.131), (100, 1.984)] {
            assert!(
                (student(freedom) / expected - 1.0).abs() < 1e-2,
                "{freedom}"
            );
        }
    }
}
