//! AdamW with decoupled weight decay, and the exponential moving average of the weights, over
//! whole slabs of the arenas. Moments may be kept in bf16: they are rounded up or down at random, by [`ROUNDING_KEY`], as
//! steps smaller than half of a number's last place would be lost otherwise.

use std::ops::Range;

use crate::cpu::{Float, Io};
use crate::error::Result;
use crate::graph::{GRADS, Graph, Kernel, Lower, Op, PARAMS, Tensor};
use crate::program::{Arena, Declared, Element, Extent, Scalar};
use crate::rng::threefry2x32;
use crate::{params, shader, twin};

/// Constants of the optimiser; learning rate and bias corrections come with the step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamwConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay: weights shrink by `lr weight_decay` of themselves a step.
    pub weight_decay: f64,
}

/// Reads the gradients and [`Graph::grad_norm`]'s stats; updates params, m, v and ema.
#[derive(Clone, Debug)]
struct Adamw {
    config: AdamwConfig,
    rate: f64,
    rounding: Option<Rounding>,
}

/// How numbers of an arena in bf16 are rounded: two of them by each draw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rounding {
    /// The arena and the slab, so that no two numbers of a step have one draw.
    pub(super) site: u32,
    /// Pairs in front of the first one.
    pub(super) pairs_before: u32,
}

impl Rounding {
    /// Of a range of a slab that begins at element `first`; `None` for elements of f32.
    pub(super) fn of(state: Element, slab: usize, first: usize) -> Option<Self> {
        (state == Element::Bf16).then_some(Self {
            site: slab as u32,
            pairs_before: (first / 2) as u32,
        })
    }

    /// 16 random bits for each of element `i`'s two moments, in the words' lower halves.
    #[inline(always)]
    pub(super) fn bits(self, key: [u32; 2], i: usize) -> [u32; 2] {
        let words = threefry2x32(key, [self.pairs_before + (i / 2) as u32, self.site]);
        words.map(|word| word >> (i % 2 * 16))
    }
}

params! {
    struct AdamwParams {
        n: u32,
        beta1: f32,
        beta2: f32,
        eps: f32,
        weight_decay: f32,
        /// Times the learning rate.
        rate: f32,
        site: u32,
        /// Pairs of the slab in front.
        pairs_before: u32,
    }
}

/// AdamW's first moment.
pub const ADAM_M: Arena = Arena::state("adam_m").shared();
/// AdamW's second moment.
pub const ADAM_V: Arena = Arena::state("adam_v").shared();
/// Exponential moving average of the weights.
pub const EMA: Arena = Arena::f32("ema").shared();
/// The arenas of a model in training, in storage order.
pub const TRAINING: [Arena; 5] = [PARAMS, GRADS, ADAM_M, ADAM_V, EMA];

/// Learning rate of the step.
pub const LR: Scalar<f64> = Scalar::float("lr", 0.0);
/// `1 - beta1^k` of AdamW at its k-th step.
pub const BIAS1: Scalar<f64> = Scalar::float("bias1", 0.0);
/// `1 - beta2^k`.
pub const BIAS2: Scalar<f64> = Scalar::float("bias2", 0.0);
/// Key of the draws by which moments in bf16 are rounded.
pub const ROUNDING_KEY: Scalar<[u32; 2]> = Scalar::key("rounding_key");
/// Decay of the weights' moving average: `ema += (1 - decay) (w - ema)`.
pub const EMA_DECAY: Scalar<f64> = Scalar::float("ema_decay", 0.0);

impl Graph {
    /// Appends the update of a range of a slab, at `rate` times the learning rate.
    pub(super) fn adamw(
        &mut self,
        stats: Tensor,
        slab: usize,
        range: Range<usize>,
        config: AdamwConfig,
        rate: f64,
    ) -> Result<()> {
        let mut part = |arena| {
            let whole = self.slab(arena, slab);
            self.view(whole, range.start, &[range.len()])
        };
        let grads = part(GRADS)?;
        let updated = [part(PARAMS)?, part(ADAM_M)?, part(ADAM_V)?, part(EMA)?];
        let state = self.layout().slabs()[slab].state;
        let op = Adamw {
            config,
            rate,
            rounding: Rounding::of(state, slab, range.start),
        };
        let n = Extent::Fixed(range.len());
        self.push(op, &[grads, stats], &updated, &[], n)
    }
}

impl Adamw {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (grads, stats) = (io.read(0), io.read(1));
        if stats[2] == F::ZERO {
            return;
        }
        let c = self.config;
        let (b1, b2) = (F::of(c.beta1), F::of(c.beta2));
        let (a1, a2) = (F::of(1.0 - c.beta1), F::of(1.0 - c.beta2));
        let lr = io.step.get(LR) * self.rate;
        let (rate, decay) = (
            F::of(lr) / F::of(io.step.get(BIAS1)),
            F::of(lr * c.weight_decay),
        );
        let (bias2, eps, keep) = (
            F::of(io.step.get(BIAS2)),
            F::of(c.eps),
            F::of(1.0 - io.step.get(EMA_DECAY)),
        );
        let (rounding, key) = (self.rounding, io.step.get(ROUNDING_KEY));
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
            if let Some(rounding) = rounding {
                for i in 0..m.len() {
                    let [bits_m, bits_v] = rounding.bits(key, first + i);
                    m[i] = m[i].rounded_by(bits_m);
                    v[i] = v[i].rounded_by(bits_v);
                }
            }
        });
    }
}

twin!(Adamw);

impl Op for Adamw {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn scalars(&self) -> Vec<Declared> {
        let mut scalars = [LR, BIAS1, BIAS2, EMA_DECAY].map(|s| s.declared).to_vec();
        scalars.extend(self.rounding.map(|_| ROUNDING_KEY.declared));
        scalars
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Kernel> {
        let n = lower.read_len(0);
        let AdamwConfig {
            beta1,
            beta2,
            eps,
            weight_decay,
        } = self.config;
        let kernel = Kernel::new(shader!("adamw")).flag("BF16", self.rounding.is_some());
        let kernel = kernel.read(0).read(1);
        let kernel = (0..4).fold(kernel, Kernel::write);
        let params = AdamwParams {
            n: n as u32,
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            eps: eps as f32,
            weight_decay: weight_decay as f32,
            rate: self.rate as f32,
            site: self.rounding.map_or(0, |r| r.site),
            pairs_before: self.rounding.map_or(0, |r| r.pairs_before),
        };
        let items = if self.rounding.is_some() {
            n.div_ceil(2)
        } else {
            n
        };
        vec![kernel.params(params).items(items, 256)]
    }
}
