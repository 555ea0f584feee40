//! AdamW and the moving average of the weights.

use mdlm_engine::ops::Rule;
use mdlm_engine::program::Element;

use crate::common::Executor;
use crate::optimiser::{ADAMW, Optimiser, adamw};

const ALL_ALIKE: Optimiser = Optimiser {
    name: "adamw",
    shapes: &[&[1], &[257], &[66], &[1031]],
    limit: 1100,
    clip: 3.0,
    state: Element::F32,
    rule: |_| Rule::Adamw {
        config: ADAMW,
        rate: 1.0,
    },
    exact: |_, g, moments, s| (adamw(g, moments, s), 1.0, ADAMW.weight_decay),
};

/// With moments in bf16.
const ROUNDED: Optimiser = Optimiser {
    name: "adamw, bf16",
    state: Element::Bf16,
    ..ALL_ALIKE
};

#[test]
fn four_steps() {
    ALL_ALIKE.check_steps();
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing() {
    ALL_ALIKE.check_not_finite();
}

#[test]
fn moments_are_rounded_to_both_sides() {
    ROUNDED.check_rounded();
    ROUNDED.check_not_finite();
}

/// Near its limit v moves by less than half of its last place a step: rounded to the nearest, it would stay behind.
#[test]
fn moments_do_not_stall() {
    for executor in [Executor::Gpu, Executor::CpuF32] {
        let share = ROUNDED.mean_of_v(executor, 400);
        assert!((share - 1.0).abs() < 5e-3, "{executor:?}: {share}");
    }
}
