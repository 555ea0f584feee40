//! Types of a tensor's elements. The only file that knows how many bytes they take.

/// Type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// 32-bit floating point; f64 on the f64 twin.
    F32,
    /// IEEE 754 half precision: 11 significant bits, up to 65504.
    F16,
    /// The upper half of an f32: 8 significant bits and its whole range.
    Bf16,
    /// Unsigned 32-bit integers.
    U32,
}

impl Element {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Self::F32 | Self::U32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Bytes of `len` elements in a buffer, whose size is a multiple of 4.
    pub const fn bytes(self, len: usize) -> u64 {
        (self.size() as u64 * len as u64).next_multiple_of(4)
    }

    /// Whether elements are numbers, not indices.
    pub const fn is_number(self) -> bool {
        !matches!(self, Self::U32)
    }

    /// The 16 bits nearest to a number, ties to even; 0 for elements of 32 bits.
    pub fn pack(self, x: f32) -> u16 {
        match self {
            Self::F16 => half::f16::from_f32(x).to_bits(),
            Self::Bf16 => half::bf16::from_f32(x).to_bits(),
            Self::F32 | Self::U32 => 0,
        }
    }

    /// The number of these 16 bits.
    pub fn unpack(self, bits: u16) -> f32 {
        match self {
            Self::F16 => half::f16::from_bits(bits).to_f32(),
            Self::Bf16 => half::bf16::from_bits(bits).to_f32(),
            Self::F32 | Self::U32 => 0.0,
        }
    }

    /// Whether a number stays finite as such an element.
    pub fn holds(self, x: f32) -> bool {
        match self {
            Self::F16 | Self::Bf16 => self.unpack(self.pack(x)).is_finite(),
            Self::F32 | Self::U32 => x.is_finite(),
        }
    }

    /// Largest relative error of rounding a number of its normal range; 0 for f32, which is where
    /// numbers come from.
    pub const fn rounding(self) -> f64 {
        match self {
            Self::F32 | Self::U32 => 0.0,
            Self::F16 => 1.0 / 2048.0,
            Self::Bf16 => 1.0 / 256.0,
        }
    }
}
