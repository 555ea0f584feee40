//! Rotary position embedding.

use super::case::{Case, Made};
use super::suite::Suite;
use mdlm_engine::ops::rotary_frequencies;

suites! {
    lengths_and_widths: "rotary", Sum;
}

fn lengths_and_widths(suite: &mut Suite) {
    // rotated heads of a row's, their width, and how much of it is rotated
    for (batch, length, [heads, all], dim, rotated) in [
        (1, 1, [2, 3], 16, 16),
        (3, 7, [4, 6], 16, 16),
        (2, 65, [6, 9], 32, 32),
        (1, 130, [2, 3], 128, 128),
        (5, 13, [3, 3], 64, 64),
        (2, 9, [3, 5], 24, 24),
        (2, 9, [2, 3], 64, 32),
        (2, 9, [1, 1], 48, 10),
    ] {
        let mut case = Case::new(format!(
            "batch {batch}, length {length}, {heads} of {all} heads, {rotated} of {dim}"
        ));
        case.param("x", &[batch * length, all * dim], 1.0);
        suite.check(&case, 2, &|g, t, _| {
            let table = g.rotary_table(length, &rotary_frequencies(rotated, 5e5));
            let y = g.rotary("y", t["x"], table, heads, dim)?;
            Ok(Made::new(g, &[y]))
        });
    }
}
