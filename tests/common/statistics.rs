//! Tests of laws.

/// Sum of (seen - expected)^2 / expected.
pub fn chi_square(seen: &[f64], expected: &[f64]) -> f64 {
    let term = |(s, e): (&f64, &f64)| (s - e).powi(2) / e;
    seen.iter().zip(expected).map(term).sum()
}

/// A bound that chi-square with `freedom` degrees exceeds once in about 30,000 times (Wilson and
/// Hilferty's approximation at four standard deviations).
pub fn chi_square_bound(freedom: f64) -> f64 {
    let c = 2.0 / (9.0 * freedom);
    freedom * (1.0 - c + 4.0 * c.sqrt()).powi(3)
}
