//! Counter-based random numbers: Threefry-2x32 with 20 rounds (Salmon et al., SC 2011), the same
//! function on the host and in `shaders/lib/threefry.wgsl`. A draw is a pure function of
//! (seed, stream, step, index), so there is no generator state to save.

const ROTATIONS: [u32; 8] = [13, 15, 26, 6, 17, 29, 16, 24];
const PARITY: u32 = 0x1BD1_1BDA;

/// The Threefry-2x32-20 block function.
pub fn threefry2x32(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    let keys = [key[0], key[1], PARITY ^ key[0] ^ key[1]];
    let mut x0 = counter[0].wrapping_add(keys[0]);
    let mut x1 = counter[1].wrapping_add(keys[1]);
    for group in 0..5u32 {
        for round in 0..4 {
            x0 = x0.wrapping_add(x1);
            x1 = x1.rotate_left(ROTATIONS[((group % 2) * 4 + round) as usize]) ^ x0;
        }
        let inject = group + 1;
        x0 = x0.wrapping_add(keys[(inject % 3) as usize]);
        x1 = x1
            .wrapping_add(keys[((inject + 1) % 3) as usize])
            .wrapping_add(inject);
    }
    [x0, x1]
}

/// What a random stream is for; streams with different purposes never share a draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stream {
    /// Parameter initialisation.
    Init = 1,
    /// Order of the training blocks.
    Shuffle = 2,
    /// Diffusion times.
    Time = 3,
    /// Which tokens are masked.
    Mask = 4,
    /// Which elements dropout sets to 0.
    Dropout = 5,
    /// Which positions a sampler reveals.
    Reveal = 6,
    /// What a revealed position becomes.
    Token = 7,
    /// Masks of validation.
    Validation = 8,
    /// Which stratum of t, or of the number of masks, each draw of validation gets.
    Strata = 9,
    /// Which way the optimiser's moments are rounded.
    Rounding = 10,
    /// Order of the training blocks of several texts.
    Order = 11,
    /// Which of them a sequence comes from.
    Mixture = 12,
    /// What open positions hold before a sampler's first step.
    Begin = 13,
}

/// Key of the block function for a purpose and a step.
pub fn stream_key(seed: u64, stream: Stream, step: u64) -> [u32; 2] {
    let a = threefry2x32([seed as u32, (seed >> 32) as u32], [stream as u32, 0]);
    threefry2x32(a, [step as u32, (step >> 32) as u32])
}

/// Sequential draws from one (seed, stream, step).
#[derive(Clone, Debug)]
pub struct Rng {
    key: [u32; 2],
    index: u64,
}

impl Rng {
    /// A generator at the beginning of its stream.
    pub fn new(seed: u64, stream: Stream, step: u64) -> Self {
        Self {
            key: stream_key(seed, stream, step),
            index: 0,
        }
    }

    /// 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b] = threefry2x32(self.key, [self.index as u32, (self.index >> 32) as u32]);
        self.index += 1;
        u64::from(a) << 32 | u64::from(b)
    }

    /// Uniform in [0, 1) on a grid of 2^-53.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in 0..n by rejection, so without bias. `n` must not be 0.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "an empty range has no element");
        let limit = u64::MAX - u64::MAX % n;
        loop {
            let x = self.next_u64();
            if x < limit {
                return x % n;
            }
        }
    }

    /// Puts the items in random order, every order equally likely (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_of_random123() {
        let all = u32::MAX;
        assert_eq!(threefry2x32([0, 0], [0, 0]), [0x6b20_0159, 0x99ba_4efe]);
        assert_eq!(
            threefry2x32([all, all], [all, all]),
            [0x1cb9_96fc, 0xbb00_2be7]
        );
        assert_eq!(
            threefry2x32([0x13198a2e, 0x03707344], [0x243f6a88, 0x85a308d3]),
            [0xc492_3a9c, 0x483d_f7a0]
        );
    }

    #[test]
    fn below_covers_its_range_evenly() {
        let mut rng = Rng::new(7, Stream::Shuffle, 0);
        let mut counts = [0u32; 5];
        for _ in 0..50_000 {
            counts[rng.below(5) as usize] += 1;
        }
        assert!(
            counts.iter().all(|&c| (9_600..10_400).contains(&c)),
            "{counts:?}"
        );
    }
}
