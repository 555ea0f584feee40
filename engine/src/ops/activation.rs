//! The activations of networks, for the operations that apply one.

use crate::cpu::{Float, math};

/// The activations that a network can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x sigmoid(x)`.
    Silu,
    /// GELU by tanh: `x/2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
    GeluTanh,
    /// GELU by the error function: `x/2 (1 + erf(x / sqrt(2)))`.
    GeluErf,
}

impl Activation {
    #[inline(always)]
    pub(super) fn value<F: Float>(self, x: F) -> F {
        match self {
            Self::Silu => math::silu(x),
            Self::GeluTanh => math::gelu(x),
            Self::GeluErf => math::gelu_erf(x),
        }
    }

    #[inline(always)]
    pub(super) fn slope<F: Float>(self, x: F) -> F {
        match self {
            Self::Silu => math::silu_backward(x),
            Self::GeluTanh => math::gelu_backward(x),
            Self::GeluErf => math::gelu_erf_backward(x),
        }
    }

    /// The flag of shaders that include `lib/activation`.
    pub(super) fn flag(self) -> &'static str {
        match self {
            Self::Silu => "SILU",
            Self::GeluTanh => "GELU_TANH",
            Self::GeluErf => "GELU_ERF",
        }
    }
}
