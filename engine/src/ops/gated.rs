//! Gated activation `y = f(a) b` (SwiGLU, GeGLU), a and b in any columns of any tensors.
//!
//! Backward: `da = f'(a) b dy`, `db = f(a) dy`.

use crate::cpu::{Float, Io, for_rows, for_rows2};
use crate::error::Result;
use crate::graph::{Backward, Graph, Kernel, Lower, Op, Tensor};
use crate::ops::Activation;
use crate::ops::activation::with_activation;
use crate::ops::heads::{Heads, gradients, pass_gradients};
use crate::program::Extent;
use crate::{params, shader, twin};

/// Reads a and b; writes y `[rows, width]`.
#[derive(Clone, Debug)]
struct Gated {
    activation: Activation,
    rows: usize,
    width: usize,
    strides: [usize; 2],
    columns: [usize; 2],
}

params! {
    struct GatedParams {
        /// rows * width
        total: u32,
        width: u32,
        a_stride: u32,
        a_column: u32,
        b_stride: u32,
        b_column: u32,
    }
}

impl Graph {
    /// `f(a) b [rows, width]` of `width` columns of a and of b.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shapes do not agree.
    pub fn gated(
        &mut self,
        name: &str,
        activation: Activation,
        a: Heads,
        b: Heads,
        width: usize,
    ) -> Result<Tensor> {
        const OP: &str = "gated";
        let rows = a.rows(self, OP, width, 1)?;
        let same = b.rows(self, OP, width, 1)? == rows;
        self.require(OP, b.tensor, same, &format!("{rows} rows"))?;
        let stride = |h: Heads| self.len(h.tensor) / rows;
        let op = Gated {
            activation,
            rows,
            width,
            strides: [stride(a), stride(b)],
            columns: [a.column, b.column],
        };
        let y = self.activation(name, &[rows, width]);
        self.push(op, &[a.tensor, b.tensor], &[y], &[], Extent::Fixed(rows))?;
        Ok(y)
    }
}

impl Gated {
    /// The columns of a row of operand `i`.
    fn row<'a, F>(&self, operand: &'a [F], i: usize, row: usize) -> &'a [F] {
        &operand[row * self.strides[i] + self.columns[i]..][..self.width]
    }

    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (a, b) = (io.read(0), io.read(1));
        for_rows(io.write(0), self.width, |first, y| {
            for (i, y) in y.chunks_exact_mut(self.width).enumerate() {
                let (a, b) = (self.row(a, 0, first + i), self.row(b, 1, first + i));
                with_activation!(self.activation, |value, _slope| {
                    for (j, y) in y.iter_mut().enumerate() {
                        *y = value(a[j]) * b[j];
                    }
                });
            }
        });
    }

    fn params(&self) -> GatedParams {
        GatedParams {
            total: (self.rows * self.width) as u32,
            width: self.width as u32,
            a_stride: self.strides[0] as u32,
            a_column: self.columns[0] as u32,
            b_stride: self.strides[1] as u32,
            b_column: self.columns[1] as u32,
        }
    }
}

twin!(Gated);

impl Op for Gated {
    fn name(&self) -> &'static str {
        "gated"
    }

    fn backward(&self, b: &mut Backward<'_>) -> Result<()> {
        let (dy, extent) = (b.dy(0)?, b.extent());
        let operands = [b.read(0), b.read(1)];
        let (writes, place) = gradients(b, operands, [self.width; 2])?;
        let op = GatedBackward(self.clone());
        let [x, z] = operands;
        b.graph.push(op, &[x, z, dy], &writes, &[], extent)?;
        pass_gradients(b, &writes, place)
    }

    fn kernels(&self, _: &Lower<'_>) -> Vec<Kernel> {
        vec![
            Kernel::new(shader!("gated"))
                .flag(self.activation.flag(), true)
                .read(0)
                .read(1)
                .write(0)
                .params(self.params())
                .items(self.rows * self.width, 256),
        ]
    }
}

/// Reads a, b and dy; writes da and db, or the one tensor that both lie in.
#[derive(Clone, Debug)]
struct GatedBackward(Gated);

impl GatedBackward {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let op = &self.0;
        let (a, b, dy) = (io.read(0), io.read(1), io.read(2));
        let both = |row: usize, da: &mut [F], db: &mut [F]| {
            let (a, b) = (op.row(a, 0, row), op.row(b, 1, row));
            with_activation!(op.activation, |value, slope| {
                for (j, &dy) in dy[row * op.width..][..op.width].iter().enumerate() {
                    da[j] = slope(a[j]) * b[j] * dy;
                    db[j] = value(a[j]) * dy;
                }
            });
        };
        if op.strides[0] == 2 * op.width {
            let stride = op.strides[0];
            for_rows(io.write(0), stride, |first, d| {
                for (i, d) in d.chunks_exact_mut(stride).enumerate() {
                    let (left, right) = d.split_at_mut(op.width);
                    match op.columns[0] {
                        0 => both(first + i, left, right),
                        _ => both(first + i, right, left),
                    }
                }
            });
        } else {
            for_rows2(
                io.write(0),
                op.width,
                io.write(1),
                op.width,
                |first, da, db| {
                    let rows = da.chunks_exact_mut(op.width);
                    for (i, (da, db)) in rows.zip(db.chunks_exact_mut(op.width)).enumerate() {
                        both(first + i, da, db);
                    }
                },
            );
        }
    }
}

twin!(GatedBackward);

impl Op for GatedBackward {
    fn name(&self) -> &'static str {
        "gated_backward"
    }

    fn kernels(&self, _: &Lower<'_>) -> Vec<Kernel> {
        let op = &self.0;
        let apart = op.strides[0] == op.width;
        vec![
            Kernel::new(shader!("gated"))
                .entry("backward")
                .flag(op.activation.flag(), true)
                .flag("BACKWARD", true)
                .flag("APART", apart)
                .read(0)
                .read(1)
                .read(2)
                .write(0)
                .write_if(apart, 1)
                .params(op.params())
                .items(op.rows * op.width, 256),
        ]
    }
}
