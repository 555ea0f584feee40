//! A planned graph on a device, ready to run.

use super::build::Graph;
use super::storage::{Arenas, narrow, widen};
use super::tensor::{Origin, PARAMS, Tensor};
use super::{Plan, Storage};
use crate::cpu::{self, Cpu, Float};
use crate::device::{Backend, Device};
use crate::error::{Error, Result};
use crate::gpu::{self, Gpu, Tuning};
use crate::program::{Arena, Phase, Slot, Step};

enum Executor {
    Gpu(Box<Gpu>),
    F32(Cpu<f32>),
    #[cfg(not(target_arch = "wasm32"))]
    F64(Cpu<f64>),
}

/// A graph with its buffers, pipelines and inputs on one device.
pub struct Session {
    plan: Plan,
    executor: Executor,
    outputs: Vec<Slot>,
    results: Vec<f64>,
    names: Vec<String>,
    words: Vec<u32>,
    running: usize,
}

/// Runs of a session that may be on their way at a time.
pub const RUNS: usize = gpu::RUNS;

/// A run on its way: its outputs come by [`Session::finish`], in the order of submission.
#[must_use = "outputs come by Session::finish"]
pub struct Running(Outcome);

enum Outcome {
    Gpu(Box<gpu::Running>),
    Done(Vec<f64>),
}

impl Session {
    /// As [`Session::new`], with these constants of the kernels on a GPU.
    pub(super) async fn tuned(
        device: &Device,
        graph: &mut Graph,
        storage: &Storage,
        weights: Arena,
        outputs: &[Tensor],
        tuning: Option<Tuning>,
    ) -> Result<Self> {
        for &t in outputs {
            graph.keep(t);
        }
        let temps = tuning.is_some();
        let plan = Plan::new(graph, temps)?.with_weights(weights, graph.layout().slabs());
        let missing =
            |t: Tensor| Error::Internal(format!("output {} is never computed", graph.name(t)));
        let slots = outputs
            .iter()
            .map(|&t| plan.slot(t).ok_or_else(|| missing(t)))
            .collect::<Result<Vec<_>>>()?;
        fits(graph, storage, weights)?;
        let executor = match (device.backend(), &storage.arenas) {
            (Backend::Gpu(context), Arenas::Gpu(memory)) => {
                let program = plan.lower_gpu(graph, &tuning.unwrap_or(context.tuning))?;
                let half = program
                    .dispatches
                    .iter()
                    .any(|d| !d.source.halves.is_empty());
                if half && !context.f16 {
                    return Err(Error::Unsupported {
                        what: "16-bit floats in shaders".into(),
                        need: 1,
                        have: 0,
                    });
                }
                Executor::Gpu(Box::new(Gpu::new(context, &program, memory, &slots).await?))
            }
            (Backend::CpuF32, Arenas::F32(_)) => Executor::F32(Cpu::new(plan.lower_cpu(graph)?)?),
            #[cfg(not(target_arch = "wasm32"))]
            (Backend::CpuF64, Arenas::F64(_)) => Executor::F64(Cpu::new(plan.lower_cpu(graph)?)?),
            _ => return Err(elsewhere()),
        };
        let names = graph.tensors.iter().map(|t| t.name.clone()).collect();
        Ok(Self {
            plan,
            executor,
            outputs: slots,
            results: Vec::new(),
            names,
            words: Vec::new(),
            running: 0,
        })
    }

    fn slot(&self, tensor: Tensor, len: usize, number: bool) -> Result<Slot> {
        let name = || self.names[tensor.index()].clone();
        let slot = self
            .plan
            .slot(tensor)
            .ok_or_else(|| Error::Internal(format!("{} has no place", name())))?;
        if len > slot.len || slot.element.is_number() != number {
            let expected = format!("at most {} elements of {:?}", slot.len, slot.element);
            return Err(Error::Shape {
                op: "write",
                tensor: name(),
                expected,
                got: vec![len],
            });
        }
        Ok(slot)
    }

    /// Overwrites the first elements of an input of numbers.
    ///
    /// # Errors
    /// [`Error::Shape`] for more elements than it has, or for indices.
    pub fn write(&mut self, tensor: Tensor, data: &[f64]) -> Result<()> {
        let slot = self.slot(tensor, data.len(), true)?;
        match &mut self.executor {
            Executor::Gpu(gpu) => {
                narrow(data, slot.element, &mut self.words);
                gpu.write(&slot, bytemuck::cast_slice(&self.words))?;
            }
            Executor::F32(cpu) => cpu.write(&slot, data),
            #[cfg(not(target_arch = "wasm32"))]
            Executor::F64(cpu) => cpu.write(&slot, data),
        }
        Ok(())
    }

    /// Overwrites the first elements of an input of integers.
    ///
    /// # Errors
    /// [`Error::Shape`] for more elements than it has, or for numbers.
    pub fn write_uint(&mut self, tensor: Tensor, data: &[u32]) -> Result<()> {
        let slot = self.slot(tensor, data.len(), false)?;
        match &mut self.executor {
            Executor::Gpu(gpu) => gpu.write(&slot, bytemuck::cast_slice(data))?,
            Executor::F32(cpu) => cpu.write_uint(&slot, data),
            #[cfg(not(target_arch = "wasm32"))]
            Executor::F64(cpu) => cpu.write_uint(&slot, data),
        }
        Ok(())
    }

    /// Runs some phases of the graph and returns the outputs one after the other (integers widened).
    ///
    /// # Errors
    /// [`Error::DeviceLost`] and its kin; [`Error::Internal`] for a phase that the graph does not have.
    pub async fn run(
        &mut self,
        storage: &mut Storage,
        step: &Step,
        phases: &[Phase],
    ) -> Result<&[f64]> {
        let running = self.submit(storage, step, phases).await?;
        self.finish(running).await
    }

    /// Begins a run. On a GPU it is only submitted, so that inputs of the next run can be written and that
    /// run begun before this one's outputs are there; at most [`RUNS`] are on their way at a time.
    ///
    /// # Errors
    /// As [`Session::run`]; [`Error::Internal`] for one run too many.
    pub async fn submit(
        &mut self,
        storage: &mut Storage,
        step: &Step,
        phases: &[Phase],
    ) -> Result<Running> {
        if self.running >= RUNS {
            let problem = "too many runs on their way: finish one first";
            return Err(Error::Internal(problem.into()));
        }
        let outcome = match (&mut self.executor, &mut storage.arenas) {
            (Executor::Gpu(gpu), Arenas::Gpu(_)) => {
                Outcome::Gpu(Box::new(gpu.submit(step, phases).await?))
            }
            (Executor::F32(cpu), Arenas::F32(memory)) => {
                cpu.run(memory, step, phases, |twin, io| twin.run_f32(io))?;
                let out = std::mem::take(&mut self.results);
                Outcome::Done(read_all(cpu, memory, &self.outputs, out))
            }
            #[cfg(not(target_arch = "wasm32"))]
            (Executor::F64(cpu), Arenas::F64(memory)) => {
                cpu.run(memory, step, phases, |twin, io| twin.run_f64(io))?;
                let out = std::mem::take(&mut self.results);
                Outcome::Done(read_all(cpu, memory, &self.outputs, out))
            }
            _ => return Err(elsewhere()),
        };
        self.running += 1;
        Ok(Running(outcome))
    }

    /// Runs that are worth having on their way at a time: [`RUNS`] on a GPU, one on the twin, which computes a run
    /// before `submit` returns.
    pub fn runs(&self) -> usize {
        match &self.executor {
            Executor::Gpu(_) => RUNS,
            _ => 1,
        }
    }

    /// Waits for a run's outputs.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] and its kin.
    pub async fn finish(&mut self, running: Running) -> Result<&[f64]> {
        self.running = self.running.saturating_sub(1);
        match (running.0, &mut self.executor) {
            (Outcome::Done(results), _) => self.results = results,
            (Outcome::Gpu(run), Executor::Gpu(gpu)) => {
                let words = gpu.finish(*run).await?;
                let mut rest = &words[..];
                self.results.clear();
                for slot in &self.outputs {
                    let (now, later) = rest.split_at((slot.bytes() / 4) as usize);
                    self.results.extend(widen(now, slot.element, slot.len));
                    rest = later;
                }
            }
            _ => return Err(elsewhere()),
        }
        Ok(&self.results)
    }

    /// The outputs of the last run.
    pub fn results(&self) -> &[f64] {
        &self.results
    }

    /// Milliseconds that encoding the last run took, waits for locks included; 0 on the twin.
    pub fn host_ms(&self) -> f64 {
        match &self.executor {
            Executor::Gpu(gpu) => gpu.host_ms,
            _ => 0.0,
        }
    }

    /// Reads the first `len` elements of any tensor that is still in its buffer.
    ///
    /// # Errors
    /// [`Error::Internal`] for a tensor that no node uses; [`Error::DeviceLost`] and its kin.
    pub async fn read(&self, storage: &Storage, tensor: Tensor, len: usize) -> Result<Vec<f64>> {
        let name = || Error::Internal(format!("{} has no place", self.names[tensor.index()]));
        let slot = self.plan.slot(tensor).ok_or_else(name)?;
        let mut out = Vec::new();
        match (&self.executor, &storage.arenas) {
            (Executor::Gpu(gpu), Arenas::Gpu(memory)) => {
                let words = gpu.read(memory, &slot, len).await?;
                out = widen(&words, slot.element, len.min(slot.len));
            }
            (Executor::F32(cpu), Arenas::F32(memory)) => cpu.read(memory, &slot, len, &mut out),
            #[cfg(not(target_arch = "wasm32"))]
            (Executor::F64(cpu), Arenas::F64(memory)) => cpu.read(memory, &slot, len, &mut out),
            _ => return Err(elsewhere()),
        }
        Ok(out)
    }
}

/// The outputs of a run of the twin, in the memory of the last ones.
fn read_all<F: Float>(
    cpu: &Cpu<F>,
    memory: &cpu::Memory<F>,
    outputs: &[Slot],
    mut out: Vec<f64>,
) -> Vec<f64> {
    out.clear();
    for slot in outputs {
        cpu.read(memory, slot, slot.len, &mut out);
    }
    out
}

fn elsewhere() -> Error {
    Error::Internal("the storage is on another device".into())
}

/// An error unless the storage holds every arena that the graph uses, laid out alike.
fn fits(graph: &Graph, storage: &Storage, weights: Arena) -> Result<()> {
    if storage.layout().slabs() != graph.layout().slabs() {
        return Err(Error::Internal("the storage is of another model".into()));
    }
    for info in &graph.tensors {
        if let Origin::Arena { arena, .. } = info.origin {
            storage.require(if arena == PARAMS { weights } else { arena })?;
        }
    }
    Ok(())
}
