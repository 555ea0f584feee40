//! The graph: operations on tensors, built once for a (config, batch, length), differentiated by
//! hand-written rules, planned, and then run many times on either executor.

mod backward;
mod layout;
mod op;
mod plan;
mod report;
mod session;
mod storage;

use std::sync::Arc;

pub use backward::Backward;
pub use layout::{Key, Layout, LayoutBuilder, ParamId};
pub use op::{Kernel, Lower, Op, Operand, Role};
pub use plan::Plan;
pub use report::Report;
pub use session::{RUNS, Running, Session};
pub use storage::Storage;

use crate::error::{Error, Result};
use crate::program::{Arena, Element, Extent, Phase, Slab};

/// Handle of a tensor in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tensor(u32);

impl Tensor {
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// The weights.
pub const PARAMS: Arena = Arena::of_layout("params");
/// Their gradients.
pub const GRADS: Arena = Arena::f32("grads");

/// What a graph begins with, and all that most graphs have.
pub const FORWARD: Phase = Phase("forward");
/// The gradients.
pub const BACKWARD: Phase = Phase("backward");
/// The optimiser's step.
pub const UPDATE: Phase = Phase("update");

/// Where a tensor's elements come from and live.
#[derive(Clone, Debug)]
enum Origin {
    /// In an arena, from an element of a slab on.
    Arena {
        arena: Arena,
        slab: usize,
        offset: usize,
    },
    /// A buffer of its own that the host writes.
    Input,
    /// A buffer of its own that keeps what a run left there for the next run.
    State,
    /// A buffer of its own, filled once.
    Constant(Vec<f64>),
    /// A pooled buffer, for as long as the tensor is alive.
    Pooled,
    /// A range of another tensor.
    View { of: Tensor, offset: usize },
}

#[derive(Clone, Debug)]
struct Info {
    name: String,
    shape: Vec<usize>,
    element: Element,
    origin: Origin,
    /// The host reads it after a run, so its buffer is not reused.
    keep: bool,
    requires_grad: bool,
}

impl Info {
    fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

struct Node {
    op: Arc<dyn Op>,
    reads: Vec<Tensor>,
    writes: Vec<Tensor>,
    /// Work areas of the GPU kernels; the twin needs none.
    temps: Vec<Tensor>,
    extent: Extent,
}

/// A computation under construction.
pub struct Graph {
    layout: Arc<Layout>,
    tensors: Vec<Info>,
    nodes: Vec<Node>,
    grads: Vec<Option<Tensor>>,
    /// Each phase with its first node.
    phases: Vec<(Phase, usize)>,
    keep_all: bool,
}

impl Graph {
    /// An empty graph over a parameter layout.
    pub fn new(layout: Arc<Layout>) -> Self {
        Self {
            layout,
            tensors: Vec::new(),
            nodes: Vec::new(),
            grads: Vec::new(),
            phases: vec![(FORWARD, 0)],
            keep_all: false,
        }
    }

    /// The parameter layout.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Keeps every activation, made and to be made, readable after a run (no buffer reuse), for
    /// inspection.
    pub fn keep_all(&mut self) {
        self.keep_all = true;
        self.tensors.iter_mut().for_each(|info| info.keep = true);
    }

    fn add(&mut self, name: String, shape: &[usize], element: Element, origin: Origin) -> Tensor {
        let requires_grad = matches!(origin, Origin::Arena { arena: PARAMS, .. });
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
        self.add(name.to_owned(), shape, Element::F32, Origin::Input)
    }

    /// Integers that the host writes before a run.
    pub fn input_uint(&mut self, name: &str, shape: &[usize]) -> Tensor {
        self.add(name.to_owned(), shape, Element::U32, Origin::Input)
    }

    /// Numbers that nodes leave for the next run, 0 before the first.
    pub fn state(&mut self, name: &str, shape: &[usize]) -> Tensor {
        self.add(name.to_owned(), shape, Element::F32, Origin::State)
    }

    /// A table computed on the host.
    pub fn constant(&mut self, name: &str, shape: &[usize], data: Vec<f64>) -> Tensor {
        self.add(name.to_owned(), shape, Element::F32, Origin::Constant(data))
    }

    /// A parameter.
    pub fn param(&mut self, id: ParamId) -> Tensor {
        self.arena_tensor(id, PARAMS)
    }

    fn arena_tensor(&mut self, id: ParamId, arena: Arena) -> Tensor {
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
        self.add(name, &entry.shape, element, origin)
    }

    /// A whole slab of an arena.
    pub fn slab(&mut self, arena: Arena, slab: usize) -> Tensor {
        let Slab { len, .. } = self.layout.slabs()[slab];
        let element = self.layout.slabs()[slab].element_in(arena);
        self.add(
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

    /// An intermediate result.
    pub fn activation(&mut self, name: &str, shape: &[usize]) -> Tensor {
        self.add(name.to_owned(), shape, Element::F32, Origin::Pooled)
    }

    /// An intermediate result of integers.
    pub fn activation_uint(&mut self, name: &str, shape: &[usize]) -> Tensor {
        self.add(name.to_owned(), shape, Element::U32, Origin::Pooled)
    }

    /// The elements of `of` from `offset` on, in another shape.
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
        let view = self.add(
            format!("{name}[{offset}..]"),
            shape,
            element,
            Origin::View { of, offset },
        );
        self.tensors[view.index()].requires_grad = grad;
        Ok(view)
    }

    /// Marks a tensor that the host reads after a run.
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
                Role::Weight => element.is_number(),
                Role::Index => element == Element::U32,
            };
            self.require(op.name(), t, fits, &format!("{role:?}s, not {element:?}"))?;
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

    /// Shape of a tensor.
    pub fn shape(&self, tensor: Tensor) -> &[usize] {
        &self.info(tensor).shape
    }

    /// Number of elements of a tensor.
    pub fn len(&self, tensor: Tensor) -> usize {
        self.info(tensor).len()
    }

    /// Whether the graph has no node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Name of a tensor, as in errors and labels.
    pub fn name(&self, tensor: Tensor) -> &str {
        &self.info(tensor).name
    }

    /// Gives a tensor another name.
    pub fn rename(&mut self, tensor: Tensor, name: &str) {
        name.clone_into(&mut self.tensors[tensor.index()].name);
    }

    /// The newest tensor of that name.
    pub fn find(&self, name: &str) -> Option<Tensor> {
        (0..self.tensors.len() as u32)
            .rev()
            .map(Tensor)
            .find(|&t| self.name(t) == name)
    }

    /// Gradient of a tensor, once `backward` has made one.
    pub fn grad(&self, tensor: Tensor) -> Option<Tensor> {
        self.grads[tensor.index()]
    }

    /// An error unless `tensor` has this shape.
    pub fn expect(&self, op: &'static str, tensor: Tensor, shape: &[usize]) -> Result<()> {
        self.require(
            op,
            tensor,
            self.shape(tensor) == shape,
            &format!("{shape:?}"),
        )
    }

    /// A shape error that names `tensor` unless `ok`.
    pub fn require(
        &self,
        op: &'static str,
        tensor: Tensor,
        ok: bool,
        expected: &str,
    ) -> Result<()> {
        if ok {
            return Ok(());
        }
        Err(self.misfit(op, tensor, expected))
    }

    /// The shape error of a tensor.
    pub fn misfit(&self, op: &'static str, tensor: Tensor, expected: &str) -> Error {
        Error::Shape {
            op,
            tensor: self.name(tensor).to_owned(),
            expected: expected.to_owned(),
            got: self.shape(tensor).to_vec(),
        }
    }

    fn info(&self, tensor: Tensor) -> &Info {
        &self.tensors[tensor.index()]
    }

    /// The tensor that owns the elements, and the offset in it.
    fn base(&self, tensor: Tensor) -> (Tensor, usize) {
        match self.info(tensor).origin {
            Origin::View { of, offset } => {
                let (base, more) = self.base(of);
                (base, offset + more)
            }
            _ => (tensor, 0),
        }
    }
}
