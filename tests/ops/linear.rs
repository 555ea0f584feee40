//! `linear` and its epilogues: the matmul kernel in its three forms.

use super::case::{Case, Made};
use super::suite::Suite;
use mdlm_engine::graph::Graph;
use mdlm_engine::ops::ROWS;
use mdlm_engine::ops::{Dropout, Form, Modulation};
use mdlm_engine::program::Extent;
use mdlm_engine::rng::{Rng, Stream};

suites! {
    plain: "linear", Sum;
    random_shapes: "linear, random shapes", Sum;
    every_form: "matmul", Sum;
    shared_input: "linear, twice", Sum;
    parts_of_a_parameter: "linear, parts", Sum;
    gelu: "linear, GELU", Activation;
    gelu_of_large_numbers: "linear, GELU of large numbers", Activation;
    gated_residual: "linear, residual", Sum;
    dynamic_rows: "linear, dynamic rows", Sum;
    folded_grid: "linear, folded grid", Sum;
}

/// [rows, n, k]: single, prime, a tile, one more and one less than a tile, longer than a tile.
const SHAPES: [[usize; 3]; 8] = [
    [1, 1, 1],
    [7, 5, 3],
    [1, 130, 67],
    [64, 64, 16],
    [65, 31, 17],
    [63, 33, 130],
    [131, 1, 40],
    [37, 257, 97],
];

/// Sizes at which the forward product, the input's gradient and the weight's take the large tile.
const LARGE: [[usize; 3]; 3] = [[513, 515, 17], [514, 3, 517], [5, 513, 516]];

/// Sizes at which sums are split into planes: the weight's gradient, the input's, the product itself, and with sides
/// that come in fours.
const DEEP: [[usize; 3]; 4] = [[2051, 66, 33], [5, 2049, 31], [3, 1, 1031], [2048, 32, 36]];

fn linear(rows: usize, n: usize, k: usize, bias: bool) -> Case {
    let mut case = Case::new(format!("{rows}x{n}x{k}, bias {bias}"));
    case.param("x", &[rows, k], 1.0).param("w", &[n, k], 1.0);
    if bias {
        case.param("b", &[n], 1.0);
    }
    case.differences = rows.max(n).max(k) < 500;
    case
}

fn plain(suite: &mut Suite) {
    for [rows, n, k] in SHAPES.into_iter().chain(LARGE).chain(DEEP) {
        for bias in [false, true] {
            let case = linear(rows, n, k, bias);
            suite.check(&case, rows.max(n).max(k), &|g, t, _| {
                let y = g.linear("y", t["x"], t["w"], bias.then(|| t["b"]))?;
                Ok(Made::new(g, &[y]))
            });
        }
    }
}

fn random_shapes(suite: &mut Suite) {
    let seed = 20;
    println!("seed {seed}");
    for i in 0..24 {
        let mut rng = Rng::new(seed, Stream::Shuffle, i);
        let [rows, n, k] = [0; 3].map(|_| 1 + rng.below(70) as usize);
        let case = linear(rows, n, k, true);
        suite.check(&case, rows.max(n).max(k), &|g, t, _| {
            let y = g.linear("y", t["x"], t["w"], Some(t["b"]))?;
            Ok(Made::new(g, &[y]))
        });
    }
}

fn every_form(suite: &mut Suite) {
    for [m, n, k] in SHAPES.into_iter().chain(LARGE).chain(DEEP) {
        for (form, a, b) in [
            (Form::Nt, [m, k], [n, k]),
            (Form::Nn, [m, k], [k, n]),
            (Form::Tn, [k, m], [k, n]),
        ] {
            let mut case = Case::new(format!("{m}x{n}x{k}, {form:?}"));
            case.input("a", &a, 1.0).input("b", &b, 1.0);
            suite.check(&case, k, &|g, t, _| {
                let y = g.matmul("y", form, t["a"], t["b"])?;
                Ok(Made::new(g, &[y]).without_gradient())
            });
        }
    }
}

/// Two uses of one input: its gradients meet.
fn shared_input(suite: &mut Suite) {
    let mut case = Case::new("19x19");
    case.param("x", &[33, 19], 1.0).param("w", &[19, 19], 1.0);
    suite.check(&case, 33 * 19, &|g, t, _| {
        let u = g.linear("u", t["x"], t["w"], None)?;
        let none = Dropout::default();
        let [_, y] = g.linear_residual(["v", "y"], u, t["w"], None, t["x"], None, none)?;
        Ok(Made::new(g, &[y]))
    });
}

/// Rows of one parameter as weights of their own, two parts of which overlap; the rest has no gradient.
fn parts_of_a_parameter(suite: &mut Suite) {
    let mut case = Case::new("19x33x16");
    case.param("x", &[19, 16], 1.0).param("w", &[130, 16], 1.0);
    case.param("b", &[130], 1.0);
    suite.check(&case, 33, &|g, t, _| {
        let mut part = |row: usize| g.view(t["w"], 16 * row, &[33, 16]);
        let parts = [part(0)?, part(16)?, part(64)?];
        let bias = g.view(t["b"], 0, &[33])?;
        let none = Dropout::default();
        let mut y = g.linear("y", t["x"], parts[0], Some(bias))?;
        for w in &parts[1..] {
            let names = ["branch", "sum"];
            [_, y] = g.linear_residual(names, t["x"], *w, Some(bias), y, None, none)?;
        }
        Ok(Made::new(g, &[y]))
    });
}

fn gelu(suite: &mut Suite) {
    for [rows, n, k] in SHAPES.into_iter().chain([LARGE[0]]) {
        for bias in [false, true] {
            let case = linear(rows, n, k, bias);
            suite.check(&case, rows.max(n).max(k), &|g, t, _| {
                let [u, y] = g.linear_gelu(["u", "y"], t["x"], t["w"], bias.then(|| t["b"]))?;
                Ok(Made::new(g, &[y, u]))
            });
        }
    }
}

/// Far from 0 the tanh of GELU saturates, and must not overflow.
fn gelu_of_large_numbers(suite: &mut Suite) {
    let mut case = Case::new("3x130x2");
    case.param("x", &[3, 2], 60.0).param("w", &[130, 2], 2.0);
    suite.check(&case, 130, &|g, t, _| {
        let [u, y] = g.linear_gelu(["u", "y"], t["x"], t["w"], None)?;
        Ok(Made::new(g, &[y, u]))
    });
}

fn gated_residual(suite: &mut Suite) {
    // [samples, rows of each, n, k]
    let shapes = [
        [1, 1, 1, 1],
        [3, 5, 7, 2],
        [2, 65, 33, 17],
        [1, 130, 67, 40],
        [129, 1, 66, 5],
        [3, 171, 515, 9],
    ];
    for [samples, sample_rows, n, k] in shapes {
        for (p, gate, bias) in [
            (0.0, false, false),
            (0.0, true, true),
            (0.3, false, true),
            (0.5, false, false),
            (0.3, true, false),
            (0.9, true, true),
        ] {
            let rows = samples * sample_rows;
            let mut case = linear(rows, n, k, bias);
            case.name += &format!(", {samples} samples, dropout {p}, gate {gate}");
            let (stride, column) = (3 * n + 1, n + 1);
            case.param("residual", &[rows, n], 1.0);
            if gate {
                case.param("modulation", &[samples, stride], 1.0);
            }
            let place = Modulation {
                sample_rows,
                stride,
                column,
            };
            suite.check(&case, rows.max(n).max(k), &|g, t, _| {
                let [branch, y] = g.linear_residual(
                    ["branch", "y"],
                    t["x"],
                    t["w"],
                    bias.then(|| t["b"]),
                    t["residual"],
                    gate.then(|| (t["modulation"], place)),
                    Dropout { p, site: 5 },
                )?;
                Ok(Made::new(g, &[y, branch]))
            });
        }
    }
}

/// As many rows as the step says, from a base on.
fn dynamic_rows(suite: &mut Suite) {
    // the last two split the sums of the weight's gradient and of the input's
    for [rows, n, k] in [[70, 33, 19], [1100, 17, 6], [70, 1031, 5]] {
        for listed in [0, 1, 40, 65, 70, 134, 200, 1100] {
            listed_rows(suite, [rows, n, k], 0, listed);
            listed_rows(suite, [rows, n, k], 64, listed);
        }
    }
}

fn listed_rows(suite: &mut Suite, [rows, n, k]: [usize; 3], base: usize, listed: u32) {
    let mut case = Case::new(format!("{listed} rows from {base}, {rows}x{n}x{k}"));
    case.step.set(ROWS, listed);
    let live = (listed as usize).saturating_sub(base).min(rows);
    let list: Vec<u32> = (0..rows as u32).collect();
    let row_of: Vec<u32> = (0..rows as u32)
        .map(|row| if (row as usize) < live { row } else { u32::MAX })
        .collect();
    case.differences = rows.max(n) < 500;
    case.param("x", &[rows, k], 1.0)
        .param("w", &[n, k], 1.0)
        .param("b", &[n], 1.0)
        .uint("rows", &[rows], &list)
        .uint("row_of", &[rows], &row_of);
    suite.check(&case, rows.max(n), &|g: &mut Graph, t, _| {
        let list = mdlm_engine::ops::RowList {
            rows: t["rows"],
            row_of: t["row_of"],
        };
        let x = g.gather_rows("listed", t["x"], list)?;
        let extent = Extent::counted(ROWS, base, rows);
        let y = g.linear_rows("y", x, t["w"], Some(t["b"]), extent)?;
        Ok(Made::new(g, &[y]).first(&[live * n]))
    });
}

/// More workgroups than one dimension of a grid holds.
fn folded_grid(suite: &mut Suite) {
    let rows = 64 * 32768 + 5;
    let mut case = Case::new(format!("{rows}x1x1"));
    case.input("x", &[rows, 1], 1.0).input("w", &[1, 1], 1.0);
    suite.check(&case, 1, &|g, t, _| {
        let y = g.linear("y", t["x"], t["w"], None)?;
        Ok(Made::new(g, &[y]).without_gradient())
    });
}
