//! The product on the CPU.

use super::{Form, Many, Matmul};
use crate::cpu::{
    Float, Io, MOST_ROWS, MatMut, MatRef, Weights, for_blocks, for_rows, for_rows2, gemm, math,
    thin, thin_rows, thin_scratch, thin_suits,
};
use crate::ops::epilogue::Epilogue;

/// Packed elements that the twin unpacks at a time.
const PANEL: usize = 1 << 20;
/// Columns of a product of few rows that are turned over at a time.
const TILE: usize = 256;

impl Matmul {
    /// One product after the other, or each on a thread of its own.
    fn run_many<F: Float>(&self, io: &mut Io<'_, F>, many: Many) {
        let Self { form, m, n, k, .. } = *self;
        let [a_stride, b_stride, c_stride] = many.strides;
        let (a, b) = (io.read(0), io.read(1));
        let d = many.beta.map(|beta| (F::of(beta), io.read(2)));
        let parallel = many.count == 1;
        for_blocks([io.write(0)], [c_stride], &|first, [c]: [&mut [F]; 1]| {
            for (i, c) in c.chunks_exact_mut(c_stride).enumerate() {
                let at = first + i;
                let c = &mut c[..m * n];
                if let Some((beta, d)) = d {
                    let d = &d[at * c_stride..][..m * n];
                    c.iter_mut().zip(d).for_each(|(c, &d)| *c = beta * d);
                }
                let (a, b) = (&a[at * a_stride..], &b[at * b_stride..]);
                let (a, b) = match form {
                    Form::Nt => (MatRef::new(a, m, k, k), MatRef::new(b, n, k, k).t()),
                    Form::Nn => (MatRef::new(a, m, k, k), MatRef::new(b, k, n, n)),
                    Form::Tn => (MatRef::new(a, k, m, m).t(), MatRef::new(b, k, n, n)),
                };
                let c = MatMut::new(c, m, n, n);
                gemm(c, a, b, d.is_some(), F::of(many.alpha), parallel);
            }
        });
    }

    pub(in crate::ops) fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        if let Some(many) = self.many {
            return self.run_many(io, many);
        }
        let (m, k) = match self.form {
            Form::Tn => (self.m, io.rows),
            _ => (io.rows, self.k),
        };
        let n = self.n;
        let (a, b) = (io.read(0), io.weights(1));
        let few = self.form == Form::Nt && (1..=MOST_ROWS).contains(&m) && thin_suits();
        // packed weights are unpacked some rows at a time
        let (wide, high) = match self.form {
            Form::Nt => (k, n),
            _ => (n, k),
        };
        let panel = if b.is_packed() {
            PANEL.div_ceil(wide).min(high)
        } else {
            high
        };
        let (factors, space) = {
            let residual = matches!(self.epilogue, Epilogue::Residual(_));
            let factors = if residual { m * n } else { 0 };
            let space = match (few, b.is_packed()) {
                (true, _) => thin_scratch(m, n, k),
                (false, true) => panel * wide,
                (false, false) => 0,
            };
            io.scratch(factors + space).split_at_mut(factors)
        };
        let c = &mut io.write(0)[..m * n];
        if self.bias {
            let bias = io.read(2);
            for_rows(c, n, |_, rows| {
                rows.chunks_exact_mut(n)
                    .for_each(|row| row.copy_from_slice(bias))
            });
        }
        let begun = self.accumulate || self.bias;
        match (b, self.form) {
            (b, Form::Nt) if few => {
                let product = thin(a, b, [m, n, k], space);
                // turned over some columns at a time, which stay in cache
                let wide = thin_rows(m);
                for (tile, product) in product.chunks(TILE * wide).enumerate() {
                    for (i, row) in c.chunks_exact_mut(n).enumerate() {
                        let columns = product[i..].iter().step_by(wide);
                        for (c, &x) in row[tile * TILE..].iter_mut().zip(columns) {
                            *c = if begun { *c + x } else { x };
                        }
                    }
                }
            }
            (b, Form::Nt) => {
                for first in (0..n).step_by(panel.max(1)) {
                    let rows = panel.min(n - first);
                    let b = MatRef::new(b.part(first * k, rows * k, space), rows, k, k);
                    let c = MatMut::new(&mut c[first..], m, rows, n);
                    gemm(c, MatRef::new(a, m, k, k), b.t(), begun, F::ONE, true);
                }
            }
            (b, Form::Nn) => {
                for first in (0..k).step_by(panel.max(1)) {
                    let terms = panel.min(k - first);
                    let b = MatRef::new(b.part(first * n, terms * n, space), terms, n, n);
                    let a = MatRef::new(&a[first..], m, terms, k);
                    gemm(
                        MatMut::new(c, m, n, n),
                        a,
                        b,
                        begun || first > 0,
                        F::ONE,
                        true,
                    );
                }
            }
            (Weights::Number(b), Form::Tn) => {
                let (a, b) = (MatRef::new(a, k, m, m).t(), MatRef::new(b, k, n, n));
                gemm(MatMut::new(c, m, n, n), a, b, begun, F::ONE, true);
            }
            (Weights::Packed(_), _) => unreachable!("roles are checked when a node is pushed"),
        }
        if self.column_sum {
            let a = io.read(0);
            let width = self.m;
            crate::cpu::sum_rows(io.write(1), k, |col, row, out| {
                let from = &a[row * width + col..][..out.len()];
                out.iter_mut().zip(from).for_each(|(o, &x)| *o += x);
            });
        }
        let c = &*c;
        match &self.epilogue {
            Epilogue::None => {}
            Epilogue::Gelu => for_rows(&mut io.write(1)[..m * n], n, |row, out| {
                out.iter_mut()
                    .zip(&c[row * n..])
                    .for_each(|(y, &u)| *y = math::gelu(u));
            }),
            Epilogue::Residual(r) => {
                let at = 2 + usize::from(self.bias);
                let (x, gates) = (
                    io.read(at),
                    r.modulation.as_ref().map(|g| (g, io.read(at + 1))),
                );
                let mask = r.dropout.mask::<F>(io.step);
                for_rows2(
                    &mut io.write(1)[..m * n],
                    n,
                    factors,
                    n,
                    |first, out, factor| {
                        mask.fill(first * n, factor);
                        for (i, out) in out.chunks_exact_mut(n).enumerate() {
                            let from = (first + i) * n;
                            let (x, c, f) = (
                                &x[from..from + n],
                                &c[from..from + n],
                                &factor[i * n..][..n],
                            );
                            match &gates {
                                Some((g, values)) => {
                                    let gate = &values[g.at(first + i)..][..n];
                                    for j in 0..n {
                                        out[j] = x[j] + gate[j] * (f[j] * c[j]);
                                    }
                                }
                                None => {
                                    for j in 0..n {
                                        out[j] = x[j] + f[j] * c[j];
                                    }
                                }
                            }
                        }
                    },
                );
            }
        }
    }
}
