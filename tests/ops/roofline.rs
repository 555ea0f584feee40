//! What benchmarks compare with: a copy, and multiply-adds.

use super::case::{Case, Made};
use super::suite::Suite;

suites! {
    copy: "roofline, copy", Copy;
    multiply_adds: "roofline", Sum;
}

fn check(suite: &mut Suite, rounds: usize) {
    for n in [64, 192, 64 * 1031] {
        let mut case = Case::new(format!("{n} x {rounds}"));
        case.input("x", &[n], 0.5);
        suite.check(&case, rounds, &|g, t, _| {
            let y = g.roofline(t["x"], rounds)?;
            Ok(Made::new(g, &[y]).without_gradient())
        });
    }
}

fn copy(suite: &mut Suite) {
    check(suite, 0);
}

fn multiply_adds(suite: &mut Suite) {
    check(suite, 5);
}
