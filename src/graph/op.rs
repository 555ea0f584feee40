//! What an operation has to provide.

use std::fmt::Debug;

use super::{Backward, Graph, Node, Tensor};
use crate::cpu::Twin;
use crate::device::program::Extent;
use crate::error::{Error, Result};
use crate::gpu::{Grid, Source, Tuning};

/// An operation: attributes, backward rule, GPU kernels and CPU twin. Its shape rule is the
/// method of [`Graph`] that appends it.
pub trait Op: Twin + Debug {
    /// Name, as in errors and reports.
    fn name(&self) -> &'static str;

    /// Inputs that are integers; all others are numbers.
    fn integers(&self) -> &'static [usize] {
        &[]
    }

    /// Appends the nodes that turn the outputs' gradients into the inputs'.
    fn backward(&self, _: &mut Backward<'_>) -> Result<()> {
        Err(Error::Internal(format!("{} has no gradient", self.name())))
    }

    /// The kernel launches, in order.
    fn kernels(&self, lower: &Lower<'_>) -> Vec<Launch>;
}

/// An operand of a launch, as an index into the node's lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// An input, bound read-only.
    Read(usize),
    /// An output, bound read_write.
    Write(usize),
    /// A work area that this launch writes.
    Temp(usize),
    /// A work area that this launch only reads.
    TempRead(usize),
    /// An output that this launch only reads.
    WriteRead(usize),
}

/// A kernel launch.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The kernel.
    pub source: Source,
    /// Its storage operands by binding number; the uniform comes after them.
    pub operands: Vec<Option<Operand>>,
    /// Words of its uniform.
    pub params: Vec<u32>,
    /// Its workgroups.
    pub grid: Grid,
    /// Multiply-adds times two.
    pub flops: u64,
}

/// What a lowering rule may look at.
#[derive(Clone, Copy)]
pub struct Lower<'a> {
    pub(super) graph: &'a Graph,
    pub(super) node: &'a Node,
    /// Kernel constants of the device class.
    pub tuning: &'a Tuning,
}

impl Lower<'_> {
    /// Number of inputs.
    pub fn read_count(&self) -> usize {
        self.node.reads.len()
    }

    /// Elements of input `i`.
    pub fn read_len(&self, i: usize) -> usize {
        self.graph.len(self.node.reads[i])
    }

    /// Elements of output `i`.
    pub fn write_len(&self, i: usize) -> usize {
        self.graph.len(self.node.writes[i])
    }

    /// The node's row count.
    pub fn extent(&self) -> Extent {
        self.node.extent
    }

    /// Invocations of a workgroup that works on one row of that width.
    pub fn row_threads(&self, width: usize) -> u32 {
        (width.next_power_of_two() as u32).clamp(32, self.tuning.row_threads)
    }
}

/// Implements [`Twin`] by a generic method `run`.
#[macro_export]
#[doc(hidden)]
macro_rules! twin {
    ($op:ty) => {
        impl $crate::cpu::Twin for $op {
            fn run_f32(&self, io: &mut $crate::cpu::Io<'_, f32>) {
                self.run(io);
            }
            fn run_f64(&self, io: &mut $crate::cpu::Io<'_, f64>) {
                self.run(io);
            }
        }
    };
}

impl Node {
    pub(super) fn operands(&self) -> impl Iterator<Item = Tensor> {
        self.reads
            .iter()
            .chain(&self.writes)
            .chain(&self.temps)
            .copied()
    }
}
