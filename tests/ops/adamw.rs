//! AdamW and the moving average of the weights.

use std::sync::Arc;

use crate::common::case::random;
use crate::common::close::{Kernel, Report};
use crate::common::{EXECUTORS, Executor};
use mdlm_engine::graph::{FORWARD, UPDATE};
use mdlm_engine::graph::{GRADS, PARAMS};
use mdlm_engine::graph::{Graph, Layout, Session, Storage};
use mdlm_engine::ops::{ADAM_M, ADAM_V, EMA, TRAINING};
use mdlm_engine::ops::{AdamwConfig, Rule};
use mdlm_engine::ops::{BIAS1, BIAS2, EMA_DECAY, LR};
use mdlm_engine::program::{Arena, Step};
use pollster::block_on;

const CONFIG: AdamwConfig = AdamwConfig {
    beta1: 0.9,
    beta2: 0.99,
    eps: 1e-8,
    weight_decay: 0.1,
};
const CLIP: f64 = 3.0;
const SIZES: [usize; 4] = [1, 257, 66, 1031];
const ARENAS: [Arena; 4] = [PARAMS, ADAM_M, ADAM_V, EMA];

fn step(k: i32) -> Step {
    Step::default()
        .with(LR, 0.05 / f64::from(k))
        .with(BIAS1, 1.0 - CONFIG.beta1.powi(k))
        .with(BIAS2, 1.0 - CONFIG.beta2.powi(k))
        .with(EMA_DECAY, 0.7)
}

fn gradient(k: i32, tensor: usize) -> Vec<f64> {
    random(100 * k as u64 + tensor as u64, SIZES[tensor], 1.0)
}

struct Optimiser {
    session: Session,
    storage: Storage,
}

impl Optimiser {
    /// The tensors of `SIZES`, in two slabs.
    fn new(executor: Executor) -> Self {
        let device = executor.shared();
        let mut layout = Layout::builder(1100);
        for (i, n) in SIZES.into_iter().enumerate() {
            layout.tensor(&i.to_string(), &[n]).unwrap();
        }
        let layout = Arc::new(layout.finish(|name| name.parse().unwrap()));
        assert_eq!(layout.slabs().len(), 2);
        let mut g = Graph::new(layout.clone());
        g.begin_phase(UPDATE);
        let stats = g.grad_norm(CLIP).unwrap();
        g.update(stats, Rule::adamw(CONFIG)).unwrap();
        let mut storage = block_on(Storage::new(device, &layout, &TRAINING)).unwrap();
        for arena in [PARAMS, EMA] {
            storage
                .write(arena, |_, key| {
                    Ok(random(key.offset as u64, key.len(), 1.0))
                })
                .unwrap();
        }
        let outputs = [stats];
        let session = Session::new(device, &mut g, &storage, PARAMS, &outputs);
        Self {
            session: block_on(session).unwrap(),
            storage,
        }
    }

    fn update(&mut self, k: i32, change: impl Fn(usize, &mut Vec<f64>)) {
        let written = self.storage.write(GRADS, |_, key| {
            let tensor = key.key.parse().unwrap();
            let mut values = gradient(k, tensor);
            change(tensor, &mut values);
            Ok(values)
        });
        written.unwrap();
        block_on(
            self.session
                .run(&mut self.storage, &step(k), &[FORWARD, UPDATE]),
        )
        .unwrap();
    }

    fn read(&self, arena: Arena) -> Vec<Vec<f64>> {
        block_on(self.storage.read(arena)).unwrap()
    }
}

/// The update as the papers write it, in f64.
fn reference(steps: i32) -> [Vec<Vec<f64>>; 4] {
    let start = Optimiser::new(Executor::CpuF64).read(PARAMS);
    let zero: Vec<Vec<f64>> = SIZES.iter().map(|&n| vec![0.0; n]).collect();
    let [mut p, mut m, mut v, mut ema] = [start.clone(), zero.clone(), zero, start];
    for k in 1..=steps {
        let grads: Vec<_> = (0..SIZES.len()).map(|i| gradient(k, i)).collect();
        let norm = grads.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
        let clip = (CLIP / (norm + 1e-6)).min(1.0);
        assert!(clip < 1.0);
        let AdamwConfig {
            beta1,
            beta2,
            eps,
            weight_decay,
        } = CONFIG;
        let s = step(k);
        for i in 0..SIZES.len() {
            for j in 0..SIZES[i] {
                let g = clip * grads[i][j];
                m[i][j] = beta1 * m[i][j] + (1.0 - beta1) * g;
                v[i][j] = beta2 * v[i][j] + (1.0 - beta2) * g * g;
                let (m_hat, v_hat) = (m[i][j] / s.get(BIAS1), v[i][j] / s.get(BIAS2));
                p[i][j] -= s.get(LR) * weight_decay * p[i][j];
                p[i][j] -= s.get(LR) * m_hat / (v_hat.sqrt() + eps);
                ema[i][j] = s.get(EMA_DECAY) * ema[i][j] + (1.0 - s.get(EMA_DECAY)) * p[i][j];
            }
        }
    }
    [p, m, v, ema]
}

#[test]
fn four_steps() {
    let exact = reference(4);
    let n: usize = SIZES.iter().sum();
    for executor in EXECUTORS {
        let mut report = Report::new("adamw", executor);
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

#[test]
fn a_gradient_that_is_not_finite_changes_nothing() {
    for executor in EXECUTORS {
        let mut optimiser = Optimiser::new(executor);
        optimiser.update(1, |_, _| {});
        let before = ARENAS.map(|arena| optimiser.read(arena));
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for spoilt in 0..SIZES.len() {
                optimiser.update(2, |tensor, grads| {
                    if tensor == spoilt {
                        *grads.last_mut().unwrap() = bad;
                    }
                });
                let after = ARENAS.map(|arena| optimiser.read(arena));
                assert_eq!(before, after, "{executor:?}: {bad} in tensor {spoilt}");
            }
        }
        // the next good step goes on as if nothing had been
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
