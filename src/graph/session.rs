//! A planned graph on a device, ready to run.

use super::storage::Place;
use super::{Graph, Plan, Storage, Tensor};
use crate::cpu::Cpu;
use crate::device::program::{Arena, Dtype, Slot, Step};
use crate::device::{Backend, Device};
use crate::error::{Error, Result};
use crate::gpu::Gpu;

enum Executor {
    Gpu(Box<Gpu>),
    F32(Cpu<f32>),
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
}

impl Session {
    /// Plans the graph and creates everything it needs. `weights` is the arena bound as
    /// parameters (the EMA can stand in for them); `outputs` come back from every run.
    pub async fn new(
        device: &Device,
        graph: &mut Graph,
        storage: &Storage,
        weights: Arena,
        outputs: &[Tensor],
    ) -> Result<Self> {
        for &t in outputs {
            graph.keep(t);
        }
        let plan = Plan::new(graph, matches!(device.backend(), Backend::Gpu(_)))?;
        let missing =
            |t: Tensor| Error::Internal(format!("output {} is never computed", graph.name(t)));
        let slots = outputs
            .iter()
            .map(|&t| plan.slot(t).ok_or_else(|| missing(t)))
            .collect::<Result<Vec<_>>>()?;
        fits(graph, storage, weights)?;
        let executor = match (device.backend(), &storage.place) {
            (Backend::Gpu(context), Place::Gpu(memory)) => {
                let program = plan.lower_gpu(graph, &context.tuning)?;
                Executor::Gpu(Box::new(
                    Gpu::new(context, &program, memory, weights, &slots).await?,
                ))
            }
            (Backend::CpuF32, Place::F32(_)) => {
                Executor::F32(Cpu::new(plan.lower_cpu(graph)?, weights)?)
            }
            (Backend::CpuF64, Place::F64(_)) => {
                Executor::F64(Cpu::new(plan.lower_cpu(graph)?, weights)?)
            }
            _ => return Err(Error::Internal("the storage is on another device".into())),
        };
        let names = graph.tensors.iter().map(|t| t.name.clone()).collect();
        Ok(Self {
            plan,
            executor,
            outputs: slots,
            results: Vec::new(),
            names,
            words: Vec::new(),
        })
    }

    fn slot(&self, tensor: Tensor, len: usize, dtype: Dtype) -> Result<Slot> {
        let name = || self.names[tensor.index()].clone();
        let slot = self
            .plan
            .slot(tensor)
            .ok_or_else(|| Error::Internal(format!("{} has no place", name())))?;
        if len > slot.len || slot.dtype != dtype {
            let expected = format!("at most {} elements of {:?}", slot.len, slot.dtype);
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
    pub fn write(&mut self, tensor: Tensor, data: &[f64]) -> Result<()> {
        let slot = self.slot(tensor, data.len(), Dtype::Float)?;
        match &mut self.executor {
            Executor::Gpu(gpu) => {
                self.words.clear();
                self.words
                    .extend(data.iter().map(|&x| (x as f32).to_bits()));
                gpu.write(&slot, &self.words)?;
            }
            Executor::F32(cpu) => cpu.write(&slot, data),
            Executor::F64(cpu) => cpu.write(&slot, data),
        }
        Ok(())
    }

    /// Overwrites the first elements of an input of integers.
    pub fn write_uint(&mut self, tensor: Tensor, data: &[u32]) -> Result<()> {
        let slot = self.slot(tensor, data.len(), Dtype::Uint)?;
        match &mut self.executor {
            Executor::Gpu(gpu) => gpu.write(&slot, data)?,
            Executor::F32(cpu) => cpu.write_uint(&slot, data),
            Executor::F64(cpu) => cpu.write_uint(&slot, data),
        }
        Ok(())
    }

    /// Runs the graph, with the nodes after `begin_update` if `update`, and returns the outputs
    /// one after the other (integers widened).
    pub async fn run(
        &mut self,
        storage: &mut Storage,
        step: &Step,
        update: bool,
    ) -> Result<&[f64]> {
        self.results.clear();
        match (&mut self.executor, &mut storage.place) {
            (Executor::Gpu(gpu), Place::Gpu(_)) => {
                let words = gpu.run(step, update).await?;
                let mut rest = &words[..];
                for slot in &self.outputs {
                    let (now, later) = rest.split_at(slot.len);
                    self.results
                        .extend(now.iter().map(|&w| widen(w, slot.dtype)));
                    rest = later;
                }
            }
            (Executor::F32(cpu), Place::F32(memory)) => {
                cpu.run(memory, step, update, |twin, io| twin.run_f32(io));
                for slot in &self.outputs {
                    cpu.read(memory, slot, slot.len, &mut self.results);
                }
            }
            (Executor::F64(cpu), Place::F64(memory)) => {
                cpu.run(memory, step, update, |twin, io| twin.run_f64(io));
                for slot in &self.outputs {
                    cpu.read(memory, slot, slot.len, &mut self.results);
                }
            }
            _ => return Err(Error::Internal("the storage is on another device".into())),
        }
        Ok(&self.results)
    }

    /// The outputs of the last run.
    pub fn results(&self) -> &[f64] {
        &self.results
    }

    /// Milliseconds of CPU time that encoding the last run took; 0 on the twin.
    pub fn host_ms(&self) -> f64 {
        match &self.executor {
            Executor::Gpu(gpu) => gpu.host_ms,
            _ => 0.0,
        }
    }

    /// Reads the first `len` elements of any tensor that is still in its buffer.
    pub async fn read(&self, storage: &Storage, tensor: Tensor, len: usize) -> Result<Vec<f64>> {
        let name = || Error::Internal(format!("{} has no place", self.names[tensor.index()]));
        let slot = self.plan.slot(tensor).ok_or_else(name)?;
        let mut out = Vec::new();
        match (&self.executor, &storage.place) {
            (Executor::Gpu(gpu), Place::Gpu(memory)) => {
                out = gpu
                    .read(memory, &slot, len)
                    .await?
                    .into_iter()
                    .map(|w| widen(w, slot.dtype))
                    .collect();
            }
            (Executor::F32(cpu), Place::F32(memory)) => cpu.read(memory, &slot, len, &mut out),
            (Executor::F64(cpu), Place::F64(memory)) => cpu.read(memory, &slot, len, &mut out),
            _ => return Err(Error::Internal("the storage is on another device".into())),
        }
        Ok(out)
    }
}

/// An error unless the storage holds every arena that the graph uses, laid out alike.
fn fits(graph: &Graph, storage: &Storage, weights: Arena) -> Result<()> {
    if storage.layout().slabs() != graph.layout().slabs() {
        return Err(Error::Internal("the storage is of another model".into()));
    }
    for info in &graph.tensors {
        match info.place {
            super::Place::Arena {
                arena: Arena::Params,
                ..
            } => storage.require(weights)?,
            super::Place::Arena { arena, .. } => storage.require(arena)?,
            _ => {}
        }
    }
    Ok(())
}

fn widen(word: u32, dtype: Dtype) -> f64 {
    match dtype {
        Dtype::Float => f32::from_bits(word).into(),
        Dtype::Uint => word.into(),
    }
}
