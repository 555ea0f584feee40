//! Gated activations, of two tensors and of the halves of one.

use super::case::{Case, Made};
use super::suite::Suite;
use mdlm_engine::ops::{Activation, Heads};

suites! {
    two_tensors_and_halves: "gated", Activation;
    activations_far_out: "activations", Activation;
}

const ACTIVATIONS: [Activation; 3] = [Activation::Silu, Activation::GeluTanh, Activation::GeluErf];

fn two_tensors_and_halves(suite: &mut Suite) {
    for activation in ACTIVATIONS {
        for (rows, width) in [(1, 4), (7, 12), (67, 68), (3, 1028)] {
            let mut case = Case::new(format!("{activation:?}, {rows}x{width}"));
            case.param("a", &[rows, width], 3.0)
                .param("b", &[rows, width], 1.0)
                .param("ab", &[rows, 2 * width], 3.0);
            suite.check(&case, 4, &|g, t, _| {
                let half = |i: usize| Heads {
                    tensor: t["ab"],
                    column: i * width,
                };
                let y = g.gated(
                    "y",
                    activation,
                    Heads::whole(t["a"]),
                    Heads::whole(t["b"]),
                    width,
                )?;
                let z = g.gated("z", activation, half(0), half(1), width)?;
                let swapped = g.gated("swapped", activation, half(1), half(0), width)?;
                // gradients that meet in one tensor
                let sum = g.gated(
                    "sum",
                    activation,
                    Heads::whole(z),
                    Heads::whole(swapped),
                    width,
                )?;
                let all = g.gated("all", activation, Heads::whole(sum), Heads::whole(y), width)?;
                Ok(Made::new(g, &[all, y, z]))
            });
        }
    }
}

fn activations_far_out(suite: &mut Suite) {
    for activation in ACTIVATIONS {
        for scale in [0.01, 1.0, 4.0, 8.0, 90.0] {
            let mut case = Case::new(format!("{activation:?} up to {scale}"));
            case.param("x", &[1031], scale);
            suite.check(&case, 1, &|g, t, _| {
                let y = g.activate("y", t["x"], activation)?;
                Ok(Made::new(g, &[y]))
            });
        }
    }
}
