//! AdamW and the moving average of the weights.

use mdlm_engine::ops::Rule;

use crate::optimiser::{ADAMW, Optimiser, adamw};

const ALL_ALIKE: Optimiser = Optimiser {
    name: "adamw",
    shapes: &[&[1], &[257], &[66], &[1031]],
    limit: 1100,
    clip: 3.0,
    rule: |_| Rule::Adamw {
        config: ADAMW,
        rate: 1.0,
    },
    exact: |_, g, moments, s| (adamw(g, moments, s), 1.0, ADAMW.weight_decay),
};

#[test]
fn four_steps() {
    ALL_ALIKE.check_steps();
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing() {
    ALL_ALIKE.check_not_finite();
}
