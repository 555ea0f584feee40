//! Reverse walk over the nodes: each op's own rule makes the gradients of its inputs, and
//! gradients that meet are summed in place.

use super::build::{Backward, Graph, Node};
use super::tensor::{GRADS, Origin, Tensor};
use crate::error::{Error, Result};
use crate::program::{Element, Extent};

impl Graph {
    /// Appends the backward pass of a scalar loss. Gradients of parameters are added to the
    /// gradient arena, which the caller clears; those of other tensors are overwritten.
    ///
    /// # Errors
    /// [`Error::Shape`] for a tensor of more than one element; [`Error::Internal`] for an operation without a
    /// gradient, and for a loss that makes its gradients in the forward pass and is not a plain term of `loss`.
    pub fn backward(&mut self, loss: Tensor) -> Result<()> {
        if self.len(loss) != 1 {
            return Err(Error::Shape {
                op: "backward",
                tensor: self.name(loss).to_owned(),
                expected: "one element".into(),
                got: self.shape(loss).to_vec(),
            });
        }
        let seed = format!("d {}", self.name(loss));
        let seed = self.constant(&seed, &[1], vec![1.0]);
        self.grads[loss.index()] = Some(seed);
        let mut stretches = std::mem::take(&mut self.stretches);
        let (mut node, mut again) = (self.nodes.len(), Vec::new());
        while node > 0 {
            if let Some(stretch) = stretches.pop_if(|stretch| stretch.end == node) {
                node = stretch.start;
                let second = self.again(stretch);
                second
                    .clone()
                    .rev()
                    .try_for_each(|node| self.differentiate(node))?;
                again.push(second);
                continue;
            }
            node -= 1;
            self.differentiate(node)?;
        }
        self.prune(&again);
        // such a loss has made its gradients as if it were counted once, whatever is behind it
        match self
            .terminals
            .iter()
            .find(|t| self.grads[t.index()] != Some(seed))
        {
            None => Ok(()),
            Some(&t) => Err(Error::Internal(format!(
                "{} is no plain term of {}: scale such a loss by the weights of its rows",
                self.name(t),
                self.name(loss)
            ))),
        }
    }
}

impl Graph {
    /// Appends what a node's rule makes of the gradients of its outputs.
    fn differentiate(&mut self, node: usize) -> Result<()> {
        let Node {
            reads, writes, op, ..
        } = &self.nodes[node];
        let wanted = writes.iter().any(|&t| self.grads[t.index()].is_some());
        let possible = reads.iter().any(|&t| self.info(t).requires_grad);
        if !wanted || !possible {
            return Ok(());
        }
        let op = op.clone();
        op.backward(&mut Backward { graph: self, node })
    }

    /// The gradient tensor of `tensor`, made at the first call, and whether to add to what it
    /// holds; `None` if nobody needs it.
    pub(crate) fn gradient_of(&mut self, tensor: Tensor) -> Option<(Tensor, bool)> {
        let info = self.info(tensor).clone();
        if !info.requires_grad {
            return None;
        }
        let in_arena = self.in_arena(tensor);
        if let Some(grad) = self.grads[tensor.index()] {
            return Some((grad, true));
        }
        let origin = match info.origin {
            Origin::Arena { slab, offset, .. } => Origin::Arena {
                arena: GRADS,
                slab,
                offset,
            },
            // a part of a parameter has that part of its gradient
            Origin::View { of, offset } if in_arena => Origin::View {
                of: self.gradient_of(of)?.0,
                offset,
            },
            _ => Origin::Pooled,
        };
        let name = format!("d {}", info.name);
        let element = if in_arena { Element::F32 } else { info.element };
        let grad = self.tensor(name, &info.shape, element, origin);
        self.grads[tensor.index()] = Some(grad);
        Some((grad, in_arena))
    }

    /// Whether a tensor is a parameter or a part of one.
    fn in_arena(&self, tensor: Tensor) -> bool {
        let base = self.base(tensor).0;
        matches!(self.info(base).origin, Origin::Arena { .. })
    }

    /// Marks a loss that has made its gradients for a gradient of 1: it may be summed with others, nothing else.
    pub(crate) fn terminal(&mut self, loss: Tensor) {
        self.tensors[loss.index()].requires_grad = true;
        self.terminals.push(loss);
    }

    /// Cuts the backward walk: nothing before `tensor` gets a gradient through it.
    pub(crate) fn detach(&mut self, tensor: Tensor) {
        self.tensors[tensor.index()].requires_grad = false;
    }
}

impl Backward<'_> {
    /// Input `i` of the node.
    pub fn read(&self, i: usize) -> Tensor {
        self.graph.nodes[self.node].reads[i]
    }

    /// Output `i` of the node.
    pub fn write(&self, i: usize) -> Tensor {
        self.graph.nodes[self.node].writes[i]
    }

    /// The node's row count.
    pub fn extent(&self) -> Extent {
        self.graph.nodes[self.node].extent
    }

    /// Gradient of output `i`.
    ///
    /// # Errors
    /// [`Error::Internal`] if no later node has made one.
    pub fn dy(&self, i: usize) -> Result<Tensor> {
        self.graph.grads[self.write(i).index()].ok_or_else(|| {
            Error::Internal(format!("no gradient of {}", self.graph.name(self.write(i))))
        })
    }

    /// Where the gradient of input `i` goes and whether to add to what is there; `None` if nobody
    /// needs it.
    pub fn target(&mut self, i: usize) -> Option<(Tensor, bool)> {
        self.graph.gradient_of(self.read(i))
    }

    /// Whether input `i` is a loss that has made its gradients.
    pub(crate) fn is_terminal(&self, i: usize) -> bool {
        self.graph.terminals.contains(&self.read(i))
    }

    /// Hands over `dx` as gradient of input `i`. At most one input of a node may be given the
    /// node's own `dy`: whoever receives a gradient may add to it in place.
    ///
    /// # Errors
    /// [`Error::Internal`] for a loss that is counted twice.
    pub fn pass(&mut self, i: usize, dx: Tensor) -> Result<()> {
        let input = self.read(i);
        if self.graph.terminals.contains(&input) {
            // shared, as nobody adds to it
            let known = self.graph.grads[input.index()].replace(dx);
            return match known {
                None => Ok(()),
                Some(_) => {
                    let name = self.graph.name(input);
                    Err(Error::Internal(format!("{name} is counted twice")))
                }
            };
        }
        let requires_grad = self.graph.info(input).requires_grad;
        if requires_grad && !self.graph.in_arena(input) && self.graph.grads[input.index()].is_none()
        {
            self.graph.grads[input.index()] = Some(dx);
        } else if let Some((sum, _)) = self.graph.gradient_of(input) {
            self.graph.add_in_place(dx, sum)?;
        }
        Ok(())
    }
}
