//! Cases run on every executor and checked in one place.

use super::Executor;
use super::case::{Build, Built, Case, Output, Role};
use super::close::{DIFFERENCES, Kernel, Report};
use mdlm_engine::graph::{FORWARD, GRADS, Graph, PARAMS, Session, Storage, Tensor};
use mdlm_engine::program::Step;
use mdlm_engine::rng::{Rng, Stream};
use pollster::block_on;

/// A case's graph on an executor.
pub struct Running {
    graph: Graph,
    session: Session,
    storage: Storage,
    outputs: Vec<Output>,
    loss: Option<Tensor>,
}

/// An output or a gradient.
pub struct Value {
    pub name: String,
    pub elements: Vec<f64>,
    exact: bool,
}

impl Running {
    /// `gradient`: with the backward pass.
    pub fn new(case: &Case, executor: Executor, gradient: bool, build: Build<'_>) -> Self {
        let device = executor.shared();
        let Built {
            graph: mut g,
            tensors,
            outputs,
            loss,
            weights,
        } = case.graph(device.slab_limit(), gradient, build);
        let layout = g.layout().clone();
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
    pub fn results(&mut self, case: &Case) -> Vec<Value> {
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
        Self::on(
            name,
            kernel,
            &[Executor::Gpu, Executor::Borrowed, Executor::CpuF32],
        )
    }

    /// On these executors only.
    pub fn on(name: &str, kernel: Kernel, executors: &[Executor]) -> Self {
        Self {
            kernel,
            executors: executors
                .iter()
                .map(|&e| (e, Report::new(name, e)))
                .collect(),
            differences: Report::new(&format!("{name}, central differences,"), Executor::CpuF64),
        }
    }

    /// Checks outputs and gradients against the f64 twin, and its gradients against central
    /// differences. `n` is the length of the longest sum.
    pub fn check(&mut self, case: &Case, n: usize, build: Build<'_>) {
        self.check_code(case, n, false, build);
    }

    /// As [`Suite::check`]; with `long` without the code that hardware gets, which software drivers compile for minutes.
    pub fn check_code(&mut self, case: &Case, n: usize, long: bool, build: Build<'_>) {
        let oracle = Running::new(case, Executor::CpuF64, true, build).results(case);
        let all = self.executors.iter_mut();
        for (executor, report) in all.filter(|(e, _)| !long || *e != Executor::Borrowed) {
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

    /// A case that is there for its shaders; it is built, not run.
    pub fn unrun(&mut self, case: &Case, build: Build<'_>) {
        case.graph(usize::MAX, true, build);
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
