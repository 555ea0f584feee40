//! Damaged copies of bytes. A copy is a function of its generator, so that any one can be made again.

use mdlm_engine::rng::Rng;

/// Counts and lengths that a reader may not be ready for.
const NUMBERS: [u64; 9] = [0, 1, 2, 9, 255, 1 << 15, 1 << 31, 1 << 63, u64::MAX];

/// A copy with up to three changes in its first `upto` bytes: bits, bytes, numbers, parts cut out, doubled, moved or
/// replaced by one of `words`.
pub fn mutated(whole: &[u8], upto: usize, words: &[&[u8]], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    let mut below = |n: usize| rng.below(n.max(1) as u64) as usize;
    for _ in 0..1 + below(3) {
        let end = upto.min(bytes.len());
        // what stands at the beginning and at the end is most often looked at
        let at = match below(4) {
            0 => below(end),
            1 => end.saturating_sub(1 + below(2000.min(end))),
            _ => below(1500.min(end)),
        };
        let part = at..(at + below(64)).min(bytes.len());
        match below(8) {
            _ if at >= bytes.len() => bytes.extend(words.first().copied().unwrap_or(b"0")),
            0 | 1 => bytes[at] ^= 1 << below(8),
            2 => bytes[at] = below(256) as u8,
            3 => {
                let number = NUMBERS[below(NUMBERS.len())].to_le_bytes();
                let width = [1, 4, 8][below(3)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&number[..width]);
            }
            4 => drop(bytes.drain(part)),
            5 => {
                let doubled = bytes[part].to_vec();
                bytes.splice(at..at, doubled);
            }
            6 if !words.is_empty() => {
                let word = words[below(words.len())];
                let end = if below(2) == 0 { at } else { part.end };
                bytes.splice(at..end, word.iter().copied());
            }
            _ => {
                let moved = bytes[part].to_vec();
                let to = below(bytes.len());
                bytes.splice(to..to, moved);
            }
        }
    }
    bytes
}
