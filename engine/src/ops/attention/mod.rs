//! Multi-head attention over heads that lie in any tensors.
//!
//! `o = P v`, `P = softmax(s)`, `s = q k^T / sqrt(head_dim)` over the keys that a query sees; a query that sees none
//! gets 0. Query head h reads key head h / (heads / kv_heads). Backward: `dv = P^T do`, `dS = P (do v^T - delta)` with
//! `delta = rowsum(do o)`, `dq = dS k / sqrt(head_dim)`, `dk = dS^T q / sqrt(head_dim)`, summed over the query heads
//! of a key head. Only o and the log-sum-exp of each row are kept; the scores are recomputed.

mod kernels;
mod sizes;
mod twin;

use sizes::{Attention, Lies, Rule};

use crate::cpu::{Float, Io};
use crate::error::Result;
use crate::graph::{Backward, Graph, Kernel, Lower, Op, Role, Tensor};
use crate::ops::heads::{Heads, gradients, pass_gradients};
use crate::program::Extent;
use crate::twin;

/// Which keys a query sees.
#[derive(Clone, Copy, Debug)]
pub enum Seen {
    /// All keys of its sequence.
    All,
    /// Those up to itself; as many keys as queries.
    Causal,
    /// What the rows' four integers say (`crate::ops::visibility`): `[n, 4]` of the queries and of the keys, n the rows
    /// of a sequence or of all.
    By {
        /// Integers of the queries' rows, `[n, 4]`.
        queries: Tensor,
        /// Integers of the keys' rows, `[n, 4]`.
        keys: Tensor,
    },
}

/// Operands of [`Graph::attention`].
#[derive(Clone, Copy, Debug)]
pub struct Attend {
    /// Queries, `[batch * queries, heads * head_dim]`.
    pub q: Heads,
    /// Keys, `[batch * keys, kv_heads * head_dim]`.
    pub k: Heads,
    /// Values, as the keys.
    pub v: Heads,
    /// Number of sequences.
    pub batch: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head: a multiple of 4 up to 256.
    pub head_dim: usize,
    /// Which keys each query sees.
    pub seen: Seen,
}

impl Attend {
    /// Of a fused tensor `[batch * length, 3 * heads * head_dim]`.
    pub fn fused(qkv: Tensor, batch: usize, heads: usize, head_dim: usize, seen: Seen) -> Self {
        let part = |i: usize| Heads {
            tensor: qkv,
            column: i * heads * head_dim,
        };
        Self {
            q: part(0),
            k: part(1),
            v: part(2),
            batch,
            heads,
            kv_heads: heads,
            head_dim,
            seen,
        }
    }
}

impl Graph {
    /// `o [batch * queries, heads * head_dim]`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shapes do not agree or head_dim is no multiple of 4 up to 256.
    pub fn attention(&mut self, name: &str, a: &Attend) -> Result<Tensor> {
        const OP: &str = "attention";
        let fits = a.batch > 0
            && a.kv_heads > 0
            && a.heads > 0
            && a.heads.is_multiple_of(a.kv_heads)
            && (4..=256).contains(&a.head_dim)
            && a.head_dim.is_multiple_of(4);
        let expected = format!(
            "{} sequences of {} heads over {} of a width of 4, 8 .. 256, not {}",
            a.batch, a.heads, a.kv_heads, a.head_dim
        );
        self.require(OP, a.q.tensor, fits, &expected)?;
        let width = a.heads * a.head_dim;
        let kv_width = a.kv_heads * a.head_dim;
        let queries = a.q.rows(self, OP, width, a.batch)?;
        let keys = a.k.rows(self, OP, kv_width, a.batch)?;
        let values = a.v.rows(self, OP, kv_width, a.batch)?;
        let as_many = format!("{keys} rows a sequence, as the keys");
        self.require(OP, a.v.tensor, values == keys, &as_many)?;
        let mut reads = vec![a.q.tensor, a.k.tensor, a.v.tensor];
        let rule = match a.seen {
            Seen::All => Rule::All,
            Seen::Causal => {
                let expected = format!("{queries} rows a sequence, as the queries");
                self.require(OP, a.k.tensor, keys == queries, &expected)?;
                Rule::Causal
            }
            Seen::By {
                queries: of_queries,
                keys: of_keys,
            } => {
                let mut sights = [0; 2];
                for (i, (t, n)) in [(of_queries, queries), (of_keys, keys)]
                    .into_iter()
                    .enumerate()
                {
                    let rows = self.len(t) / 4;
                    let fits =
                        self.shape(t).last() == Some(&4) && (rows == n || rows == a.batch * n);
                    let expected = format!("[{n} or {}, 4]", a.batch * n);
                    self.require(OP, t, fits, &expected)?;
                    sights[i] = rows;
                    reads.push(t);
                }
                Rule::By(sights)
            }
        };
        for other in [a.k.tensor, a.v.tensor] {
            let alike = self.element(other) == self.element(a.q.tensor);
            self.require(OP, other, alike, "numbers of the queries' type")?;
        }
        let o = self.alike(name, a.q.tensor, &[a.batch * queries, width]);
        let lse = self.activation(&format!("{name}.lse"), &[a.batch, a.heads, queries]);
        let lies = |h: &Heads, g: &Self| Lies {
            stride: g.shape(h.tensor).last().copied().unwrap_or(1),
            column: h.column,
        };
        let op = Attention {
            batch: a.batch,
            queries,
            keys,
            heads: a.heads,
            kv_heads: a.kv_heads,
            head_dim: a.head_dim,
            q: lies(&a.q, self),
            k: lies(&a.k, self),
            v: lies(&a.v, self),
            rule,
        };
        let mut temps = Vec::new();
        if op.one_query() {
            temps.push(self.activation("scores", &[a.batch, a.heads, keys]));
        }
        let extent = Extent::Fixed(a.batch * queries);
        self.push(op, &reads, &[o, lse], &temps, extent)?;
        Ok(o)
    }
}

impl Attention {
    /// Whether a workgroup shares a query's keys, not a head's queries.
    fn one_query(&self) -> bool {
        self.queries == 1
    }

    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        twin::forward(self, io);
    }

    fn by_sight(&self) -> bool {
        matches!(self.rule, Rule::By(_))
    }

    /// Multiply-adds times two of one product of queries and keys over all heads.
    fn product_flops(&self) -> u64 {
        2 * (self.batch * self.heads) as u64 * (self.queries * self.keys * self.head_dim) as u64
    }
}

twin!(Attention);

impl Op for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn role(&self, input: usize) -> Role {
        if input < 3 { Role::Half } else { Role::Index }
    }

    fn writes_half(&self, output: usize) -> bool {
        output == 0
    }

    fn backward(&self, b: &mut Backward<'_>) -> Result<()> {
        let (o, lse, dy) = (b.write(0), b.write(1), b.dy(0)?);
        let [q, k, v] = [0, 1, 2].map(|i| b.read(i));
        let extent = b.extent();
        let stats = [self.batch, self.heads, self.queries, 2];
        let stats = b.graph.activation("attention stats", &stats);
        let mut reads = vec![q, k, v, o, lse, dy];
        if self.by_sight() {
            reads.extend([b.read(3), b.read(4)]);
        }
        let widths = [self.heads, self.kv_heads, self.kv_heads].map(|n| n * self.head_dim);
        let (writes, place) = gradients(b, [q, k, v], widths)?;
        let op = AttentionBackward {
            attention: self.clone(),
            place,
        };
        b.graph.push(op, &reads, &writes, &[stats], extent)?;
        pass_gradients(b, &writes, place)
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Kernel> {
        vec![kernels::forward(self, lower)]
    }
}

/// Reads q, k, v, o, lse, do and the integers of [`Rule::By`]; writes the gradients of the tensors that q, k and v
/// lie in.
#[derive(Clone, Debug)]
struct AttentionBackward {
    attention: Attention,
    /// Which output the gradients of q, k and v lie in.
    place: [usize; 3],
}

impl AttentionBackward {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        twin::backward(&self.attention, self.place, io);
    }
}

twin!(AttentionBackward);

impl Op for AttentionBackward {
    fn name(&self) -> &'static str {
        "attention_backward"
    }

    fn role(&self, input: usize) -> Role {
        match input {
            4 => Role::Number,
            0..6 => Role::Half,
            _ => Role::Index,
        }
    }

    fn writes_half(&self, _: usize) -> bool {
        true
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Kernel> {
        kernels::backward(&self.attention, self.place, lower)
    }
}
