//! The most a device can do: pure multiply-adds in registers, and a copy. Benchmarks state their
//! figures as a fraction of these, measured in the same run.

use crate::cpu::{Float, Io, for_rows};
use crate::error::Result;
use crate::graph::{Graph, Kernel, Lower, Op, Tensor};
use crate::program::Extent;
use crate::{params, shader, twin};

/// Reads x, writes y of the same size; `rounds` 0: a copy.
#[derive(Clone, Debug)]
struct Roofline {
    n: usize,
    rounds: usize,
}

params! {
    struct RooflineParams {
        /// vec4 of y.
        n: u32,
        rounds: u32,
    }
}

impl Graph {
    /// `y = x` (`rounds` 0), or `rounds` multiply-adds on every element of x; the size must be a
    /// multiple of 64.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for another size.
    pub fn roofline(&mut self, x: Tensor, rounds: usize) -> Result<Tensor> {
        let n = self.len(x);
        self.require(
            "roofline",
            x,
            n.is_multiple_of(64),
            "a multiple of 64 elements",
        )?;
        let y = self.activation("roofline", &[n]);
        self.push(Roofline { n, rounds }, &[x], &[y], &[], Extent::Fixed(n))?;
        Ok(y)
    }
}

impl Roofline {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let x = io.read(0);
        for_rows(io.write(0), 64, |first, y| {
            for (i, y) in y.chunks_exact_mut(64).enumerate() {
                let mut sums = [F::ZERO; 64];
                sums.copy_from_slice(&x[(first + i) * 64..][..64]);
                for _ in 0..self.rounds {
                    for sum in &mut sums {
                        *sum = sum.mul_add(x[0], x[0]);
                    }
                }
                y.copy_from_slice(&sums);
            }
        });
    }
}

twin!(Roofline);

impl Op for Roofline {
    fn name(&self) -> &'static str {
        "roofline"
    }

    fn kernels(&self, _: &Lower<'_>) -> Vec<Kernel> {
        let per_invocation = if self.rounds > 0 { 16 } else { 4 };
        let params = RooflineParams {
            n: (self.n / 4) as u32,
            rounds: self.rounds as u32,
        };
        vec![
            Kernel::new(shader!("roofline"))
                .flag("MULTIPLY_ADD", self.rounds > 0)
                .read(0)
                .write(0)
                .params(params)
                .items(self.n / per_invocation, 256)
                .flops(2 * (self.n * self.rounds) as u64),
        ]
    }
}
