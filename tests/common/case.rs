//! A small graph over random numbers, run on every executor and checked in one place.

use std::collections::HashMap;
use std::ops::Index;
use std::sync::Arc;

use super::Executor;
use super::close::{DIFFERENCES, Kernel, Report};
use mdlm::error::Result;
use mdlm_engine::graph::FORWARD;
use mdlm_engine::graph::{GRADS, PARAMS};
use mdlm_engine::graph::{Graph, Layout, Session, Storage, Tensor};
use mdlm_engine::ops::{DRAW_KEY, DROPOUT_KEY};
use mdlm_engine::program::{Extent, Step};
use mdlm_engine::rng::{Rng, Stream};
use pollster::block_on;

enum Role {
    /// Gets a gradient.
    Param(Vec<f64>),
    Input(Vec<f64>),
    Uint(Vec<u32>),
}

/// Named tensors with their values, and the step that they are run with.
pub struct Case {
    pub name: String,
    pub step: Step,
    /// Whether to take differences: not where a run is long.
    pub differences: bool,
    tensors: Vec<(&'static str, Vec<usize>, Role)>,
}

impl Case {
    pub fn new(name: impl Into<String>) -> Self {
        let step = Step::default()
            .with(DROPOUT_KEY, [11, 12])
            .with(DRAW_KEY, [13, 14]);
        Self {
            name: name.into(),
            step,
            differences: true,
            tensors: Vec::new(),
        }
    }

    /// A tensor that gets a gradient, uniform in ±scale.
    pub fn param(&mut self, name: &'static str, shape: &[usize], scale: f64) -> &mut Self {
        let values = self.values(shape, scale);
        self.add(name, shape, Role::Param(values))
    }

    /// Numbers without a gradient, uniform in ±scale.
    pub fn input(&mut self, name: &'static str, shape: &[usize], scale: f64) -> &mut Self {
        let values = self.values(shape, scale);
        self.add(name, shape, Role::Input(values))
    }

    /// Given numbers without a gradient.
    pub fn given(&mut self, name: &'static str, shape: &[usize], values: Vec<f64>) -> &mut Self {
        self.add(name, shape, Role::Input(values))
    }

    /// Integers; `values` may be shorter than the tensor.
    pub fn uint(&mut self, name: &'static str, shape: &[usize], values: &[u32]) -> &mut Self {
        self.add(name, shape, Role::Uint(values.to_vec()))
    }

    fn add(&mut self, name: &'static str, shape: &[usize], role: Role) -> &mut Self {
        self.tensors.push((name, shape.to_vec(), role));
        self
    }

    fn values(&self, shape: &[usize], scale: f64) -> Vec<f64> {
        let index = self.tensors.len() as u64;
        random(index, shape.iter().product(), scale)
    }

    fn params(&self) -> impl Iterator<Item = (&'static str, &[usize], &[f64])> {
        self.tensors
            .iter()
            .filter_map(|(name, shape, role)| match role {
                Role::Param(values) => Some((*name, &shape[..], &values[..])),
                _ => None,
            })
    }
}

/// Numbers uniform in ±scale that f32 can hold, so that every executor starts from the same.
pub fn random(stream: u64, n: usize, scale: f64) -> Vec<f64> {
    let mut rng = Rng::new(1, Stream::Init, stream);
    let mut next = || f64::from((scale * (2.0 * rng.uniform() - 1.0)) as f32);
    (0..n).map(|_| next()).collect()
}

/// The case's tensors in a graph, by name.
pub struct Tensors(HashMap<&'static str, Tensor>);

impl Index<&str> for Tensors {
    type Output = Tensor;

    fn index(&self, name: &str) -> &Tensor {
        &self.0[name]
    }
}

enum Loss {
    /// A random combination of the first output's elements.
    Combination,
    Own(Tensor),
    None,
}

#[derive(Clone, Copy)]
struct Output {
    tensor: Tensor,
    /// Elements that mean something.
    live: usize,
    exact: bool,
}

/// What a case's graph computes.
pub struct Made {
    outputs: Vec<Output>,
    loss: Loss,
}

impl Made {
    /// Outputs; the gradient checked is that of the first one.
    pub fn new(g: &Graph, outputs: &[Tensor]) -> Self {
        let output = |tensor| Output {
            tensor,
            live: g.len(tensor),
            exact: false,
        };
        Self {
            outputs: outputs.iter().map(|&t| output(t)).collect(),
            loss: Loss::Combination,
        }
    }

    /// Only the first elements of each output mean anything.
    pub fn first(mut self, lens: &[usize]) -> Self {
        for (output, &len) in self.outputs.iter_mut().zip(lens) {
            output.live = len;
        }
        self
    }

    /// Output `i` must be equal on every executor.
    pub fn exact(mut self, i: usize) -> Self {
        self.outputs[i].exact = true;
        self
    }

    /// The gradient checked is that of this scalar.
    pub fn loss(mut self, loss: Tensor) -> Self {
        self.loss = Loss::Own(loss);
        self
    }

    pub fn without_gradient(mut self) -> Self {
        self.loss = Loss::None;
        self
    }
}

/// A case's graph on an executor.
struct Running {
    graph: Graph,
    session: Session,
    storage: Storage,
    outputs: Vec<Output>,
    loss: Option<Tensor>,
}

/// An output or a gradient.
struct Value {
    name: String,
    elements: Vec<f64>,
    exact: bool,
}

type Build<'a> = &'a dyn Fn(&mut Graph, &Tensors, bool) -> Result<Made>;

impl Running {
    /// `gradient`: with the backward pass.
    fn new(case: &Case, executor: Executor, gradient: bool, build: Build<'_>) -> Self {
        let device = executor.shared();
        let mut layout = Layout::builder(device.slab_limit());
        let mut ids = HashMap::new();
        for (name, shape, _) in case.params() {
            ids.insert(name, layout.tensor(name, shape).unwrap());
        }
        let layout = Arc::new(layout.finish(|_| 0));
        let mut g = Graph::new(layout.clone());
        let place = |(name, shape, role): &(&'static str, Vec<usize>, Role)| {
            let tensor = match role {
                Role::Param(_) => g.param(ids[name]),
                Role::Input(_) => g.input(name, shape),
                Role::Uint(_) => g.input_uint(name, shape),
            };
            (*name, tensor)
        };
        let tensors = Tensors(case.tensors.iter().map(place).collect());
        let Made { outputs, loss } = build(&mut g, &tensors, gradient).unwrap();
        let mut weights = None;
        let loss = match loss {
            Loss::None => None,
            Loss::Own(loss) => Some(loss),
            Loss::Combination => {
                let Output {
                    tensor: y, live, ..
                } = outputs[0];
                let n = g.len(y);
                let w = g.input("combination", &[n]);
                let mut values = random(1000, n, 1.0);
                values[live..].fill(0.0);
                weights = Some((w, values));
                Some(g.weighted_sum("loss", y, w, Extent::Fixed(n)).unwrap())
            }
        };
        if let (Some(loss), true) = (loss, gradient) {
            g.backward(loss).unwrap();
        }
        let arenas = [PARAMS, GRADS];
        let mut storage = block_on(Storage::new(device, &layout, &arenas)).unwrap();
        let kept: Vec<_> = outputs.iter().map(|o| o.tensor).chain(loss).collect();
        let mut session = block_on(Session::new(device, &mut g, &storage, PARAMS, &kept)).unwrap();
        for (name, _, role) in &case.tensors {
            match role {
                Role::Param(_) => {}
                Role::Input(values) => session.write(tensors[name], values).unwrap(),
                Role::Uint(values) => session.write_uint(tensors[name], values).unwrap(),
            }
        }
        if let Some((w, values)) = weights {
            session.write(w, &values).unwrap();
        }
        write(case, &mut storage, None);
        Self {
            graph: g,
            session,
            storage,
            outputs,
            loss,
        }
    }

    fn run(&mut self, step: &Step) -> Vec<f64> {
        let result = block_on(self.session.run(&mut self.storage, step, &[FORWARD]));
        result.unwrap().to_vec()
    }

    /// Outputs, then gradients.
    fn results(&mut self, case: &Case) -> Vec<Value> {
        let all = self.run(&case.step);
        let mut results = Vec::new();
        let mut rest = &all[..];
        for output in &self.outputs {
            let (now, later) = rest.split_at(self.graph.len(output.tensor));
            results.push(Value {
                name: self.graph.name(output.tensor).to_owned(),
                elements: now[..output.live].to_vec(),
                exact: output.exact,
            });
            rest = later;
        }
        let grads = block_on(self.storage.read(GRADS)).unwrap();
        for (key, elements) in self.storage.layout().keys().iter().zip(grads) {
            results.push(Value {
                name: format!("d {}", key.key),
                elements,
                exact: false,
            });
        }
        results
    }
}

/// Uploads the parameters, one element of one of them replaced.
fn write(case: &Case, storage: &mut Storage, changed: Option<(&str, usize, f64)>) {
    let written = storage.write(PARAMS, |_, key| {
        let mut params = case.params();
        let (_, _, values) = params.find(|p| p.0 == key.key).unwrap();
        let mut values = values.to_vec();
        if let Some((_, i, x)) = changed.filter(|c| c.0 == key.key) {
            values[i] = x;
        }
        Ok(values)
    });
    written.unwrap();
}

/// Elements of each parameter whose derivative is taken by differences.
const SAMPLES: usize = 12;

/// Many cases of one kernel, with one verdict for each executor.
pub struct Suite {
    kernel: Kernel,
    executors: Vec<(Executor, Report)>,
    differences: Report,
}

impl Suite {
    pub fn new(name: &str, kernel: Kernel) -> Self {
        let executors = [Executor::Gpu, Executor::Borrowed, Executor::CpuF32];
        Self {
            kernel,
            executors: executors.map(|e| (e, Report::new(name, e))).into(),
            differences: Report::new(&format!("{name}, central differences,"), Executor::CpuF64),
        }
    }

    /// Checks outputs and gradients against the f64 twin, and its gradients against central
    /// differences. `n` is the length of the longest sum. `build` is told whether gradients are
    /// wanted, for operations that make them in their forward pass.
    pub fn check(&mut self, case: &Case, n: usize, build: Build<'_>) {
        let oracle = Running::new(case, Executor::CpuF64, true, build).results(case);
        for (executor, report) in &mut self.executors {
            let got = Running::new(case, *executor, true, build).results(case);
            for (got, oracle) in got.iter().zip(&oracle) {
                let name = format!("{}: {}", case.name, got.name);
                let kernel = if got.exact { Kernel::Copy } else { self.kernel };
                report.with_sentinels(&name, &got.elements, &oracle.elements, kernel.bound(n));
            }
        }
        if case.differences {
            let forward = Running::new(case, Executor::CpuF64, false, build);
            self.differences(case, &oracle, forward);
        }
    }

    fn differences(&mut self, case: &Case, oracle: &[Value], mut forward: Running) {
        if forward.loss.is_none() {
            return;
        }
        for (name, _, values) in case.params() {
            let mut gradients = oracle
                .iter()
                .filter_map(|v| (v.name.strip_prefix("d ") == Some(name)).then_some(&v.elements));
            let grad = gradients.next().unwrap();
            let mut rng = Rng::new(2, Stream::Shuffle, values.len() as u64);
            let mut picked = vec![0, values.len() - 1];
            picked.extend((2..SAMPLES).map(|_| rng.below(values.len() as u64) as usize));
            let mut at = |i: usize, x: f64| {
                write(case, &mut forward.storage, Some((name, i, x)));
                *forward.run(&case.step).last().unwrap()
            };
            let slopes: Vec<f64> = picked
                .iter()
                .map(|&i| slope(values[i], |x| at(i, x)))
                .collect();
            let exact: Vec<f64> = picked.iter().map(|&i| grad[i]).collect();
            let top = grad.iter().fold(0.0, |top: f64, g| top.max(g.abs()));
            let worst = slopes
                .iter()
                .zip(&exact)
                .fold(0.0, |w: f64, (a, b)| w.max((a - b).abs()));
            let name = format!("{}: d {name}", case.name);
            self.differences
                .note(&name, worst, DIFFERENCES * top.max(1.0));
        }
    }

    pub fn finish(self) {
        for (_, report) in self.executors {
            report.finish();
        }
        self.differences.finish_if_any();
    }
}

/// Five-point derivative of `f` at `x`.
fn slope(x: f64, mut f: impl FnMut(f64) -> f64) -> f64 {
    let h = 1e-3;
    let mut odd = |h: f64| f(x + h) - f(x - h);
    (8.0 * odd(h) - odd(2.0 * h)) / (12.0 * h)
}
