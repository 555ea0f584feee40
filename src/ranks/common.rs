//! What ranks have in common, whatever carries their messages.

use std::ops::Range;

use super::bytes::{doubles, floats, of_doubles, of_floats};
use crate::error::{Error, Result};

/// Numbers that are summed at a time, so that messages and the memory for them stay small.
const PART: usize = 1 << 22;

/// The others that a run is shared with. All ranks make the same calls in the same order; a call that the others do
/// not answer ends in [`Error::RankLost`], within the time that the implementation states.
pub trait Ranks: Send + Sync {
    /// Number of this one, from 0. Rank 0 writes files and talks to people.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// Gives `parts[i]` to rank i, and returns what each rank has given to this one, in the order of ranks. What it
    /// gives to itself comes back as it is.
    ///
    /// # Errors
    /// [`Error::RankLost`] that names the rank which died, gave up, or said nothing for too long.
    fn exchange(&self, parts: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>>;

    /// Tells the others that this one goes no further, and why; what they wait for ends in [`Error::RankLost`].
    fn fail(&self, why: &str);

    /// Bytes that this one has sent to others so far.
    fn sent(&self) -> u64;

    /// What every rank gives to all, in the order of ranks.
    ///
    /// # Errors
    /// As [`Ranks::exchange`].
    fn gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.exchange(vec![mine.to_vec(); self.size()])
    }

    /// What rank `from` has; the others' `mine` is not read.
    ///
    /// # Errors
    /// As [`Ranks::exchange`].
    fn broadcast(&self, mine: &[u8], from: usize) -> Result<Vec<u8>> {
        let parts = match self.rank() == from {
            true => vec![mine.to_vec(); self.size()],
            false => vec![Vec::new(); self.size()],
        };
        Ok(self.exchange(parts)?.swap_remove(from))
    }

    /// Waits until all are here.
    ///
    /// # Errors
    /// As [`Ranks::exchange`].
    fn barrier(&self) -> Result<()> {
        self.gather(&[]).map(drop)
    }

    /// Replaces numbers by their sums over all ranks, which have as many: the same bits everywhere and every time,
    /// since each number is added up in the order of ranks. Each rank sends `2 (n - 1) / n` times what it has, the
    /// least that there is.
    ///
    /// # Errors
    /// As [`Ranks::exchange`]; [`Error::Internal`] for another number of numbers elsewhere.
    fn sum(&self, data: &mut [f32]) -> Result<()> {
        if self.size() > 1 {
            for part in data.chunks_mut(PART) {
                let shares = shares(part.len(), self.size());
                let mine = reduce(self, part, &shares)?;
                spread(self, part, &shares, &mine)?;
            }
        }
        Ok(())
    }

    /// [`Ranks::sum`] of a few numbers in double precision.
    ///
    /// # Errors
    /// As [`Ranks::sum`].
    fn sum_few(&self, data: &mut [f64]) -> Result<()> {
        if self.size() == 1 {
            return Ok(());
        }
        let count = data.len();
        for (rank, bytes) in self.gather(&of_doubles(data))?.iter().enumerate() {
            check(rank, bytes.len(), 8 * count)?;
            for (sum, x) in data.iter_mut().zip(doubles(bytes)) {
                *sum = if rank == 0 { x } else { *sum + x };
            }
        }
        Ok(())
    }
}

/// Equal shares of `count` things, one a rank.
pub(super) fn shares(count: usize, size: usize) -> Vec<Range<usize>> {
    let cut = |i: usize| i * count / size;
    (0..size).map(|i| cut(i)..cut(i + 1)).collect()
}

/// This rank's share of the sums.
fn reduce<R: Ranks + ?Sized>(
    ranks: &R,
    data: &[f32],
    shares: &[Range<usize>],
) -> Result<Vec<f32>> {
    let parts = shares.iter().map(|share| of_floats(&data[share.clone()]));
    let given = ranks.exchange(parts.collect())?;
    let mut sums = vec![0.0; shares[ranks.rank()].len()];
    for (rank, bytes) in given.iter().enumerate() {
        check(rank, bytes.len(), 4 * sums.len())?;
        for (sum, x) in sums.iter_mut().zip(floats(bytes)) {
            *sum = if rank == 0 { x } else { *sum + x };
        }
    }
    Ok(sums)
}

/// Everybody's share, at everybody.
fn spread<R: Ranks + ?Sized>(
    ranks: &R,
    data: &mut [f32],
    shares: &[Range<usize>],
    mine: &[f32],
) -> Result<()> {
    let given = ranks.gather(&of_floats(mine))?;
    for (rank, (bytes, share)) in given.iter().zip(shares).enumerate() {
        check(rank, bytes.len(), 4 * share.len())?;
        for (to, x) in data[share.clone()].iter_mut().zip(floats(bytes)) {
            *to = x;
        }
    }
    Ok(())
}

/// An error unless a rank has given what it should.
fn check(rank: usize, got: usize, expected: usize) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    let problem = format!("rank {rank} gave {got} bytes, {expected} expected");
    Err(Error::Internal(problem))
}
