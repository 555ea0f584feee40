//! Tensors of a graph: names, shapes, and where their elements live.

use crate::program::{Arena, Element, Phase};

/// Arena of the weights, in the element types of the layout: f32, or 16 bits for inference.
pub const PARAMS: Arena = Arena::of_layout("params");
/// Arena of the weights' gradients, f32: backward passes add to it, the update clears it.
pub const GRADS: Arena = Arena::f32("grads");

/// What a graph begins with, and all that most graphs have.
pub const FORWARD: Phase = Phase("forward");
/// Phase that adds the gradients of a loss to [`GRADS`].
pub const BACKWARD: Phase = Phase("backward");
/// Phase that changes the weights: gradient norm, AdamW, moving average.
pub const UPDATE: Phase = Phase("update");

/// Handle of a tensor in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tensor(pub(super) u32);

impl Tensor {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where a tensor's elements come from and live.
#[derive(Clone, Debug)]
pub(super) enum Origin {
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
pub(super) struct Info {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) element: Element,
    pub(super) origin: Origin,
    /// The host reads it after a run, so its buffer is not reused.
    pub(super) keep: bool,
    pub(super) requires_grad: bool,
}

impl Info {
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }
}
