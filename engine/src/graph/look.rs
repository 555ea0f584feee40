//! What a graph says of its tensors, and of those that do not fit.

use super::build::Graph;
use super::tensor::{Info, Origin, Tensor};
use crate::error::{Error, Result};
use crate::program::Element;

impl Graph {
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

    /// [`Error::Shape`] that names a tensor, its shape and what was expected.
    pub fn misfit(&self, op: &'static str, tensor: Tensor, expected: &str) -> Error {
        Error::Shape {
            op,
            tensor: self.name(tensor).to_owned(),
            expected: expected.to_owned(),
            got: self.shape(tensor).to_vec(),
        }
    }

    pub(crate) fn element(&self, tensor: Tensor) -> Element {
        self.info(tensor).element
    }

    pub(super) fn info(&self, tensor: Tensor) -> &Info {
        &self.tensors[tensor.index()]
    }

    /// The tensor that owns the elements, and the offset in it.
    pub(super) fn base(&self, tensor: Tensor) -> (Tensor, usize) {
        match self.info(tensor).origin {
            Origin::View { of, offset } => {
                let (base, more) = self.base(of);
                (base, offset + more)
            }
            _ => (tensor, 0),
        }
    }
}
