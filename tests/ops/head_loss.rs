//! The output head with the loss on listed rows, in chunks.

use super::case::{Case, Made};
use super::gather_rows::list;
use super::suite::Suite;
use mdlm_engine::ops::ROWS;
use mdlm_engine::ops::{HeadLoss, RowList, RowLoss};
use mdlm_engine::rng::{Rng, Stream};

suites! {
    chunks_and_counts: "head_loss", Softmax;
    discrete_time_bound: "head_loss of D3PM", Softmax;
    score_entropy: "head_loss of SEDD", Softmax;
}

struct Size {
    loss: RowLoss,
    rows: usize,
    listed: usize,
    width: usize,
    vocab: usize,
    chunk: usize,
}

fn check(suite: &mut Suite, size: Size) {
    let Size {
        loss: row_loss,
        rows,
        listed,
        width,
        vocab,
        chunk,
    } = size;
    let mut case = Case::new(format!(
        "{row_loss:?}, {listed} of {rows}, width {width}, vocabulary {vocab}, chunks of {chunk}"
    ));
    case.step.set(ROWS, listed as u32);
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
        .given("coefficients", &[rows, 4], coefficients(row_loss, rows))
        .uint("targets", &[rows], &targets)
        .uint("rows", &[rows], &order)
        .uint("row_of", &[rows], &row_of);
    suite.check(&case, rows.max(width).max(vocab), &|g, t, gradient| {
        let rows = RowList {
            rows: t["rows"],
            row_of: t["row_of"],
        };
        let [loss, nll] = {
            let hidden = g.gather_rows("hidden", t["x"], rows)?;
            g.head_loss(&HeadLoss {
                loss: row_loss,
                coefficients: row_loss.has_coefficients().then(|| t["coefficients"]),
                hidden,
                weight: t["w"],
                bias: Some(t["b"]),
                targets: t["targets"],
                weights: t["weights"],
                mask_index: Some(mask_index),
                chunk,
                gradient,
            })?
        };
        Ok(Made::new(g, &[nll]).first(&[listed]).loss(loss))
    });
}

/// Coefficients as the objectives make them, for rows at different times.
fn coefficients(loss: RowLoss, rows: usize) -> Vec<f64> {
    let row = |row: usize| {
        let t = (row % 10 + 1) as f64 / 10.0;
        match loss {
            RowLoss::D3pm if row.is_multiple_of(10) => [1.0, (1.0 - t) / t, 0.0, 0.0], // the first step
            RowLoss::D3pm if row.is_multiple_of(7) => [0.0; 4], // reconstruction
            RowLoss::D3pm => {
                let s = t - 0.1;
                [10.0 * t, (1.0 - s) / s, -0.1 / (t * s), 0.0]
            }
            RowLoss::Sedd => [2.0 * t, 1.0 / t, -0.5 * t, 0.0],
            RowLoss::Subs => [0.0; 4],
        }
    };
    let rounded = |x: f64| f64::from(x as f32);
    (0..rows).flat_map(row).map(rounded).collect()
}

fn chunks_and_counts(suite: &mut Suite) {
    chunks_and_counts_of(RowLoss::Subs, suite);
}

fn discrete_time_bound(suite: &mut Suite) {
    chunks_and_counts_of(RowLoss::D3pm, suite);
}

fn score_entropy(suite: &mut Suite) {
    chunks_and_counts_of(RowLoss::Sedd, suite);
}

fn chunks_and_counts_of(loss: RowLoss, suite: &mut Suite) {
    for (rows, width, vocab) in [(1, 1, 2), (70, 5, 3), (130, 17, 67), (200, 33, 300)] {
        for chunk in [64, 128, 256] {
            for listed in [0, 1, rows / 3, 64, 65, rows] {
                if listed <= rows && chunk < rows + 64 {
                    check(
                        suite,
                        Size {
                            loss,
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
}
