//! Comparison with a bound, and a report of how much of the bound was used.

use super::Executor;

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
