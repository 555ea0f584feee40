//! Stretches of the forward pass that the backward pass computes again, so that of a stretch only what others read of it
//! is kept in between: less memory for about a third more work.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::build::{Graph, Node};
use super::tensor::{Origin, Tensor};

impl Graph {
    /// Begins a stretch that is computed again in the backward pass, and ends the one before it.
    pub fn checkpoint(&mut self) {
        let end = self.nodes.len();
        if let Some(from) = self.checkpoint.replace(end) {
            self.stretches.push(from..end);
        }
    }

    /// Appends a stretch once more, on tensors of its own; what it read of others is read again. The gradients of its
    /// results are those of what it computed first.
    pub(super) fn again(&mut self, stretch: Range<usize>) -> Range<usize> {
        let begin = self.nodes.len();
        let mut copies = HashMap::new();
        let written = self.nodes[stretch.clone()].iter();
        let written: HashSet<Tensor> = written
            .flat_map(|node| node.writes.iter().chain(&node.temps))
            .map(|&t| self.base(t).0)
            .collect();
        for i in stretch {
            let node = &self.nodes[i];
            let (op, extent) = (node.op.clone(), node.extent);
            let operands = [&node.reads, &node.writes, &node.temps].map(Vec::clone);
            let [reads, writes, temps] = operands.map(|tensors| {
                let copy = |t| self.copy(t, &written, &mut copies);
                tensors.into_iter().map(copy).collect()
            });
            self.nodes.push(Node {
                op,
                reads,
                writes,
                temps,
                extent,
            });
        }
        for (of, copy) in copies {
            self.grads[copy.index()] = self.grads[of.index()];
        }
        begin..self.nodes.len()
    }

    /// The tensor that stands for `of` in the second computation: itself, unless that makes it anew.
    fn copy(
        &mut self,
        of: Tensor,
        written: &HashSet<Tensor>,
        copies: &mut HashMap<Tensor, Tensor>,
    ) -> Tensor {
        if let Some(&copy) = copies.get(&of) {
            return copy;
        }
        let info = self.info(of).clone();
        let origin = match info.origin {
            _ if !written.contains(&self.base(of).0) => return of,
            Origin::View { of, offset } => Origin::View {
                of: self.copy(of, written, copies),
                offset,
            },
            // an arena or a state is not another one the second time
            Origin::Pooled => Origin::Pooled,
            _ => return of,
        };
        let name = format!("{} again", info.name);
        let copy = self.tensor(name, &info.shape, info.element, origin);
        self.tensors[copy.index()].requires_grad = info.requires_grad;
        copies.insert(of, copy);
        copy
    }

    /// Drops the nodes of second computations whose results nobody reads.
    pub(super) fn prune(&mut self, again: &[Range<usize>]) {
        let Some(first) = again.first().map(|range| range.start) else {
            return;
        };
        let second: HashSet<usize> = again.iter().flat_map(Clone::clone).collect();
        let mut read = HashSet::new();
        let mut kept = vec![true; self.nodes.len()];
        for i in (first..self.nodes.len()).rev() {
            let node = &self.nodes[i];
            let wanted = |&t: &Tensor| read.contains(&self.base(t).0);
            kept[i] = !second.contains(&i) || node.writes.iter().any(wanted);
            if kept[i] {
                read.extend(node.reads.iter().map(|&t| self.base(t).0));
            }
        }
        let mut kept = kept.into_iter();
        self.nodes.retain(|_| kept.next().unwrap_or(true));
    }
}
