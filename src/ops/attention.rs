//! Multi-head attention on a fused qkv tensor, bidirectional or causal, without padding mask.
//!
//! `o = P v`, `P = softmax(s)`, `s = q k^T / sqrt(head_dim)`. Backward: `dv = P^T do`,
//! `dS = P (do v^T - delta)` with `delta = rowsum(do o)`, `dq = dS k / sqrt(head_dim)`,
//! `dk = dS^T q / sqrt(head_dim)`. Only o and the log-sum-exp of each row are kept; the scores are
//! recomputed.

use crate::cpu::{Float, Io, MatMut, MatRef, for_blocks3, gemm, math};
use crate::error::Result;
use crate::gpu::{Shader, Tuning};
use crate::graph::{Backward, Graph, Kernel, Lower, Op, Tensor};
use crate::program::Extent;
use crate::{params, shader, twin};

/// Numbers of a tile of keys or values: two such tiles and their rows' statistics are all that a
/// workgroup keeps, within the 16 KiB that every device has.
const TILE_NUMBERS: u32 = 1024;

/// Query rows of the twin's score tile.
const TWIN_ROWS: usize = 128;

/// Reads qkv `[batch * length, 3, heads, head_dim]`; writes o `[batch * length, heads, head_dim]` and
/// lse `[batch, heads, length]`.
#[derive(Clone, Debug)]
struct Attention {
    batch: usize,
    length: usize,
    heads: usize,
    head_dim: usize,
    causal: bool,
}

params! {
    struct AttentionParams {
        length: u32,
        heads: u32,
        /// Of queries or keys in a sequence.
        blocks: u32,
        scale: f32,
        /// Workgroups.
        total: u32,
    }
}

impl Graph {
    /// `o [batch * length, heads * head_dim]` of `qkv [batch * length, 3 * heads * head_dim]`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shapes do not agree or head_dim is not 16, 32, 64 or 128.
    pub fn attention(
        &mut self,
        name: &str,
        qkv: Tensor,
        length: usize,
        heads: usize,
        causal: bool,
    ) -> Result<Tensor> {
        let fits = matches!(self.shape(qkv), &[rows, width]
            if length > 0 && heads > 0 && rows.is_multiple_of(length) && [16, 32, 64, 128].iter().any(|d| 3 * heads * d == width));
        self.require(
            "attention",
            qkv,
            fits,
            &format!("[n * {length}, 3 * {heads} * (16, 32, 64 or 128)]"),
        )?;
        let (rows, width) = (self.shape(qkv)[0], self.shape(qkv)[1]);
        let (batch, head_dim) = (rows / length, width / (3 * heads));
        let o = self.activation(name, &[rows, width / 3]);
        let lse = self.activation(&format!("{name}.lse"), &[batch, heads, length]);
        let op = Attention {
            batch,
            length,
            heads,
            head_dim,
            causal,
        };
        self.push(op, &[qkv], &[o, lse], &[], Extent::Fixed(rows))?;
        Ok(o)
    }
}

/// The three matrices of one head in a sequence's rows of qkv, and its columns of o.
struct Head<'a, F> {
    q: &'a [F],
    k: &'a [F],
    v: &'a [F],
}

impl Attention {
    fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    fn scale<F: Float>(&self) -> F {
        F::of(1.0 / (self.head_dim as f64).sqrt())
    }

    fn head<'a, F>(&self, rows: &'a [F], head: usize) -> Head<'a, F> {
        let (width, at) = (self.width(), head * self.head_dim);
        Head {
            q: &rows[at..],
            k: &rows[width + at..],
            v: &rows[2 * width + at..],
        }
    }

    /// Elements of a task's score tile.
    fn tile(&self) -> usize {
        TWIN_ROWS.min(self.length) * self.length
    }

    /// One task a sequence; with a single one the products inside are parallel instead.
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (qkv, length, dim, width) = (io.read(0), self.length, self.head_dim, self.width());
        let (o, lse, scores) = (
            io.write(0),
            io.write(1),
            io.scratch(self.batch * self.tile()),
        );
        let sizes = [length * width, self.heads * length, self.tile()];
        let parallel = self.batch == 1;
        for_blocks3(o, lse, scores, sizes, |b, o, lse, scores| {
            let rows = &qkv[b * length * 3 * width..][..length * 3 * width];
            for h in 0..self.heads {
                let head = self.head(rows, h);
                for first in (0..length).step_by(TWIN_ROWS) {
                    let n = TWIN_ROWS.min(length - first);
                    let s = &mut scores[..n * length];
                    let q = MatRef::new(&head.q[first * 3 * width..], n, dim, 3 * width);
                    let k = MatRef::new(head.k, length, dim, 3 * width);
                    gemm(
                        MatMut::new(s, n, length, length),
                        q,
                        k.t(),
                        false,
                        self.scale(),
                        parallel,
                    );
                    pulp::Arch::new().dispatch(|| {
                        for (i, row) in s.chunks_exact_mut(length).enumerate() {
                            let seen = if self.causal { first + i + 1 } else { length };
                            let (row, unseen) = row.split_at_mut(seen);
                            lse[h * length + first + i] = softmax(row);
                            unseen.fill(F::ZERO);
                        }
                    });
                    let v = MatRef::new(head.v, length, dim, 3 * width);
                    let out = MatMut::new(&mut o[first * width + h * dim..], n, dim, width);
                    gemm(
                        out,
                        MatRef::new(s, n, length, length),
                        v,
                        false,
                        F::ONE,
                        parallel,
                    );
                }
            }
        });
    }

    fn params(&self, tuning: &Tuning) -> AttentionParams {
        let blocks = self.length.div_ceil(tuning.attention_rows as usize);
        AttentionParams {
            length: self.length as u32,
            heads: self.heads as u32,
            blocks: blocks as u32,
            scale: self.scale::<f32>(),
            total: (self.batch * self.heads * blocks) as u32,
        }
    }

    fn kernel(&self, shader: Shader, tuning: &Tuning) -> Kernel {
        let head_dim = self.head_dim as u32;
        Kernel::new(shader)
            .flag("CAUSAL", self.causal)
            .constant("VECTORS", head_dim / 4)
            .constant("ROWS", tuning.attention_rows)
            .constant("TILE", tuning.attention_tile.min(TILE_NUMBERS / head_dim))
    }

    /// Multiply-adds times two of one product of queries and keys over all heads.
    fn product_flops(&self) -> u64 {
        2 * (self.batch * self.length * self.length * self.width()) as u64
    }
}

/// Softmax in place; returns the log-sum-exp.
#[inline(always)]
fn softmax<F: Float>(row: &mut [F]) -> F {
    let top = math::maximum(row.len(), |j| row[j]);
    for x in row.iter_mut() {
        *x = (*x - top).exp();
    }
    let sum = math::sum(row.len(), |j| row[j]);
    let inverse = F::ONE / sum;
    for x in row.iter_mut() {
        *x *= inverse;
    }
    top + sum.ln()
}

twin!(Attention);

impl Op for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn backward(&self, b: &mut Backward<'_>) -> Result<()> {
        let (qkv, o, lse, dy, extent) = (b.read(0), b.write(0), b.write(1), b.dy(0)?, b.extent());
        let shape = b.graph.shape(qkv).to_vec();
        let dqkv = b.graph.activation("d qkv_rot", &shape);
        let delta = b
            .graph
            .activation("delta", &[self.batch, self.heads, self.length]);
        b.graph.push(
            AttentionBackward(self.clone()),
            &[qkv, o, lse, dy],
            &[dqkv],
            &[delta],
            extent,
        )?;
        b.pass(0, dqkv)?;
        Ok(())
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Kernel> {
        let params = self.params(lower.tuning);
        vec![
            self.kernel(shader!("attention"), lower.tuning)
                .read(0)
                .write(0)
                .write(1)
                .params(params)
                .groups(params.total as usize)
                .flops(2 * self.product_flops()),
        ]
    }
}

/// Reads qkv, o, lse and do; writes dqkv.
#[derive(Clone, Debug)]
struct AttentionBackward(Attention);

impl AttentionBackward {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let op = &self.0;
        let (qkv, o, lse, dy) = (io.read(0), io.read(1), io.read(2), io.read(3));
        let (length, dim, width) = (op.length, op.head_dim, op.width());
        let (p, ds) = io
            .scratch(2 * op.batch * op.tile())
            .split_at_mut(op.batch * op.tile());
        let parallel = op.batch == 1;
        let sizes = [length * 3 * width, op.tile(), op.tile()];
        for_blocks3(io.write(0), p, ds, sizes, |b, dqkv, p, ds| {
            let rows = &qkv[b * length * 3 * width..][..length * 3 * width];
            for h in 0..op.heads {
                let head = op.head(rows, h);
                let at = h * dim;
                for first in (0..length).step_by(TWIN_ROWS) {
                    let n = TWIN_ROWS.min(length - first);
                    let (p, ds) = (&mut p[..n * length], &mut ds[..n * length]);
                    let q = MatRef::new(&head.q[first * 3 * width..], n, dim, 3 * width);
                    let k = MatRef::new(head.k, length, dim, 3 * width);
                    let v = MatRef::new(head.v, length, dim, 3 * width);
                    let from = (b * length + first) * width + at;
                    let g = MatRef::new(&dy[from..], n, dim, width);
                    gemm(
                        MatMut::new(p, n, length, length),
                        q,
                        k.t(),
                        false,
                        op.scale(),
                        parallel,
                    );
                    gemm(
                        MatMut::new(ds, n, length, length),
                        g,
                        v.t(),
                        false,
                        F::ONE,
                        parallel,
                    );
                    pulp::Arch::new().dispatch(|| {
                        for (i, (p, ds)) in p
                            .chunks_exact_mut(length)
                            .zip(ds.chunks_exact_mut(length))
                            .enumerate()
                        {
                            let row = &lse[(b * op.heads + h) * length + first + i];
                            let (o, g) = (
                                &o[from + i * width..][..dim],
                                &dy[from + i * width..][..dim],
                            );
                            let delta = math::sum(dim, |d| o[d] * g[d]);
                            let seen = if op.causal { first + i + 1 } else { length };
                            for j in 0..length {
                                p[j] = (p[j] - *row).exp();
                            }
                            p[seen..].fill(F::ZERO);
                            for j in 0..length {
                                ds[j] = p[j] * (ds[j] - delta);
                            }
                        }
                    });
                    let (p, ds) = (
                        MatRef::new(p, n, length, length),
                        MatRef::new(ds, n, length, length),
                    );
                    let stride = 3 * width;
                    let accumulate = first > 0;
                    let dv = MatMut::new(&mut dqkv[2 * width + at..], length, dim, stride);
                    gemm(dv, p.t(), g, accumulate, F::ONE, parallel);
                    let dk = MatMut::new(&mut dqkv[width + at..], length, dim, stride);
                    gemm(dk, ds.t(), q, accumulate, op.scale(), parallel);
                    let dq = MatMut::new(&mut dqkv[first * stride + at..], n, dim, stride);
                    gemm(dq, ds, k, false, op.scale(), parallel);
                }
            }
        });
    }
}

twin!(AttentionBackward);

impl Op for AttentionBackward {
    fn name(&self) -> &'static str {
        "attention_backward"
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Kernel> {
        let op = &self.0;
        let params = op.params(lower.tuning);
        let heads = op.batch * op.length * op.heads;
        let shader = shader!("attention_backward");
        let pass = |flag: &'static str, entry, delta: bool, products| {
            op.kernel(shader, lower.tuning)
                .entry(entry)
                .flag(flag, true)
                .read(0)
                .read(3)
                .read(2)
                .temp_read_if(delta, 0)
                .write(0)
                .params(params)
                .groups(params.total as usize)
                .flops(products * op.product_flops())
        };
        let total = heads as u32;
        vec![
            Kernel::new(shader)
                .entry("delta_rows")
                .flag("DELTA", true)
                .constant("VECTORS", op.head_dim as u32 / 4)
                .read(1)
                .read(3)
                .temp(0)
                .params(AttentionParams { total, ..params })
                .items(heads, 64),
            pass("DQ", "dq", true, 3),
            pass("DK", "dkv", true, 3),
            pass("DV", "dkv", false, 2),
        ]
    }
}
