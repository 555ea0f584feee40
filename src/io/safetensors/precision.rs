//! The precisions in which tensors are written, and rounding to them.

use safetensors::Dtype;
use serde::{Deserialize, Serialize};

/// How a value lies in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As it was computed.
    #[default]
    F32,
    /// 11 bits of precision, up to 65504.
    F16,
    /// 8 bits of precision, the range of f32.
    Bf16,
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

impl Precision {
    /// Bytes of a value.
    pub(super) fn width(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    pub(super) fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }

    /// Appends the bytes of values, rounded to the nearest, ties to even. Fails with the first value that a
    /// 16-bit precision would turn into infinity or NaN.
    pub(super) fn encode(self, values: &[f32], out: &mut Vec<u8>) -> Result<(), f32> {
        let half = match self {
            Self::F32 => {
                out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                return Ok(());
            }
            Self::F16 => f16_bits,
            Self::Bf16 => bf16_bits,
        };
        for &value in values {
            out.extend(half(value).ok_or(value)?.to_le_bytes());
        }
        Ok(())
    }
}

/// `bits >> by`, rounded to the nearest, ties to even.
fn shift_round(bits: u32, by: u32) -> u32 {
    let (kept, lost, half) = (bits >> by, bits & ((1 << by) - 1), 1 << (by - 1));
    kept + u32::from(lost > half || (lost == half && kept & 1 == 1))
}

fn bf16_bits(value: f32) -> Option<u16> {
    let rounded = shift_round(value.to_bits() & 0x7FFF_FFFF, 16);
    let sign = value.to_bits() >> 31 << 15;
    (rounded < 0x7F80).then_some((sign | rounded) as u16)
}

fn f16_bits(value: f32) -> Option<u16> {
    let (magnitude, sign) = (value.to_bits() & 0x7FFF_FFFF, value.to_bits() >> 31 << 15);
    let exponent = magnitude >> 23;
    let rounded = match exponent {
        // Below half of the smallest subnormal.
        0..=101 => 0,
        // Subnormal: the implicit one becomes explicit and moves down to multiples of 2^-24.
        102..=112 => shift_round(magnitude & 0x7F_FFFF | 0x80_0000, 126 - exponent),
        // A carry out of the fraction raises the exponent, as it should.
        _ => shift_round(magnitude - (112 << 23), 13),
    };
    (rounded < 0x7C00).then_some((sign | rounded) as u16)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::path::Path;

    use super::*;
    use crate::error::Error;
    use crate::io::safetensors::read::{f16_to_f32, read_bytes};
    use crate::io::safetensors::{TensorSpec, write_to};

    fn bf16_to_f32(bits: u16) -> f32 {
        f32::from_bits(u32::from(bits) << 16)
    }

    /// Checks rounding at, between and beside all neighbouring values of a precision.
    fn check(encode: fn(f32) -> Option<u16>, decode: fn(u16) -> f32, infinity: u16) {
        for bits in 0..infinity {
            let value = decode(bits);
            assert_eq!(encode(value), Some(bits));
            assert_eq!(encode(-value), Some(bits | 0x8000));
            let next = bits + 1;
            // Where the next value would lie if the exponent had no end.
            let above = if next == infinity {
                2.0 * f64::from(value) - f64::from(decode(bits - 1))
            } else {
                f64::from(decode(next))
            };
            let middle = ((f64::from(value) + above) / 2.0) as f32;
            let even = if bits % 2 == 0 { bits } else { next };
            let code = |bits: u16| (bits < infinity).then_some(bits);
            assert_eq!(encode(middle), code(even), "{middle}");
            assert_eq!(encode(middle.next_down()), Some(bits), "{middle}");
            assert_eq!(encode(middle.next_up()), code(next), "{middle}");
        }
        for value in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX] {
            assert_eq!(encode(value), None);
        }
    }

    #[test]
    fn every_value_and_every_tie_of_f16() {
        check(f16_bits, f16_to_f32, 0x7C00);
        assert_eq!(f16_bits(f32::from_bits(1)), Some(0));
    }

    #[test]
    fn every_value_and_every_tie_of_bf16() {
        check(bf16_bits, bf16_to_f32, 0x7F80);
    }

    #[test]
    fn files_in_every_precision() {
        let specs = [TensorSpec::new("a", [3]), TensorSpec::new("z", [2])];
        let smallest = (-24f32).exp2();
        let values = [vec![1.0, -smallest, 65504.0], vec![1.0 / 3.0, 0.0]];
        let write = |precision: Precision, values: &[Vec<f32>]| {
            let mut bytes = Vec::new();
            let data = |i: usize| Ok(Cow::Borrowed(&values[i][..]));
            write_to(&mut bytes, Path::new("memory"), &specs, precision, data).map(|()| bytes)
        };
        for (precision, third) in [
            (Precision::F32, 1.0 / 3.0),
            (Precision::F16, 0.333_251_95),
            (Precision::Bf16, 0.333_984_38),
        ] {
            let bytes = write(precision, &values).unwrap();
            let read = read_bytes(Path::new("memory"), &bytes, &specs, &[]).unwrap();
            assert_eq!(read[1], [third, 0.0]);
            let large = if precision == Precision::Bf16 {
                65536.0
            } else {
                65504.0
            };
            assert_eq!(read[0], [1.0, -smallest, large]);
        }
        let large = [values[0].clone(), vec![0.0, -65520.0]];
        match write(Precision::F16, &large) {
            Err(Error::Argument { value, problem, .. }) => {
                assert_eq!(value, "f16");
                assert_eq!(
                    problem,
                    "tensor z holds -65520, which it cannot; write f32 or bf16"
                );
            }
            other => panic!("{other:?}"),
        }
        write(Precision::Bf16, &large).unwrap();
    }
}
