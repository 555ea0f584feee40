//! Attention on the CPU: scores of a tile of queries by a product, their softmax, and products with the values.

use std::ops::Range;

use super::sizes::{Attention, Lies, Rule};
use crate::cpu::{Float, Io, MatMut, MatRef, for_blocks, gemm, math};
use crate::ops::visibility::Sight;

/// Query rows of a score tile.
const ROWS: usize = 128;
/// Log-sum-exp of a query that sees no key: no probability is left of any score.
const NOTHING_SEEN: f64 = 1e30;

/// Who sees whom in one sequence.
#[derive(Clone, Copy)]
struct Sights<'a> {
    op: &'a Attention,
    words: Option<[&'a [u32]; 2]>,
    sequence: usize,
}

impl<'a> Sights<'a> {
    fn new<F>(op: &'a Attention, io: &Io<'a, F>, first: usize) -> Self {
        let by = matches!(op.rule, Rule::By(_));
        Self {
            op,
            words: by.then(|| [io.read_uint(first), io.read_uint(first + 1)]),
            sequence: 0,
        }
    }

    fn of(self, sequence: usize) -> Self {
        Self { sequence, ..self }
    }

    fn sight(&self, side: usize, row: usize) -> Sight {
        let words = self.words.map_or(&[][..], |w| w[side]);
        let rows = [self.op.queries, self.op.keys][side];
        Sight::of(&words[4 * ((self.sequence * rows + row) % (words.len() / 4))..])
    }

    /// The keys that some of these queries see lie in this range.
    fn range(&self, queries: Range<usize>) -> Range<usize> {
        match self.op.rule {
            Rule::All => 0..self.op.keys,
            Rule::Causal => 0..queries.end,
            Rule::By(_) => {
                let rows: Vec<Sight> = queries.map(|i| self.sight(0, i)).collect();
                let seen = |&j: &usize| {
                    let key = self.sight(1, j);
                    rows.iter().any(|row| row.sees(&key))
                };
                let first = (0..self.op.keys).find(seen).unwrap_or(0);
                let end = (first..self.op.keys).rev().find(seen);
                first..end.map_or(first, |last| last + 1)
            }
        }
    }

    /// Puts `value` wherever query `i` does not see the key; `row` begins at key `first`.
    fn mask<F: Float>(&self, i: usize, first: usize, row: &mut [F], value: F) {
        match self.op.rule {
            Rule::All => {}
            Rule::Causal => {
                let seen = (i + 1 - first).min(row.len());
                row[seen..].fill(value);
            }
            Rule::By(_) => {
                let query = self.sight(0, i);
                for (j, x) in row.iter_mut().enumerate() {
                    if !query.sees(&self.sight(1, first + j)) {
                        *x = value;
                    }
                }
            }
        }
    }
}

/// A head's rows in an operand: from which element on.
fn at(op: &Attention, lies: Lies, head: usize, row: usize) -> usize {
    row * lies.stride + lies.column + head * op.head_dim
}

/// Elements of a task's score tile.
fn tile(op: &Attention) -> usize {
    ROWS.min(op.queries) * op.keys
}

/// One task a sequence; with a single one the products inside are parallel instead.
pub(super) fn forward<F: Float>(op: &Attention, io: &mut Io<'_, F>) {
    let (q, k, v) = (io.read(0), io.read(1), io.read(2));
    let sights = Sights::new(op, io, 3);
    let (queries, keys, dim, out) = (op.queries, op.keys, op.head_dim, op.output());
    let arrays = [io.write(0), io.write(1), io.scratch(op.batch * tile(op))];
    let sizes = [queries * out.stride, op.heads * queries, tile(op)];
    let parallel = op.batch == 1;
    for_blocks(arrays, sizes, &|b, [o, lse, scores]| {
        let sights = sights.of(b);
        for first in (0..queries).step_by(ROWS) {
            let n = ROWS.min(queries - first);
            let seen = sights.range(first..first + n);
            let m = seen.len();
            for h in 0..op.heads {
                let s = &mut scores[..n * m];
                let row = b * keys + seen.start;
                let mine = MatRef::new(
                    &q[at(op, op.q, h, b * queries + first)..],
                    n,
                    dim,
                    op.q.stride,
                );
                let theirs =
                    MatRef::new(&k[at(op, op.k, h / op.group(), row)..], m, dim, op.k.stride);
                let values =
                    MatRef::new(&v[at(op, op.v, h / op.group(), row)..], m, dim, op.v.stride);
                gemm(
                    MatMut::new(s, n, m, m),
                    mine,
                    theirs.t(),
                    false,
                    op.scale(),
                    parallel,
                );
                pulp::Arch::new().dispatch(|| {
                    for i in 0..n {
                        let row = &mut s[i * m..][..m];
                        lse[h * queries + first + i] = match op.rule {
                            Rule::All => softmax(row),
                            Rule::Causal => {
                                let (row, unseen) = row.split_at_mut(first + i + 1);
                                unseen.fill(F::ZERO);
                                softmax(row)
                            }
                            Rule::By(_) => {
                                sights.mask(first + i, seen.start, row, F::LOWEST);
                                softmax_of_seen(row)
                            }
                        };
                    }
                });
                let o = &mut o[first * out.stride + h * dim..];
                let p = MatRef::new(s, n, m, m);
                gemm(
                    MatMut::new(o, n, dim, out.stride),
                    p,
                    values,
                    false,
                    F::ONE,
                    parallel,
                );
            }
        }
    });
}

/// Softmax of what is above the lowest number, in place; returns the log-sum-exp.
#[inline(always)]
fn softmax_of_seen<F: Float>(row: &mut [F]) -> F {
    let top = math::maximum(row.len(), |j| row[j]);
    if top == F::LOWEST {
        row.fill(F::ZERO);
        return F::of(NOTHING_SEEN);
    }
    for x in row.iter_mut() {
        *x = if *x == F::LOWEST {
            F::ZERO
        } else {
            (*x - top).exp()
        };
    }
    normalise(row, top)
}

/// Softmax in place; returns the log-sum-exp.
#[inline(always)]
fn softmax<F: Float>(row: &mut [F]) -> F {
    let top = math::maximum(row.len(), |j| row[j]);
    for x in row.iter_mut() {
        *x = (*x - top).exp();
    }
    normalise(row, top)
}

#[inline(always)]
fn normalise<F: Float>(row: &mut [F], top: F) -> F {
    let sum = math::sum(row.len(), |j| row[j]);
    let inverse = F::ONE / sum;
    for x in row.iter_mut() {
        *x *= inverse;
    }
    top + sum.ln()
}

/// As [`forward`]. Tiles go from the last to the first: the last sees every key, unless rows say what they see, so that
/// it can write the gradients of keys and values where the others add to them.
pub(super) fn backward<F: Float>(op: &Attention, place: [usize; 3], io: &mut Io<'_, F>) {
    let (q, k, v) = (io.read(0), io.read(1), io.read(2));
    let (o, lse, dy) = (io.read(3), io.read(4), io.read(5));
    let sights = Sights::new(op, io, 6);
    let (queries, keys, dim, out) = (op.queries, op.keys, op.head_dim, op.output());
    let parallel = op.batch == 1;
    // outputs that are not there are replaced by a number a sequence
    let scratch = io.scratch(op.batch * (2 * tile(op) + 2));
    let (p, rest) = scratch.split_at_mut(op.batch * tile(op));
    let (ds, rest) = rest.split_at_mut(op.batch * tile(op));
    let (none, none2) = rest.split_at_mut(op.batch);
    let outputs = place.iter().max().map_or(1, |&last| last + 1);
    let mut output = |i: usize, none| if i < outputs { io.write(i) } else { none };
    let arrays = [output(0, &mut []), output(1, none), output(2, none2), p, ds];
    let mut sizes = [1, 1, 1, tile(op), tile(op)];
    for (part, lies, rows) in [(0, op.q, queries), (1, op.k, keys), (2, op.v, keys)] {
        sizes[place[part]] = rows * lies.stride;
    }
    for_blocks(arrays, sizes, &|b, [d0, d1, d2, p, ds]| {
        let mut grads = [d0, d1, d2];
        let by_sight = matches!(op.rule, Rule::By(_));
        if by_sight {
            grads.iter_mut().for_each(|d| d.fill(F::ZERO));
        }
        let sights = sights.of(b);
        for first in (0..queries).step_by(ROWS).rev() {
            let n = ROWS.min(queries - first);
            let seen = sights.range(first..first + n);
            let m = seen.len();
            for h in 0..op.heads {
                let begun = by_sight || first + n < queries || h % op.group() > 0;
                let (p, ds) = (&mut p[..n * m], &mut ds[..n * m]);
                let (row, kv) = (b * keys + seen.start, h / op.group());
                let mine = MatRef::new(
                    &q[at(op, op.q, h, b * queries + first)..],
                    n,
                    dim,
                    op.q.stride,
                );
                let theirs = MatRef::new(&k[at(op, op.k, kv, row)..], m, dim, op.k.stride);
                let values = MatRef::new(&v[at(op, op.v, kv, row)..], m, dim, op.v.stride);
                let from = at(op, out, h, b * queries + first);
                let g = MatRef::new(&dy[from..], n, dim, out.stride);
                gemm(
                    MatMut::new(p, n, m, m),
                    mine,
                    theirs.t(),
                    false,
                    op.scale(),
                    parallel,
                );
                gemm(
                    MatMut::new(ds, n, m, m),
                    g,
                    values.t(),
                    false,
                    F::ONE,
                    parallel,
                );
                pulp::Arch::new().dispatch(|| {
                    for i in 0..n {
                        let (p, ds) = (&mut p[i * m..][..m], &mut ds[i * m..][..m]);
                        let (o, g) = (
                            &o[from + i * out.stride..][..dim],
                            &dy[from + i * out.stride..][..dim],
                        );
                        let delta = math::sum(dim, |d| o[d] * g[d]);
                        let lse = lse[(b * op.heads + h) * queries + first + i];
                        for x in p.iter_mut() {
                            *x = (*x - lse).exp();
                        }
                        sights.mask(first + i, seen.start, p, F::ZERO);
                        for (ds, &p) in ds.iter_mut().zip(&*p) {
                            *ds = p * (*ds - delta);
                        }
                    }
                });
                let (p, ds) = (MatRef::new(p, n, m, m), MatRef::new(ds, n, m, m));
                let mut add = |part: usize, lies: Lies, head, row, rows, a, b, begun, scale| {
                    let d = &mut grads[place[part]][at(op, lies, head, row)..];
                    let d = MatMut::new(d, rows, dim, lies.stride);
                    gemm(d, a, b, begun, scale, parallel);
                };
                add(2, op.v, kv, seen.start, m, p.t(), g, begun, F::ONE);
                add(1, op.k, kv, seen.start, m, ds.t(), mine, begun, op.scale());
                add(0, op.q, h, first, n, ds, theirs, by_sight, op.scale());
            }
        }
    });
}
