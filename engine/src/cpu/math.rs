//! Elementwise functions, with the formulas of `shaders/lib/math.wgsl`.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use super::Float;

const K: f64 = 0.797_884_560_802_865_4; // sqrt(2 / pi)
const C: f64 = 0.044_715;

/// tanh by one exponential; the argument is clamped where tanh is 1 in f64 anyway.
#[inline(always)]
pub fn tanh<F: Float>(u: F) -> F {
    let u = u.max(F::of(-20.0)).min(F::of(20.0));
    let e = (u + u).exp();
    (e - F::ONE) / (e + F::ONE)
}

/// GELU, tanh form: `x/2 (1 + tanh(k (x + 0.044715 x^3)))`.
#[inline(always)]
pub fn gelu<F: Float>(x: F) -> F {
    let u = F::of(K) * (x + F::of(C) * x * x * x);
    F::of(0.5) * x * (F::ONE + tanh(u))
}

/// Derivative of [`gelu`].
#[inline(always)]
pub fn gelu_backward<F: Float>(x: F) -> F {
    let t = tanh(F::of(K) * (x + F::of(C) * x * x * x));
    let du = F::of(K) * (F::ONE + F::of(3.0 * C) * x * x);
    F::of(0.5) * (F::ONE + t) + F::of(0.5) * x * (F::ONE - t * t) * du
}

/// GELU by the error function: `x/2 (1 + erf(x / sqrt(2)))`.
#[inline(always)]
pub fn gelu_erf<F: Float>(x: F) -> F {
    F::of(0.5) * x * (F::ONE + (x * F::of(FRAC_1_SQRT_2)).erf())
}

/// Derivative of [`gelu_erf`].
#[inline(always)]
pub fn gelu_erf_backward<F: Float>(x: F) -> F {
    let density = F::of(FRAC_1_SQRT_2 * FRAC_2_SQRT_PI / 2.0) * (F::of(-0.5) * x * x).exp();
    F::of(0.5) * (F::ONE + (x * F::of(FRAC_1_SQRT_2)).erf()) + x * density
}

/// Logistic function.
#[inline(always)]
pub fn sigmoid<F: Float>(x: F) -> F {
    F::ONE / (F::ONE + (-x).exp())
}

/// `x sigmoid(x)`.
#[inline(always)]
pub fn silu<F: Float>(x: F) -> F {
    x * sigmoid(x)
}

/// Derivative of [`silu`].
#[inline(always)]
pub fn silu_backward<F: Float>(x: F) -> F {
    let s = sigmoid(x);
    s + x * s * (F::ONE - s)
}

/// Eight interleaved lanes over `0..n`, each folded from `start`: a fixed order that the compiler can vectorise.
#[inline(always)]
fn lanes<F: Float>(n: usize, start: F, fold: impl Fn(F, usize) -> F) -> [F; 8] {
    let mut lanes = [start; 8];
    let whole = n / 8 * 8;
    let mut i = 0;
    while i < whole {
        for (j, lane) in lanes.iter_mut().enumerate() {
            *lane = fold(*lane, i + j);
        }
        i += 8;
    }
    for j in whole..n {
        lanes[j - whole] = fold(lanes[j - whole], j);
    }
    lanes
}

/// Sum over `0..n`, in a fixed order.
#[inline(always)]
pub fn sum<F: Float>(n: usize, f: impl Fn(usize) -> F) -> F {
    let [a, b, c, d, e, g, h, k] = lanes(n, F::ZERO, |sum, i| sum + f(i));
    ((a + b) + (c + d)) + ((e + g) + (h + k))
}

/// Maximum over `0..n`, or the lowest value.
#[inline(always)]
pub fn maximum<F: Float>(n: usize, f: impl Fn(usize) -> F) -> F {
    let lanes = lanes(n, F::LOWEST, |most, i| most.max(f(i)));
    lanes.into_iter().fold(F::LOWEST, F::max)
}
