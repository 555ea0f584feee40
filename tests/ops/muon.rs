//! Muon beside AdamW at rates of their own: against plain loops in f64, on odd shapes.

use std::sync::Arc;

use crate::common::case::random;
use crate::common::close::{Kernel, Report};
use crate::common::{EXECUTORS, Executor};
use mdlm_engine::graph::{FORWARD, GRADS, Graph, Layout, PARAMS, Session, Storage, UPDATE};
use mdlm_engine::ops::{ADAM_M, ADAM_V, BIAS1, BIAS2, EMA, EMA_DECAY, LR, TRAINING};
use mdlm_engine::ops::{AdamwConfig, MuonConfig, NORM_EPS, QUINTIC, Rule, STEPS};
use mdlm_engine::program::{Arena, Step};
use pollster::block_on;

const ADAMW: AdamwConfig = AdamwConfig {
    beta1: 0.9,
    beta2: 0.99,
    eps: 1e-8,
    weight_decay: 0.1,
};
const MUON: MuonConfig = MuonConfig {
    momentum: 0.95,
    weight_decay: 0.05,
};
const CLIP: f64 = 20.0;
const ARENAS: [Arena; 4] = [PARAMS, ADAM_M, ADAM_V, EMA];

/// Shape and, of a matrix of Muon, its parts: one of a kind, batches with and without transposition, parts, vectors
/// between matrices, and matrices of a whole tile and more.
const PARAMS_AND_PARTS: [(&[usize], usize); 10] = [
    (&[11, 4], 0),
    (&[7, 5], 1),
    (&[15, 5], 3),
    (&[9], 0),
    (&[5, 7], 1),
    (&[1, 1], 1),
    (&[195, 64], 3),
    (&[13], 0),
    (&[130, 67], 1),
    (&[67, 130], 1),
];
const MUON_RATE: f64 = 0.4;

fn adamw_rate(i: usize) -> f64 {
    if i == 3 { 2.0 } else { 1.0 }
}

fn step(k: i32) -> Step {
    Step::default()
        .with(LR, 0.05 / f64::from(k))
        .with(BIAS1, 1.0 - ADAMW.beta1.powi(k))
        .with(BIAS2, 1.0 - ADAMW.beta2.powi(k))
        .with(EMA_DECAY, 0.7)
}

fn size(i: usize) -> usize {
    PARAMS_AND_PARTS[i].0.iter().product()
}

fn gradient(k: i32, i: usize) -> Vec<f64> {
    random(100 * k as u64 + i as u64, size(i), 1.0)
}

struct Optimiser {
    session: Session,
    storage: Storage,
}

impl Optimiser {
    /// The parameters in two slabs.
    fn new(executor: Executor) -> Self {
        let device = executor.shared();
        let mut layout = Layout::builder(20_000);
        for (i, (shape, _)) in PARAMS_AND_PARTS.iter().enumerate() {
            layout.tensor(&i.to_string(), shape).unwrap();
        }
        let layout = Arc::new(layout.finish(|name| name.parse().unwrap()));
        assert_eq!(layout.slabs().len(), 2);
        let mut g = Graph::new(layout.clone());
        g.begin_phase(UPDATE);
        let stats = g.grad_norm(CLIP).unwrap();
        g.update(stats, |name, shape| {
            let i: usize = name.parse().unwrap();
            assert_eq!(shape, PARAMS_AND_PARTS[i].0);
            match PARAMS_AND_PARTS[i].1 {
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
        })
        .unwrap();
        let mut storage = block_on(Storage::new(device, &layout, &TRAINING)).unwrap();
        for arena in [PARAMS, EMA] {
            let values = |i: usize| random(7 + i as u64, size(i), 1.0);
            storage.write(arena, |i, _| Ok(values(i))).unwrap();
        }
        let outputs = [stats];
        let session = Session::new(device, &mut g, &storage, PARAMS, &outputs);
        Self {
            session: block_on(session).unwrap(),
            storage,
        }
    }

    fn update(&mut self, k: i32, change: impl Fn(usize, &mut Vec<f64>)) {
        let written = self.storage.write(GRADS, |i, _| {
            let mut values = gradient(k, i);
            change(i, &mut values);
            Ok(values)
        });
        written.unwrap();
        let phases = &[FORWARD, UPDATE];
        block_on(self.session.run(&mut self.storage, &step(k), phases)).unwrap();
    }

    fn read(&self, arena: Arena) -> Vec<Vec<f64>> {
        block_on(self.storage.read(arena)).unwrap()
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

/// The updates in f64.
fn reference(steps: i32) -> [Vec<Vec<f64>>; 4] {
    let n = PARAMS_AND_PARTS.len();
    let start: Vec<_> = (0..n).map(|i| random(7 + i as u64, size(i), 1.0)).collect();
    let zero: Vec<_> = (0..n).map(|i| vec![0.0; size(i)]).collect();
    let [mut p, mut m, mut v, mut ema] = [start.clone(), zero.clone(), zero, start];
    for k in 1..=steps {
        let grads: Vec<_> = (0..n).map(|i| gradient(k, i)).collect();
        let norm = grads.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
        let clip = (CLIP / (norm + 1e-6)).min(1.0);
        assert!(clip < 1.0);
        let s = step(k);
        for i in 0..n {
            let (shape, parts) = PARAMS_AND_PARTS[i];
            let mut update = vec![0.0; size(i)];
            let (rate, decay) = if parts == 0 {
                for j in 0..size(i) {
                    let g = clip * grads[i][j];
                    m[i][j] = ADAMW.beta1 * m[i][j] + (1.0 - ADAMW.beta1) * g;
                    v[i][j] = ADAMW.beta2 * v[i][j] + (1.0 - ADAMW.beta2) * g * g;
                    let (m_hat, v_hat) = (m[i][j] / s.get(BIAS1), v[i][j] / s.get(BIAS2));
                    update[j] = m_hat / (v_hat.sqrt() + ADAMW.eps);
                }
                (adamw_rate(i), ADAMW.weight_decay)
            } else {
                let mu = MUON.momentum;
                let nesterov = |j: usize| {
                    let g = clip * grads[i][j];
                    m[i][j] = mu * m[i][j] + (1.0 - mu) * g;
                    mu * m[i][j] + (1.0 - mu) * g
                };
                let u: Vec<f64> = (0..size(i)).map(nesterov).collect();
                let (rows, cols) = (shape[0].div_euclid(parts), shape[1]);
                let scale = (rows as f64 / cols as f64).max(1.0).sqrt();
                let made = u.chunks(rows * cols).flat_map(|part| {
                    let part: Matrix = part.chunks(cols).map(<[f64]>::to_vec).collect();
                    orthogonal(&part).concat()
                });
                update = made.map(|x| scale * x).collect();
                (MUON_RATE, MUON.weight_decay)
            };
            let lr = rate * s.get(LR);
            for j in 0..size(i) {
                p[i][j] -= lr * decay * p[i][j];
                p[i][j] -= lr * update[j];
                ema[i][j] = s.get(EMA_DECAY) * ema[i][j] + (1.0 - s.get(EMA_DECAY)) * p[i][j];
            }
        }
    }
    [p, m, v, ema]
}

#[test]
fn four_steps() {
    let exact = reference(4);
    let n = (0..PARAMS_AND_PARTS.len()).map(size).sum();
    for executor in EXECUTORS {
        let mut report = Report::new("muon", executor);
        let mut optimiser = Optimiser::new(executor);
        (1..=4).for_each(|k| optimiser.update(k, |_, _| {}));
        for (arena, exact) in ARENAS.into_iter().zip(&exact) {
            for (i, (got, exact)) in optimiser.read(arena).iter().zip(exact).enumerate() {
                let bound = match executor {
                    Executor::CpuF64 => 1e-12,
                    _ => Kernel::Optimiser.bound(n),
                };
                report.relative_to_max(&format!("{arena:?}.{i}"), got, exact, bound);
            }
        }
        let grads = optimiser.read(GRADS);
        assert!(grads.iter().flatten().all(|&g| g == 0.0), "cleared");
        report.finish();
    }
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
fn a_gradient_that_is_not_finite_changes_nothing() {
    for executor in EXECUTORS {
        let mut optimiser = Optimiser::new(executor);
        optimiser.update(1, |_, _| {});
        let before = ARENAS.map(|arena| optimiser.read(arena));
        for spoilt in 0..PARAMS_AND_PARTS.len() {
            optimiser.update(2, |i, grads| {
                if i == spoilt {
                    *grads.last_mut().unwrap() = f64::NAN;
                }
            });
            let after = ARENAS.map(|arena| optimiser.read(arena));
            assert_eq!(before, after, "{executor:?}: NaN in {spoilt}");
        }
        let mut clean = Optimiser::new(executor);
        for k in [1, 2] {
            clean.update(k, |_, _| {});
        }
        optimiser.update(2, |_, _| {});
        for arena in ARENAS {
            assert_eq!(optimiser.read(arena), clean.read(arena), "{executor:?}");
        }
    }
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
