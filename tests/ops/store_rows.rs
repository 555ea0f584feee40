//! Rows kept from run to run.

use super::case::{Case, Made};
use super::suite::Suite;
use mdlm_engine::ops::Heads;

suites! {
    positions_and_widths: "store_rows", Copy;
}

fn positions_and_widths(suite: &mut Suite) {
    for (batch, length, width, stride, column) in
        [(1, 1, 4, 4, 0), (2, 7, 16, 48, 16), (3, 300, 132, 264, 128)]
    {
        for position in [0, length / 2, length - 1] {
            // every sequence at a place of its own
            let at = |b: usize| (position + b * length / 3) % length;
            let positions: Vec<u32> = (0..batch).map(|b| at(b) as u32).collect();
            let mut case = Case::new(format!("{batch} x {width}, row {position} of {length}"));
            case.input("x", &[batch, stride], 2.0)
                .input("state", &[batch, length, width], 2.0)
                .uint("positions", &[batch], &positions);
            suite.check(&case, 1, &|g, t, _| {
                let tensor = t["x"];
                g.store_rows(Heads { tensor, column }, t["positions"], t["state"])?;
                Ok(Made::new(g, &[t["state"]]).without_gradient())
            });
        }
    }
}
