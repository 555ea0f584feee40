//! Global L2 norm of the gradients, the factor that clips them, `min(1, clip / (norm + 1e-6))`, and whether all
//! gradients are finite; over whole slabs of the arena. Gradients are [`LOSS_SCALE`] times what they should be: the norm is
//! that of the true ones, and the factor makes them so.

use crate::cpu::{Float, Io, for_rows, math};
use crate::error::Result;
use crate::graph::{GRADS, Graph, Kernel, Lower, Op, Tensor};
use crate::program::{Declared, Extent, Scalar};
use crate::{params, shader, twin};

/// What the loss is multiplied by when its gradient is taken, so that small gradients are numbers in f16: a power of 2.
pub const LOSS_SCALE: Scalar<f64> = Scalar::float("loss_scale", 1.0);

/// Most workgroups of a slab.
const GROUPS: usize = 256;
/// Elements that the twin sums in one go; fixed, so the order does not depend on threads.
const TWIN_SHARE: usize = 1 << 14;

/// Reads the gradient slabs; writes stats [4]: norm, factor, finite (1 or 0), nothing.
#[derive(Clone, Debug)]
struct GradNorm {
    clip: f64,
}

params! {
    struct GradNormParams {
        /// Elements of the slab; partials in all.
        n: u32,
        /// Elements of a workgroup.
        share: u32,
        /// Where the slab's partials begin.
        first: u32,
        /// 0: no clipping.
        clip: f32,
    }
}

impl Graph {
    /// `[4]`: norm, factor of the gradients, 1 if every gradient is finite, unused. `clip` 0: no clipping.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn grad_norm(&mut self, clip: f64) -> Result<Tensor> {
        let slabs: Vec<_> = self.layout().trained().collect();
        let slabs: Vec<_> = slabs.into_iter().map(|i| self.slab(GRADS, i)).collect();
        let stats = self.activation("grad_norm", &[4]);
        let partials = self.activation("norm partials", &[slabs.len() * GROUPS, 2]);
        self.push(
            GradNorm { clip },
            &slabs,
            &[stats],
            &[partials],
            Extent::Fixed(1),
        )?;
        Ok(stats)
    }
}

impl GradNorm {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let shares = (0..io.read_count())
            .map(|i| io.read(i).len().div_ceil(TWIN_SHARE))
            .max()
            .unwrap_or(0);
        let shares = io.scratch(shares);
        let mut sum = F::ZERO;
        for i in 0..io.read_count() {
            let grads = io.read(i);
            let shares = &mut shares[..grads.len().div_ceil(TWIN_SHARE)];
            for_rows(shares, 1, |first, shares| {
                for (j, share) in shares.iter_mut().enumerate() {
                    let from = (first + j) * TWIN_SHARE;
                    let part = &grads[from..grads.len().min(from + TWIN_SHARE)];
                    *share = math::sum(part.len(), |k| part[k] * part[k]);
                }
            });
            sum = shares.iter().fold(sum, |sum, &share| sum + share);
        }
        let scale = F::of(io.step.get(LOSS_SCALE));
        let norm = sum.sqrt() / scale;
        let clip = F::of(self.clip);
        let factor = if self.clip > 0.0 {
            F::ONE.min(clip / (norm + F::of(1e-6)))
        } else {
            F::ONE
        };
        let finite = if norm.finite() { F::ONE } else { F::ZERO };
        io.write(0)
            .copy_from_slice(&[norm, factor / scale, finite, F::ZERO]);
    }
}

twin!(GradNorm);

impl Op for GradNorm {
    fn name(&self) -> &'static str {
        "grad_norm"
    }

    fn scalars(&self) -> Vec<Declared> {
        vec![LOSS_SCALE.declared]
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Kernel> {
        let slabs = lower.read_count();
        let kernel =
            || Kernel::new(shader!("grad_norm")).constant("THREADS", lower.tuning.row_threads);
        let mut kernels: Vec<_> = (0..slabs)
            .map(|i| {
                let n = lower.read_len(i);
                let share = n
                    .div_ceil(GROUPS)
                    .next_multiple_of(lower.tuning.row_threads as usize);
                let params = GradNormParams {
                    n: n as u32,
                    share: share as u32,
                    first: (i * GROUPS) as u32,
                    clip: 0.0,
                };
                let kernel = kernel().entry("partial").read(i).temp(0);
                kernel.params(params).groups(GROUPS)
            })
            .collect();
        let params = GradNormParams {
            n: (slabs * GROUPS) as u32,
            clip: self.clip as f32,
            ..GradNormParams::default()
        };
        let finish = kernel().entry("finish").flag("FINISH", true);
        kernels.push(finish.temp_read(0).write(0).params(params));
        kernels
    }
}
