//! The output head with the loss on listed rows, in chunks.

use super::masked_rows::list;
use crate::common::case::{Case, Made, Suite};
use crate::common::close::Kernel;
use mdlm::ops::{HeadLoss, RowList};
use mdlm::rng::{Rng, Stream};

struct Size {
    rows: usize,
    listed: usize,
    width: usize,
    vocab: usize,
    chunk: usize,
}

fn check(suite: &mut Suite, size: Size) {
    let Size {
        rows,
        listed,
        width,
        vocab,
        chunk,
    } = size;
    let mut case = Case::new(format!(
        "{listed} of {rows}, width {width}, vocabulary {vocab}, chunks of {chunk}"
    ));
    case.step.rows = listed as u32;
    // the mask is not always the last token
    let mask_index = (vocab / 2) as u32;
    let mut rng = Rng::new(7, Stream::Shuffle, vocab as u64);
    let targets: Vec<u32> = (0..rows)
        .map(|_| (mask_index + 1 + rng.below(vocab as u64 - 1) as u32) % vocab as u32)
        .collect();
    let (order, row_of) = list(rows, listed);
    case.param("x", &[rows, width], 1.0)
        .param("w", &[vocab, width], 1.0)
        .param("b", &[vocab], 1.0)
        .input("weights", &[rows], 1.0)
        .uint("targets", &[rows], &targets)
        .uint("rows", &[rows], &order)
        .uint("row_of", &[rows], &row_of);
    suite.check(&case, rows.max(width).max(vocab), &|g, t, gradient| {
        let rows = RowList {
            rows: t["rows"],
            row_of: t["row_of"],
        };
        let [loss, nll] = {
            let hidden = g.masked_rows("hidden", t["x"], rows)?;
            g.head_loss(&HeadLoss {
                hidden,
                weight: t["w"],
                bias: t["b"],
                targets: t["targets"],
                weights: t["weights"],
                mask_index,
                chunk,
                gradient,
            })?
        };
        Ok(Made::new(g, &[nll]).first(&[listed]).loss(loss))
    });
}

#[test]
fn chunks_and_counts() {
    let mut suite = Suite::new("head_loss", Kernel::Softmax);
    for (rows, width, vocab) in [(1, 1, 2), (70, 5, 3), (130, 17, 67), (200, 33, 300)] {
        for chunk in [64, 128, 256] {
            for listed in [0, 1, rows / 3, 64, 65, rows] {
                if listed <= rows && chunk < rows + 64 {
                    check(
                        &mut suite,
                        Size {
                            rows,
                            listed,
                            width,
                            vocab,
                            chunk,
                        },
                    );
                }
            }
        }
    }
    suite.finish();
}
