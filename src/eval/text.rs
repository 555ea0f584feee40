//! Statistics of generated token sequences that need no model.

use std::collections::{HashMap, HashSet};

/// Entropy of a sequence's own token frequencies, nats (the reference's successors report its mean
/// over samples beside generative perplexity, which repetition alone would lower).
pub fn unigram_entropy(tokens: &[u32]) -> f64 {
    let mut counts: HashMap<u32, usize> = HashMap::new();
    for &token in tokens {
        *counts.entry(token).or_default() += 1;
    }
    let mut counts: Vec<usize> = counts.into_values().collect();
    counts.sort_unstable(); // so that the sum has one order
    let n = tokens.len() as f64;
    let term = |count: usize| {
        let p = count as f64 / n;
        -p * p.ln()
    };
    counts.into_iter().map(term).sum()
}

/// Distinct n-grams over all n-grams of the samples; 0 where there is none.
pub fn distinct_n(samples: &[Vec<u32>], n: usize) -> f64 {
    let grams = || samples.iter().flat_map(|s| s.windows(n.max(1)));
    let total = grams().count();
    let distinct = grams().collect::<HashSet<_>>().len();
    distinct as f64 / (total as f64).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropies_and_ratios_by_hand() {
        assert_eq!(unigram_entropy(&[7, 7, 7]), 0.0);
        let mixed = unigram_entropy(&[1, 2, 1, 2]);
        assert!((mixed - 2f64.ln()).abs() < 1e-12);
        assert_eq!(unigram_entropy(&[]), 0.0);
        let samples = [vec![1, 2, 1, 2], vec![1, 2]];
        assert_eq!(distinct_n(&samples, 1), 2.0 / 6.0);
        assert_eq!(distinct_n(&samples, 2), 2.0 / 4.0);
        assert_eq!(distinct_n(&samples, 9), 0.0);
    }
}
