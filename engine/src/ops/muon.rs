//! Muon (Jordan 2024): momentum, made nearly orthogonal, as the update of a matrix. With g the clipped gradient and mu
//! the momentum: `m = mu m + (1 - mu) g;  u = mu m + (1 - mu) g` (Nesterov), `w -= lr rate sqrt(max(1, rows / columns))
//! orthogonalise(u)`, after weights have shrunk by `lr rate weight_decay` of themselves. The moving average follows.
//!
//! The momentum lies in the arena of AdamW's first moment, rounded as that is.

use crate::cpu::{Float, Io, for_rows, for_rows2};
use crate::error::Result;
use crate::graph::{GRADS, Graph, Kernel, Lower, Op, PARAMS, ParamId, Tensor};
use crate::ops::adamw::{ADAM_M, EMA, EMA_DECAY, LR, ROUNDING_KEY, Rounding};
use crate::ops::orthogonalise::Matrices;
use crate::program::{Declared, Extent};
use crate::{params, shader, twin};

/// Constants of Muon.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MuonConfig {
    /// Decay mu of the momentum.
    pub momentum: f64,
    /// Decoupled weight decay: weights shrink by `lr rate weight_decay` of themselves a step.
    pub weight_decay: f64,
}

/// A parameter whose `parts` equal groups of rows are matrices of their own, and where those lie among matrices that
/// have no more rows than columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Rows and columns of a part.
    pub shape: [usize; 2],
    pub parts: usize,
    /// Elements before the first one.
    pub first: usize,
    pub stride: usize,
}

/// A parameter that Muon updates.
pub(super) struct Matrix {
    pub id: ParamId,
    pub place: Place,
    pub config: MuonConfig,
    /// Times the learning rate.
    pub rate: f64,
}

impl Place {
    /// Whether parts lie there transposed.
    fn transposed(self) -> bool {
        self.shape[0] > self.shape[1]
    }

    pub fn matrices(self, count: usize) -> Matrices {
        let [rows, cols] = self.shape;
        Matrices {
            count,
            shape: [rows.min(cols), rows.max(cols)],
        }
    }

    fn len(self) -> usize {
        self.parts * self.shape[0] * self.shape[1]
    }

    /// Where element `i` of the parameter lies.
    fn at(self, i: usize) -> usize {
        let [rows, cols] = self.shape;
        let (part, i) = (i / (rows * cols), i % (rows * cols));
        let inside = match self.transposed() {
            true => i % cols * rows + i / cols,
            false => i,
        };
        self.first + part * self.stride + inside
    }

    fn params(self) -> MuonParams {
        MuonParams {
            n: self.len() as u32,
            rows: self.shape[0] as u32,
            cols: self.shape[1] as u32,
            first: self.first as u32,
            stride: self.stride as u32,
            ..MuonParams::default()
        }
    }
}

params! {
    struct MuonParams {
        n: u32,
        rows: u32,
        cols: u32,
        first: u32,
        stride: u32,
        momentum: f32,
        /// Times the learning rate: of the update, and of the decay.
        rate: f32,
        decay: f32,
        /// Of the rounding.
        site: u32,
        pairs_before: u32,
    }
}

/// Reads the gradient and [`Graph::grad_norm`]'s stats; updates the momentum and writes the update among the matrices.
#[derive(Clone, Debug)]
struct Momentum {
    place: Place,
    momentum: f64,
    rounding: Option<Rounding>,
}

/// Reads the orthogonal matrices and the stats; updates the parameter and its average.
#[derive(Clone, Debug)]
struct Apply {
    place: Place,
    /// Times the learning rate: of the update, and of the decay.
    rate: f64,
    decay: f64,
}

impl Graph {
    /// Puts the momentum of a parameter among the matrices `x`.
    pub(super) fn muon_momentum(&mut self, of: &Matrix, stats: Tensor, x: Tensor) -> Result<()> {
        let [grad, m] = [GRADS, ADAM_M].map(|arena| self.param_in(of.id, arena));
        let rounding = self.layout().params().find(|param| param.id == of.id);
        let rounding = rounding.and_then(|param| {
            let state = self.layout().slabs()[param.slab].state;
            Rounding::of(state, param.slab, param.offset)
        });
        let op = Momentum {
            place: of.place,
            momentum: of.config.momentum,
            rounding,
        };
        let n = Extent::Fixed(of.place.len());
        self.push(op, &[grad, stats], &[m, x], &[], n)
    }

    /// Applies what [`Graph::orthogonalise`] made of them.
    pub(super) fn muon_apply(&mut self, to: &Matrix, stats: Tensor, x: Tensor) -> Result<()> {
        let [w, ema] = [PARAMS, EMA].map(|arena| self.param_in(to.id, arena));
        let [rows, cols] = to.place.shape;
        let op = Apply {
            place: to.place,
            rate: to.rate * (rows as f64 / cols as f64).max(1.0).sqrt(),
            decay: to.rate * to.config.weight_decay,
        };
        let n = Extent::Fixed(to.place.len());
        self.push(op, &[x, stats], &[w, ema], &[], n)
    }
}

impl Momentum {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (grad, stats) = (io.read(0), io.read(1));
        let Place {
            shape: [rows, cols],
            first,
            stride,
            ..
        } = self.place;
        let (x, n) = (&mut io.write(1)[first..], self.place.len());
        if stats[2] == F::ZERO {
            // the same for every executor, and never applied
            x[..self.place.at(n - 1) + 1 - first].fill(F::ONE);
            return;
        }
        let (keep, take) = (F::of(self.momentum), F::of(1.0 - self.momentum));
        let key = io.step.get(ROUNDING_KEY);
        let m = io.write(0);
        for_rows(m, cols, |row, m| {
            for (m, &g) in m.iter_mut().zip(&grad[row * cols..]) {
                *m = keep * *m + take * (g * stats[1]);
            }
        });
        let size = rows * cols;
        let update = |i: usize| keep * m[i] + take * (grad[i] * stats[1]);
        for (part, x) in x.chunks_mut(stride).take(self.place.parts).enumerate() {
            let first = part * size;
            match self.place.transposed() {
                true => for_rows(&mut x[..size], rows, |col, x| {
                    for (i, x) in x.iter_mut().enumerate() {
                        *x = update(first + i % rows * cols + col + i / rows);
                    }
                }),
                false => for_rows(&mut x[..size], cols, |row, x| {
                    for (i, x) in x.iter_mut().enumerate() {
                        *x = update(first + row * cols + i);
                    }
                }),
            }
        }
        if let Some(rounding) = self.rounding {
            for_rows(m, 1, |first, m| {
                for (i, m) in m.iter_mut().enumerate() {
                    *m = m.rounded_by(rounding.bits(key, first + i)[0]);
                }
            });
        }
    }
}

twin!(Momentum);

impl Op for Momentum {
    fn name(&self) -> &'static str {
        "muon_momentum"
    }

    fn scalars(&self) -> Vec<Declared> {
        self.rounding
            .map(|_| ROUNDING_KEY.declared)
            .into_iter()
            .collect()
    }

    fn kernels(&self, _: &Lower<'_>) -> Vec<Kernel> {
        let params = MuonParams {
            momentum: self.momentum as f32,
            site: self.rounding.map_or(0, |r| r.site),
            pairs_before: self.rounding.map_or(0, |r| r.pairs_before),
            ..self.place.params()
        };
        let rounded = self.rounding.is_some();
        let kernel = kernel(self.place).entry("momentum").flag("MOMENTUM", true);
        let kernel = kernel.flag("BF16", rounded).flag("STEP", rounded);
        let kernel = kernel.read(0).read(1).write(0).write(1);
        let items = self.place.len().div_ceil(if rounded { 2 } else { 1 });
        vec![kernel.params(params).items(items, 256)]
    }
}

impl Apply {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (x, stats) = (io.read(0), io.read(1));
        if stats[2] == F::ZERO {
            return;
        }
        let lr = io.step.get(LR);
        let (rate, decay) = (F::of(lr * self.rate), F::of(lr * self.decay));
        let keep = F::of(1.0 - io.step.get(EMA_DECAY));
        let cols = self.place.shape[1];
        for_rows2(io.write(0), cols, io.write(1), cols, |row, w, ema| {
            for (i, (w, ema)) in w.iter_mut().zip(ema).enumerate() {
                *w -= decay * *w;
                *w -= rate * x[self.place.at(row * cols + i)];
                *ema = *ema - keep * (*ema - *w);
            }
        });
    }
}

twin!(Apply);

impl Op for Apply {
    fn name(&self) -> &'static str {
        "muon_apply"
    }

    fn scalars(&self) -> Vec<Declared> {
        [LR, EMA_DECAY].map(|s| s.declared).to_vec()
    }

    fn kernels(&self, _: &Lower<'_>) -> Vec<Kernel> {
        let params = MuonParams {
            rate: self.rate as f32,
            decay: self.decay as f32,
            ..self.place.params()
        };
        let kernel = kernel(self.place).entry("apply").flag("STEP", true);
        let kernel = kernel.read(0).read(1).write(0).write(1);
        vec![kernel.params(params).items(self.place.len(), 256)]
    }
}

fn kernel(place: Place) -> Kernel {
    Kernel::new(shader!("muon")).flag("TRANSPOSED", place.transposed())
}
