//! LayerNorm with and without modulation.

use super::case::{Case, Made};
use super::suite::Suite;
use mdlm_engine::ops::Norm;
use mdlm_engine::ops::{Dropout, Modulation};

suites! {
    plain: "norm", Norm;
    modulated: "norm, modulated", Norm;
    shared_input: "norm, twice", Norm;
    folded_grid: "norm, folded grid", Norm;
    biased_and_uncentred: "norm, bias and RMS", Norm;
}

/// [samples, rows of each, width]. A width of 2 is left out: its rows differ from ±1 by the
/// epsilon alone, so their gradients are nothing but rounding.
const SHAPES: [[usize; 3]; 8] = [
    [1, 1, 1],
    [1, 1, 5],
    [3, 7, 3],
    [2, 65, 64],
    [1, 131, 67],
    [129, 1, 31],
    [4, 16, 257],
    [2, 3, 1030],
];

fn case([samples, sample_rows, width]: [usize; 3]) -> Case {
    let mut case = Case::new(format!("{samples} samples of {sample_rows}x{width}"));
    case.param("x", &[samples * sample_rows, width], 2.0)
        .param("w", &[width], 1.0);
    case
}

fn plain(suite: &mut Suite) {
    for shape @ [samples, sample_rows, width] in SHAPES {
        suite.check(
            &case(shape),
            width.max(samples * sample_rows),
            &|g, t, _| {
                let y = g.norm("y", t["x"], Norm::layer(t["w"]).modulated(None))?;
                Ok(Made::new(g, &[y]))
            },
        );
    }
}

fn modulated(suite: &mut Suite) {
    for shape @ [samples, sample_rows, width] in SHAPES {
        let mut case = case(shape);
        let (stride, column) = (5 * width + 3, 2 * width + 1);
        case.param("modulation", &[samples, stride], 1.0);
        let m = Modulation {
            sample_rows,
            stride,
            column,
        };
        suite.check(&case, width.max(samples * sample_rows), &|g, t, _| {
            let y = g.norm(
                "y",
                t["x"],
                Norm::layer(t["w"]).modulated(Some((t["modulation"], m))),
            )?;
            Ok(Made::new(g, &[y]))
        });
    }
}

/// Two norms of one input, modulated by two places of one tensor: both gradients accumulate.
fn shared_input(suite: &mut Suite) {
    let (samples, sample_rows, width) = (3, 11, 13);
    let mut case = case([samples, sample_rows, width]);
    let stride = 4 * width;
    case.param("modulation", &[samples, stride], 1.0)
        .param("v", &[width, width], 1.0);
    suite.check(&case, 64, &|g, t, _| {
        let at = |column| {
            Some((
                t["modulation"],
                Modulation {
                    sample_rows,
                    stride,
                    column,
                },
            ))
        };
        let a = g.norm("a", t["x"], Norm::layer(t["w"]).modulated(at(0)))?;
        let b = g.norm("b", t["x"], Norm::layer(t["w"]).modulated(at(2 * width)))?;
        let none = Dropout::default();
        let [_, y] = g.linear_residual(["u", "y"], a, t["v"], None, b, None, none)?;
        Ok(Made::new(g, &[y]))
    });
}

/// More rows than one dimension of a grid holds workgroups.
fn folded_grid(suite: &mut Suite) {
    suite.check(&case([1, 32771, 3]), 32771, &|g, t, _| {
        let y = g.norm("y", t["x"], Norm::layer(t["w"]).modulated(None))?;
        Ok(Made::new(g, &[y]))
    });
}

/// A bias, another eps, and rows without their mean; also norms of the heads of a row.
fn biased_and_uncentred(suite: &mut Suite) {
    for [samples, sample_rows, width] in SHAPES {
        let rows = samples * sample_rows;
        for parts in [1, 3] {
            let mut case = Case::new(format!("{rows}x{parts}x{width}"));
            case.param("x", &[rows, parts * width], 2.0)
                .param("w", &[width], 1.0)
                .param("b", &[width], 1.0);
            suite.check(&case, width.max(parts * rows), &|g, t, _| {
                let rms = g.norm("rms", t["x"], Norm::rms(t["w"], 1e-6))?;
                let norm = Norm::layer(t["w"]).bias(Some(t["b"])).eps(1e-12);
                // rows of one number have no deviation, and an eps that small would stand for it
                let norm = if width == 1 { norm.eps(1e-3) } else { norm };
                let y = g.norm("y", rms, norm)?;
                Ok(Made::new(g, &[y, rms]))
            });
        }
    }
}
