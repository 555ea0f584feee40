//! Gathering listed rows and scattering their gradient.

use super::case::{Case, Made};
use super::suite::Suite;
use mdlm_engine::ops::ROWS;
use mdlm_engine::ops::{NOT_LISTED, RowList};
use mdlm_engine::rng::{Rng, Stream};

suites! {
    none_one_some_all: "gather_rows", Copy;
}

/// Rows in random order, padded with what an earlier step might have left.
pub(super) fn list(rows: usize, listed: usize) -> (Vec<u32>, Vec<u32>) {
    let mut all: Vec<u32> = (0..rows as u32).collect();
    Rng::new(6, Stream::Shuffle, rows as u64).shuffle(&mut all);
    let mut row_of = vec![NOT_LISTED; rows];
    for (i, &row) in all[..listed].iter().enumerate() {
        row_of[row as usize] = i as u32;
    }
    (all, row_of)
}

fn none_one_some_all(suite: &mut Suite) {
    for (rows, width) in [(1, 1), (7, 3), (65, 130), (300, 17)] {
        for listed in [0, 1, rows / 2, rows] {
            let mut case = Case::new(format!("{listed} of {rows}x{width}"));
            case.step.set(ROWS, listed as u32);
            let (order, row_of) = list(rows, listed);
            case.param("x", &[rows, width], 1.0)
                .uint("rows", &[rows], &order)
                .uint("row_of", &[rows], &row_of);
            suite.check(&case, 1, &|g, t, _| {
                let list = RowList {
                    rows: t["rows"],
                    row_of: t["row_of"],
                };
                let y = g.gather_rows("y", t["x"], list)?;
                Ok(Made::new(g, &[y]).first(&[listed * width]))
            });
        }
    }
}
