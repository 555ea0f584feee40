//! Sizes of an attention node, and how its operands lie.

use crate::cpu::Float;

/// How a node's operand lies: row stride and first column, in elements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lies {
    pub(super) stride: usize,
    pub(super) column: usize,
}

/// How the keys of a query are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    All,
    Causal,
    /// By the integers of so many rows of queries and of keys.
    By([usize; 2]),
}

/// Reads q, k, v and, with [`Rule::By`], the queries' and the keys' integers; writes o `[batch * queries,
/// heads * head_dim]` and lse `[batch, heads, queries]`.
#[derive(Clone, Debug)]
pub(super) struct Attention {
    pub(super) batch: usize,
    pub(super) queries: usize,
    pub(super) keys: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) q: Lies,
    pub(super) k: Lies,
    pub(super) v: Lies,
    pub(super) rule: Rule,
}

impl Attention {
    pub(super) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    pub(super) fn scale<F: Float>(&self) -> F {
        F::of(1.0 / (self.head_dim as f64).sqrt())
    }

    /// Where o, and its gradient, lie.
    pub(super) fn output(&self) -> Lies {
        Lies {
            stride: self.heads * self.head_dim,
            column: 0,
        }
    }
}
