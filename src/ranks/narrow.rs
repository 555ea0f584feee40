//! Sums of numbers that travel in half precision, with what rounding takes away given back the next time.

use super::common::shares;
use crate::error::{Error, Result};

use crate::ranks::Ranks;
use mdlm_engine::program::Element;

/// Numbers that are summed at a time.
const PART: usize = 1 << 22;
/// The largest exponent of a number that travels, so that sums of two stay below the largest half.
const TOP: i32 = 14;

/// Sums of the same numbers, again and again, in half of the bytes of `sum`.
///
/// A number is rounded to f16, of a scale that suits the largest of its message, before it is sent and again after it
/// is summed. Each time the error is kept and added to the number of the next time (error feedback), so that over many
/// sums nothing is lost, however small it is. All ranks end with the same bits.
#[derive(Debug, Default)]
pub struct Narrow {
    /// Of what this rank has sent.
    own: Vec<f32>,
    /// Of the sums that it has made.
    sums: Vec<f32>,
}

impl Narrow {
    /// Replaces numbers by their sums over all ranks, rounded.
    ///
    /// # Errors
    /// As [`Ranks::exchange`]; [`Error::Internal`] for another number of numbers elsewhere.
    pub fn sum(&mut self, ranks: &dyn Ranks, data: &mut [f32]) -> Result<()> {
        if ranks.size() == 1 {
            return Ok(());
        }
        self.own.resize(data.len(), 0.0);
        let (mut own, mut made) = (&mut self.own[..], 0);
        for part in data.chunks_mut(PART) {
            let (errors, rest) = own.split_at_mut(part.len());
            own = rest;
            let shares = shares(part.len(), ranks.size());
            let mine = shares[ranks.rank()].len();
            self.sums.resize(self.sums.len().max(made + mine), 0.0);
            let parts = shares.iter().map(|share| {
                let share = share.clone();
                pack(&part[share.clone()], &mut errors[share])
            });
            let given = ranks.exchange(parts.collect())?;
            let mut sums = vec![0.0; mine];
            for (rank, bytes) in given.iter().enumerate() {
                for (sum, x) in sums.iter_mut().zip(unpack(bytes, mine, rank)?) {
                    *sum = if rank == 0 { x } else { *sum + x };
                }
            }
            let packed = pack(&sums, &mut self.sums[made..made + mine]);
            made += mine;
            for (rank, (bytes, share)) in ranks.gather(&packed)?.iter().zip(shares).enumerate() {
                part[share.clone()].copy_from_slice(&unpack(bytes, share.len(), rank)?);
            }
        }
        Ok(())
    }
}

/// Numbers with their errors added, as the bytes of a scale and of halves; the errors become those of rounding.
fn pack(data: &[f32], errors: &mut [f32]) -> Vec<u8> {
    let wanted: Vec<f32> = data.iter().zip(&*errors).map(|(x, e)| x + e).collect();
    let most = wanted.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    // a power of two: scaling rounds nothing
    let scale = match most.is_normal() {
        true => 2f32.powi((TOP - most.log2().floor() as i32).clamp(-100, 100)),
        false => 1.0,
    };
    let scaled: Vec<f64> = wanted.iter().map(|x| f64::from(x * scale)).collect();
    let mut words = Vec::new();
    Element::F16.encode(&scaled, &mut words);
    for (i, (error, x)) in errors.iter_mut().zip(&wanted).enumerate() {
        let lost = x - Element::F16.decode(&words, i) / scale;
        // what is no number is told by the update, and not kept
        *error = if lost.is_finite() { lost } else { 0.0 };
    }
    let mut bytes = scale.to_le_bytes().to_vec();
    let halves: Vec<_> = words.iter().map(|word| word.to_le_bytes()).collect();
    bytes.extend_from_slice(&halves.as_flattened()[..2 * data.len()]);
    bytes
}

/// The numbers that rank `rank` has packed.
fn unpack(bytes: &[u8], count: usize, rank: usize) -> Result<Vec<f32>> {
    let Some((&scale, halves)) = bytes
        .split_first_chunk::<4>()
        .filter(|(_, h)| h.len() == 2 * count)
    else {
        let problem = format!("rank {rank} gave {} bytes for {count} halves", bytes.len());
        return Err(Error::Internal(problem));
    };
    let scale = f32::from_le_bytes(scale);
    let word = |pair: &[u8]| {
        let mut word = [0; 4];
        word[..pair.len()].copy_from_slice(pair);
        u32::from_le_bytes(word)
    };
    let words: Vec<u32> = halves.chunks(4).map(word).collect();
    Ok((0..count)
        .map(|i| Element::F16.decode(&words, i) / scale)
        .collect())
}
