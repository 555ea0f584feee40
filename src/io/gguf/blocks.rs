//! Numbers of quantised blocks.
//!
//! | type | bytes of a block, in their order | number i |
//! | --- | --- | --- |
//! | `Q8_0` | scale d (f16), 32 int8 q | `d q_i` |
//! | `Q4_0` | scale d (f16), 16 bytes; the lower halves are q_0 to q_15, the upper ones q_16 to q_31 | `d (q_i - 8)` |
//! | `Q4_K` | d and m (f16), 12 bytes of 6-bit scales s and offsets o, 4 times 32 bytes of two groups of 32 | `d s q_i - m o` |
//! | `Q6_K` | 128 bytes of lower 4 bits, 64 of upper 2 bits, 16 int8 scales s, d (f16) | `d s (q_i - 32)` |
//!
//! Every product is exact in f32, so that only the difference of `Q4_K` is rounded.

use super::Kind;
use crate::io::safetensors::{f16_to_f32, widen};
use safetensors::Dtype;

/// 32 numbers that share a scale and an offset: `scale q + offset`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaled {
    /// Multiplies the integers.
    pub scale: f32,
    /// Is added.
    pub offset: f32,
    /// -128 to 127 in `Q8_0`, 0 to 15 in the others.
    pub q: [i8; 32],
}

impl Scaled {
    fn number(&self, i: usize) -> f32 {
        self.scale * f32::from(self.q[i]) + self.offset
    }
}

impl Kind {
    /// Appends the numbers of whole blocks.
    pub fn numbers(self, bytes: &[u8], out: &mut Vec<f32>) {
        match self {
            Self::F32 => widen(bytes, Dtype::F32, out),
            Self::F16 => widen(bytes, Dtype::F16, out),
            Self::Bf16 => widen(bytes, Dtype::BF16, out),
            Self::Q6K => bytes
                .chunks_exact(self.block().1)
                .for_each(|block| six_bits(block, out)),
            Self::Q8_0 | Self::Q4_0 | Self::Q4K => self.scaled(bytes, &mut |group| {
                out.extend((0..32).map(|i| group.number(i)));
            }),
        }
    }

    /// The groups of whole blocks, one after the other; none where 32 numbers do not share a scale.
    pub fn scaled(self, bytes: &[u8], take: &mut dyn FnMut(Scaled)) {
        let group: fn(&[u8], &mut dyn FnMut(Scaled)) = match self {
            Self::Q8_0 => eight_bits,
            Self::Q4_0 => four_bits,
            Self::Q4K => four_bits_of_256,
            _ => return,
        };
        for block in bytes.chunks_exact(self.block().1) {
            group(block, take);
        }
    }
}

fn half(bytes: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn eight_bits(block: &[u8], take: &mut dyn FnMut(Scaled)) {
    take(Scaled {
        scale: half(block, 0),
        offset: 0.0,
        q: std::array::from_fn(|i| block[2 + i] as i8),
    });
}

/// Lower halves of 16 (of 32) bytes first, or upper ones.
fn nibble(byte: u8, upper: bool) -> i8 {
    (if upper { byte >> 4 } else { byte & 15 }) as i8
}

fn four_bits(block: &[u8], take: &mut dyn FnMut(Scaled)) {
    let scale = half(block, 0);
    take(Scaled {
        scale,
        offset: -8.0 * scale,
        q: std::array::from_fn(|i| nibble(block[2 + i % 16], i >= 16)),
    });
}

fn four_bits_of_256(block: &[u8], take: &mut dyn FnMut(Scaled)) {
    let (d, m) = (half(block, 0), half(block, 2));
    let (packed, quants) = (&block[4..16], &block[16..]);
    for group in 0..8 {
        // the first four lie in the lower 6 bits of bytes 0 to 3 and 4 to 7; of the others the lower 4 bits lie in
        // bytes 8 to 11, the upper 2 in what those have left
        let (s, o) = match group {
            0..4 => (packed[group] & 63, packed[group + 4] & 63),
            _ => (
                packed[group + 4] & 15 | packed[group - 4] >> 6 << 4,
                packed[group + 4] >> 4 | packed[group] >> 6 << 4,
            ),
        };
        let bytes = &quants[group / 2 * 32..][..32];
        take(Scaled {
            scale: d * f32::from(s),
            offset: -(m * f32::from(o)),
            q: std::array::from_fn(|i| nibble(bytes[i], group % 2 == 1)),
        });
    }
}

fn six_bits(block: &[u8], out: &mut Vec<f32>) {
    let (lower, upper, scales, d) = (
        &block[..128],
        &block[128..192],
        &block[192..208],
        half(block, 208),
    );
    for i in 0..256 {
        let (part, at) = (i / 128, i % 128);
        // 64 bytes hold the lower bits of 128 numbers, 32 bytes the upper ones
        let low = nibble(lower[64 * part + at % 64], at >= 64);
        let high = (upper[32 * part + at % 32] >> (2 * (at / 32))) & 3;
        let q = low | (high << 4) as i8;
        let scale = d * f32::from(scales[i / 16] as i8);
        out.push(scale * f32::from(q - 32));
    }
}
