//! Draws of tokens: the same ones on every executor.

use super::case::{Case, Made};
use super::gather_rows::list;
use super::suite::Suite;
use mdlm_engine::ops::{INVERSE_TEMPERATURE, TOP_K, TOP_P};
use mdlm_engine::ops::{Never, ROWS};

suites! {
    draws_are_equal: "categorical", Softmax;
}

/// Temperature, top-k, top-p. The twin sorts where the kernel bisects.
const OPTIONS: [(f64, u32, f64); 8] = [
    (1.0, 0, 1.0),
    (0.0, 0, 1.0),
    (0.7, 0, 1.0),
    (1.0, 1, 1.0),
    (1.0, 40, 1.0),
    (1.0, 0, 0.3),
    (1.5, 0, 0.9),
    (0.8, 20, 0.77),
];

fn draws_are_equal(suite: &mut Suite) {
    for (rows, width, vocab, chunk) in [
        (1, 1, 2, 64),
        (7, 5, 3, 64),
        (130, 17, 67, 64),
        (65, 33, 300, 128),
        (3, 2, 5003, 64),
    ] {
        for (i, (temperature, top_k, top_p)) in OPTIONS.into_iter().enumerate() {
            let listed = [0, 1, rows / 2, rows];
            // the number of rows has nothing to do with the options
            for &listed in if i < 2 { &listed[..] } else { &listed[3..] } {
                let mut case = Case::new(format!(
                    "{listed} of {rows}, width {width}, vocabulary {vocab}, temperature \
                     {temperature}, top-k {top_k}, top-p {top_p}"
                ));
                case.step.set(ROWS, listed as u32);
                let inverse = if temperature > 0.0 {
                    1.0 / temperature
                } else {
                    0.0
                };
                case.step.set(INVERSE_TEMPERATURE, inverse);
                case.step.set(TOP_K, top_k);
                case.step.set(TOP_P, top_p);
                let mask_index = (vocab / 2) as u32;
                case.input("hidden", &[rows, width], 1.0)
                    .input("w", &[vocab, width], 2.0)
                    .input("b", &[vocab], 1.0)
                    .uint("rows", &[rows], &list(rows, listed).0);
                suite.check(&case, width.max(vocab), &|g, t, _| {
                    let draws = g.categorical(
                        t["hidden"],
                        t["w"],
                        Some(t["b"]),
                        t["rows"],
                        Never {
                            token: Some(mask_index),
                            counted: i % 2 == 1,
                        },
                        chunk,
                    )?;
                    let outputs = [
                        draws.tokens,
                        draws.probability,
                        draws.entropy,
                        draws.log_total,
                        draws.margin,
                    ];
                    let made = Made::new(g, &outputs);
                    Ok(made.first(&[listed; 5]).exact(0).without_gradient())
                });
            }
        }
    }
}
