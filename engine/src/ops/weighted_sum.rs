//! `y = sum of x w`, as losses end. Backward: `dx = dy w`.

use crate::cpu::{Float, Io};
use crate::error::{Error, Result};
use crate::graph::{Backward, Graph, Kernel, Lower, Op, Tensor};
use crate::program::Extent;
use crate::{params, shader, twin};

/// Reads x and w; writes y `[1]`.
#[derive(Clone, Debug)]
struct WeightedSum {
    n: usize,
}

params! {
    struct SumParams {
        n: u32,
    }
}

impl Graph {
    /// `[1]`: the sum of the products of the elements within `extent`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if x and w differ in size.
    pub fn weighted_sum(
        &mut self,
        name: &str,
        x: Tensor,
        w: Tensor,
        extent: Extent,
    ) -> Result<Tensor> {
        let n = self.len(x);
        let fits = self.len(w) == n;
        self.require("weighted_sum", w, fits, &format!("{n} elements"))?;
        let y = self.activation(name, &[1]);
        self.push(WeightedSum { n }, &[x, w], &[y], &[], extent)?;
        Ok(y)
    }
}

impl WeightedSum {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (x, w) = (io.read(0), io.read(1));
        io.write(0)[0] = crate::cpu::math::sum(io.rows.min(self.n), |i| x[i] * w[i]);
    }
}

twin!(WeightedSum);

impl Op for WeightedSum {
    fn name(&self) -> &'static str {
        "weighted_sum"
    }

    fn backward(&self, b: &mut Backward<'_>) -> Result<()> {
        if b.extent().scalar().is_some() {
            let problem = "a weighted sum over dynamic rows has no gradient";
            return Err(Error::Internal(problem.into()));
        }
        let (dy, w, extent) = (b.dy(0)?, b.read(1), b.extent());
        if let Some((dx, accumulate)) = b.target(0) {
            let op = WeightedSumBackward {
                n: self.n,
                accumulate,
            };
            b.graph.push(op, &[dy, w], &[dx], &[], extent)?;
        }
        Ok(())
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Kernel> {
        vec![
            Kernel::new(shader!("weighted_sum"))
                .flag("DYNAMIC", lower.extent().scalar().is_some())
                .constant("THREADS", lower.tuning.row_threads)
                .counted(lower.extent())
                .read(0)
                .read(1)
                .write(0)
                .params(SumParams { n: self.n as u32 }),
        ]
    }
}

/// Reads dy `[1]` and w; writes, or adds to, dx.
#[derive(Clone, Debug)]
struct WeightedSumBackward {
    n: usize,
    accumulate: bool,
}

impl WeightedSumBackward {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (dy, w) = (io.read(0)[0], io.read(1));
        for (dx, &w) in io.write(0).iter_mut().zip(w) {
            let old = if self.accumulate { *dx } else { F::ZERO };
            *dx = old + dy * w;
        }
    }
}

twin!(WeightedSumBackward);

impl Op for WeightedSumBackward {
    fn name(&self) -> &'static str {
        "weighted_sum_backward"
    }

    fn kernels(&self, _: &Lower<'_>) -> Vec<Kernel> {
        vec![
            Kernel::new(shader!("weighted_sum"))
                .entry("backward")
                .flag("BACKWARD", true)
                .flag("ACCUMULATE", self.accumulate)
                .read(0)
                .read(1)
                .write(0)
                .params(SumParams { n: self.n as u32 })
                .items(self.n, 256),
        ]
    }
}
