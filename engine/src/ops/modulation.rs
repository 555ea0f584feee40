//! adaLN's vectors: where a sample's shift, scale or gate stands.

use crate::error::{Error, Result};
use crate::graph::{Backward, Graph, Tensor};

/// Where a sample's modulation vector stands in a `[samples, stride]` tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modulation {
    /// Consecutive rows that share a vector.
    pub sample_rows: usize,
    /// Width of the tensor's rows.
    pub stride: usize,
    /// First column: a gate, or a shift followed by a scale.
    pub column: usize,
}

impl Modulation {
    /// A shape error unless `t` holds such vectors, `columns` wide each, for `rows` rows.
    pub(super) fn check(
        &self,
        g: &Graph,
        op: &'static str,
        t: Tensor,
        rows: usize,
        columns: usize,
    ) -> Result<()> {
        let fits = self.column + columns <= self.stride
            && self.sample_rows > 0
            && rows.is_multiple_of(self.sample_rows)
            && g.len(t) == rows / self.sample_rows * self.stride;
        let expected = format!(
            "[{rows} / {}, {}] with {columns} columns from {} on",
            self.sample_rows, self.stride, self.column
        );
        g.require(op, t, fits, &expected)
    }

    /// First element of the vector of `row`.
    #[inline(always)]
    pub(crate) fn at(&self, row: usize) -> usize {
        row / self.sample_rows * self.stride + self.column
    }
}

/// Rows that one invocation of a column kernel sums.
pub(super) const BLOCK: usize = 64;

/// The gradient of a modulation tensor, cleared before its first columns arrive.
pub(super) fn modulation_target(b: &mut Backward<'_>, i: usize) -> Result<Tensor> {
    let missing = || Error::Internal("the modulation needs no gradient".into());
    let (dmod, accumulate) = b.target(i).ok_or_else(missing)?;
    if !accumulate {
        b.graph.zero(dmod)?;
    }
    Ok(dmod)
}
