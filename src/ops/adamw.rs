//! AdamW with decoupled weight decay, and the exponential moving average of the weights, over
//! whole slabs of the arenas.

use crate::cpu::{Float, Io};
use crate::device::program::{Arena, Extent};
use crate::error::Result;
use crate::gpu::{Grid, Source};
use crate::graph::{Graph, Launch, Lower, Op, Operand, Tensor};
use crate::{shader, twin};

/// Constants of the optimiser; learning rate and bias corrections come with the step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamwConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

/// Reads the gradients and [`Graph::grad_norm`]'s stats; updates params, m, v and ema.
#[derive(Clone, Debug)]
struct Adamw(AdamwConfig);

impl Graph {
    /// Appends the update of every slab, then clears the gradients.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if `stats` is not what [`Graph::grad_norm`] makes.
    pub fn adamw(&mut self, stats: Tensor, config: AdamwConfig) -> Result<()> {
        self.expect("adamw", stats, &[4])?;
        for slab in 0..self.layout().slabs().len() {
            let grads = self.slab(Arena::Grads, slab);
            let updated =
                [Arena::Params, Arena::M, Arena::V, Arena::Ema].map(|arena| self.slab(arena, slab));
            let n = self.len(grads);
            self.push(
                Adamw(config),
                &[grads, stats],
                &updated,
                &[],
                Extent::Fixed(n),
            );
            self.zero(grads);
        }
        Ok(())
    }
}

impl Adamw {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (grads, stats) = (io.read(0), io.read(1));
        if stats[2] == F::ZERO {
            return;
        }
        let c = self.0;
        let (b1, b2) = (F::of(c.beta1), F::of(c.beta2));
        let (a1, a2) = (F::of(1.0 - c.beta1), F::of(1.0 - c.beta2));
        let (lr, decay) = (F::of(io.step.lr), F::of(io.step.lr * c.weight_decay));
        let rate = lr / F::of(io.step.bias1);
        let (bias2, eps, keep) = (
            F::of(io.step.bias2),
            F::of(c.eps),
            F::of(1.0 - io.step.ema_decay),
        );
        let (params, m) = (io.write(0), io.write(1));
        let (v, ema) = (io.write(2), io.write(3));
        crate::cpu::for_rows4([params, m, v, ema], |first, [params, m, v, ema]| {
            let grads = &grads[first..][..params.len()];
            for i in 0..params.len() {
                let g = grads[i] * stats[1];
                m[i] = b1 * m[i] + a1 * g;
                v[i] = b2 * v[i] + a2 * g * g;
                let mut x = params[i];
                x -= decay * x;
                x -= rate * m[i] / ((v[i] / bias2).sqrt() + eps);
                params[i] = x;
                ema[i] = ema[i] - keep * (ema[i] - x);
            }
        });
    }
}

twin!(Adamw);

impl Op for Adamw {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Launch> {
        let n = lower.read_len(0);
        let AdamwConfig {
            beta1,
            beta2,
            eps,
            weight_decay,
        } = self.0;
        let mut params = vec![n as u32];
        params.extend([beta1, beta2, eps, weight_decay].map(|x| (x as f32).to_bits()));
        params.extend([0; 3]);
        let mut operands = vec![Some(Operand::Read(0)), Some(Operand::Read(1))];
        operands.extend((0..4).map(|i| Some(Operand::Write(i))));
        vec![Launch {
            source: Source::new(shader!("adamw")),
            operands,
            params,
            grid: Grid::items(Extent::Fixed(n), 256),
            flops: 0,
        }]
    }
}
