//! What the GPU executor runs: kernels with their operands and grids.

use std::ops::Range;

use super::Source;
use super::context::PipelineKey;
use crate::program::{BufferSpec, Extent, Phase, Scalars, Slot, Step};

/// One storage operand of a dispatch.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// The range that is bound. One launch may not bind a buffer both to read and to write.
    pub slot: Slot,
    /// Whether the kernel writes it: bound `read_write`, else `read`.
    pub write: bool,
}

/// Workgroups of a dispatch; x above 32768 is folded into y.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    /// Work items along x, known when the step runs.
    pub extent: Extent,
    /// Items handled by one workgroup along x.
    pub per_group: usize,
    /// Workgroups per item group: x = ceil(extent / per_group) * `repeat`.
    pub repeat: usize,
}

impl Grid {
    /// `n` workgroups, whatever the step.
    pub fn groups(n: usize) -> Self {
        Self::items(Extent::Fixed(n), 1)
    }

    /// Enough workgroups for `extent` items of `per_group` each.
    pub fn items(extent: Extent, per_group: usize) -> Self {
        Self {
            extent,
            per_group,
            repeat: 1,
        }
    }

    /// Workgroups in a step.
    pub fn count(&self, step: &Step) -> usize {
        self.extent.get(step).div_ceil(self.per_group) * self.repeat
    }

    /// Workgroups along x, y and z; a kernel finds its number as `y * FOLD + x`.
    pub(super) fn folded(&self, step: &Step) -> [u32; 3] {
        let n = self.count(step);
        let y = n.div_ceil(FOLD);
        [n.min(FOLD) as u32, y as u32, 1]
    }
}

/// Workgroups along x before a grid folds into y; `shaders/lib/grid.wgsl` has the same number.
const FOLD: usize = 32768;

/// One kernel launch.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// Shader, entry point, flags and constants.
    pub source: Source,
    /// Its operands by binding number, with gaps; the uniform comes after them.
    pub bindings: Vec<Option<Binding>>,
    /// Words of its uniform, padded to 16 bytes.
    pub params: Vec<u32>,
    /// How many workgroups it has in a step.
    pub grid: Grid,
    /// Multiply-adds times two, for watchdogs and benchmarks.
    pub flops: u64,
}

impl Dispatch {
    /// Bytes of its operands.
    pub fn bytes(&self) -> u64 {
        self.bindings.iter().flatten().map(|b| b.slot.bytes()).sum()
    }

    /// What its pipeline is compiled from.
    pub(super) fn pipeline(&self) -> PipelineKey {
        let writable = self.bindings.iter().map(|b| b.map(|b| b.write));
        (self.source.clone(), writable.collect())
    }
}

/// What the GPU executor runs; `Plan::lower_gpu` makes it.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Buffers besides the arenas; a `BufferId::Local` is an index into them.
    pub buffers: Vec<BufferSpec>,
    /// Launches, in the order of the graph's nodes.
    pub dispatches: Vec<Dispatch>,
    /// The launches of each phase, in order.
    pub phases: Vec<(Phase, Range<usize>)>,
    /// Scalars of the step's uniform, which every launch may read.
    pub scalars: Scalars,
}
