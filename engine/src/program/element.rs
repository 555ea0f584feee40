//! Types of a tensor's elements, and how they lie in words. The only file that knows how many bytes they take.
//!
//! | element | block | words of a block |
//! | --- | --- | --- |
//! | `f32`, `u32` | 1 | itself |
//! | `f16`, `bf16` | 2 | both, the first in the lower half |
//! | `q8` | 32 | scale (f32); 8 words of four int8 each: `x = scale q` |
//! | `q4` | 32 | scale and offset (f16 each, the scale in the lower half); 4 words of eight: `x = scale q + offset` |
//!
//! Elements of a word follow each other from its lowest bits up, and blocks each other in the order of the tensor.

use std::fmt;
use std::str::FromStr;

use half::{bf16, f16};

use crate::error::Error;

/// Type of a tensor's elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Element {
    /// 32-bit floating point; f64 on the f64 twin.
    #[default]
    F32,
    /// IEEE 754 half precision: 11 significant bits, up to 65504.
    F16,
    /// The upper half of an f32: 8 significant bits and its whole range.
    Bf16,
    /// 8 bits, and a scale for 32 of them.
    Q8,
    /// 4 bits, and a scale and an offset for 32 of them.
    Q4,
    /// Unsigned 32-bit integers.
    U32,
}

impl Element {
    /// Those that weights may be kept in, with their names.
    pub const WEIGHTS: [(Self, &'static str); 5] = [
        (Self::F32, "f32"),
        (Self::F16, "f16"),
        (Self::Bf16, "bf16"),
        (Self::Q8, "q8"),
        (Self::Q4, "q4"),
    ];

    /// Elements that share a block, and the words that it takes.
    pub const fn block(self) -> (usize, usize) {
        match self {
            Self::F32 | Self::U32 => (1, 1),
            Self::F16 | Self::Bf16 => (2, 1),
            Self::Q8 => (32, 9),
            Self::Q4 => (32, 5),
        }
    }

    /// Bytes of `len` elements in a buffer: those of whole blocks.
    pub const fn bytes(self, len: usize) -> u64 {
        let (block, words) = self.block();
        4 * (len.div_ceil(block) * words) as u64
    }

    /// Whether elements are numbers, not indices.
    pub const fn is_number(self) -> bool {
        !matches!(self, Self::U32)
    }

    /// Whether kernels have to unpack them.
    pub const fn is_packed(self) -> bool {
        !matches!(self, Self::F32 | Self::U32)
    }

    /// The number as an element of 16 bits keeps it, to the nearest, ties to even; as it is for others.
    pub fn round(self, x: f32) -> f32 {
        match self {
            Self::F16 => f16::from_f32(x).to_f32(),
            Self::Bf16 => bf16::from_f32(x).to_f32(),
            _ => x,
        }
    }

    /// Whether a number stays finite as such an element.
    pub fn holds(self, x: f32) -> bool {
        match self {
            Self::Q4 => f16::from_f32(x).is_finite(),
            _ => self.round(x).is_finite(),
        }
    }

    /// Largest error of keeping numbers so, as a share of the largest of their block; 0 for f32, which is where numbers
    /// come from.
    pub const fn rounding(self) -> f64 {
        match self {
            Self::F32 | Self::U32 => 0.0,
            Self::F16 => 1.0 / 2048.0,
            Self::Bf16 => 1.0 / 256.0,
            Self::Q8 => 1.0 / 254.0,
            // half of a fifteenth of the range, and the rounding of scale and offset
            Self::Q4 => 1.0 / 15.0 + 1.0 / 512.0,
        }
    }

    /// Appends the words of elements that begin a block.
    pub fn encode(self, data: &[f64], out: &mut Vec<u32>) {
        match self {
            Self::F32 => out.extend(data.iter().map(|&x| (x as f32).to_bits())),
            Self::U32 => out.extend(data.iter().map(|&x| x as u32)),
            Self::F16 => pairs(data, out, |x| f16::from_f32(x).to_bits()),
            Self::Bf16 => pairs(data, out, |x| bf16::from_f32(x).to_bits()),
            Self::Q8 => data.chunks(32).for_each(|block| eight_bits(block, out)),
            Self::Q4 => data.chunks(32).for_each(|block| four_bits(block, out)),
        }
    }

    /// Appends the words of a block of `q8` or `q4` whose integers are known: -128 to 127 in `q8`, which has no offset,
    /// 0 to 15 in `q4`, whose scale and offset are rounded to f16.
    pub fn pack(self, [scale, offset]: [f32; 2], q: &[i8; 32], out: &mut Vec<u32>) {
        if self == Self::Q8 {
            out.push(scale.to_bits());
            out.extend(q.chunks_exact(4).map(|four| {
                four.iter()
                    .rev()
                    .fold(0, |bits, &q| bits << 8 | u32::from(q as u8))
            }));
        } else {
            let half = |x: f32| u32::from(f16::from_f32(x).to_bits());
            out.push(half(scale) | half(offset) << 16);
            out.extend(q.chunks_exact(8).map(|eight| {
                eight
                    .iter()
                    .rev()
                    .fold(0, |bits, &q| bits << 4 | u32::from(q as u8 & 15))
            }));
        }
    }

    /// The 32 elements of a block of `q8` or `q4`.
    #[inline(always)]
    pub fn decode_block(self, words: &[u32], out: &mut [f32; 32]) {
        if self == Self::Q8 {
            let scale = f32::from_bits(words[0]);
            for (word, out) in words[1..9].iter().zip(out.chunks_exact_mut(4)) {
                for (byte, out) in word.to_le_bytes().into_iter().zip(out) {
                    *out = scale * f32::from(byte as i8);
                }
            }
        } else {
            let [scale, offset] = halves(words[0]);
            for (word, out) in words[1..5].iter().zip(out.chunks_exact_mut(8)) {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = scale * ((word >> (4 * i)) & 15) as f32 + offset;
                }
            }
        }
    }

    /// Element `index` of a buffer's words.
    #[inline(always)]
    pub fn decode(self, words: &[u32], index: usize) -> f32 {
        let (block, length) = self.block();
        let (begin, at) = (index / block * length, index % block);
        match self {
            Self::F32 => f32::from_bits(words[begin]),
            Self::U32 => words[begin] as f32,
            Self::F16 => f16::from_bits((words[begin] >> (16 * at)) as u16).to_f32(),
            Self::Bf16 => f32::from_bits(words[begin] >> (16 * at) << 16),
            Self::Q8 => {
                let byte = (words[begin + 1 + at / 4] >> (8 * (at % 4))) as i8;
                f32::from_bits(words[begin]) * f32::from(byte)
            }
            Self::Q4 => {
                let [scale, offset] = halves(words[begin]);
                let nibble = (words[begin + 1 + at / 8] >> (4 * (at % 8))) & 15;
                scale * nibble as f32 + offset
            }
        }
    }
}

fn halves(word: u32) -> [f32; 2] {
    [word as u16, (word >> 16) as u16].map(|bits| f16::from_bits(bits).to_f32())
}

fn pairs(data: &[f64], out: &mut Vec<u32>, pack: impl Fn(f32) -> u16) {
    out.extend(data.chunks(2).map(|pair| {
        let bits = |i: usize| pair.get(i).map_or(0, |&x| u32::from(pack(x as f32)));
        bits(0) | bits(1) << 16
    }));
}

fn eight_bits(block: &[f64], out: &mut Vec<u32>) {
    let top = block.iter().fold(0.0f64, |top, x| top.max(x.abs()));
    let scale = (top / 127.0) as f32;
    let inverse = if scale > 0.0 {
        1.0 / f64::from(scale)
    } else {
        0.0
    };
    let q = |i: usize| {
        let x = block.get(i).map_or(0.0, |x| x * inverse);
        x.round_ties_even().clamp(-127.0, 127.0) as i8
    };
    Element::Q8.pack([scale, 0.0], &std::array::from_fn(q), out);
}

fn four_bits(block: &[f64], out: &mut Vec<u32>) {
    let [low, high] = [f64::min, f64::max].map(|f| block.iter().copied().reduce(f).unwrap_or(0.0));
    let half = |x: f64| f16::from_f32(x as f32).to_f32();
    let (scale, offset) = (half((high - low) / 15.0), half(low));
    let (from, step) = (f64::from(offset), f64::from(scale));
    let q = |i: usize| match block.get(i) {
        Some(x) if step > 0.0 => ((x - from) / step).round_ties_even().clamp(0.0, 15.0) as i8,
        _ => 0,
    };
    Element::Q4.pack([scale, offset], &std::array::from_fn(q), out);
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::WEIGHTS.iter().find(|(element, _)| element == self);
        f.pad(name.map_or("u32", |(_, name)| name))
    }
}

impl FromStr for Element {
    type Err = Error;

    /// Reads the name of a type that weights may be kept in.
    fn from_str(name: &str) -> Result<Self, Error> {
        let known = Self::WEIGHTS.iter().find(|(_, known)| *known == name);
        let problem = "must be f32, f16, bf16, q8 or q4";
        known
            .map(|(element, _)| *element)
            .ok_or_else(|| Error::argument("weights", name, problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, Stream};

    #[test]
    fn what_is_kept_is_near() {
        let mut rng = Rng::new(3, Stream::Init, 0);
        for (element, name) in Element::WEIGHTS {
            assert_eq!(name.parse::<Element>().unwrap(), element);
            for len in [1, 2, 31, 32, 33, 97] {
                let data: Vec<f64> = (0..len).map(|_| 3.0 * rng.uniform() - 1.0).collect();
                let mut words = Vec::new();
                element.encode(&data, &mut words);
                assert_eq!(4 * words.len() as u64, element.bytes(len));
                for (block, first) in data
                    .chunks(element.block().0)
                    .zip((0..).step_by(element.block().0))
                {
                    let top = block.iter().fold(0.0f64, |top, x| top.max(x.abs()));
                    for (i, x) in block.iter().enumerate() {
                        let error = (f64::from(element.decode(&words, first + i)) - x).abs();
                        let bound = element.rounding() * top + 1e-7;
                        assert!(error <= bound, "{name}: {x}, {error} above {bound}");
                    }
                }
            }
        }
        assert!("f64".parse::<Element>().is_err());
    }

    #[test]
    fn known_integers_stay() {
        let eight: [i8; 32] = std::array::from_fn(|i| (8 * i) as u8 as i8);
        let four: [i8; 32] = std::array::from_fn(|i| i as i8 % 16);
        for (element, q, pair) in [
            (Element::Q8, eight, [-0.3, 0.0]),
            (Element::Q4, four, [-0.25, 2.0]),
        ] {
            let mut words = vec![7; element.block().1];
            element.pack(pair, &q, &mut words);
            assert_eq!(4 * words.len() as u64, element.bytes(64));
            for (i, q) in q.into_iter().enumerate() {
                let expected = pair[0] * f32::from(q) + pair[1];
                assert_eq!(element.decode(&words, 32 + i), expected, "{element} {i}");
            }
        }
    }

    #[test]
    fn zeros_and_equal_numbers_stay() {
        for element in [Element::Q8, Element::Q4] {
            for value in [0.0, 0.25, -2.0] {
                let mut words = Vec::new();
                element.encode(&[value; 40], &mut words);
                let got: Vec<f32> = (0..40).map(|i| element.decode(&words, i)).collect();
                assert!(
                    got.iter().all(|x| (f64::from(*x) - value).abs() < 1e-6),
                    "{element} {got:?}"
                );
            }
        }
    }
}
