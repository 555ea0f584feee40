//! What a graph will cost, before anything is allocated.

use std::fmt;

use super::{Graph, Plan, Tensor};
use crate::error::Result;
use crate::gpu::{DeviceClass, Tuning};
use crate::program::Arena;

/// Size of a graph on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Nodes of the graph, those of the backward pass and the update included.
    pub nodes: usize,
    /// Kernel launches of a run with update.
    pub dispatches: usize,
    /// Bytes of all activations if none shared a buffer.
    pub activation_bytes: u64,
    /// Bytes of the buffers they share.
    pub shared_bytes: u64,
    /// Bytes of inputs and tables.
    pub input_bytes: u64,
    /// Bytes of the parameter arenas in use.
    pub arena_bytes: u64,
    /// Bytes of all buffers and arenas.
    pub total_bytes: u64,
    /// Multiply-adds times two of matmuls and attention in one run.
    pub flops: u64,
    /// Bytes of the operands of all launches.
    pub moved_bytes: u64,
    /// The same if every tensor were read once and written once, as far as it is, and work areas never.
    pub least_bytes: u64,
}

impl Graph {
    /// Plans the graph for a device class and adds it up; `arenas` are those in use.
    pub fn report(&self, class: DeviceClass, arenas: &[Arena]) -> Result<Report> {
        let plan = Plan::new(self, true)?;
        let program = plan.lower_gpu(self, &Tuning::of(class))?;
        let buffers: u64 = plan.buffers.iter().map(|b| b.element.bytes(b.len)).sum();
        let slabs = self.layout().slabs();
        let of = |arena: &Arena| slabs.iter().map(|slab| slab.bytes_in(*arena)).sum::<u64>();
        let arena_bytes = arenas.iter().map(of).sum();
        Ok(Report {
            nodes: self.nodes.len(),
            dispatches: program.dispatches.len(),
            activation_bytes: plan.unshared,
            shared_bytes: plan.shared,
            input_bytes: buffers - plan.shared,
            arena_bytes,
            total_bytes: buffers + arena_bytes,
            flops: program.dispatches.iter().map(|d| d.flops).sum(),
            moved_bytes: program.dispatches.iter().map(|d| d.bytes()).sum(),
            least_bytes: self.least_bytes(),
        })
    }

    fn least_bytes(&self) -> u64 {
        let reads = self.nodes.iter().flat_map(|node| &node.reads);
        let writes = self.nodes.iter().flat_map(|node| &node.writes);
        self.bytes_once(reads) + self.bytes_once(writes)
    }

    /// Bytes of tensors, those that share some counted once.
    fn bytes_once<'a>(&self, tensors: impl Iterator<Item = &'a Tensor>) -> u64 {
        let mut places: Vec<(u32, usize, usize)> = tensors
            .map(|&tensor| {
                let (base, first) = self.base(tensor);
                (base.0, first, first + self.info(tensor).len())
            })
            .collect();
        places.sort_unstable();
        let (mut bytes, mut last) = (0, (u32::MAX, 0));
        for (base, first, end) in places {
            let from = if base == last.0 {
                first.max(last.1)
            } else {
                first
            };
            if end > from {
                bytes += self.info(Tensor(base)).element.bytes(end - from);
                last = (base, end);
            }
        }
        bytes
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(
            f,
            "{} nodes, {} dispatches, activations {:.1} MiB ({:.1} MiB without reuse), arenas {:.1} MiB, {:.1} MiB in all",
            self.nodes,
            self.dispatches,
            mib(self.shared_bytes),
            mib(self.activation_bytes),
            mib(self.arena_bytes),
            mib(self.total_bytes),
        )
    }
}
