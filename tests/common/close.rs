//! Comparison with a bound, and a report of how much of the bound was used.

use super::Executor;

/// A rounding of f32, relative: WGSL leaves the direction open, so a whole unit in the last place.
const ULP: f64 = 1.0 / (1 << 23) as f64;

/// Share of the largest gradient (at least 1) that a five-point difference may be off by in f64: with
/// h = 1e-3 and numbers near 1 the formula is off by h^4 = 1e-12 times the fifth derivative, which
/// the norms of narrow rows raise to 1e4, and rounding by 1e-16 / h.
pub const DIFFERENCES: f64 = 1e-7;

/// Kinds of kernels by how far f32 may be from f64.
#[derive(Clone, Copy, Debug)]
pub enum Kernel {
    /// Moves numbers.
    Copy,
    /// Sums of products.
    Sum,
    /// One GELU or SiLU around a sum.
    Activation,
    /// Normalisation of a row.
    Norm,
    /// Exponentials of scores that are themselves sums.
    Softmax,
    /// The optimiser's chain of operations on one element.
    Optimiser,
    /// A few operations whose results are kept in f16.
    Half,
}

impl Kernel {
    /// Bound relative to the largest element of a tensor. `n`: terms of the longest sum.
    ///
    /// The roundings of a sum of terms of either sign act as independent: together they are some
    /// `sqrt(n)` roundings of a partial sum, and no partial sum is far above the tensor's
    /// largest element (Higham and Mary, SIAM J. Sci. Comput. 2019); 2 stands for both.
    pub fn bound(self, n: usize) -> f64 {
        let sum = 2.0 * (n as f64).sqrt();
        // WGSL allows 2.5 ULP to a division, 3 + 2 |x| to exp(x), 2 to an inverse root and 3 to a
        // logarithm (2^-21 absolute near 1).
        let ulps = match self {
            Self::Copy => return f64::MIN_POSITIVE,
            // bias, dropout, gate, residual
            Self::Sum => sum + 4.0,
            // exp(2 u) (e - 1) / (e + 1): at most 2 ULP of the exponential survive the quotient
            Self::Activation => sum + 12.0,
            // deviation by a root and a division, weight, scale, shift; in the backward pass the
            // difference of three such terms
            Self::Norm => sum + 24.0,
            // scores up to 8 carry their own sum's error and 3 + 2 * 8 ULP of the exponential
            Self::Softmax => 2.0 * sum + 24.0,
            // two moments, a root, two divisions, decay and average
            Self::Optimiser => sum + 16.0,
            // every result is rounded to 11 bits, in a direction that WGSL leaves open, and passes through a few products
            Self::Half => return 2.0 / 1024.0,
        };
        ulps * ULP
    }
}

/// Worst errors of one fixture, variant and executor.
pub struct Report {
    what: String,
    worst: Vec<(f64, String, f64)>,
    count: usize,
}

impl Report {
    pub fn new(fixture: &str, executor: Executor) -> Self {
        Self {
            what: format!("{fixture} {executor:?}"),
            worst: Vec::new(),
            count: 0,
        }
    }

    /// Notes that `error` should be at most `bound`.
    pub fn note(&mut self, name: &str, error: f64, bound: f64) {
        self.count += 1;
        let share = if error.is_finite() {
            error / bound
        } else {
            f64::INFINITY
        };
        self.worst.push((share, name.to_owned(), error));
        self.worst.sort_by(|a, b| b.0.total_cmp(&a.0));
        self.worst.truncate(5);
    }

    /// Largest difference relative to the golden's largest element.
    pub fn relative_to_max(&mut self, name: &str, got: &[f64], golden: &[f64], bound: f64) {
        assert_eq!(got.len(), golden.len(), "{}: size of {name}", self.what);
        let top = golden.iter().fold(0.0, |top: f64, g| top.max(g.abs()));
        let error = got.iter().zip(golden).fold(0.0, |worst: f64, (a, b)| {
            if a.is_finite() {
                worst.max((a - b).abs())
            } else {
                f64::INFINITY
            }
        });
        self.note(name, if top > 0.0 { error / top } else { error }, bound);
    }

    /// [`Report::relative_to_max`], where the entries that stand for minus infinity (-1e6) are
    /// compared on their own.
    pub fn with_sentinels(&mut self, name: &str, got: &[f64], golden: &[f64], bound: f64) {
        assert_eq!(got.len(), golden.len(), "{}: size of {name}", self.what);
        let (far, near): (Vec<_>, Vec<_>) = got
            .iter()
            .zip(golden)
            .map(|(&a, &b)| (a, b))
            .partition(|(_, b)| b.abs() >= 1e5);
        let mut compare = |name: &str, pairs: Vec<(f64, f64)>, bound| {
            let (got, golden): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            self.relative_to_max(name, &got, &golden, bound);
        };
        if !far.is_empty() {
            compare(&format!("{name} (sentinels)"), far, 1e-6);
        }
        compare(name, near, bound);
    }

    /// [`Report::finish`] where there may have been nothing to compare.
    pub fn finish_if_any(self) {
        if self.count > 0 {
            self.finish();
        }
    }

    /// Prints the worst and fails if it is above its bound.
    pub fn finish(self) {
        let Some((share, name, error)) = self.worst.first() else {
            panic!("{}: nothing was compared", self.what);
        };
        println!(
            "{}: {} values, worst {name}: error {error:.2e}, {:.0} % of its bound",
            self.what,
            self.count,
            100.0 * share
        );
        assert!(
            *share <= 1.0,
            "{}: above the bound (share, tensor, error): {:#?}",
            self.what,
            self.worst
        );
    }
}

/// Relative L2 distance.
pub fn rel_l2(got: &[f64], golden: &[f64]) -> f64 {
    let sum =
        |f: &dyn Fn(f64, f64) -> f64| got.iter().zip(golden).map(|(&a, &b)| f(a, b)).sum::<f64>();
    (sum(&|a, b| (a - b) * (a - b)) / sum(&|_, b| b * b).max(f64::MIN_POSITIVE)).sqrt()
}
