//! Draws of tokens: the same ones on every executor.

use super::masked_rows::list;
use crate::common::case::{Case, Made, Suite};
use crate::common::close::Kernel;

#[test]
fn draws_are_equal() {
    let mut suite = Suite::new("categorical", Kernel::Softmax);
    for (rows, width, vocab, chunk) in [
        (1, 1, 2, 64),
        (7, 5, 3, 64),
        (130, 17, 67, 64),
        (65, 33, 300, 128),
        (3, 2, 5003, 64),
    ] {
        for listed in [0, 1, rows / 2, rows] {
            for greedy in [false, true] {
                let mut case = Case::new(format!(
                    "{listed} of {rows}, width {width}, vocabulary {vocab}, greedy {greedy}"
                ));
                (case.step.rows, case.step.greedy) = (listed as u32, greedy);
                let mask_index = (vocab / 2) as u32;
                case.input("hidden", &[rows, width], 1.0)
                    .input("w", &[vocab, width], 2.0)
                    .input("b", &[vocab], 1.0)
                    .uint("rows", &[rows], &list(rows, listed).0);
                suite.check(&case, width.max(vocab), &|g, t, _| {
                    let draws =
                        g.categorical(t["hidden"], t["w"], t["b"], t["rows"], mask_index, chunk)?;
                    let made = Made::new(g, &[draws.tokens, draws.probability, draws.entropy]);
                    Ok(made.first(&[listed; 3]).exact(0).without_gradient())
                });
            }
        }
    }
    suite.finish();
}
