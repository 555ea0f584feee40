//! The activations of networks, for the operations that apply one.

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
    /// The flag of shaders that include `lib/activation`.
    pub(super) fn flag(self) -> &'static str {
        match self {
            Self::Silu => "SILU",
            Self::GeluTanh => "GELU_TANH",
            Self::GeluErf => "GELU_ERF",
        }
    }
}

/// Evaluates `$body` with `$value` and `$slope` as an activation's function and its derivative, over the numbers `F`:
/// chosen outside of the body's loops, which then vectorise.
macro_rules! with_activation {
    ($activation:expr, |$value:ident, $slope:ident| $body:expr) => {
        match $activation {
            $crate::ops::Activation::Silu => {
                let ($value, $slope) = (
                    $crate::cpu::math::silu::<F>,
                    $crate::cpu::math::silu_backward::<F>,
                );
                $body
            }
            $crate::ops::Activation::GeluTanh => {
                let ($value, $slope) = (
                    $crate::cpu::math::gelu::<F>,
                    $crate::cpu::math::gelu_backward::<F>,
                );
                $body
            }
            $crate::ops::Activation::GeluErf => {
                let ($value, $slope) = (
                    $crate::cpu::math::gelu_erf::<F>,
                    $crate::cpu::math::gelu_erf_backward::<F>,
                );
                $body
            }
        }
    };
}

pub(super) use with_activation;
