//! The two number types of the twin.

#[cfg(not(all(target_arch = "wasm32", target_feature = "relaxed-simd")))]
use super::gemm::call as product;
use super::gemm::{MatMut, MatRef};
#[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
use super::relaxed::product;
use half::slice::HalfFloatSliceExt as _;
use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

/// f32 (the product) or f64 (the oracle).
pub trait Float:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Lowest finite value.
    const LOWEST: Self;

    /// The nearest value, ties to even.
    fn of(x: f64) -> Self;
    /// Widens to f64.
    fn f64(self) -> f64;
    /// e^x; vectorised by the compiler for f32.
    fn exp(self) -> Self;
    /// `self * a + b`, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// `ln(1 + self)` without cancellation.
    fn ln_1p(self) -> Self;
    /// The error function.
    fn erf(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Whether neither infinite nor NaN.
    fn finite(self) -> bool;
    /// Rounds numbers as f16 keeps them; f64, the oracle, keeps all.
    fn round_to_f16(data: &mut [Self]);
    /// The neighbour in bf16, below or above as 16 random bits say, so that what is lost on the way is nothing on average;
    /// f64, the oracle, keeps all.
    fn rounded_by(self, bits: u32) -> Self;
    /// The larger of two; `other` if either is NaN.
    fn max(self, other: Self) -> Self;
    /// The smaller of two; `other` if either is NaN.
    fn min(self, other: Self) -> Self;
    /// `dst = alpha lhs rhs`, added to `dst` with `accumulate`; see [`super::gemm()`].
    #[doc(hidden)]
    fn gemm(
        dst: &mut MatMut<'_, Self>,
        lhs: MatRef<'_, Self>,
        rhs: MatRef<'_, Self>,
        accumulate: bool,
        alpha: Self,
        parallel: bool,
    );
}

macro_rules! common {
    ($t:ty, $gemm:path) => {
        const ZERO: Self = 0.0;
        const ONE: Self = 1.0;
        const LOWEST: Self = <$t>::MIN;

        #[inline(always)]
        fn of(x: f64) -> Self {
            x as $t
        }
        #[inline(always)]
        fn f64(self) -> f64 {
            self.into()
        }
        #[inline(always)]
        fn mul_add(self, a: Self, b: Self) -> Self {
            <$t>::mul_add(self, a, b)
        }
        #[inline(always)]
        fn ln(self) -> Self {
            <$t>::ln(self)
        }
        #[inline(always)]
        fn ln_1p(self) -> Self {
            <$t>::ln_1p(self)
        }
        #[inline(always)]
        fn sqrt(self) -> Self {
            <$t>::sqrt(self)
        }
        #[inline(always)]
        fn finite(self) -> bool {
            self.is_finite()
        }
        #[inline(always)]
        fn max(self, other: Self) -> Self {
            if self > other { self } else { other }
        }
        #[inline(always)]
        fn min(self, other: Self) -> Self {
            if self < other { self } else { other }
        }
        fn gemm(
            dst: &mut MatMut<'_, Self>,
            lhs: MatRef<'_, Self>,
            rhs: MatRef<'_, Self>,
            accumulate: bool,
            alpha: Self,
            parallel: bool,
        ) {
            $gemm(dst, lhs, rhs, accumulate, alpha, parallel);
        }
    };
}

impl Float for f64 {
    common!(f64, super::gemm::call);
    fn round_to_f16(_: &mut [Self]) {}
    fn rounded_by(self, _: u32) -> Self {
        self
    }
    fn erf(self) -> Self {
        libm::erf(self)
    }
    #[inline(always)]
    fn exp(self) -> Self {
        f64::exp(self)
    }
}

impl Float for f32 {
    common!(f32, product);
    fn erf(self) -> Self {
        libm::erff(self)
    }
    fn round_to_f16(data: &mut [Self]) {
        // slices of numbers are converted many times as fast as numbers
        let mut halves = [half::f16::ZERO; 256];
        for data in data.chunks_mut(halves.len()) {
            let halves = &mut halves[..data.len()];
            halves.convert_from_f32_slice(data);
            halves.convert_to_f32_slice(data);
        }
    }
    #[inline(always)]
    fn rounded_by(self, bits: u32) -> Self {
        Self::from_bits(self.to_bits().wrapping_add(bits & 0xffff) & 0xffff_0000)
    }
    /// Range reduction by ln 2 and a degree-6 polynomial: within 2 ULP, without a branch, so that
    /// loops over it become SIMD code.
    #[inline(always)]
    fn exp(self) -> Self {
        const LN2_HI: f32 = 0.693_359_4;
        const LN2_LO: f32 = -2.121_944_4e-4;
        const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer
        // in this order NaN stays NaN
        let x = Float::min(88.7, Float::max(-87.3, self));
        let shifted = x * std::f32::consts::LOG2_E + MAGIC;
        let n = shifted - MAGIC;
        let r = (x - n * LN2_HI) - n * LN2_LO;
        let p = 1.987_569_1e-4;
        let p = p * r + 1.398_199_9e-3;
        let p = p * r + 8.333_452e-3;
        let p = p * r + 4.166_579_6e-2;
        let p = p * r + 0.166_666_66;
        let p = p * r + 0.5;
        let y = p * r * r + r + 1.0;
        // two factors, as 2^n itself overflows the exponent at n = 128
        let bits = (shifted.to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32);
        let half = bits >> 1;
        let scale = |k: i32| f32::from_bits(((k + 127) as u32) << 23);
        y * scale(half) * scale(bits - half)
    }
}

/// `dst = alpha * lhs * rhs`, or `dst += ...` with `accumulate`; on all threads if `parallel`.
pub fn gemm<F: Float>(
    mut dst: MatMut<'_, F>,
    lhs: MatRef<'_, F>,
    rhs: MatRef<'_, F>,
    accumulate: bool,
    alpha: F,
    parallel: bool,
) {
    F::gemm(&mut dst, lhs, rhs, accumulate, alpha, parallel);
}

#[cfg(test)]
mod tests {
    use super::Float;

    #[test]
    fn f32_exp_is_within_two_ulp() {
        let mut worst = 0.0f64;
        for i in -870_000..=880_000 {
            let x = i as f32 * 1e-4;
            let exact = f64::from(x).exp();
            let got = f64::from(Float::exp(x));
            let ulp = f64::from(f32::EPSILON) * 2f64.powi(exact.log2().floor() as i32);
            worst = worst.max((got - exact).abs() / ulp.max(f64::MIN_POSITIVE));
        }
        assert!(worst <= 2.0, "{worst} ULP");
    }
}
