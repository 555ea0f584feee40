//! Rows of a table added over and over.

use super::case::{Case, Made};
use super::suite::Suite;

suites! {
    periods_and_widths: "add_rows", Sum;
}

fn periods_and_widths(suite: &mut Suite) {
    for (repeats, period, table, width) in [
        (1, 1, 1, 1),
        (7, 1, 2, 64),
        (3, 13, 20, 67),
        (1, 130, 130, 5),
    ] {
        let rows = repeats * period;
        let mut case = Case::new(format!("{rows} rows, {period} of {table}, width {width}"));
        case.param("x", &[rows, width], 1.0)
            .param("table", &[table, width], 1.0);
        suite.check(&case, repeats, &|g, t, _| {
            let y = g.add_rows("y", t["x"], t["table"], period)?;
            Ok(Made::new(g, &[y]))
        });
    }
}
