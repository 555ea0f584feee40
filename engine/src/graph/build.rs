//! The graph while it is built, and what its operations have to provide.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use super::kernel::Kernel;
use super::layout::{Layout, ParamId};
use super::tensor::{FORWARD, Info, Origin, PARAMS, Tensor};
use crate::cpu::Twin;
use crate::error::{Error, Result};
use crate::gpu::Tuning;
use crate::program::{Arena, Declared, Element, Extent, Phase, Slab};

/// What an operand of an operation holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Numbers in f32 (f64 on the f64 twin).
    Number,
    /// Numbers in f32 or f16.
    Half,
    /// Numbers that may be stored in half precision, which the operation unpacks.
    Weight,
    /// Indices and other integers, u32.
    Index,
}

/// An operation: attributes, backward rule, GPU kernels and CPU twin. Its shape rule is the
/// method of [`Graph`] that appends it.
pub trait Op: Twin + Debug {
    /// Name, as in errors and reports.
    fn name(&self) -> &'static str;

    /// What input `i` holds; checked when a node is pushed.
    fn role(&self, _input: usize) -> Role {
        Role::Number
    }

    /// Whether its kernels can write output `i` in f16; checked when a node is pushed.
    fn writes_half(&self, _output: usize) -> bool {
        false
    }

    /// The scalars that its kernels and its twin read, besides what it counts rows by.
    fn scalars(&self) -> Vec<Declared> {
        Vec::new()
    }

    /// Appends the nodes that turn the outputs' gradients into the inputs'.
    ///
    /// # Errors
    /// [`Error::Internal`] for an operation that has no gradient.
    fn backward(&self, _: &mut Backward<'_>) -> Result<()> {
        Err(Error::Internal(format!("{} has no gradient", self.name())))
    }

    /// The kernel launches, in order.
    fn kernels(&self, lower: &Lower<'_>) -> Vec<Kernel>;
}

/// What a backward rule sees of its node, and where it puts gradients.
pub struct Backward<'a> {
    /// The graph, to append nodes to.
    pub graph: &'a mut Graph,
    pub(super) node: usize,
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

    /// Type of the elements of input `i`.
    pub fn read_element(&self, i: usize) -> Element {
        self.graph.info(self.node.reads[i]).element
    }

    /// Elements of output `i`.
    pub fn write_len(&self, i: usize) -> usize {
        self.graph.len(self.node.writes[i])
    }

    /// Type of the elements of output `i`.
    pub fn write_element(&self, i: usize) -> Element {
        self.graph.info(self.node.writes[i]).element
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
            #[cfg(not(target_arch = "wasm32"))]
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

pub(super) struct Node {
    pub(super) op: Arc<dyn Op>,
    pub(super) reads: Vec<Tensor>,
    pub(super) writes: Vec<Tensor>,
    /// Work areas of the GPU kernels; the twin needs none.
    pub(super) temps: Vec<Tensor>,
    pub(super) extent: Extent,
}

/// A computation under construction.
pub struct Graph {
    pub(super) layout: Arc<Layout>,
    pub(super) tensors: Vec<Info>,
    pub(super) nodes: Vec<Node>,
    pub(super) grads: Vec<Option<Tensor>>,
    /// Losses whose gradients are made with them, for a gradient of 1.
    pub(super) terminals: Vec<Tensor>,
    /// Each phase with its first node.
    pub(super) phases: Vec<(Phase, usize)>,
    /// Where the stretch began that is being built, and those before it; see [`Graph::checkpoint`].
    pub(super) checkpoint: Option<usize>,
    pub(super) stretches: Vec<Range<usize>>,
    keep_all: bool,
    /// What [`Graph::rounded`] makes.
    precision: Element,
}

impl Graph {
    /// An empty graph over a parameter layout.
    pub fn new(layout: Arc<Layout>) -> Self {
        Self {
            layout,
            tensors: Vec::new(),
            nodes: Vec::new(),
            grads: Vec::new(),
            terminals: Vec::new(),
            phases: vec![(FORWARD, 0)],
            checkpoint: None,
            stretches: Vec::new(),
            keep_all: false,
            precision: Element::F32,
        }
    }

    /// The layout that [`Graph::param`] and [`Graph::slab`] refer to.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Keeps every activation, made and to be made, readable after a run (no buffer reuse), for
    /// inspection.
    pub fn keep_all(&mut self) {
        self.keep_all = true;
        self.tensors.iter_mut().for_each(|info| info.keep = true);
    }

    /// Activations of numbers that nodes write, in the order in which they are computed, up to a phase.
    pub fn computed_before(&self, phase: Phase) -> Vec<Tensor> {
        let begun = self.phases.iter().find(|(begun, _)| *begun == phase);
        let end = begun.map_or(self.nodes.len(), |&(_, node)| node);
        let written = self.nodes[..end].iter().flat_map(|node| &node.writes);
        let number = |&t: &Tensor| {
            let info = self.info(self.base(t).0);
            info.element.is_number() && !matches!(info.origin, Origin::Arena { .. })
        };
        written.copied().filter(number).collect()
    }

    pub(super) fn tensor(
        &mut self,
        name: String,
        shape: &[usize],
        element: Element,
        origin: Origin,
    ) -> Tensor {
        // weights at rest in half precision are not trained
        let trained = match origin {
            Origin::Arena { arena, slab, .. } => {
                let frozen = self
                    .layout
                    .slabs()
                    .get(slab)
                    .is_some_and(|slab| slab.frozen);
                arena == PARAMS && !frozen
            }
            _ => false,
        };
        let requires_grad = trained && element == Element::F32;
        let keep = self.keep_all;
        self.tensors.push(Info {
            name,
            shape: shape.to_vec(),
            element,
            origin,
            keep,
            requires_grad,
        });
        self.grads.push(None);
        Tensor(self.tensors.len() as u32 - 1)
    }

    /// Numbers that the host writes before a run.
    pub fn input(&mut self, name: &str, shape: &[usize]) -> Tensor {
        self.tensor(name.to_owned(), shape, Element::F32, Origin::Input)
    }

    /// Integers that the host writes before a run.
    pub fn input_uint(&mut self, name: &str, shape: &[usize]) -> Tensor {
        self.tensor(name.to_owned(), shape, Element::U32, Origin::Input)
    }

    /// Numbers that nodes leave for the next run, 0 before the first.
    pub fn state(&mut self, name: &str, shape: &[usize]) -> Tensor {
        self.tensor(name.to_owned(), shape, Element::F32, Origin::State)
    }

    /// A table computed on the host.
    pub fn constant(&mut self, name: &str, shape: &[usize], data: Vec<f64>) -> Tensor {
        self.tensor(name.to_owned(), shape, Element::F32, Origin::Constant(data))
    }

    /// Indices computed on the host.
    pub fn constant_uint(&mut self, name: &str, shape: &[usize], data: Vec<u32>) -> Tensor {
        let data = data.into_iter().map(f64::from).collect();
        self.tensor(name.to_owned(), shape, Element::U32, Origin::Constant(data))
    }

    /// A parameter that no layout has yet, to see what a network needs: such a graph cannot be run.
    pub fn sketch(&mut self, name: &str, shape: &[usize], element: Element) -> Tensor {
        let origin = Origin::Arena {
            arena: PARAMS,
            slab: 0,
            offset: 0,
        };
        self.tensor(name.to_owned(), shape, element, origin)
    }

    /// A parameter in the shape that the layout has for it; trained if its elements are f32.
    pub fn param(&mut self, id: ParamId) -> Tensor {
        self.param_in(id, PARAMS)
    }

    /// What an arena keeps for a parameter, in its shape.
    pub fn param_in(&mut self, id: ParamId, arena: Arena) -> Tensor {
        let entry = self.layout.entry(id).clone();
        let element = self.layout.slabs()[entry.slab].element_in(arena);
        let name = if arena == PARAMS {
            entry.name
        } else {
            format!("{}.{}", arena.name, entry.name)
        };
        let origin = Origin::Arena {
            arena,
            slab: entry.slab,
            offset: entry.offset,
        };
        self.tensor(name, &entry.shape, element, origin)
    }

    /// A whole slab of an arena, gaps between its tensors included: `[len]`.
    pub fn slab(&mut self, arena: Arena, slab: usize) -> Tensor {
        let Slab { len, .. } = self.layout.slabs()[slab];
        let element = self.layout.slabs()[slab].element_in(arena);
        self.tensor(
            format!("{}[{slab}]", arena.name),
            &[len],
            element,
            Origin::Arena {
                arena,
                slab,
                offset: 0,
            },
        )
    }

    /// Numbers that a node will write; once nobody reads them, others get their buffer.
    pub fn activation(&mut self, name: &str, shape: &[usize]) -> Tensor {
        self.tensor(name.to_owned(), shape, Element::F32, Origin::Pooled)
    }

    /// What is computed from here on that may be rounded is kept as such elements: f32 or f16.
    pub fn set_precision(&mut self, element: Element) {
        self.precision = element;
    }

    /// Whether something that is computed is kept in half precision.
    pub(super) fn has_halves(&self) -> bool {
        let half = |t: &Info| t.element == Element::F16 && matches!(t.origin, Origin::Pooled);
        self.tensors.iter().any(half)
    }

    /// As [`Graph::activation`], in the precision that is set.
    pub fn rounded(&mut self, name: &str, shape: &[usize]) -> Tensor {
        self.tensor(name.to_owned(), shape, self.precision, Origin::Pooled)
    }

    /// As [`Graph::activation`], as elements of the type that `of` has: its gradient.
    pub fn alike(&mut self, name: &str, of: Tensor, shape: &[usize]) -> Tensor {
        let element = self.info(of).element;
        self.tensor(name.to_owned(), shape, element, Origin::Pooled)
    }

    /// As [`Graph::activation`], of integers.
    pub fn activation_uint(&mut self, name: &str, shape: &[usize]) -> Tensor {
        self.tensor(name.to_owned(), shape, Element::U32, Origin::Pooled)
    }

    /// The elements of `of` from `offset` on, in another shape.
    ///
    /// # Errors
    /// [`Error::Shape`] if `of` has too few elements.
    pub fn view(&mut self, of: Tensor, offset: usize, shape: &[usize]) -> Result<Tensor> {
        let info = self.info(of);
        if offset + shape.iter().product::<usize>() > info.len() {
            return Err(Error::Shape {
                op: "view",
                tensor: info.name.clone(),
                expected: format!("at least {offset} + {shape:?} elements"),
                got: info.shape.clone(),
            });
        }
        let (name, element, grad) = (info.name.clone(), info.element, info.requires_grad);
        let view = self.tensor(
            format!("{name}[{offset}..]"),
            shape,
            element,
            Origin::View { of, offset },
        );
        self.tensors[view.index()].requires_grad = grad;
        Ok(view)
    }

    /// Marks a tensor that the host reads after a run, so that nothing reuses its buffer.
    pub fn keep(&mut self, tensor: Tensor) {
        let base = self.base(tensor).0;
        self.tensors[base.index()].keep = true;
    }

    /// Appends a node. Outputs need a gradient if any input does.
    ///
    /// # Errors
    /// [`Error::Shape`] for an input of a type that the operation does not take.
    pub fn push(
        &mut self,
        op: impl Op + 'static,
        reads: &[Tensor],
        writes: &[Tensor],
        temps: &[Tensor],
        extent: Extent,
    ) -> Result<()> {
        for (i, &t) in reads.iter().enumerate() {
            let (role, element) = (op.role(i), self.info(t).element);
            let fits = match role {
                Role::Number => element == Element::F32,
                Role::Half => matches!(element, Element::F32 | Element::F16),
                Role::Weight => element.is_number(),
                Role::Index => element == Element::U32,
            };
            let expected = match role {
                Role::Index => "indices".to_owned(),
                _ => format!("numbers, not {element:?}"),
            };
            self.require(op.name(), t, fits, &expected)?;
        }
        for (i, &t) in writes.iter().enumerate() {
            let fits = self.info(t).element != Element::F16 || op.writes_half(i);
            self.require(op.name(), t, fits, "numbers in f32")?;
        }
        let grad = reads.iter().any(|&t| self.info(t).requires_grad);
        for &t in writes {
            self.tensors[t.index()].requires_grad |= grad;
        }
        let [reads, writes, temps] = [reads, writes, temps].map(<[Tensor]>::to_vec);
        self.nodes.push(Node {
            op: Arc::new(op),
            reads,
            writes,
            temps,
            extent,
        });
        Ok(())
    }

    /// Nodes from here on belong to another phase.
    pub fn begin_phase(&mut self, phase: Phase) {
        self.phases.push((phase, self.nodes.len()));
    }
}
