//! From a graph to what a device holds and runs: placement of tensors, counts, limits, and
//! devices that are borrowed or lost.
#![allow(clippy::unwrap_used)]

mod common;

mod plan {
    mod borrowed;
    mod counts;
    mod invariants;
    mod limits;
    mod lost;
    mod shapes;
}
