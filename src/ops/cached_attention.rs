//! Causal attention of one new token a sequence over cached keys and values.
//!
//! The token's k and v are stored at its sequence's position, then `o = softmax(q k^T / sqrt(head_dim)) v`
//! over the positions up to it: the last row of causal attention over the whole sequence.

use crate::cpu::{Float, Io, for_rows2, math};
use crate::error::Result;
use crate::graph::{Graph, Kernel, Lower, Op, Role, Tensor};
use crate::program::Extent;
use crate::{params, shader, twin};

/// Invocations that share a head.
const THREADS: usize = 128;

/// Reads qkv `[batch, 3, heads, head_dim]` and positions `[batch]`; updates the cache `[batch, length, 2,
/// heads, head_dim]`; writes o `[batch, heads, head_dim]`.
#[derive(Clone, Debug)]
struct CachedAttention {
    batch: usize,
    length: usize,
    heads: usize,
    head_dim: usize,
}

params! {
    struct CachedParams {
        length: u32,
        heads: u32,
        batch: u32,
        scale: f32,
    }
}

impl Graph {
    /// `o [batch, heads * head_dim]` of `qkv [batch, 3 * heads * head_dim]`, whose tokens stand at
    /// `positions [batch]`; `cache [batch, length, 2 * heads * head_dim]` keeps keys and values from run
    /// to run.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shapes do not agree or head_dim is not 16, 32, 64 or 128.
    pub fn cached_attention(
        &mut self,
        name: &str,
        qkv: Tensor,
        positions: Tensor,
        cache: Tensor,
        heads: usize,
    ) -> Result<Tensor> {
        const OP: &str = "cached_attention";
        let fits = matches!(self.shape(qkv), &[_, width]
            if heads > 0 && [16, 32, 64, 128].iter().any(|d| 3 * heads * d == width));
        let expected = format!("[batch, 3 * {heads} * (16, 32, 64 or 128)]");
        self.require(OP, qkv, fits, &expected)?;
        let (batch, width) = (self.shape(qkv)[0], self.shape(qkv)[1] / 3);
        self.expect(OP, positions, &[batch])?;
        let &[_, length, _] = self.shape(cache) else {
            return Err(self.misfit(OP, cache, "[batch, length, 2 * width]"));
        };
        self.expect(OP, cache, &[batch, length, 2 * width])?;
        let o = self.activation(name, &[batch, width]);
        let scores = self.activation("scores", &[batch, heads, length]);
        let op = CachedAttention {
            batch,
            length,
            heads,
            head_dim: width / heads,
        };
        let extent = Extent::Fixed(batch);
        self.push(op, &[qkv, positions], &[cache, o], &[scores], extent)?;
        Ok(o)
    }
}

impl CachedAttention {
    fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (qkv, positions) = (io.read(0), io.read_uint(1));
        let (width, dim) = (self.width(), self.head_dim);
        let scale = F::of(1.0 / (dim as f64).sqrt());
        let (cache, o) = (io.write(0), io.write(1));
        for_rows2(
            cache,
            self.length * 2 * width,
            o,
            width,
            |first, cache, o| {
                let sequences = cache.chunks_exact_mut(self.length * 2 * width);
                for (i, (cache, o)) in sequences.zip(o.chunks_exact_mut(width)).enumerate() {
                    let position = positions[first + i] as usize;
                    let qkv = &qkv[(first + i) * 3 * width..][..3 * width];
                    cache[position * 2 * width..][..2 * width].copy_from_slice(&qkv[width..]);
                    for h in 0..self.heads {
                        let q = &qkv[h * dim..][..dim];
                        let key = |j: usize| &cache[j * 2 * width + h * dim..][..dim];
                        let value = |j: usize| &cache[(j * 2 + 1) * width + h * dim..][..dim];
                        let mut p: Vec<F> = (0..=position)
                            .map(|j| math::sum(dim, |d| q[d] * key(j)[d]) * scale)
                            .collect();
                        let top = math::maximum(p.len(), |j| p[j]);
                        p.iter_mut().for_each(|x| *x = (*x - top).exp());
                        let inverse = F::ONE / math::sum(p.len(), |j| p[j]);
                        let o = &mut o[h * dim..][..dim];
                        o.fill(F::ZERO);
                        for (j, &p) in p.iter().enumerate() {
                            let p = p * inverse;
                            o.iter_mut().zip(value(j)).for_each(|(o, &v)| *o += p * v);
                        }
                    }
                }
            },
        );
    }
}

twin!(CachedAttention);

impl Op for CachedAttention {
    fn name(&self) -> &'static str {
        "cached_attention"
    }

    fn role(&self, input: usize) -> Role {
        if input == 1 {
            Role::Index
        } else {
            Role::Number
        }
    }

    fn kernels(&self, _: &Lower<'_>) -> Vec<Kernel> {
        let params = CachedParams {
            length: self.length as u32,
            heads: self.heads as u32,
            batch: self.batch as u32,
            scale: 1.0 / (self.head_dim as f32).sqrt(),
        };
        let kernel = || {
            Kernel::new(shader!("cached_attention"))
                .constant("HEAD_DIM", self.head_dim as u32)
                .params(params)
                .read(0)
                .read(1)
        };
        vec![
            kernel()
                .entry("append")
                .flag("APPEND", true)
                .write(0)
                .items(self.batch * 2 * self.width(), THREADS),
            kernel()
                .entry("attend")
                .flag("ATTEND", true)
                .write_read(0)
                .write(1)
                .temp(0)
                .groups(self.batch * self.heads)
                .flops((4 * self.batch * self.length * self.width()) as u64),
        ]
    }
}
