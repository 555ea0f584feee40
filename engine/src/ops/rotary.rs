//! Rotary position embedding of heads, from a host table: half-split pairs (d, d + pairs) of the first dimensions of a
//! head; what is left of a head, and further heads of a row, are copied.
//!
//! `y1 = x1 cos - x2 sin`, `y2 = x2 cos + x1 sin`; the backward pass is the inverse rotation.

use crate::cpu::{Float, Io, for_rows};
use crate::error::Result;
use crate::graph::{Backward, Graph, Kernel, Lower, Op, Role, Tensor};
use crate::program::Extent;
use crate::{params, shader, twin};

/// Reads x `[rows, width]` and the table `[positions, pairs, 2]`; writes the rotated x.
#[derive(Clone, Debug)]
struct Rotary {
    rows: usize,
    width: usize,
    positions: usize,
    pairs: usize,
    heads: usize,
    head_dim: usize,
    inverse: bool,
}

params! {
    struct RotaryParams {
        /// Pairs of elements: rows * width / 2.
        total: u32,
        /// Of a row.
        width: u32,
        positions: u32,
        /// That a head rotates.
        pairs: u32,
        /// Heads that are rotated.
        heads: u32,
        half_dim: u32,
    }
}

/// Frequencies of the pairs, `base^(-2i / dim)`.
pub fn rotary_frequencies(dim: usize, base: f64) -> Vec<f64> {
    let half = dim / 2;
    let frequency = |i| base.powf(-(i as f64) / half as f64);
    (0..half).map(frequency).collect()
}

/// Frequencies of base 10000 in f32, as the checkpoints of this family carry them.
pub fn inv_freq(head_dim: usize) -> impl Iterator<Item = f32> {
    rotary_frequencies(head_dim, 10000.0)
        .into_iter()
        .map(|f| f as f32)
}

/// A position's row of a rotary table: `[pairs, 2]`.
pub fn rotary_row(position: usize, frequencies: &[f64]) -> Vec<f64> {
    let pair = |&frequency: &f64| {
        let angle = position as f64 * frequency;
        [angle.cos(), angle.sin()]
    };
    frequencies.iter().flat_map(pair).collect()
}

impl Graph {
    /// Table of cosines and sines of positions 0 to `length`: `[length, pairs, 2]`.
    pub fn rotary_table(&mut self, length: usize, frequencies: &[f64]) -> Tensor {
        let row = |at| rotary_row(at, frequencies);
        let data = (0..length).flat_map(row).collect();
        self.constant("rotary", &[length, frequencies.len(), 2], data)
    }

    /// Rotates the first `heads` heads of each row of `x [rows, n * head_dim]`; row r stands at position
    /// `r % length` of `table [length, pairs, 2]`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shapes do not agree.
    pub fn rotary(
        &mut self,
        name: &str,
        x: Tensor,
        table: Tensor,
        heads: usize,
        head_dim: usize,
    ) -> Result<Tensor> {
        let &[positions, pairs, 2] = self.shape(table) else {
            return Err(self.misfit("rotary", table, "[length, pairs, 2]"));
        };
        let fits = matches!(self.shape(x), &[rows, width]
            if positions > 0 && pairs > 0 && head_dim > 0 && head_dim.is_multiple_of(2) && 2 * pairs <= head_dim
                && width.is_multiple_of(head_dim) && heads * head_dim <= width && rows.is_multiple_of(positions));
        let expected = format!(
            "[n * {positions}, {heads} or more * {head_dim}], {head_dim} even and at least {}",
            2 * pairs
        );
        self.require("rotary", x, fits, &expected)?;
        let (rows, width) = (self.shape(x)[0], self.shape(x)[1]);
        let y = self.alike(name, x, &[rows, width]);
        let op = Rotary {
            rows,
            width,
            positions,
            pairs,
            heads,
            head_dim,
            inverse: false,
        };
        self.push(op, &[x, table], &[y], &[], Extent::Fixed(rows))?;
        Ok(y)
    }
}

impl Rotary {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (x, table) = (io.read(0), io.read(1));
        let (pairs, width) = (self.pairs, self.width);
        let sign = if self.inverse { -F::ONE } else { F::ONE };
        for_rows(io.write(0), width, |first, y| {
            for (i, y) in y.chunks_exact_mut(width).enumerate() {
                let row = first + i;
                let x = &x[row * width..][..width];
                let table = &table[row % self.positions * 2 * pairs..][..2 * pairs];
                y.copy_from_slice(x);
                let heads = x
                    .chunks_exact(self.head_dim)
                    .zip(y.chunks_exact_mut(self.head_dim));
                for (x, y) in heads.take(self.heads) {
                    for d in 0..pairs {
                        let (cos, sin) = (table[2 * d], table[2 * d + 1] * sign);
                        y[d] = x[d] * cos - x[d + pairs] * sin;
                        y[d + pairs] = x[d + pairs] * cos + x[d] * sin;
                    }
                }
            }
        });
    }
}

twin!(Rotary);

impl Op for Rotary {
    fn name(&self) -> &'static str {
        "rotary"
    }

    fn role(&self, input: usize) -> Role {
        if input == 0 { Role::Half } else { Role::Number }
    }

    fn writes_half(&self, _: usize) -> bool {
        true
    }

    fn backward(&self, b: &mut Backward<'_>) -> Result<()> {
        let (dy, table, extent) = (b.dy(0)?, b.read(1), b.extent());
        let shape = b.graph.shape(dy).to_vec();
        let dx = b.graph.alike("d rotated", dy, &shape);
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

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Kernel> {
        let total = self.rows * self.width / 2;
        let params = RotaryParams {
            total: total as u32,
            width: self.width as u32,
            positions: self.positions as u32,
            pairs: self.pairs as u32,
            heads: self.heads as u32,
            half_dim: self.head_dim as u32 / 2,
        };
        vec![
            Kernel::new(shader!("rotary"))
                .flag("INVERSE", self.inverse)
                .numbers("X", lower.read_element(0))
                .read(0)
                .read(1)
                .write(0)
                .params(params)
                .items(total, 256),
        ]
    }
}
