//! What the tests of optimisers share: parameters in two slabs, steps with given gradients, AdamW in f64, and checks
//! of every arena.

use std::sync::Arc;

use crate::common::case::random;
use crate::common::close::{Kernel, Report};
use crate::common::{EXECUTORS, Executor};
use mdlm_engine::graph::{FORWARD, GRADS, Graph, Layout, PARAMS, Session, Storage, UPDATE};
use mdlm_engine::ops::{ADAM_M, ADAM_V, BIAS1, BIAS2, EMA, EMA_DECAY, LR, ROUNDING_KEY, TRAINING};
use mdlm_engine::ops::{AdamwConfig, Rule};
use mdlm_engine::program::{Arena, Element, Step};
use pollster::block_on;

pub const ADAMW: AdamwConfig = AdamwConfig {
    beta1: 0.9,
    beta2: 0.99,
    eps: 1e-8,
    weight_decay: 0.1,
};
const ARENAS: [Arena; 4] = [PARAMS, ADAM_M, ADAM_V, EMA];

/// The moments of a parameter.
pub struct Moments<'a> {
    pub m: &'a mut [f64],
    pub v: &'a mut [f64],
}

/// What a rule makes of a clipped gradient: the update before the learning rate, the share of the rate, and the decay.
pub type Update = (Vec<f64>, f64, f64);

/// Parameters and how they are updated.
pub struct Optimiser {
    pub name: &'static str,
    pub shapes: &'static [&'static [usize]],
    /// Elements of a slab, so that there are two.
    pub limit: usize,
    pub clip: f64,
    /// What moments are kept in.
    pub state: Element,
    pub rule: fn(usize) -> Rule,
    /// The same rule in f64: of a parameter, its clipped gradient and its moments.
    pub exact: fn(usize, &[f64], Moments<'_>, &Step) -> Update,
}

fn step(k: i32) -> Step {
    Step::default()
        .with(LR, 0.05 / f64::from(k))
        .with(BIAS1, 1.0 - ADAMW.beta1.powi(k))
        .with(BIAS2, 1.0 - ADAMW.beta2.powi(k))
        .with(EMA_DECAY, 0.7)
        .with(ROUNDING_KEY, [k as u32, 9])
}

/// AdamW's update as the papers write it.
pub fn adamw(g: &[f64], Moments { m, v }: Moments<'_>, s: &Step) -> Vec<f64> {
    let of = |j: usize| {
        m[j] = ADAMW.beta1 * m[j] + (1.0 - ADAMW.beta1) * g[j];
        v[j] = ADAMW.beta2 * v[j] + (1.0 - ADAMW.beta2) * g[j] * g[j];
        let (m_hat, v_hat) = (m[j] / s.get(BIAS1), v[j] / s.get(BIAS2));
        m_hat / (v_hat.sqrt() + ADAMW.eps)
    };
    (0..g.len()).map(of).collect()
}

/// An optimiser on an executor.
struct Running<'a> {
    of: &'a Optimiser,
    session: Session,
    storage: Storage,
}

impl Running<'_> {
    fn update(&mut self, k: i32, change: impl Fn(usize, &mut Vec<f64>)) {
        let of = self.of;
        let written = self.storage.write(GRADS, |i, _| {
            let mut values = of.gradient(k, i);
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

impl Optimiser {
    fn size(&self, i: usize) -> usize {
        self.shapes[i].iter().product()
    }

    fn gradient(&self, k: i32, i: usize) -> Vec<f64> {
        random(100 * k as u64 + i as u64, self.size(i), 1.0)
    }

    fn start(&self, i: usize) -> Vec<f64> {
        random(7 + i as u64, self.size(i), 1.0)
    }

    fn on(&self, executor: Executor) -> Running<'_> {
        let device = executor.shared();
        let mut layout = Layout::builder(self.limit);
        for (i, shape) in self.shapes.iter().enumerate() {
            layout.tensor(&i.to_string(), shape).unwrap();
        }
        let layout = layout.finish(|name| name.parse().unwrap());
        let layout = Arc::new(layout.with_state(self.limit, self.state).unwrap());
        assert_eq!(layout.slabs().len(), 2);
        let mut g = Graph::new(layout.clone());
        g.begin_phase(UPDATE);
        let stats = g.grad_norm(self.clip).unwrap();
        g.update(stats, |name, shape| {
            let i: usize = name.parse().unwrap();
            assert_eq!(shape, self.shapes[i]);
            (self.rule)(i)
        })
        .unwrap();
        let mut storage = block_on(Storage::new(device, &layout, &TRAINING)).unwrap();
        for arena in [PARAMS, EMA] {
            storage.write(arena, |i, _| Ok(self.start(i))).unwrap();
        }
        let outputs = [stats];
        let session = Session::new(device, &mut g, &storage, PARAMS, &outputs);
        Running {
            of: self,
            session: block_on(session).unwrap(),
            storage,
        }
    }

    /// The updates in f64.
    fn reference(&self, steps: i32) -> [Vec<Vec<f64>>; 4] {
        let n = self.shapes.len();
        let start: Vec<_> = (0..n).map(|i| self.start(i)).collect();
        let zero: Vec<_> = (0..n).map(|i| vec![0.0; self.size(i)]).collect();
        let [mut p, mut m, mut v, mut ema] = [start.clone(), zero.clone(), zero, start];
        for k in 1..=steps {
            let mut grads: Vec<_> = (0..n).map(|i| self.gradient(k, i)).collect();
            let norm = grads.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
            let clip = (self.clip / (norm + 1e-6)).min(1.0);
            assert!(clip < 1.0);
            grads.iter_mut().flatten().for_each(|g| *g *= clip);
            let s = step(k);
            for i in 0..n {
                let moments = Moments {
                    m: &mut m[i],
                    v: &mut v[i],
                };
                let (update, rate, decay) = (self.exact)(i, &grads[i], moments, &s);
                let lr = rate * s.get(LR);
                for (j, update) in update.into_iter().enumerate() {
                    p[i][j] -= lr * decay * p[i][j];
                    p[i][j] -= lr * update;
                    ema[i][j] = s.get(EMA_DECAY) * ema[i][j] + (1.0 - s.get(EMA_DECAY)) * p[i][j];
                }
            }
        }
        [p, m, v, ema]
    }

    /// Four steps are those in f64, and gradients are cleared.
    pub fn check_steps(&self) {
        let exact = self.reference(4);
        let n = (0..self.shapes.len()).map(|i| self.size(i)).sum();
        for executor in EXECUTORS {
            let mut report = Report::new(self.name, executor);
            let mut running = self.on(executor);
            (1..=4).for_each(|k| running.update(k, |_, _| {}));
            for (arena, exact) in ARENAS.into_iter().zip(&exact) {
                for (i, (got, exact)) in running.read(arena).iter().zip(exact).enumerate() {
                    let bound = match executor {
                        Executor::CpuF64 => 1e-12,
                        _ => Kernel::Optimiser.bound(n),
                    };
                    report.relative_to_max(&format!("{arena:?}.{i}"), got, exact, bound);
                }
            }
            let grads = running.read(GRADS);
            assert!(grads.iter().flatten().all(|&g| g == 0.0), "cleared");
            report.finish();
        }
    }

    /// Moments in bf16 are such numbers, near what they should be, above as often as below.
    pub fn check_rounded(&self) {
        let exact = self.reference(4);
        for executor in [Executor::Gpu, Executor::CpuF32] {
            let mut report = Report::new(self.name, executor);
            let mut running = self.on(executor);
            (1..=4).for_each(|k| running.update(k, |_, _| {}));
            let mut sides = [0_usize; 2];
            for (arena, exact) in [ADAM_M, ADAM_V].into_iter().zip(&exact[1..]) {
                for (i, (got, exact)) in running.read(arena).iter().zip(exact).enumerate() {
                    // four roundings, each by less than the last place of 8 bits
                    let name = format!("{arena:?}.{i}");
                    report.relative_to_max(&name, got, exact, 4.0 / 128.0);
                    for (&got, exact) in got.iter().zip(exact) {
                        assert_eq!((got as f32).to_bits() & 0xffff, 0, "{executor:?}: {got}");
                        sides[usize::from(got > *exact)] += usize::from(got != *exact);
                    }
                }
            }
            let [below, above] = sides;
            assert!(
                above.abs_diff(below) * 8 < above + below,
                "{executor:?}: {sides:?}"
            );
            report.finish();
        }
    }

    /// The mean of the second moments after many steps with gradients of 1, as a share of what it should be.
    pub fn mean_of_v(&self, executor: Executor, steps: i32) -> f64 {
        let mut running = self.on(executor);
        (1..=steps).for_each(|k| running.update(k, |_, grads| grads.fill(1.0)));
        let v = running.read(ADAM_V).concat();
        let clip = self.clip / (v.len() as f64).sqrt();
        let exact = clip * clip * (1.0 - ADAMW.beta2.powi(steps));
        v.iter().sum::<f64>() / v.len() as f64 / exact
    }

    /// A gradient that is not finite changes nothing, and the next good step goes on as if nothing had been.
    pub fn check_not_finite(&self) {
        for executor in EXECUTORS {
            let mut running = self.on(executor);
            running.update(1, |_, _| {});
            let before = ARENAS.map(|arena| running.read(arena));
            for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                for spoilt in 0..self.shapes.len() {
                    running.update(2, |i, grads| {
                        if i == spoilt {
                            *grads.last_mut().unwrap() = bad;
                        }
                    });
                    let after = ARENAS.map(|arena| running.read(arena));
                    assert_eq!(before, after, "{executor:?}: {bad} in {spoilt}");
                }
            }
            let mut clean = self.on(executor);
            for k in [1, 2] {
                clean.update(k, |_, _| {});
            }
            running.update(2, |_, _| {});
            for arena in ARENAS {
                assert_eq!(running.read(arena), clean.read(arena), "{executor:?}");
            }
        }
    }
}
