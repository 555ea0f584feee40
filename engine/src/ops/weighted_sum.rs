//! `y = sum of x w`: the last node of a loss. Its gradient is `dx = w`, as d y = 1.

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
        self.require(
            "weighted_sum",
            w,
            self.len(w) == n,
            &format!("{n} elements"),
        )?;
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
        if !matches!(b.extent(), Extent::Fixed(_)) {
            let problem = "a weighted sum over dynamic rows has no gradient";
            return Err(Error::Internal(problem.into()));
        }
        let w = b.read(1);
        if let Some((dx, accumulate)) = b.target(0) {
            if !accumulate {
                b.graph.zero(dx)?;
            }
            b.graph.add_in_place(w, dx)?;
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
