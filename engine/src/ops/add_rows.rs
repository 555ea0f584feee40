//! Rows of a table added to the rows of a tensor, over and over: learned positions, token types.
//!
//! `y[r] = x[r] + table[r mod period]`; backward: `dx = dy`, `dtable[i] += sum of dy[r], r mod period = i`.

use crate::cpu::{Float, Io, for_rows, sum_rows};
use crate::error::Result;
use crate::graph::{Backward, Graph, Kernel, Lower, Op, Tensor};
use crate::program::Extent;
use crate::{params, shader, twin};

/// Reads x `[rows, width]` and the table; writes y.
#[derive(Clone, Debug)]
struct AddRows {
    rows: usize,
    width: usize,
    period: usize,
}

params! {
    struct AddRowsParams {
        /// Elements of y, or of the table's gradient.
        total: u32,
        width: u32,
        rows: u32,
        period: u32,
    }
}

impl Graph {
    /// `x [rows, width]` plus the first `period` rows of `table [n, width]`, repeated.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shapes do not agree.
    pub fn add_rows(
        &mut self,
        name: &str,
        x: Tensor,
        table: Tensor,
        period: usize,
    ) -> Result<Tensor> {
        const OP: &str = "add_rows";
        let &[n, width] = self.shape(table) else {
            return Err(self.misfit(OP, table, "[n, width]"));
        };
        self.require(OP, table, period <= n, &format!("at least {period} rows"))?;
        let fits = matches!(self.shape(x), &[rows, w] if w == width && period > 0 && rows.is_multiple_of(period));
        self.require(OP, x, fits, &format!("[n * {period}, {width}]"))?;
        let rows = self.shape(x)[0];
        let y = self.activation(name, &[rows, width]);
        let op = AddRows {
            rows,
            width,
            period,
        };
        self.push(op, &[x, table], &[y], &[], Extent::Fixed(rows))?;
        Ok(y)
    }
}

impl AddRows {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (x, table, n) = (io.read(0), io.read(1), self.width);
        for_rows(io.write(0), n, |first, y| {
            for (i, y) in y.chunks_exact_mut(n).enumerate() {
                let row = first + i;
                let (x, add) = (&x[row * n..][..n], &table[row % self.period * n..][..n]);
                for j in 0..n {
                    y[j] = x[j] + add[j];
                }
            }
        });
    }

    fn params(&self, rows: usize) -> AddRowsParams {
        AddRowsParams {
            total: (rows * self.width) as u32,
            width: self.width as u32,
            rows: self.rows as u32,
            period: self.period as u32,
        }
    }
}

twin!(AddRows);

impl Op for AddRows {
    fn name(&self) -> &'static str {
        "add_rows"
    }

    fn backward(&self, b: &mut Backward<'_>) -> Result<()> {
        let (dy, extent) = (b.dy(0)?, b.extent());
        if let Some((dtable, accumulate)) = b.target(1) {
            if !accumulate {
                b.graph.zero(dtable)?;
            }
            let op = AddRowsBackward(self.clone());
            b.graph.push(op, &[dy], &[dtable], &[], extent)?;
        }
        b.pass(0, dy)
    }

    fn kernels(&self, _: &Lower<'_>) -> Vec<Kernel> {
        vec![
            Kernel::new(shader!("add_rows"))
                .read(0)
                .read(1)
                .write(0)
                .params(self.params(self.rows))
                .items(self.rows * self.width, 256),
        ]
    }
}

/// Reads dy; adds to the table's gradient.
#[derive(Clone, Debug)]
struct AddRowsBackward(AddRows);

impl AddRowsBackward {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (op, dy) = (&self.0, io.read(0));
        let block = op.period * op.width;
        sum_rows(
            &mut io.write(0)[..block],
            op.rows / op.period,
            |col, row, out| {
                let from = &dy[row * block + col..][..out.len()];
                out.iter_mut().zip(from).for_each(|(sum, &x)| *sum += x);
            },
        );
    }
}

twin!(AddRowsBackward);

impl Op for AddRowsBackward {
    fn name(&self) -> &'static str {
        "add_rows_backward"
    }

    fn kernels(&self, _: &Lower<'_>) -> Vec<Kernel> {
        let op = &self.0;
        vec![
            Kernel::new(shader!("add_rows"))
                .entry("backward")
                .flag("BACKWARD", true)
                .read(0)
                .write(0)
                .params(op.params(op.period))
                .items(op.period * op.width, 64),
        ]
    }
}
