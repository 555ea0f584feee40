//! Gathering listed rows (the masked ones) and scattering their gradient back.

use crate::cpu::{Float, Io, for_rows};
use crate::device::program::Extent;
use crate::error::Result;
use crate::gpu::{Grid, Source};
use crate::graph::{Backward, Graph, Launch, Lower, Op, Operand, Tensor};
use crate::{shader, twin};

/// Mark of a row that is not listed in [`RowList::row_of`].
pub const NOT_LISTED: u32 = u32::MAX;

/// Host inputs that say which rows are listed.
#[derive(Clone, Copy, Debug)]
pub struct RowList {
    /// Row numbers; the first `step.rows` count.
    pub rows: Tensor,
    /// Position of each row in the list, or [`NOT_LISTED`]; only the backward pass reads it.
    pub row_of: Tensor,
}

/// Forward: reads x and rows. Scatter: reads x and row_of.
#[derive(Clone, Debug)]
struct MaskedRows {
    rows: usize,
    width: usize,
    scatter: Option<Tensor>,
    backward: bool,
}

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
    pub fn masked_rows(&mut self, name: &str, x: Tensor, list: RowList) -> Result<Tensor> {
        let &[rows, width] = self.shape(x) else {
            return Err(self.misfit("masked_rows", x, "[rows, width]"));
        };
        self.expect("masked_rows", list.rows, &[rows])?;
        self.expect("masked_rows", list.row_of, &[rows])?;
        let y = self.activation(name, &[rows, width]);
        let op = MaskedRows {
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
            Extent::Rows { base: 0, max: rows },
        );
        Ok(y)
    }
}

impl MaskedRows {
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

twin!(MaskedRows);

impl Op for MaskedRows {
    fn name(&self) -> &'static str {
        if self.backward {
            "masked_rows_backward"
        } else {
            "masked_rows"
        }
    }

    fn integers(&self) -> &'static [usize] {
        &[1]
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
            .push(op, &[dy, row_of], &[dx], &[], Extent::Fixed(self.rows));
        b.pass(0, dx);
        Ok(())
    }

    fn kernels(&self, _: &Lower<'_>) -> Vec<Launch> {
        vec![Launch {
            source: Source::new(shader!("masked_rows")).flag("SCATTER", self.backward),
            operands: vec![
                Some(Operand::Read(0)),
                Some(Operand::Read(1)),
                Some(Operand::Write(0)),
            ],
            params: vec![self.rows as u32, self.width as u32, 0, 0],
            grid: Grid::items(Extent::Fixed(self.rows * self.width), 256),
            flops: 0,
        }]
    }
}
