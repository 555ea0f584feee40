//! Losses of listed rows and their gradients with respect to the logits z, in place.
//!
//! With p = softmax(z) and w the row's weight times [`LOSS_SCALE`]:
//! - SUBS, discrete or continuous, and autoregressive: the mask, if its id is given, takes no part in the softmax,
//!   `nll = -log p[x0]`, `dz = w (p - onehot(x0))`, 0 at the mask.
//! - D3PM: the mask takes part with probability p_m, and with the row's c0, c1, c2
//!   `nll = -log p[x0] + log1p(c1 p_m) + c0 log1p(c2 p_m / (1 + c1 p_m))`. For a step from t to s = t - dt
//!   of the reference's `_d3pm_loss`, c1 = alpha_s / s, c2 = alpha_t / t - alpha_s / s and c0 = T t give its
//!   bound divided by its factor 1 / t: the terms A and B that it subtracts differ by a part in T, so
//!   their difference is formed in closed form. All three are 0 for the reconstruction term.
//!   With `g = c1 / (1 + c1 p_m) + c0 c2 / ((1 + c1 p_m) (1 + (c1 + c2) p_m))`, the slope in p_m,
//!   `dz = w (p - onehot(x0) + g p_m (onehot(m) - p))`.
//! - SEDD: with log scores `s = z - c0` (not normalised), `nll = sum over v != m of exp(s_v) - c1 s[x0] + c2`,
//!   `dz = w (exp(s) - c1 onehot(x0))`, 0 at the mask; c0 = log(expm1 sigma) + log(V - 1), c1 = 1 / expm1(sigma),
//!   c2 = c1 (log c1 - 1) (reference `_score_entropy`, whose factor sigma' is part of w).
//!
//! Gradients can be finite where the loss is not, such as those of logits of 3e38 and -3e38. A row whose w nll, times
//! the rows of the step, is not finite has NaN for its dz, so that the step is skipped by its gradients, whichever of
//! several micro-batches or ranks it is of.

use crate::cpu::{Float, Io, for_rows2, math};
use crate::gpu::Grid;
use crate::graph::{Kernel, Lower, Op, Role};
use crate::ops::{LOSS_SCALE, ROWS};
use crate::program::Declared;
use crate::{params, shader, twin};

/// A mask's id that no token has.
pub(super) const NO_MASK: u32 = u32::MAX;

/// Width of a row's coefficients: c0, c1, c2 and a 0 behind them.
pub const COEFFICIENTS: usize = 4;

/// What a listed row's logits are scored by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RowLoss {
    /// Cross-entropy without the mask.
    #[default]
    Subs,
    /// The discrete-time bound with a mask that may be predicted.
    D3pm,
    /// Score entropy.
    Sedd,
}

params! {
    struct RowLossParams {
        vocab: u32,
        mask_index: u32,
        /// First row of the chunk.
        base: u32,
        /// Rows of a full chunk.
        most: u32,
    }
}

impl RowLoss {
    /// Whether rows come with coefficients: those of D3PM and SEDD do.
    pub fn has_coefficients(self) -> bool {
        self != Self::Subs
    }
}

/// Reads targets, weights and coefficients `[rows, 4]` if any; updates logits; writes nll.
#[derive(Clone, Debug)]
pub(super) struct RowLosses {
    pub(super) loss: RowLoss,
    pub(super) vocab: usize,
    pub(super) mask_index: Option<u32>,
    pub(super) base: usize,
    pub(super) most: usize,
    pub(super) gradient: bool,
}

/// A row's part in the loss.
struct Row<F> {
    x0: usize,
    mask: Option<usize>,
    weight: F,
    c: [F; 3],
}

/// `p = exp(z - top)` in place, 0 at the mask unless it takes part; the sum of p.
fn exponentials<F: Float>(z: &mut [F], top: F, without: Option<usize>) -> F {
    for x in z.iter_mut() {
        *x = (*x - top).exp();
    }
    if let Some(mask) = without {
        z[mask] = F::ZERO;
    }
    math::sum(z.len(), |v| z[v])
}

impl<F: Float> Row<F> {
    fn subs(&self, z: &mut [F]) -> F {
        let target = z[self.x0];
        if let Some(mask) = self.mask {
            z[mask] = F::LOWEST;
        }
        let top = math::maximum(z.len(), |v| z[v]);
        let sum = exponentials(z, top, self.mask);
        let scale = self.weight / sum;
        z.iter_mut().for_each(|x| *x *= scale);
        z[self.x0] -= self.weight;
        sum.ln() + (top - target)
    }

    fn d3pm(&self, z: &mut [F]) -> F {
        let (target, [c0, c1, c2]) = (z[self.x0], self.c);
        let top = math::maximum(z.len(), |v| z[v]);
        let sum = exponentials(z, top, None);
        let mask = self.mask.unwrap_or(self.x0);
        let p_m = z[mask] / sum;
        let under = F::ONE + c1 * p_m;
        let bound = (c1 * p_m).ln_1p() + c0 * (c2 * p_m / under).ln_1p();
        let pull = p_m * (c1 / under + c0 * c2 / (under * (under + c2 * p_m)));
        let scale = self.weight * (F::ONE - pull) / sum;
        z.iter_mut().for_each(|x| *x *= scale);
        z[self.x0] -= self.weight;
        z[mask] += self.weight * pull;
        sum.ln() + (top - target) + bound
    }

    fn sedd(&self, z: &mut [F]) -> F {
        let (target, [shift, ratio, constant]) = (z[self.x0], self.c);
        let sum = exponentials(z, shift, self.mask);
        z.iter_mut().for_each(|x| *x *= self.weight);
        z[self.x0] -= self.weight * ratio;
        sum - ratio * (target - shift) + constant
    }
}

impl RowLosses {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (targets, weights, n) = (io.read_uint(0), io.read(1), self.vocab);
        let coefficients = match self.loss {
            RowLoss::Subs => &[],
            _ => io.read(2),
        };
        let scale = F::of(io.step.get(LOSS_SCALE));
        let count = F::of(io.step.get(ROWS).into());
        let logits = &mut io.write(0)[..io.rows * n];
        let nll = &mut io.write(1)[..io.rows];
        for_rows2(logits, n, nll, 1, |first, logits, nll| {
            for (i, (z, nll)) in logits.chunks_exact_mut(n).zip(nll).enumerate() {
                let at = first + i;
                let c = coefficients.get(COEFFICIENTS * at..).unwrap_or_default();
                let row = Row {
                    x0: targets[at] as usize,
                    mask: self.mask_index.map(|mask| mask as usize),
                    weight: weights[at] * scale,
                    c: if let [a, b, c, ..] = *c {
                        [a, b, c]
                    } else {
                        [F::ZERO; 3]
                    },
                };
                *nll = match self.loss {
                    RowLoss::Subs => row.subs(z),
                    RowLoss::D3pm => row.d3pm(z),
                    RowLoss::Sedd => row.sedd(z),
                };
                if !(row.weight * *nll * count).finite() {
                    z.fill(F::of(f64::NAN));
                }
            }
        });
    }
}

twin!(RowLosses);

impl Op for RowLosses {
    fn name(&self) -> &'static str {
        "row_loss"
    }

    fn role(&self, input: usize) -> Role {
        if input == 0 {
            Role::Index
        } else {
            Role::Number
        }
    }

    fn scalars(&self) -> Vec<Declared> {
        vec![LOSS_SCALE.declared]
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Kernel> {
        let threads = lower.row_threads(self.vocab);
        let params = RowLossParams {
            vocab: self.vocab as u32,
            mask_index: self.mask_index.unwrap_or(NO_MASK),
            base: self.base as u32,
            most: self.most as u32,
        };
        vec![
            Kernel::new(shader!("row_loss"))
                .flag("GRADIENT", self.gradient)
                .flag("D3PM", self.loss == RowLoss::D3pm)
                .flag("SEDD", self.loss == RowLoss::Sedd)
                .flag("COEFFICIENTS", self.loss.has_coefficients())
                .constant("THREADS", threads)
                .counted(lower.extent())
                .read(0)
                .read_if(self.gradient, 1)
                .read_if(self.loss.has_coefficients(), 2)
                .write(0)
                .write(1)
                .params(params)
                .grid(Grid::items(lower.extent(), 1)),
        ]
    }
}
