//! Log-probabilities of the SUBS parameterisation.

use super::case::{Case, Made};
use super::suite::Suite;

suites! {
    masked_and_other_rows: "subs", Softmax;
}

fn masked_and_other_rows(suite: &mut Suite) {
    for every in [1, 3] {
        for (rows, vocab) in [(1, 2), (7, 3), (65, 67), (13, 300), (32771, 2)] {
            let mask_index = (vocab / 2) as u32;
            let mut case = Case::new(format!("{rows}x{vocab}, masked: every {every}th"));
            let xt: Vec<u32> = (0..rows)
                .map(|row| {
                    if row % every == 0 {
                        mask_index
                    } else {
                        (row % vocab) as u32
                    }
                })
                .collect();
            case.input("logits", &[rows, vocab], 5.0)
                .uint("xt", &[rows], &xt);
            suite.check(&case, vocab, &|g, t, _| {
                let y = g.subs("y", t["logits"], t["xt"], mask_index)?;
                Ok(Made::new(g, &[y]).without_gradient())
            });
        }
    }
}
