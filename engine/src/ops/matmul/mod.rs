//! Matrix product in its three forms, with the epilogues of [`super::linear`].

use crate::error::Result;
use crate::graph::{Graph, Tensor};
use crate::ops::epilogue::Epilogue;
use crate::program::Extent;
use crate::twin;

mod kernels;
mod twin;

/// Which operands are stored transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A `[m, k]`, B [n, k]: the forward pass of a linear layer.
    Nt,
    /// A `[m, k]`, B [k, n]: the gradient of its input.
    Nn,
    /// A `[k, m]`, B [k, n]: the gradient of its weight.
    Tn,
}

/// Reads a, b, then bias, residual and modulation as far as they are used; writes c `[m, n]`, then
/// the epilogue's second output or, with `column_sum`, the column sums of A `[m]`.
#[derive(Clone, Debug)]
pub(crate) struct Matmul {
    pub(crate) form: Form,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) bias: bool,
    pub(crate) epilogue: Epilogue,
    /// Adds to C instead of overwriting it.
    pub(crate) accumulate: bool,
    /// Adds the sums over k of A to the last output: the gradient of a bias.
    pub(crate) column_sum: bool,
    pub(crate) many: Option<Many>,
    /// Parts of k, summed apart; more than one if the node has room for their planes.
    pub(crate) planes: usize,
}

/// Several products of one shape: `C = alpha A B`, `+ beta D` with a third operand that lies as C does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Many {
    pub(crate) count: usize,
    /// Elements from one A, B and C to the next.
    pub(crate) strides: [usize; 3],
    pub(crate) alpha: f64,
    pub(crate) beta: Option<f64>,
}

impl Graph {
    /// The product of two matrices stored as `form` says, `[m, n]`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shapes do not agree.
    pub fn matmul(&mut self, name: &str, form: Form, a: Tensor, b: Tensor) -> Result<Tensor> {
        let &[a0, a1] = self.shape(a) else {
            return Err(self.misfit("matmul", a, "a matrix"));
        };
        let &[b0, b1] = self.shape(b) else {
            return Err(self.misfit("matmul", b, "a matrix"));
        };
        let (m, k) = if form == Form::Tn { (a1, a0) } else { (a0, a1) };
        let (n, kb) = if form == Form::Nt { (b0, b1) } else { (b1, b0) };
        self.require("matmul", b, k == kb, &format!("{k} along the summed side"))?;
        let c = self.activation(name, &[m, n]);
        let rows = if form == Form::Tn { k } else { m };
        Matmul::new(form, m, n, k).push(self, [a, b], &[c], Extent::Fixed(rows))?;
        Ok(c)
    }
}

/// Parts of k such that a large GPU has work, and that planes cost little beside what they are sums of: a number of a
/// plane is moved twice, for `k / planes` multiply-adds.
fn planes(m: usize, n: usize, k: usize) -> usize {
    let tiles = m.div_ceil(128) * n.div_ceil(128);
    let least = (8 * m.min(n)).clamp(64, 512);
    match (192 / tiles.max(1)).min(k / least).min(64) {
        0..4 => 1,
        planes => planes,
    }
}

impl Matmul {
    pub(crate) fn new(form: Form, m: usize, n: usize, k: usize) -> Self {
        let epilogue = Epilogue::None;
        Self {
            form,
            m,
            n,
            k,
            bias: false,
            epilogue,
            accumulate: false,
            column_sum: false,
            many: None,
            planes: 1,
        }
    }

    /// Appends a node without bias and epilogue; long sums with few outputs are split into planes.
    pub(crate) fn push(
        mut self,
        graph: &mut Graph,
        reads: [Tensor; 2],
        writes: &[Tensor],
        extent: Extent,
    ) -> Result<()> {
        self.planes = planes(self.m, self.n, self.k);
        let mut temps = Vec::new();
        if self.planes > 1 {
            temps.push(graph.activation("planes", &[self.planes, self.m, self.n]));
            if self.column_sum {
                temps.push(graph.activation("column planes", &[self.planes, self.m]));
            }
        }
        graph.push(self, &reads, writes, &temps, extent)
    }
}

twin!(Matmul);
