//! What a product does to its result before it is stored.

use crate::ops::{Dropout, Modulation};

/// What happens to the product before it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Epilogue {
    /// Nothing.
    None,
    /// Stores u = product and gelu(u).
    Gelu,
    /// Stores branch = product and x + gate * dropout(branch).
    Residual(Residual),
}

/// A gated residual: `x + gate * dropout(branch)`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Residual {
    /// Where the gate stands; `None`: the gate is 1.
    pub(crate) modulation: Option<Modulation>,
    /// Dropout of the branch.
    pub(crate) dropout: Dropout,
}
