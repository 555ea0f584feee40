//! Elementwise operations: activations and the small ones that backward rules and the trainer need.

use crate::cpu::{Float, Io, for_rows, math};
use crate::error::Result;
use crate::graph::{Backward, Graph, Kernel, Lower, Op, Tensor};
use crate::ops::Activation;
use crate::program::Extent;
use crate::{params, shader, twin};

/// Reads x (and u), writes y.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elementwise {
    /// `y = f(x)`; backward: `dx = f'(x) dy`.
    Activate(Activation),
    /// `y (+)= f'(u) x`.
    Slope {
        activation: Activation,
        accumulate: bool,
    },
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
        self.activate(name, x, Activation::Silu)
    }

    /// An activation of every element, of x's shape.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for indices.
    pub fn activate(&mut self, name: &str, x: Tensor, activation: Activation) -> Result<Tensor> {
        let shape = self.shape(x).to_vec();
        let y = self.activation(name, &shape);
        let n = self.len(x);
        self.push(
            Elementwise::Activate(activation),
            &[x],
            &[y],
            &[],
            Extent::Fixed(n),
        )?;
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
            Self::Activate(f) => for_rows(y, 1, |i, y| {
                y.iter_mut()
                    .zip(&x[i..])
                    .for_each(|(y, &x)| *y = f.value(x))
            }),
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
            Self::Slope {
                activation: f,
                accumulate,
            } => {
                let u = io.read(1);
                for (i, y) in y.iter_mut().enumerate() {
                    let old = if *accumulate { *y } else { F::ZERO };
                    *y = old + f.slope(u[i]) * x[i];
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
            Self::Activate(_) => "activation",
            Self::Slope { .. } => "activation_backward",
            Self::GeluBackward => "gelu_backward",
            Self::Add => "add",
            Self::Zero => "zero",
        }
    }

    fn backward(&self, b: &mut Backward<'_>) -> Result<()> {
        let Self::Activate(activation) = *self else {
            let problem = format!("{} has no gradient", self.name());
            return Err(crate::Error::Internal(problem));
        };
        let (dy, u, extent) = (b.dy(0)?, b.read(0), b.extent());
        if let Some((dx, accumulate)) = b.target(0) {
            let op = Self::Slope {
                activation,
                accumulate,
            };
            b.graph.push(op, &[dy, u], &[dx], &[], extent)?;
        }
        Ok(())
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Kernel> {
        let n = lower.write_len(0);
        let flag = match self {
            Self::Activate(_) => "ACTIVATE",
            Self::Slope { .. } => "SLOPE",
            Self::GeluBackward => "GELU_BACKWARD",
            Self::Add => "ADD",
            Self::Zero => "ZERO",
        };
        let (activation, accumulate) = match *self {
            Self::Activate(activation) => (Some(activation), false),
            Self::Slope {
                activation,
                accumulate,
            } => (Some(activation), accumulate),
            _ => (None, false),
        };
        vec![
            Kernel::new(shader!("elementwise"))
                .flag(flag, true)
                .flag("ACTIVATION", activation.is_some())
                .flag(activation.map_or("NONE", Activation::flag), true)
                .flag("ACCUMULATE", accumulate)
                .read_if(*self != Self::Zero, 0)
                .read_if(matches!(self, Self::Slope { .. }), 1)
                .write(0)
                .params(ElementwiseParams { n: n as u32 })
                .items(n, 256),
        ]
    }
}
