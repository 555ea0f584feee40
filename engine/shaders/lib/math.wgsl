// tanh by one exponential; the builtin overflows to NaN on several drivers above about 45.
fn tanh_safe(x: f32) -> f32 {
  let e = exp(2.0 * clamp(x, -15.0, 15.0));
  return (e - 1.0) / (e + 1.0);
}

const GELU_K: f32 = 0.7978845608028654; // sqrt(2 / pi)
const GELU_C: f32 = 0.044715;

fn gelu(x: f32) -> f32 {
  return 0.5 * x * (1.0 + tanh_safe(GELU_K * (x + GELU_C * x * x * x)));
}

fn gelu_backward(x: f32) -> f32 {
  let t = tanh_safe(GELU_K * (x + GELU_C * x * x * x));
  return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * GELU_K * (1.0 + 3.0 * GELU_C * x * x);
}

// The error function within 6e-8: polynomials in x^2 below 1 and, times exp(-x^2), in 1 / (1 + x / 2) up to 4.
fn erf_safe(x: f32) -> f32 {
  let a = abs(x);
  if (a < 1.0) {
    let u = x * x;
    var p = 7.875875e-5;
    p = p * u - 8.0168643e-4;
    p = p * u + 5.189087e-3;
    p = p * u - 2.6854211e-2;
    p = p * u + 0.11283594;
    p = p * u - 0.37612626;
    p = p * u + 1.1283791;
    return x * p;
  }
  let w = 1.0 / (1.0 + 0.5 * a);
  var p = 0.12085243;
  p = p * w - 0.47652528;
  p = p * w + 0.57126516;
  p = p * w - 0.1102083;
  p = p * w + 0.35103032;
  p = p * w + 0.25875136;
  p = p * w + 0.28506163;
  p = p * w - 1.6423639e-4;
  return sign(x) * select(1.0 - exp(-a * a) * p, 1.0, a >= 4.0);
}

fn gelu_erf(x: f32) -> f32 {
  return 0.5 * x * (1.0 + erf_safe(x * 0.70710678));
}

fn gelu_erf_backward(x: f32) -> f32 {
  let density = 0.39894228 * exp(-0.5 * min(x * x, 80.0));
  return 0.5 * (1.0 + erf_safe(x * 0.70710678)) + x * density;
}

fn silu_backward(x: f32) -> f32 {
  let s = sigmoid(x);
  return s + x * s * (1.0 - s);
}

fn sigmoid(x: f32) -> f32 {
  return 1.0 / (1.0 + exp(-clamp(x, -80.0, 80.0)));
}

// Whether a float's bits are those of an infinity or a NaN. Comparisons cannot tell: the language
// lets an implementation assume that neither exists.
fn not_finite(bits: u32) -> bool {
  return (bits & 0x7f800000u) == 0x7f800000u;
}

// log(1 + x) without cancellation, x > -1: 2 atanh(x / (2 + x)) as a series where x is small.
fn log1p_safe(x: f32) -> f32 {
  if (abs(x) >= 0.5) {
    return log(1.0 + x);
  }
  let s = x / (2.0 + x); // at most 1 / 3
  let q = s * s;
  var series = 1.0 / 17.0;
  series = series * q + 1.0 / 15.0;
  series = series * q + 1.0 / 13.0;
  series = series * q + 1.0 / 11.0;
  series = series * q + 1.0 / 9.0;
  series = series * q + 1.0 / 7.0;
  series = series * q + 1.0 / 5.0;
  series = series * q + 1.0 / 3.0;
  return 2.0 * s * (1.0 + q * series);
}
