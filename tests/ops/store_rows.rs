//! Rows kept from run to run.

use super::case::{Case, Made};
use super::suite::Suite;
use mdlm_engine::ops::Heads;

suites! {
    positions_and_widths: "store_rows", Copy;
}

fn positions_and_widths(suite: &mut Suite) {
    for (batch, rows, length, width, stride, column) in [
        (1, 1, 1, 4, 4, 0),
        (2, 1, 7, 16, 48, 16),
        (2, 5, 7, 16, 48, 16),
        (3, 37, 300, 132, 264, 128),
    ] {
        for position in [0, length / 2, length - 1] {
            // every sequence at a place of its own, its rows one behind the other
            let at = |row: usize| (position + row / rows * length / 3 + row % rows) % length;
            let count = batch * rows;
            let positions: Vec<u32> = (0..count).map(|row| at(row) as u32).collect();
            let name = format!("{batch} x {rows} x {width}, row {position} of {length}");
            let mut case = Case::new(name);
            case.input("x", &[count, stride], 2.0)
                .input("state", &[batch, length, width], 2.0)
                .uint("positions", &[count], &positions);
            suite.check(&case, 1, &|g, t, _| {
                let tensor = t["x"];
                g.store_rows(Heads { tensor, column }, t["positions"], t["state"])?;
                Ok(Made::new(g, &[t["state"]]).without_gradient())
            });
        }
    }
}
