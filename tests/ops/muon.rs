//! Muon beside AdamW at rates of their own: against plain loops in f64, on odd shapes.

use std::sync::Arc;

use crate::common::case::random;
use crate::optimiser::{ADAMW, Moments, Optimiser, Update, adamw};
use mdlm_engine::graph::{Graph, Layout};
use mdlm_engine::ops::{MuonConfig, NORM_EPS, QUINTIC, Rule, STEPS};
use mdlm_engine::program::{Element, Step};

const MUON: MuonConfig = MuonConfig {
    momentum: 0.95,
    weight_decay: 0.05,
};
const MUON_RATE: f64 = 0.4;

/// One of a kind, batches with and without transposition, parts, vectors between matrices, and matrices of a whole tile
/// and more.
const SHAPES: [&[usize]; 10] = [
    &[11, 4],
    &[7, 5],
    &[15, 5],
    &[9],
    &[5, 7],
    &[1, 1],
    &[195, 64],
    &[13],
    &[130, 67],
    &[67, 130],
];
/// Of each matrix of Muon, its parts; 0 for parameters of AdamW.
const PARTS: [usize; 10] = [0, 1, 3, 0, 1, 1, 3, 0, 1, 1];

const MIXED: Optimiser = Optimiser {
    name: "muon",
    shapes: &SHAPES,
    limit: 20_000,
    clip: 20.0,
    state: Element::F32,
    rule,
    exact,
};

fn adamw_rate(i: usize) -> f64 {
    if i == 3 { 2.0 } else { 1.0 }
}

fn rule(i: usize) -> Rule {
    match PARTS[i] {
        0 => Rule::Adamw {
            config: ADAMW,
            rate: adamw_rate(i),
        },
        parts => Rule::Muon {
            config: MUON,
            rate: MUON_RATE,
            parts,
        },
    }
}

type Matrix = Vec<Vec<f64>>;

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    let entry = |row: &[f64], j: usize| row.iter().zip(b).map(|(x, b)| x * b[j]).sum();
    let columns = b[0].len();
    a.iter()
        .map(|row| (0..columns).map(|j| entry(row, j)).collect())
        .collect()
}

fn transpose(a: &Matrix) -> Matrix {
    (0..a[0].len())
        .map(|j| a.iter().map(|row| row[j]).collect())
        .collect()
}

fn sum(x: f64, a: &Matrix, y: f64, b: &Matrix) -> Matrix {
    let row =
        |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| x * a + y * b).collect();
    a.iter().zip(b).map(row).collect()
}

/// Newton-Schulz as it is written down, on the side that is shorter.
fn orthogonal(u: &Matrix) -> Matrix {
    if u.len() > u[0].len() {
        return transpose(&orthogonal(&transpose(u)));
    }
    let norm = u.iter().flatten().map(|x| x * x).sum::<f64>().sqrt();
    let mut x = sum(1.0 / (norm + NORM_EPS), u, 0.0, u);
    let [a, b, c] = QUINTIC;
    for _ in 0..STEPS {
        let gram = product(&x, &transpose(&x));
        let mixed = sum(b, &gram, c, &product(&gram, &gram));
        x = sum(a, &x, 1.0, &product(&mixed, &x));
    }
    x
}

fn exact(i: usize, g: &[f64], moments: Moments<'_>, s: &Step) -> Update {
    if PARTS[i] == 0 {
        return (adamw(g, moments, s), adamw_rate(i), ADAMW.weight_decay);
    }
    let (mu, m) = (MUON.momentum, moments.m);
    let nesterov = |j: usize| {
        m[j] = mu * m[j] + (1.0 - mu) * g[j];
        mu * m[j] + (1.0 - mu) * g[j]
    };
    let u: Vec<f64> = (0..g.len()).map(nesterov).collect();
    let (rows, cols) = (SHAPES[i][0] / PARTS[i], SHAPES[i][1]);
    let scale = (rows as f64 / cols as f64).max(1.0).sqrt();
    let made = u.chunks(rows * cols).flat_map(|part| {
        let part: Matrix = part.chunks(cols).map(<[f64]>::to_vec).collect();
        orthogonal(&part).concat()
    });
    let update = made.map(|x| scale * x).collect();
    (update, MUON_RATE, MUON.weight_decay)
}

#[test]
fn four_steps() {
    MIXED.check_steps();
}

#[test]
fn the_momentum_is_rounded_to_both_sides() {
    let rounded = Optimiser {
        name: "muon, bf16",
        state: Element::Bf16,
        ..MIXED
    };
    rounded.check_rounded();
    rounded.check_not_finite();
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing() {
    MIXED.check_not_finite();
}

/// What Muon is for: all directions of a gradient get a share, whatever its singular values.
#[test]
fn singular_values_come_near_1() {
    let mut u: Matrix = random(3, 20 * 31, 1.0)
        .chunks(31)
        .map(<[f64]>::to_vec)
        .collect();
    // a few large directions
    for i in 0..20 {
        for j in 0..31 {
            u[i][j] += 9.0 * u[0][j] * f64::from(i as u32 % 3);
        }
    }
    let x = orthogonal(&u);
    let gram = product(&x, &transpose(&x));
    let trace: f64 = (0..20).map(|i| gram[i][i]).sum();
    let squares: f64 = gram.iter().flatten().map(|x| x * x).sum();
    // mean and variance of the squared singular values
    let (mean, variance) = (trace / 20.0, squares / 20.0 - (trace / 20.0).powi(2));
    assert!(
        (0.6..1.2).contains(&mean) && variance < 0.15,
        "{mean} {variance}"
    );
}

#[test]
fn what_is_no_matrix_is_refused() {
    for (shape, parts, part) in [(&[5][..], 1, "a matrix"), (&[7, 5], 3, "3 equal groups")] {
        let mut layout = Layout::builder(1000);
        layout.tensor("w", shape).unwrap();
        let mut g = Graph::new(Arc::new(layout.finish(|_| 0)));
        let stats = g.grad_norm(1.0).unwrap();
        let (config, rate) = (MUON, 1.0);
        let refused = g.update(stats, |_, _| Rule::Muon {
            config,
            rate,
            parts,
        });
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), "shape");
        assert!(refused.to_string().contains(part), "{refused}");
    }
}
