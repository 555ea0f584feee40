//! Tables that are larger than a binding: taken in parts of rows, each of which fits.

use std::ops::Range;

use crate::cpu::{Float, Io, for_rows};
use crate::error::{Error, OF_PARAMETER, Result};
use crate::gpu::Grid;
use crate::graph::{Graph, Kernel, Lower, Op, Tensor};
use crate::program::Extent;
use crate::{params, shader, twin};

/// The parts of a table `[rows, width]`; one where it fits a binding whole.
///
/// # Errors
/// [`Error::Unsupported`] where not even 64 rows fit.
pub(super) fn parts(
    graph: &Graph,
    table: Tensor,
    [rows, width]: [usize; 2],
) -> Result<Vec<Range<usize>>> {
    let element = graph.element(table);
    let binding = graph.layout().binding().unwrap_or(u64::MAX);
    // every part begins at a multiple of 64 blocks and of 64 rows, which is what bindings and biases are aligned to
    let block = element.block().0;
    let least = 64 * block / common(width, block);
    let step = match binding / element.bytes(least * width).max(1) {
        _ if element.bytes(rows * width) <= binding => rows.max(1),
        0 => {
            return Err(Error::Unsupported {
                what: format!("{OF_PARAMETER}{} in one binding", graph.name(table)),
                need: element.bytes(least * width),
                have: binding,
            });
        }
        times => least * times as usize,
    };
    let ends = |from: usize| from..rows.min(from + step);
    Ok((0..rows.max(1)).step_by(step).map(ends).collect())
}

/// Largest common divisor.
fn common(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common(b, a % b) }
}

/// Reads x `[rows, width]`; writes its columns to those of a wider matrix `[rows, stride]` from `first` on.
#[derive(Clone, Debug)]
struct Columns {
    rows: usize,
    width: usize,
    stride: usize,
    first: usize,
}

params! {
    struct ColumnsParams {
        rows: u32,
        width: u32,
        stride: u32,
        first: u32,
        /// Of 256 columns of a row.
        tiles: u32,
    }
}

impl Graph {
    /// Writes `x [rows, width]` to the columns of `all [rows, stride]` from `first` on.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not agree.
    pub fn columns(&mut self, x: Tensor, all: Tensor, first: usize, extent: Extent) -> Result<()> {
        let &[rows, width] = self.shape(x) else {
            return Err(self.misfit("columns", x, "[rows, width]"));
        };
        let stride = match *self.shape(all) {
            [n, stride] if n == rows && first + width <= stride => stride,
            _ => {
                let expected = format!("[{rows}, {} or more]", first + width);
                return Err(self.misfit("columns", all, &expected));
            }
        };
        let op = Columns {
            rows,
            width,
            stride,
            first,
        };
        self.push(op, &[x], &[all], &[], extent)
    }
}

impl Columns {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (x, n) = (io.read(0), self.width);
        for_rows(
            &mut io.write(0)[..io.rows * self.stride],
            self.stride,
            |from, rows| {
                for (i, row) in rows.chunks_exact_mut(self.stride).enumerate() {
                    row[self.first..self.first + n].copy_from_slice(&x[(from + i) * n..][..n]);
                }
            },
        );
    }
}

twin!(Columns);

impl Op for Columns {
    fn name(&self) -> &'static str {
        "columns"
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Kernel> {
        let tiles = self.width.div_ceil(256);
        let params = ColumnsParams {
            rows: self.rows as u32,
            width: self.width as u32,
            stride: self.stride as u32,
            first: self.first as u32,
            tiles: tiles as u32,
        };
        vec![
            Kernel::new(shader!("columns"))
                .read(0)
                .write(0)
                .params(params)
                .grid(Grid {
                    extent: lower.extent(),
                    per_group: 1,
                    repeat: tiles,
                }),
        ]
    }
}
