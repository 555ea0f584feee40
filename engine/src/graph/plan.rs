//! From nodes to a flat program: liveness decides which tensors share a buffer, every operand
//! becomes a slot, every kernel a dispatch.

use std::ops::Range;

use super::build::{Graph, Lower};
use super::kernel::Operand;
use super::tensor::{Info, Origin, PARAMS, Tensor};
use crate::cpu;
use crate::error::{Error, Result};
use crate::gpu::{self, Binding, Dispatch, Source, Tuning};
use crate::program::{Arena, BufferId, BufferSpec, Extent, Phase, Scalars, Slab, Slot};

/// Where every tensor of a graph lies.
///
/// Tensors that are alive together never overlap (`tests/plan.rs`), and no buffer is an input and an output of one
/// node, which is checked when a plan is made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Buffers besides the arenas.
    pub buffers: Vec<BufferSpec>,
    slots: Vec<Option<Slot>>,
    /// Bytes of all pooled tensors, as if none shared a buffer.
    pub unshared: u64,
    /// Bytes of the pooled buffers.
    pub shared: u64,
}

/// First and last node that touches a tensor.
type Life = (usize, usize);

impl Graph {
    /// The shaders that the graph's kernels use with these constants.
    ///
    /// # Errors
    /// [`Error::Internal`] if the graph cannot be planned.
    pub fn sources(&self, tuning: &Tuning) -> Result<Vec<Source>> {
        let program = Plan::new(self, true)?.lower_gpu(self, tuning)?;
        Ok(program.dispatches.into_iter().map(|d| d.source).collect())
    }
}

impl Plan {
    /// Plans a graph; `temps`: with the work areas of the GPU kernels.
    pub fn new(graph: &Graph, temps: bool) -> Result<Self> {
        let mut plan = Self {
            buffers: Vec::new(),
            slots: vec![None; graph.tensors.len()],
            unshared: 0,
            shared: 0,
        };
        plan.place_owned(graph);
        plan.place_pooled(graph, &lives(graph, temps));
        for i in 0..graph.tensors.len() as u32 {
            let (base, offset) = graph.base(Tensor(i));
            if base != Tensor(i)
                && let Some(slot) = plan.slots[base.index()]
            {
                let info = graph.info(Tensor(i));
                plan.slots[i as usize] = Some(Slot {
                    offset: slot.offset + offset,
                    len: info.len(),
                    ..slot
                });
            }
        }
        plan.check(graph)?;
        Ok(plan)
    }

    /// Where a tensor lies; `None` if no node uses it.
    pub fn slot(&self, tensor: Tensor) -> Option<Slot> {
        self.slots[tensor.index()]
    }

    /// The plan with another arena in place of the parameters' that are trained; their average can stand in for them.
    #[must_use]
    pub fn with_weights(mut self, weights: Arena, slabs: &[Slab]) -> Self {
        for slot in self.slots.iter_mut().flatten() {
            if let BufferId::Arena(arena, slab) = &mut slot.buffer
                && *arena == PARAMS
                && !slabs[*slab].frozen
            {
                *arena = weights;
                slot.element = slabs[*slab].element_in(weights);
            }
        }
        self
    }

    fn slot_of(&self, graph: &Graph, tensor: Tensor) -> Result<Slot> {
        self.slot(tensor)
            .ok_or_else(|| Error::Internal(format!("{} has no place", graph.name(tensor))))
    }

    fn local(&mut self, info: &Info, constant: Option<Vec<f64>>) -> Slot {
        let (len, element) = (info.len(), info.element);
        self.buffers.push(BufferSpec {
            name: info.name.clone(),
            len,
            element,
            longest: len,
            constant,
        });
        Slot {
            buffer: BufferId::Local(self.buffers.len() - 1),
            offset: 0,
            len,
            element,
        }
    }

    fn place_owned(&mut self, graph: &Graph) {
        for (i, info) in graph.tensors.iter().enumerate() {
            let (len, element) = (info.len(), info.element);
            self.slots[i] = match &info.origin {
                Origin::Arena {
                    arena,
                    slab,
                    offset,
                } => Some(Slot {
                    buffer: BufferId::Arena(*arena, *slab),
                    offset: *offset,
                    len,
                    element,
                }),
                Origin::Input | Origin::State => Some(self.local(info, None)),
                Origin::Constant(data) => Some(self.local(info, Some(data.clone()))),
                Origin::Pooled | Origin::View { .. } => None,
            };
        }
    }

    /// Greedy by size: the largest tensor first, each into the first buffer that is free for the
    /// whole of its life (arXiv 2001.03288), whatever numbers it was made for. Whole buffers are the unit, so an
    /// input and an output of one node never meet.
    fn place_pooled(&mut self, graph: &Graph, lives: &[Option<Life>]) {
        let mut order: Vec<usize> = (0..graph.tensors.len())
            .filter(|&i| matches!(graph.tensors[i].origin, Origin::Pooled) && lives[i].is_some())
            .collect();
        let bytes = |info: &Info| info.element.bytes(info.len());
        order.sort_by_key(|&i| std::cmp::Reverse(bytes(&graph.tensors[i])));
        let mut pool: Vec<(Slot, Vec<Life>)> = Vec::new();
        for i in order {
            let info = &graph.tensors[i];
            let Some(life) = lives[i] else { continue };
            self.unshared += bytes(info);
            let free = |(slot, taken): &&mut (Slot, Vec<Life>)| {
                slot.element.is_number() == info.element.is_number()
                    && taken
                        .iter()
                        .all(|&(first, last)| life.1 < first || last < life.0)
            };
            let found = if info.keep {
                None
            } else {
                pool.iter_mut().find(free)
            };
            let slot = match found {
                Some((slot, taken)) => {
                    taken.push(life);
                    if let BufferId::Local(i) = slot.buffer {
                        let longest = &mut self.buffers[i].longest;
                        *longest = info.len().max(*longest);
                    }
                    *slot
                }
                None => {
                    let slot = self.local(info, None);
                    self.shared += bytes(info);
                    // a kept tensor's buffer is taken for good
                    let life = if info.keep { (0, usize::MAX) } else { life };
                    pool.push((slot, vec![life]));
                    slot
                }
            };
            self.slots[i] = Some(Slot {
                len: info.len(),
                element: info.element,
                ..slot
            });
        }
    }

    fn check(&self, graph: &Graph) -> Result<()> {
        for node in &graph.nodes {
            for &w in &node.writes {
                let written = self.slot_of(graph, w)?;
                for &r in &node.reads {
                    if self.slot_of(graph, r)?.buffer == written.buffer {
                        let (w, r) = (graph.name(w), graph.name(r));
                        let op = node.op.name();
                        return Err(Error::Internal(format!(
                            "{op} reads {r} and writes {w} in one buffer"
                        )));
                    }
                }
            }
        }
        Ok(())
    }

    /// The program of the CPU executor.
    ///
    /// # Errors
    /// [`Error::Internal`] for an operand that has no place.
    pub fn lower_cpu(&self, graph: &Graph) -> Result<cpu::Program> {
        let slots = |list: &[Tensor]| {
            list.iter()
                .map(|&t| self.slot_of(graph, t))
                .collect::<Result<Vec<_>>>()
        };
        let calls = graph.nodes.iter().map(|node| {
            Ok(cpu::Call {
                twin: node.op.clone(),
                reads: slots(&node.reads)?,
                writes: slots(&node.writes)?,
                extent: node.extent,
            })
        });
        let starts: Vec<usize> = (0..=graph.nodes.len()).collect();
        Ok(cpu::Program {
            buffers: self.buffers.clone(),
            calls: calls.collect::<Result<_>>()?,
            phases: phases(graph, &starts),
        })
    }

    /// The program of the GPU executor.
    ///
    /// # Errors
    /// [`Error::Internal`] for an operand that has no place, or a launch that reads and writes one
    /// buffer.
    pub fn lower_gpu(&self, graph: &Graph, tuning: &Tuning) -> Result<gpu::Program> {
        let mut program = gpu::Program {
            buffers: self.buffers.clone(),
            ..Default::default()
        };
        // first launch of each node
        let mut starts = vec![0];
        for node in &graph.nodes {
            for launch in node.op.kernels(&Lower {
                graph,
                node,
                tuning,
            }) {
                let bindings = launch.operands.iter().map(|&operand| {
                    let Some(operand) = operand else {
                        return Ok(None);
                    };
                    let (tensor, write) = match operand {
                        Operand::Read(i) => (node.reads[i], false),
                        Operand::Write(i) => (node.writes[i], true),
                        Operand::Temp(i) => (node.temps[i], true),
                        Operand::TempRead(i) => (node.temps[i], false),
                    };
                    Ok(Some(Binding {
                        slot: self.slot_of(graph, tensor)?,
                        write,
                    }))
                });
                program.dispatches.push(Dispatch {
                    source: launch.source,
                    bindings: bindings.collect::<Result<_>>()?,
                    params: launch.params,
                    grid: launch.grid,
                    flops: launch.flops,
                });
            }
            starts.push(program.dispatches.len());
        }
        program.phases = phases(graph, &starts);
        let extents = program.dispatches.iter().map(|d| d.grid.extent);
        let extents = extents.chain(graph.nodes.iter().map(|node| node.extent));
        let scalars = graph.nodes.iter().flat_map(|node| node.op.scalars());
        program.scalars = Scalars::new(extents.filter_map(Extent::scalar).chain(scalars));
        for d in &mut program.dispatches {
            d.source = d.source.clone().with_scalars(&program.scalars);
        }
        check_access(&program)?;
        Ok(program)
    }
}

/// WebGPU forbids a buffer that is read-only and read_write in one dispatch.
fn check_access(program: &gpu::Program) -> Result<()> {
    for d in &program.dispatches {
        for a in d.bindings.iter().flatten() {
            if d.bindings
                .iter()
                .flatten()
                .any(|b| b.slot.buffer == a.slot.buffer && b.write != a.write)
            {
                return Err(Error::Internal(format!(
                    "{} reads and writes one buffer",
                    d.source.label()
                )));
            }
        }
    }
    Ok(())
}

/// The ranges of a graph's phases, by the first item of each node.
fn phases(graph: &Graph, starts: &[usize]) -> Vec<(Phase, Range<usize>)> {
    let ends = graph.phases.iter().skip(1).map(|&(_, start)| start);
    let ends = ends.chain([graph.nodes.len()]);
    let range =
        |(&(phase, start), end): (&(Phase, usize), usize)| (phase, starts[start]..starts[end]);
    graph.phases.iter().zip(ends).map(range).collect()
}

fn lives(graph: &Graph, temps: bool) -> Vec<Option<Life>> {
    let mut lives: Vec<Option<Life>> = vec![None; graph.tensors.len()];
    for (i, node) in graph.nodes.iter().enumerate() {
        for t in node.operands().filter(|t| temps || !node.temps.contains(t)) {
            let life = &mut lives[graph.base(t).0.index()];
            *life = Some((life.map_or(i, |l| l.0), i));
        }
    }
    lives
}
