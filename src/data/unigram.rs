//! Token frequencies: the model that knows nothing of order, to compare perplexities with.

use super::blocks::Blocks;
use crate::error::Result;

/// Tokens that are looked at, so that blocks on disk are not read from end to end.
const MOST: usize = 1 << 24;

/// Log-probabilities of the tokens on their own.
#[derive(Clone, Debug)]
pub struct Unigram {
    log_p: Vec<f64>,
}

/// Calls `visit` with the ids that count, of at most about [`MOST`] tokens in blocks spread evenly.
fn each_token(blocks: &Blocks, mut visit: impl FnMut(u32)) -> Result<()> {
    let most = (MOST / blocks.length()).max(1);
    for index in (0..blocks.count()).step_by(blocks.count().div_ceil(most)) {
        let ids = blocks.block(index)?;
        ids.iter()
            .take(blocks.attended(index))
            .for_each(|&id| visit(id));
    }
    Ok(())
}

impl Unigram {
    /// Counts the tokens of `blocks` but padding, one added to each count. Of more than 16 million tokens,
    /// that many are counted, in blocks spread evenly.
    ///
    /// # Errors
    /// Those of [`Blocks::block`].
    pub fn from_blocks(blocks: &Blocks, vocab_size: usize) -> Result<Self> {
        let mut counts = vec![1u64; vocab_size];
        each_token(blocks, |id| {
            if let Some(count) = counts.get_mut(id as usize) {
                *count += 1;
            }
        })?;
        let total = counts.iter().sum::<u64>() as f64;
        Ok(Self {
            log_p: counts
                .into_iter()
                .map(|count| (count as f64 / total).ln())
                .collect(),
        })
    }

    /// exp of the mean negative log-likelihood of the tokens of `blocks` but padding (or of 16 million of
    /// them); infinite where a token is outside the vocabulary.
    ///
    /// # Errors
    /// Those of [`Blocks::block`].
    pub fn perplexity(&self, blocks: &Blocks) -> Result<f64> {
        let (mut sum, mut tokens) = (0.0, 0.0);
        each_token(blocks, |id| {
            let log_p = self.log_p.get(id as usize).copied();
            sum -= log_p.unwrap_or(f64::NEG_INFINITY);
            tokens += 1.0;
        })?;
        Ok((sum / f64::max(tokens, 1.0)).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_one() {
        let train = Blocks::new(3, vec![0, 0, 1], 3).unwrap();
        let valid = Blocks::new(2, vec![0, 2], 3).unwrap();
        let unigram = Unigram::from_blocks(&train, 3).unwrap();
        // p = 3/6, 2/6, 1/6, so the two tokens have 1/2 and 1/6.
        assert!((unigram.perplexity(&valid).unwrap() - 12f64.sqrt()).abs() < 1e-12);
        // The last token of each is padding.
        let train = Blocks::padded(4, vec![0, 0, 1, 1], vec![3], 3).unwrap();
        let valid = Blocks::padded(3, vec![0, 2, 1], vec![2], 3).unwrap();
        let unigram = Unigram::from_blocks(&train, 3).unwrap();
        assert!((unigram.perplexity(&valid).unwrap() - 12f64.sqrt()).abs() < 1e-12);
    }
}
