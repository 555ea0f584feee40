//! Elementwise operations: activations and the small ones that backward rules and the trainer need.

use crate::cpu::{Float, Io, for_rows, math};
use crate::error::Result;
use crate::graph::{Backward, Graph, Kernel, Lower, Op, Role, Tensor};
use crate::ops::Activation;
use crate::ops::activation::with_activation;
use crate::program::{Element, Extent};
use crate::{params, shader, twin};

/// Reads x (and u), writes y.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Elementwise {
    /// `y = f(x)`; backward: `dx = f'(x) dy`.
    Activate(Activation),
    /// `y (+)= f'(u) x`.
    Slope {
        activation: Activation,
        accumulate: bool,
    },
    /// `y (+)= factor x`.
    Scale { factor: f64, accumulate: bool },
    /// `y = x + u`.
    Sum,
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
        factor: f32,
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

    /// `factor x`, of x's shape.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for indices.
    pub fn scale(&mut self, name: &str, x: Tensor, factor: f64) -> Result<Tensor> {
        let shape = self.shape(x).to_vec();
        let (y, n) = (self.activation(name, &shape), self.len(x));
        let op = Elementwise::Scale {
            factor,
            accumulate: false,
        };
        self.push(op, &[x], &[y], &[], Extent::Fixed(n))?;
        Ok(y)
    }

    /// `x + u` of one shape: losses are summed so.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shapes differ.
    pub fn add(&mut self, name: &str, x: Tensor, u: Tensor) -> Result<Tensor> {
        let shape = self.shape(x).to_vec();
        self.expect("sum", u, &shape)?;
        let (y, n) = (self.activation(name, &shape), self.len(x));
        self.push(Elementwise::Sum, &[x, u], &[y], &[], Extent::Fixed(n))?;
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
            Self::Activate(f) => with_activation!(f, |value, _slope| for_rows(y, 1, |i, y| {
                y.iter_mut().zip(&x[i..]).for_each(|(y, &x)| *y = value(x))
            })),
            Self::Scale { factor, accumulate } => {
                let factor = F::of(*factor);
                for (y, &x) in y.iter_mut().zip(x) {
                    let old = if *accumulate { *y } else { F::ZERO };
                    *y = old + factor * x;
                }
            }
            Self::Sum => {
                let u = io.read(1);
                for (i, y) in y.iter_mut().enumerate() {
                    *y = x[i] + u[i];
                }
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
            Self::Slope {
                activation: f,
                accumulate,
            } => {
                let u = io.read(1);
                if !*accumulate {
                    y.fill(F::ZERO);
                }
                with_activation!(f, |_value, slope| for_rows(y, 1, |at, y| {
                    for (i, y) in y.iter_mut().enumerate() {
                        *y += slope(u[at + i]) * x[at + i];
                    }
                }));
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
            Self::Scale { .. } => "scale",
            Self::Sum => "sum",
            Self::GeluBackward => "gelu_backward",
            Self::Add => "add",
            Self::Zero => "zero",
        }
    }

    fn role(&self, _: usize) -> Role {
        match self {
            Self::GeluBackward | Self::Add => Role::Half,
            _ => Role::Number,
        }
    }

    fn writes_half(&self, _: usize) -> bool {
        matches!(self, Self::GeluBackward | Self::Add)
    }

    fn backward(&self, b: &mut Backward<'_>) -> Result<()> {
        let (dy, extent) = (b.dy(0)?, b.extent());
        match *self {
            Self::Activate(activation) => {
                let u = b.read(0);
                if let Some((dx, accumulate)) = b.target(0) {
                    let op = Self::Slope {
                        activation,
                        accumulate,
                    };
                    b.graph.push(op, &[dy, u], &[dx], &[], extent)?;
                }
                Ok(())
            }
            Self::Scale { factor, .. } => {
                if let Some((dx, accumulate)) = b.target(0) {
                    let op = Self::Scale { factor, accumulate };
                    b.graph.push(op, &[dy], &[dx], &[], extent)?;
                }
                Ok(())
            }
            Self::Sum => {
                b.pass(0, dy)?;
                if b.is_terminal(1) {
                    return b.pass(1, dy);
                }
                // only one input may be given the gradient itself
                if let Some((dx, accumulate)) = b.target(1) {
                    let op = Self::Scale {
                        factor: 1.0,
                        accumulate,
                    };
                    b.graph.push(op, &[dy], &[dx], &[], extent)?;
                }
                Ok(())
            }
            _ => {
                let problem = format!("{} has no gradient", self.name());
                Err(crate::Error::Internal(problem))
            }
        }
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Kernel> {
        let n = lower.write_len(0);
        let flag = match self {
            Self::Activate(_) => "ACTIVATE",
            Self::Slope { .. } => "SLOPE",
            Self::Scale { .. } => "SCALE",
            Self::Sum => "SUM",
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
            Self::Scale { accumulate, .. } => (None, accumulate),
            _ => (None, false),
        };
        let factor = match *self {
            Self::Scale { factor, .. } => factor,
            _ => 1.0,
        };
        let params = ElementwiseParams {
            n: n as u32,
            factor: factor as f32,
        };
        let of_x = match self {
            Self::Zero => Element::F32,
            _ => lower.read_element(0),
        };
        vec![
            Kernel::new(shader!("elementwise"))
                .flag(flag, true)
                .flag("ACTIVATION", activation.is_some())
                .flag(activation.map_or("NONE", Activation::flag), true)
                .flag("ACCUMULATE", accumulate)
                .numbers("X", of_x)
                .numbers("Y", lower.write_element(0))
                .read_if(*self != Self::Zero, 0)
                .read_if(matches!(self, Self::Slope { .. } | Self::Sum), 1)
                .write(0)
                .params(params)
                .items(n, 256),
        ]
    }
}
