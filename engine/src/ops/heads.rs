//! Heads, and other runs of columns, inside tensors.

use crate::error::{Error, Result};
use crate::graph::{Backward, Graph, Tensor};

/// A run of columns of a `[rows, stride]` tensor, from `column` on.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// The tensor; its last dimension is the stride.
    pub tensor: Tensor,
    /// First column: a multiple of 4.
    pub column: usize,
}

impl Heads {
    /// A tensor that holds nothing else.
    pub fn whole(tensor: Tensor) -> Self {
        Self { tensor, column: 0 }
    }

    /// Rows of each of `batch` sequences, if the tensor has such columns, `width` of them.
    pub(super) fn rows(
        &self,
        g: &Graph,
        op: &'static str,
        width: usize,
        batch: usize,
    ) -> Result<usize> {
        let stride = g.shape(self.tensor).last().copied().unwrap_or(0);
        let rows = g.len(self.tensor) / stride.max(1);
        let fits = g.shape(self.tensor).len() > 1
            && self.column + width <= stride
            && stride.is_multiple_of(4)
            && self.column.is_multiple_of(4)
            && rows > 0
            && rows.is_multiple_of(batch);
        let expected = format!("[n * {batch}, {} or more]", self.column + width);
        g.require(op, self.tensor, fits, &expected)?;
        Ok(rows / batch)
    }
}

/// Gradient tensors of operands that lie in `tensors`, some of which may be one tensor, and which of them each lies in.
/// The operands of a tensor must fill it, as nobody else writes its gradient.
pub(super) fn gradients<const N: usize>(
    b: &mut Backward<'_>,
    tensors: [Tensor; N],
    widths: [usize; N],
) -> Result<(Vec<Tensor>, [usize; N])> {
    let mut distinct: Vec<(Tensor, usize)> = Vec::new();
    let mut place = [0; N];
    for i in 0..N {
        let found = distinct.iter().position(|(t, _)| *t == tensors[i]);
        place[i] = found.unwrap_or_else(|| {
            distinct.push((tensors[i], 0));
            distinct.len() - 1
        });
        distinct[place[i]].1 += widths[i];
    }
    let mut made = Vec::new();
    for (tensor, width) in distinct {
        let shape = b.graph.shape(tensor).to_vec();
        if shape.last() != Some(&width) {
            let name = b.graph.name(tensor);
            let problem =
                "has columns that this node does not read, so it cannot make its gradient";
            return Err(Error::Internal(format!("{name} {problem}")));
        }
        let name = format!("d {}", b.graph.name(tensor));
        made.push(b.graph.alike(&name, tensor, &shape));
    }
    Ok((made, place))
}

/// Hands the tensors that [`gradients`] made to the operands that lie in them: the first stands for all of a tensor.
pub(super) fn pass_gradients<const N: usize>(
    b: &mut Backward<'_>,
    made: &[Tensor],
    place: [usize; N],
) -> Result<()> {
    for (i, &dx) in made.iter().enumerate() {
        if let Some(input) = place.iter().position(|&p| p == i) {
            b.pass(input, dx)?;
        }
    }
    Ok(())
}
