//! Gathering listed rows and scattering their gradient back.

use crate::cpu::{Float, Io, for_rows};
use crate::error::Result;
use crate::graph::{Backward, Graph, Kernel, Lower, Op, Role, Tensor};
use crate::program::{Extent, Scalar};
use crate::{params, shader, twin};

/// Mark of a row that is not listed in [`RowList::row_of`].
pub const NOT_LISTED: u32 = u32::MAX;

/// Host inputs that say which rows are listed.
#[derive(Clone, Copy, Debug)]
pub struct RowList {
    /// Row numbers; the first [`ROWS`] count.
    pub rows: Tensor,
    /// Position of each row in the list, or [`NOT_LISTED`]; only the backward pass reads it.
    pub row_of: Tensor,
}

/// Forward: reads x and rows. Scatter: reads x and row_of.
#[derive(Clone, Debug)]
struct GatherRows {
    rows: usize,
    width: usize,
    scatter: Option<Tensor>,
    backward: bool,
}

params! {
    struct GatherParams {
        rows: u32,
        width: u32,
    }
}

/// Listed rows: masked rows in training, revealed rows in sampling.
pub const ROWS: Scalar<u32> = Scalar::uint("rows", 0);

impl Graph {
    /// Inputs for a list of up to `rows` rows.
    pub fn row_list(&mut self, rows: usize) -> RowList {
        RowList {
            rows: self.input_uint("rows", &[rows]),
            row_of: self.input_uint("row_of", &[rows]),
        }
    }

    /// The listed rows of `x [rows, width]`, at the beginning of a tensor of the same shape.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shapes do not agree.
    pub fn gather_rows(&mut self, name: &str, x: Tensor, list: RowList) -> Result<Tensor> {
        let &[rows, width] = self.shape(x) else {
            return Err(self.misfit("gather_rows", x, "[rows, width]"));
        };
        self.expect("gather_rows", list.rows, &[rows])?;
        self.expect("gather_rows", list.row_of, &[rows])?;
        let y = self.activation(name, &[rows, width]);
        let op = GatherRows {
            rows,
            width,
            scatter: Some(list.row_of),
            backward: false,
        };
        self.push(
            op,
            &[x, list.rows],
            &[y],
            &[],
            Extent::counted(ROWS, 0, rows),
        )?;
        Ok(y)
    }
}

impl GatherRows {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (x, list, n) = (io.read(0), io.read_uint(1), self.width);
        for_rows(&mut io.write(0)[..io.rows * n], n, |first, y| {
            for (i, y) in y.chunks_exact_mut(n).enumerate() {
                match list[first + i] {
                    NOT_LISTED => y.fill(F::ZERO),
                    from => y.copy_from_slice(&x[from as usize * n..][..n]),
                }
            }
        });
    }
}

twin!(GatherRows);

impl Op for GatherRows {
    fn name(&self) -> &'static str {
        if self.backward {
            "gather_rows_backward"
        } else {
            "gather_rows"
        }
    }

    fn role(&self, input: usize) -> Role {
        if input == 1 {
            Role::Index
        } else {
            Role::Number
        }
    }

    fn backward(&self, b: &mut Backward<'_>) -> Result<()> {
        let missing = || crate::Error::Internal("scattered rows have no gradient".into());
        let (dy, row_of) = (b.dy(0)?, self.scatter.ok_or_else(missing)?);
        let dx = b.graph.activation("d rows", &[self.rows, self.width]);
        let op = Self {
            scatter: None,
            backward: true,
            ..self.clone()
        };
        b.graph
            .push(op, &[dy, row_of], &[dx], &[], Extent::Fixed(self.rows))?;
        b.pass(0, dx)?;
        Ok(())
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Kernel> {
        let params = GatherParams {
            rows: self.rows as u32,
            width: self.width as u32,
        };
        vec![
            Kernel::new(shader!("gather_rows"))
                .flag("SCATTER", self.backward)
                .counted(lower.extent())
                .read(0)
                .read(1)
                .write(0)
                .params(params)
                .items(self.rows * self.width, 256),
        ]
    }
}
