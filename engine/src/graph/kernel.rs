//! A kernel launch, as an operation describes it.

use crate::gpu::{Grid, Shader, Source};
use crate::program::{Element, Extent, Words};

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
}

/// A kernel launch. Operands take binding numbers in the order in which they are named; an operand that is
/// left out (`_if`) leaves its number unused, so that a shader's numbers do not depend on its flags.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub(super) source: Source,
    pub(super) operands: Vec<Option<Operand>>,
    pub(super) params: Vec<u32>,
    pub(super) grid: Grid,
    pub(super) flops: u64,
}

impl Kernel {
    /// A launch of one workgroup of a shader, entered at `main`.
    pub fn new(shader: Shader) -> Self {
        Self {
            source: Source::new(shader),
            operands: Vec::new(),
            params: vec![0; 4],
            grid: Grid::groups(1),
            flops: 0,
        }
    }

    /// Enters at another function than `main`.
    pub fn entry(mut self, entry: &'static str) -> Self {
        self.source = self.source.entry(entry);
        self
    }

    /// Turns a flag of the shader on, or leaves it off.
    pub fn flag(mut self, flag: &'static str, on: bool) -> Self {
        self.source = self.source.flag(flag, on);
        self
    }

    /// Replaces the default of a constant of the shader.
    pub fn constant(mut self, name: &'static str, value: u32) -> Self {
        self.source = self.source.constant(name, value);
        self
    }

    /// Lets the numbers that a shader calls by that alias be f16, if the element is.
    pub fn numbers(mut self, alias: &'static str, element: Element) -> Self {
        self.source = self.source.half(alias, element == Element::F16);
        self
    }

    /// Lets the kernel read its weights as `lib/at_rest` unpacks them, if they are packed.
    pub fn at_rest(self, element: Element) -> Self {
        self.flag("PACKED", element.is_packed())
            .flag("BLOCKS", element.block().0 == 32)
            .flag("Q8", element == Element::Q8)
            .flag("Q4", element == Element::Q4)
            .flag("F16", element == Element::F16)
            .flag("BF16", element == Element::Bf16)
    }

    fn operand(mut self, operand: Operand, used: bool) -> Self {
        self.operands.push(used.then_some(operand));
        self
    }

    /// The next binding is an input.
    pub fn read(self, i: usize) -> Self {
        self.operand(Operand::Read(i), true)
    }

    /// The next binding is an input, where there is one.
    pub fn read_if(self, used: bool, i: usize) -> Self {
        self.operand(Operand::Read(i), used)
    }

    /// The next binding is an output.
    pub fn write(self, i: usize) -> Self {
        self.operand(Operand::Write(i), true)
    }

    /// The next binding is an output, where there is one.
    pub fn write_if(self, used: bool, i: usize) -> Self {
        self.operand(Operand::Write(i), used)
    }

    /// The next binding is a work area to write.
    pub fn temp(self, i: usize) -> Self {
        self.operand(Operand::Temp(i), true)
    }

    /// The next binding is a work area to write, where there is one.
    pub fn temp_if(self, used: bool, i: usize) -> Self {
        self.operand(Operand::Temp(i), used)
    }

    /// The next binding is a work area to read.
    pub fn temp_read(self, i: usize) -> Self {
        self.operand(Operand::TempRead(i), true)
    }

    /// The next binding is a work area to read, where there is one.
    pub fn temp_read_if(self, used: bool, i: usize) -> Self {
        self.operand(Operand::TempRead(i), used)
    }

    /// The kernel's parameters, behind its operands.
    pub fn params<P: Words>(mut self, params: P) -> Self {
        self.source.params = P::WGSL;
        self.params = params.words();
        self
    }

    /// Lets the kernel see how many rows there are (`counted()`), if that is known only when it runs.
    pub fn counted(mut self, extent: Extent) -> Self {
        self.source.counter = extent.scalar();
        self
    }

    /// `n` workgroups, whatever the step.
    pub fn groups(mut self, n: usize) -> Self {
        self.grid = Grid::groups(n);
        self
    }

    /// Enough workgroups for `n` items of `per_group` each.
    pub fn items(self, n: usize, per_group: usize) -> Self {
        self.grid(Grid::items(Extent::Fixed(n), per_group))
    }

    /// Workgroups as a [`Grid`] says, for counts that are known only when the step runs.
    pub fn grid(mut self, grid: Grid) -> Self {
        self.grid = grid;
        self
    }

    /// Multiply-adds times two, for watchdogs and benchmarks; 0 if left out.
    pub fn flops(mut self, flops: u64) -> Self {
        self.flops = flops;
        self
    }
}
