//! Rows that are kept from run to run: new rows of each sequence go to their places among those of earlier runs.

use crate::cpu::{Float, Io};
use crate::error::Result;
use crate::graph::{Graph, Kernel, Lower, Op, Role, Tensor};
use crate::ops::heads::Heads;
use crate::program::Extent;
use crate::{params, shader, twin};

/// Reads x `[batch * rows, stride]` and positions `[batch * rows]`; updates `[batch, length, width]`.
#[derive(Clone, Debug)]
struct StoreRows {
    batch: usize,
    rows: usize,
    length: usize,
    width: usize,
    stride: usize,
    column: usize,
}

params! {
    struct StoreParams {
        /// batch * rows * width
        total: u32,
        /// New ones of a sequence.
        rows: u32,
        length: u32,
        width: u32,
        stride: u32,
        column: u32,
    }
}

impl Graph {
    /// Stores the columns of `x [batch * rows, ..]` from its column on in the rows `positions [batch * rows]` of
    /// `state [batch, length, width]`, each among those of its sequence. Rows of a sequence that have one place must
    /// be equal.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shapes do not agree.
    pub fn store_rows(&mut self, x: Heads, positions: Tensor, state: Tensor) -> Result<()> {
        const OP: &str = "store_rows";
        let &[batch, length, width] = self.shape(state) else {
            return Err(self.misfit(OP, state, "[batch, length, width]"));
        };
        let rows = x.rows(self, OP, width, batch.max(1))?;
        self.expect(OP, positions, &[batch * rows])?;
        let op = StoreRows {
            batch,
            rows,
            length,
            width,
            stride: self.len(x.tensor) / (batch * rows),
            column: x.column,
        };
        self.push(
            op,
            &[x.tensor, positions],
            &[state],
            &[],
            Extent::Fixed(batch * rows),
        )
    }
}

impl StoreRows {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (x, positions, state) = (io.read(0), io.read_uint(1), io.write(0));
        for (row, &position) in positions.iter().enumerate() {
            let to = (row / self.rows * self.length + position as usize) * self.width;
            let from = row * self.stride + self.column;
            state[to..to + self.width].copy_from_slice(&x[from..from + self.width]);
        }
    }
}

twin!(StoreRows);

impl Op for StoreRows {
    fn name(&self) -> &'static str {
        "store_rows"
    }

    fn role(&self, input: usize) -> Role {
        if input == 1 {
            Role::Index
        } else {
            Role::Number
        }
    }

    fn kernels(&self, _: &Lower<'_>) -> Vec<Kernel> {
        let total = self.batch * self.rows * self.width;
        let params = StoreParams {
            total: total as u32,
            rows: self.rows as u32,
            length: self.length as u32,
            width: self.width as u32,
            stride: self.stride as u32,
            column: self.column as u32,
        };
        vec![
            Kernel::new(shader!("store_rows"))
                .read(0)
                .read(1)
                .write(0)
                .params(params)
                .items(total, 256),
        ]
    }
}
