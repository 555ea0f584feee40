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
}

impl dyn Ranks + '_ {
    /// What every rank gives to all, in the order of ranks.
    ///
    /// # Errors
    /// As [`Ranks::exchange`].
    pub fn gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.exchange(vec![mine.to_vec(); self.size()])
    }

    /// What rank `from` has; the others' `mine` is not read.
    ///
    /// # Errors
    /// As [`Ranks::exchange`].
    pub fn broadcast(&self, mine: &[u8], from: usize) -> Result<Vec<u8>> {
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
    pub fn barrier(&self) -> Result<()> {
        self.gather(&[]).map(drop)
    }

    /// Replaces numbers by their sums over all ranks, which have as many: the same bits everywhere and every time,
    /// since each number is added up in the order of ranks. Each rank sends `2 (n - 1) / n` times what it has, the
    /// least that there is.
    ///
    /// # Errors
    /// As [`Ranks::exchange`]; [`Error::Internal`] for another number of numbers elsewhere.
    pub fn sum(&self, data: &mut [f32]) -> Result<()> {
        if self.size() > 1 {
            for part in data.chunks_mut(PART) {
                let shares = shares(part.len(), self.size());
                let parts: Vec<&[f32]> = shares.iter().map(|s| &part[s.clone()]).collect();
                let sums = self.sum_each(&parts)?;
                for (sums, share) in self.gather_pieces(&sums)?.iter().zip(shares) {
                    part[share].copy_from_slice(sums);
                }
            }
        }
        Ok(())
    }

    /// Gives `parts[i]` to rank i, and returns the sum of what all have given to this one, in the order of ranks.
    ///
    /// # Errors
    /// As [`Ranks::exchange`]; [`Error::Internal`] for another number of numbers elsewhere.
    pub fn sum_each(&self, parts: &[&[f32]]) -> Result<Vec<f32>> {
        let longest = parts.iter().map(|part| part.len()).max().unwrap_or(0);
        let mut all = Vec::with_capacity(parts[self.rank()].len());
        for first in (0..longest).step_by(PART) {
            let pieces: Vec<&[f32]> = parts.iter().map(|&part| cut(part, first)).collect();
            all.extend(self.sum_pieces(&pieces)?);
        }
        Ok(all)
    }

    /// As `sum_each`, of parts that fit a message.
    fn sum_pieces(&self, parts: &[&[f32]]) -> Result<Vec<f32>> {
        let own = parts[self.rank()];
        let packed = parts
            .iter()
            .enumerate()
            .map(|(to, part)| match to == self.rank() {
                true => Vec::new(),
                false => of_floats(part),
            });
        let given = self.exchange(packed.collect())?;
        let mut sums = vec![0.0; own.len()];
        for (rank, bytes) in given.iter().enumerate() {
            let add = |(sum, x): (&mut f32, f32)| *sum = if rank == 0 { x } else { *sum + x };
            if rank == self.rank() {
                sums.iter_mut().zip(own.iter().copied()).for_each(add);
            } else {
                check(rank, bytes.len(), 4 * own.len())?;
                sums.iter_mut().zip(floats(bytes)).for_each(add);
            }
        }
        Ok(sums)
    }

    /// The numbers that every rank gives to all, in the order of ranks.
    ///
    /// # Errors
    /// As [`Ranks::exchange`].
    pub fn gather_floats(&self, mine: &[f32]) -> Result<Vec<Vec<f32>>> {
        let mut longest = vec![0.0; self.size()];
        longest[self.rank()] = mine.len() as f64;
        self.sum_few(&mut longest)?;
        let longest = longest.iter().fold(0.0, |most, &len| len.max(most)) as usize;
        let mut all = vec![Vec::new(); self.size()];
        for first in (0..longest).step_by(PART) {
            let given = self.gather_pieces(cut(mine, first))?;
            let pairs = all.iter_mut().zip(given);
            pairs.for_each(|(all, piece)| all.extend(piece));
        }
        Ok(all)
    }

    /// As `gather_floats`, of numbers that fit a message.
    fn gather_pieces(&self, mine: &[f32]) -> Result<Vec<Vec<f32>>> {
        let given = self.gather(&of_floats(mine))?;
        Ok(given.iter().map(|bytes| floats(bytes).collect()).collect())
    }

    /// `sum` of a few numbers in double precision.
    ///
    /// # Errors
    /// As [`Ranks::exchange`]; [`Error::Internal`] for another number of numbers elsewhere.
    pub fn sum_few(&self, data: &mut [f64]) -> Result<()> {
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

/// What a message takes of numbers from `first` on.
fn cut(numbers: &[f32], first: usize) -> &[f32] {
    let rest = numbers.get(first..).unwrap_or_default();
    &rest[..rest.len().min(PART)]
}

/// Bytes of the parts that a rank gives to others.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn to_others(parts: &[Vec<u8>], rank: usize) -> u64 {
    let others = parts.iter().enumerate().filter(|&(to, _)| to != rank);
    others.map(|(_, part)| part.len() as u64).sum()
}

/// An error unless a rank has given what it should.
fn check(rank: usize, got: usize, expected: usize) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    let problem = format!("rank {rank} gave {got} bytes, {expected} expected");
    Err(Error::Internal(problem))
}
