//! Rotary position embedding (base 10000, half-split pairs, q and k only), from a host table.
//!
//! `y1 = x1 cos - x2 sin`, `y2 = x2 cos + x1 sin`; the backward pass is the inverse rotation.

use crate::cpu::{Float, Io, for_rows};
use crate::error::Result;
use crate::graph::{Backward, Graph, Kernel, Lower, Op, Tensor};
use crate::program::Extent;
use crate::{params, shader, twin};

/// Reads qkv `[rows, 3, heads, head_dim]` and the table; writes the rotated qkv.
#[derive(Clone, Debug)]
struct Rotary {
    rows: usize,
    length: usize,
    heads: usize,
    head_dim: usize,
    inverse: bool,
}

params! {
    struct RotaryParams {
        /// rows * 3 * heads * half_dim
        pairs: u32,
        heads: u32,
        half_dim: u32,
        length: u32,
    }
}

/// Frequencies of the pairs, `10000^(-2i / head_dim)`, in f32 as the published checkpoints carry them.
pub fn inv_freq(head_dim: usize) -> impl Iterator<Item = f32> {
    let half = head_dim / 2;
    (0..half).map(move |i| 10000f64.powf(-(i as f64) / half as f64) as f32)
}

/// A position's row of the rotary table: `[head_dim / 2, 2]`.
pub fn rotary_row(position: usize, head_dim: usize) -> Vec<f64> {
    let pair = |frequency| {
        let angle = position as f64 * f64::from(frequency);
        [angle.cos(), angle.sin()]
    };
    inv_freq(head_dim).flat_map(pair).collect()
}

impl Graph {
    /// Table of cosines and sines: `[length, head_dim / 2, 2]`.
    pub fn rotary_table(&mut self, length: usize, head_dim: usize) -> Tensor {
        let data = (0..length)
            .flat_map(|at| rotary_row(at, head_dim))
            .collect();
        self.constant("rotary", &[length, head_dim / 2, 2], data)
    }

    /// Rotates q and k of `qkv [batch * length, 3 * heads * head_dim]`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shapes do not agree.
    pub fn rotary(
        &mut self,
        name: &str,
        qkv: Tensor,
        table: Tensor,
        heads: usize,
    ) -> Result<Tensor> {
        let &[length, half, 2] = self.shape(table) else {
            return Err(self.misfit("rotary", table, "[length, head_dim / 2, 2]"));
        };
        let fits = matches!(self.shape(qkv), &[rows, width]
            if length > 0 && width == 6 * heads * half && rows.is_multiple_of(length));
        self.require(
            "rotary",
            qkv,
            fits,
            &format!("[n * {length}, {}]", 6 * heads * half),
        )?;
        let (rows, width) = (self.shape(qkv)[0], self.shape(qkv)[1]);
        let y = self.activation(name, &[rows, width]);
        let op = Rotary {
            rows,
            length,
            heads,
            head_dim: 2 * half,
            inverse: false,
        };
        self.push(op, &[qkv, table], &[y], &[], Extent::Fixed(rows))?;
        Ok(y)
    }
}

impl Rotary {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (x, table) = (io.read(0), io.read(1));
        let (dim, half) = (self.head_dim, self.head_dim / 2);
        let sign = if self.inverse { -F::ONE } else { F::ONE };
        let width = 3 * self.heads * dim;
        for_rows(io.write(0), width, |first, y| {
            for (i, y) in y.chunks_exact_mut(width).enumerate() {
                let row = first + i;
                let x = &x[row * width..][..width];
                let table = &table[row % self.length * dim..][..dim];
                let rotated = 2 * self.heads * dim;
                for (x, y) in x
                    .chunks_exact(dim)
                    .zip(y.chunks_exact_mut(dim))
                    .take(2 * self.heads)
                {
                    for d in 0..half {
                        let (cos, sin) = (table[2 * d], table[2 * d + 1] * sign);
                        y[d] = x[d] * cos - x[d + half] * sin;
                        y[d + half] = x[d + half] * cos + x[d] * sin;
                    }
                }
                y[rotated..].copy_from_slice(&x[rotated..]);
            }
        });
    }
}

twin!(Rotary);

impl Op for Rotary {
    fn name(&self) -> &'static str {
        "rotary"
    }

    fn backward(&self, b: &mut Backward<'_>) -> Result<()> {
        let (dy, table, extent) = (b.dy(0)?, b.read(1), b.extent());
        let shape = b.graph.shape(dy).to_vec();
        let dx = b.graph.activation("d qkv", &shape);
        b.graph.push(
            Self {
                inverse: !self.inverse,
                ..self.clone()
            },
            &[dy, table],
            &[dx],
            &[],
            extent,
        )?;
        b.pass(0, dx)?;
        Ok(())
    }

    fn kernels(&self, _: &Lower<'_>) -> Vec<Kernel> {
        let pairs = self.rows * 3 * self.heads * self.head_dim / 2;
        let params = RotaryParams {
            pairs: pairs as u32,
            heads: self.heads as u32,
            half_dim: self.head_dim as u32 / 2,
            length: self.length as u32,
        };
        vec![
            Kernel::new(shader!("rotary"))
                .flag("INVERSE", self.inverse)
                .read(0)
                .read(1)
                .write(0)
                .params(params)
                .items(pairs, 256),
        ]
    }
}
