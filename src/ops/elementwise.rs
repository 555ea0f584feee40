//! Elementwise operations: SiLU and the small ones that backward rules and the trainer need.

use crate::cpu::{Float, Io, for_rows, math};
use crate::error::Result;
use crate::graph::{Backward, Graph, Kernel, Lower, Op, Tensor};
use crate::program::Extent;
use crate::{params, shader, twin};

/// Reads x (and u), writes y.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elementwise {
    /// `y = silu(x)`; backward: `dx = silu'(x) dy`.
    Silu,
    /// `y (+)= silu'(u) x`.
    SiluBackward { accumulate: bool },
    /// `y *= gelu'(x)`.
    GeluBackward,
    /// `y += x`.
    Add,
    /// `y = 0`.
    Zero,
}

params! {
    struct ElementwiseParams {
        n: u32,
    }
}

impl Graph {
    /// `y = x sigmoid(x)`, of x's shape.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for indices.
    pub fn silu(&mut self, name: &str, x: Tensor) -> Result<Tensor> {
        let shape = self.shape(x).to_vec();
        let y = self.activation(name, &shape);
        let n = self.len(x);
        self.push(Elementwise::Silu, &[x], &[y], &[], Extent::Fixed(n))?;
        Ok(y)
    }

    /// Sets every element of `y` to 0.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn zero(&mut self, y: Tensor) -> Result<()> {
        let n = self.len(y);
        self.push(Elementwise::Zero, &[], &[y], &[], Extent::Fixed(n))
    }

    pub(crate) fn add_in_place(&mut self, x: Tensor, y: Tensor) -> Result<()> {
        let n = self.len(y);
        self.push(Elementwise::Add, &[x], &[y], &[], Extent::Fixed(n))
    }
}

impl Elementwise {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let y = io.write(0);
        if *self == Self::Zero {
            y.fill(F::ZERO);
            return;
        }
        let x = io.read(0);
        match self {
            Self::Silu => {
                for_rows(y, 1, |i, y| {
                    y.iter_mut()
                        .zip(&x[i..])
                        .for_each(|(y, &x)| *y = math::silu(x))
                });
            }
            Self::Add => for_rows(y, 1, |i, y| {
                y.iter_mut().zip(&x[i..]).for_each(|(y, &x)| *y += x)
            }),
            Self::GeluBackward => {
                for_rows(y, 1, |i, y| {
                    y.iter_mut()
                        .zip(&x[i..])
                        .for_each(|(y, &x)| *y *= math::gelu_backward(x))
                });
            }
            Self::SiluBackward { accumulate } => {
                let u = io.read(1);
                for (i, y) in y.iter_mut().enumerate() {
                    let old = if *accumulate { *y } else { F::ZERO };
                    *y = old + math::silu_backward(u[i]) * x[i];
                }
            }
            Self::Zero => {}
        }
    }
}

twin!(Elementwise);

impl Op for Elementwise {
    fn name(&self) -> &'static str {
        match self {
            Self::Silu => "silu",
            Self::SiluBackward { .. } => "silu_backward",
            Self::GeluBackward => "gelu_backward",
            Self::Add => "add",
            Self::Zero => "zero",
        }
    }

    fn backward(&self, b: &mut Backward<'_>) -> Result<()> {
        if *self != Self::Silu {
            return Err(crate::Error::Internal(format!(
                "{} has no gradient",
                self.name()
            )));
        }
        let (dy, u, extent) = (b.dy(0)?, b.read(0), b.extent());
        if let Some((dx, accumulate)) = b.target(0) {
            b.graph.push(
                Self::SiluBackward { accumulate },
                &[dy, u],
                &[dx],
                &[],
                extent,
            )?;
        }
        Ok(())
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Kernel> {
        let n = lower.write_len(0);
        let (flag, accumulate) = match self {
            Self::Silu => ("SILU", false),
            Self::SiluBackward { accumulate } => ("SILU_BACKWARD", *accumulate),
            Self::GeluBackward => ("GELU_BACKWARD", false),
            Self::Add => ("ADD", false),
            Self::Zero => ("ZERO", false),
        };
        vec![
            Kernel::new(shader!("elementwise"))
                .flag(flag, true)
                .flag("ACCUMULATE", accumulate)
                .read_if(*self != Self::Zero, 0)
                .read_if(matches!(self, Self::SiluBackward { .. }), 1)
                .write(0)
                .params(ElementwiseParams { n: n as u32 })
                .items(n, 256),
        ]
    }
}
