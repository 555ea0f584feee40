//! Matrices made nearly orthogonal by Newton-Schulz steps: singular values between about 0.7 and 1.2, singular vectors
//! as they were (Jordan 2024; the quintic of Muon). Of `X [s, l]` with `s <= l`, first divided by its Frobenius norm:
//! `A = X X^T;  B = b A + c A A;  X = a X + B X`, five times.

use crate::cpu::{Float, Io, for_blocks, math};
use crate::error::Result;
use crate::graph::{Graph, Kernel, Lower, Op, Tensor};
use crate::ops::matmul::{Form, Many, Matmul};
use crate::program::Extent;
use crate::{params, shader, twin};

/// Newton-Schulz steps.
pub const STEPS: usize = 5;
/// Coefficients a, b and c.
pub const QUINTIC: [f64; 3] = [3.4445, -4.7750, 2.0315];
/// Added to a norm before it divides.
pub const NORM_EPS: f64 = 1e-7;

/// Workgroups that sum the squares of a matrix.
const GROUPS: usize = 32;
/// Matrices lie at multiples of so many elements.
const ALIGN: usize = 64;

/// Matrices of one shape, one after the other at `stride` elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Matrices {
    pub(crate) count: usize,
    /// Rows and columns of each; no more rows than columns.
    pub(crate) shape: [usize; 2],
}

impl Matrices {
    pub(crate) fn stride(self) -> usize {
        (self.shape[0] * self.shape[1]).next_multiple_of(ALIGN)
    }

    /// Numbers for all of them, `[count, stride]`.
    pub(crate) fn activation(self, g: &mut Graph, name: &str) -> Tensor {
        g.activation(name, &[self.count, self.stride()])
    }
}

/// Divides each matrix by its Frobenius norm, in place.
#[derive(Clone, Debug)]
struct UnitNorm(Matrices);

params! {
    struct UnitNormParams {
        count: u32,
        /// Elements of a matrix, and from one to the next.
        n: u32,
        stride: u32,
        eps: f32,
    }
}

impl Graph {
    /// The matrices `x` made nearly orthogonal, in a tensor of their own; `x` is changed.
    pub(crate) fn orthogonalise(&mut self, x: Tensor, matrices: Matrices) -> Result<Tensor> {
        let Matrices {
            count,
            shape: [s, l],
        } = matrices;
        let square = Matrices {
            count,
            shape: [s, s],
        };
        let partials = self.activation("norm partials", &[count, GROUPS]);
        let all = Extent::Fixed(count);
        self.push(UnitNorm(matrices), &[], &[x], &[partials], all)?;
        let [a, b, c] = QUINTIC;
        let (wide, small) = (matrices.stride(), square.stride());
        let mut x = x;
        for _ in 0..STEPS {
            let gram = square.activation(self, "x x^T");
            let many = |strides, alpha, beta| Many {
                count,
                strides,
                alpha,
                beta,
            };
            let product = |form, n, k, many| Matmul {
                many: Some(many),
                ..Matmul::new(form, s, n, k)
            };
            let op = product(Form::Nt, s, l, many([wide, wide, small], 1.0, None));
            self.push(op, &[x, x], &[gram], &[], all)?;
            let mixed = square.activation(self, "b a + c a^2");
            // symmetric, so either form will do
            let op = product(Form::Nt, s, s, many([small; 3], c, Some(b)));
            self.push(op, &[gram, gram, gram], &[mixed], &[], all)?;
            let next = matrices.activation(self, "orthogonal");
            let op = product(Form::Nn, l, s, many([small, wide, wide], 1.0, Some(a)));
            self.push(op, &[mixed, x, x], &[next], &[], all)?;
            x = next;
        }
        Ok(x)
    }
}

impl UnitNorm {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (n, stride) = (self.0.shape[0] * self.0.shape[1], self.0.stride());
        for_blocks([io.write(0)], [stride], &|_, [x]: [&mut [F]; 1]| {
            let x = &mut x[..n];
            let norm = math::sum(n, |i| x[i] * x[i]).sqrt();
            let scale = F::ONE / (norm + F::of(NORM_EPS));
            x.iter_mut().for_each(|x| *x *= scale);
        });
    }
}

twin!(UnitNorm);

impl Op for UnitNorm {
    fn name(&self) -> &'static str {
        "unit_norm"
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Kernel> {
        let Matrices { count, shape } = self.0;
        let n = shape[0] * shape[1];
        let params = UnitNormParams {
            count: count as u32,
            n: n as u32,
            stride: self.0.stride() as u32,
            eps: NORM_EPS as f32,
        };
        let threads = lower.tuning.row_threads;
        let kernel = || Kernel::new(shader!("unit_norm")).constant("GROUPS", GROUPS as u32);
        let partial = kernel().entry("partial").flag("PARTIAL", true);
        let partial = partial.constant("THREADS", threads);
        let scale = kernel().entry("scale").constant("THREADS", threads);
        let shares = n.div_ceil(threads as usize);
        vec![
            partial
                .write(0)
                .temp(0)
                .params(params)
                .groups(count * GROUPS),
            scale
                .write(0)
                .temp_read(0)
                .params(params)
                .groups(count * shares),
        ]
    }
}
