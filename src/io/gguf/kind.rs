//! Types of tensors: those that are read, and the names of the others.

/// How the numbers of a tensor lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 32-bit floating point.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
    /// 32 of 8 bits with a scale.
    Q8_0,
    /// 32 of 4 bits with a scale, the middle at 8.
    Q4_0,
    /// 256 of 4 bits: 8 scales and offsets of 6 bits each, a scale of both.
    Q4K,
    /// 256 of 6 bits: 16 scales of 8 bits, a scale of them.
    Q6K,
}

/// Types that are not read, by their number in files.
const OTHERS: [(u32, &str); 27] = [
    (3, "Q4_1"),
    (6, "Q5_0"),
    (7, "Q5_1"),
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (13, "Q5_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

impl Kind {
    /// All that are read.
    pub const ALL: [Self; 7] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4K,
        Self::Q6K,
    ];

    /// The type of that number; the error is for people.
    pub(super) fn of(code: u32) -> Result<Self, String> {
        if let Some(kind) = Self::ALL.into_iter().find(|kind| kind.code() == code) {
            return Ok(kind);
        }
        let name = OTHERS.iter().find(|(other, _)| *other == code);
        let name = name.map_or_else(|| format!("number {code}"), |(_, name)| (*name).to_owned());
        let all = Self::ALL.map(Self::name).join(", ");
        Err(format!(
            "is of type {name}, which is not read: quantise anew to one of {all}"
        ))
    }

    fn code(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 8,
            Self::Q4K => 12,
            Self::Q6K => 14,
            Self::Bf16 => 30,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4K => "Q4_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// Numbers of a block, and its bytes. A row of a tensor is whole blocks.
    pub const fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q8_0 => (32, 2 + 32),
            Self::Q4_0 => (32, 2 + 16),
            Self::Q4K => (256, 2 + 2 + 12 + 128),
            Self::Q6K => (256, 128 + 64 + 16 + 2),
        }
    }
}
