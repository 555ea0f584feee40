//! Ranks that train together do what one does.
#![allow(clippy::unwrap_used)]

mod common;

mod ranks {
    mod equal;
    mod lost;
    mod narrow;
    mod refused;
    mod sums;
}
