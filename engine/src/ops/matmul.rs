//! Matrix product in its three forms, with the epilogues of [`super::linear`].

use crate::cpu::{Float, Io, MatMut, MatRef, Weights, for_blocks, for_rows, for_rows2, gemm, math};
use crate::gpu::{Grid, MatmulTile};
use crate::graph::{Graph, Kernel, Lower, Op, Role, Tensor};
use crate::ops::epilogue::Epilogue;
use crate::ops::{DROPOUT_KEY, Modulation};
use crate::program::{Declared, Extent};
use crate::{params, shader, twin};

/// Elements of half precision that the twin unpacks at a time.
const PANEL: usize = 1 << 20;

/// Which operands are stored transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A `[m, k]`, B [n, k]: the forward pass of a linear layer.
    Nt,
    /// A `[m, k]`, B [k, n]: the gradient of its input.
    Nn,
    /// A `[k, m]`, B [k, n]: the gradient of its weight.
    Tn,
}

/// Reads a, b, then bias, residual and modulation as far as they are used; writes c `[m, n]`, then
/// the epilogue's second output or, with `column_sum`, the column sums of A `[m]`.
#[derive(Clone, Debug)]
pub(crate) struct Matmul {
    pub(crate) form: Form,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) bias: bool,
    pub(crate) epilogue: Epilogue,
    /// Adds to C instead of overwriting it.
    pub(crate) accumulate: bool,
    /// Adds the sums over k of A to the last output: the gradient of a bias.
    pub(crate) column_sum: bool,
    pub(crate) many: Option<Many>,
}

/// Several products of one shape: `C = alpha A B`, `+ beta D` with a third operand that lies as C does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Many {
    pub(crate) count: usize,
    /// Elements from one A, B and C to the next.
    pub(crate) strides: [usize; 3],
    pub(crate) alpha: f64,
    pub(crate) beta: Option<f64>,
}

params! {
    struct MatmulParams {
        m: u32,
        n: u32,
        k: u32,
        tiles_n: u32,
        base: u32,
        /// Row r takes its gate from row r / sample_rows of the modulation.
        sample_rows: u32,
        mod_stride: u32,
        gate_column: u32,
        threshold: u32,
        keep_scale: f32,
        site: u32,
        /// How many products of one shape, tiles of each, and the strides of their operands.
        count: u32,
        tiles: u32,
        a_stride: u32,
        b_stride: u32,
        c_stride: u32,
        alpha: f32,
        beta: f32,
    }
}

impl Graph {
    /// The product of two matrices stored as `form` says, `[m, n]`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shapes do not agree.
    pub fn matmul(
        &mut self,
        name: &str,
        form: Form,
        a: Tensor,
        b: Tensor,
    ) -> crate::Result<Tensor> {
        let &[a0, a1] = self.shape(a) else {
            return Err(self.misfit("matmul", a, "a matrix"));
        };
        let &[b0, b1] = self.shape(b) else {
            return Err(self.misfit("matmul", b, "a matrix"));
        };
        let (m, k) = if form == Form::Tn { (a1, a0) } else { (a0, a1) };
        let (n, kb) = if form == Form::Nt { (b0, b1) } else { (b1, b0) };
        self.require("matmul", b, k == kb, &format!("{k} along the summed side"))?;
        let c = self.activation(name, &[m, n]);
        let rows = if form == Form::Tn { k } else { m };
        self.push(
            Matmul::new(form, m, n, k),
            &[a, b],
            &[c],
            &[],
            Extent::Fixed(rows),
        )?;
        Ok(c)
    }
}

impl Matmul {
    pub(crate) fn new(form: Form, m: usize, n: usize, k: usize) -> Self {
        let epilogue = Epilogue::None;
        Self {
            form,
            m,
            n,
            k,
            bias: false,
            epilogue,
            accumulate: false,
            column_sum: false,
            many: None,
        }
    }

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

    pub(super) fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        if let Some(many) = self.many {
            return self.run_many(io, many);
        }
        let (m, k) = match self.form {
            Form::Tn => (self.m, io.rows),
            _ => (io.rows, self.k),
        };
        let n = self.n;
        let (a, b) = (io.read(0), io.weights(1));
        // weights in half precision are unpacked some rows at a time
        let panel = if b.is_half() {
            PANEL.div_ceil(k).min(n)
        } else {
            n
        };
        let (factors, unpacked) = {
            let residual = matches!(self.epilogue, Epilogue::Residual(_));
            let factors = if residual { m * n } else { 0 };
            let unpacked = if b.is_half() { panel * k } else { 0 };
            io.scratch(factors + unpacked).split_at_mut(factors)
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
            (b, Form::Nt) => {
                for first in (0..n).step_by(panel.max(1)) {
                    let rows = panel.min(n - first);
                    let b = MatRef::new(b.part(first * k, rows * k, unpacked), rows, k, k);
                    let c = MatMut::new(&mut c[first..], m, rows, n);
                    gemm(c, MatRef::new(a, m, k, k), b.t(), begun, F::ONE, true);
                }
            }
            (Weights::Number(b), Form::Nn) => {
                let (a, b) = (MatRef::new(a, m, k, k), MatRef::new(b, k, n, n));
                gemm(MatMut::new(c, m, n, n), a, b, begun, F::ONE, true);
            }
            (Weights::Number(b), Form::Tn) => {
                let (a, b) = (MatRef::new(a, k, m, m).t(), MatRef::new(b, k, n, n));
                gemm(MatMut::new(c, m, n, n), a, b, begun, F::ONE, true);
            }
            (Weights::Half(..), _) => unreachable!("roles are checked when a node is pushed"),
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

    fn tile(&self, lower: &Lower<'_>) -> MatmulTile {
        let tuning = lower.tuning;
        let tiles =
            self.m.div_ceil(tuning.matmul.m as usize) * self.n.div_ceil(tuning.matmul.n as usize);
        let tiles = tiles * self.many.map_or(1, |many| many.count);
        if tiles < tuning.matmul_small_below as usize {
            tuning.matmul_small
        } else {
            tuning.matmul
        }
    }
}

twin!(Matmul);

impl Op for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn role(&self, input: usize) -> Role {
        match (input, self.form) {
            (1, Form::Nt) => Role::Weight,
            _ => Role::Number,
        }
    }

    fn scalars(&self) -> Vec<Declared> {
        vec![DROPOUT_KEY.declared]
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Kernel> {
        let tile = self.tile(lower);
        let tiles_n = self.n.div_ceil(tile.n as usize);
        let dynamic = match lower.extent() {
            Extent::Counted { base, .. } => Some(base),
            Extent::Fixed(_) => None,
        };
        let residual = match &self.epilogue {
            Epilogue::Residual(r) => Some(r),
            _ => None,
        };
        let gate = residual.and_then(|r| r.modulation.as_ref());
        let second = self.epilogue != Epilogue::None;
        let tn = self.form == Form::Tn;
        let many = self.many.unwrap_or(Many {
            count: 1,
            strides: [0; 3],
            alpha: 1.0,
            beta: None,
        });
        let combine = many.beta.is_some();
        let dropped = residual.is_some_and(|r| r.dropout.p > 0.0);
        let place = gate.copied().unwrap_or(Modulation {
            sample_rows: self.m.max(1),
            stride: 0,
            column: 0,
        });
        // sides along which an operand's numbers follow each other, read in fours where they come in fours
        let fours = |sizes: &[usize]| sizes.iter().all(|size| size.is_multiple_of(4));
        let side_a = if tn { self.m } else { self.k };
        let side_b = if self.form == Form::Nt {
            self.k
        } else {
            self.n
        };
        let vec_a = fours(&[side_a, many.strides[0]]);
        let vec_b = fours(&[side_b, many.strides[1]]);
        let guarded = dynamic.is_some() && tn || !self.k.is_multiple_of(tile.k as usize);
        let kernel = Kernel::new(shader!("matmul"))
            .at_rest(lower.read_element(1))
            .flag("A_T", tn)
            .flag("VEC_A", vec_a)
            .flag("VEC_B", vec_b)
            .flag("TURN_A", vec_a && !tn)
            .flag("TURN_B", vec_b && self.form == Form::Nt)
            .flag(
                "VEC_C",
                fours(&[self.n, many.strides[2], place.stride, place.column]),
            )
            .flag("GUARD_K", guarded)
            .flag("LOOP", tile.terms < tile.k)
            .flag("B_T", self.form == Form::Nt)
            .flag("BIAS", self.bias)
            .flag("GELU", self.epilogue == Epilogue::Gelu)
            .flag("SECOND", second)
            .flag("RESIDUAL", residual.is_some())
            .flag("GATE", gate.is_some())
            .flag("DROPOUT", dropped)
            .flag("STEP", dropped || dynamic.is_some())
            .flag("ACCUMULATE", self.accumulate)
            .flag("COLUMN_SUM", self.column_sum)
            .flag("EIGHT_M", tile.thread_m == 8)
            .flag("EIGHT_N", tile.thread_n == 8)
            .flag("EIGHT_MN", tile.thread_m == 8 && tile.thread_n == 8)
            .flag("MANY", self.many.is_some())
            .flag("COMBINE", combine)
            .flag("DYNAMIC_M", dynamic.is_some() && !tn)
            .flag("DYNAMIC_K", dynamic.is_some() && tn)
            .constant("TILE_M", tile.m)
            .constant("TILE_N", tile.n)
            .constant("TILE_K", tile.k)
            .constant("THREAD_M", tile.thread_m)
            .constant("THREAD_N", tile.thread_n)
            .constant("A_LOADS", tile.m * tile.k / 4 / tile.threads())
            .constant("B_LOADS", tile.n * tile.k / 4 / tile.threads())
            .constant("TERMS", tile.terms);
        let at = 2 + usize::from(self.bias);
        let dropout = residual.map(|r| r.dropout).unwrap_or_default();
        let params = MatmulParams {
            m: self.m as u32,
            n: self.n as u32,
            k: self.k as u32,
            tiles_n: tiles_n as u32,
            base: dynamic.unwrap_or(0) as u32,
            sample_rows: place.sample_rows as u32,
            mod_stride: place.stride as u32,
            gate_column: place.column as u32,
            threshold: dropout.threshold(),
            keep_scale: dropout.scale(),
            site: dropout.site,
            count: many.count as u32,
            tiles: (tiles_n * self.m.div_ceil(tile.m as usize)) as u32,
            a_stride: many.strides[0] as u32,
            b_stride: many.strides[1] as u32,
            c_stride: many.strides[2] as u32,
            alpha: many.alpha as f32,
            beta: many.beta.unwrap_or(0.0) as f32,
        };
        let grid = Grid {
            extent: match (self.many, tn) {
                (None, false) => lower.extent(),
                _ => Extent::Fixed(self.m),
            },
            per_group: tile.m as usize,
            repeat: tiles_n * many.count,
        };
        vec![
            kernel
                .counted(lower.extent())
                .read(0)
                .read(1)
                .read_if(self.bias, 2)
                .read_if(residual.is_some() || combine, at)
                .read_if(gate.is_some(), at + 1)
                .write(0)
                .write_if(second, 1)
                .write_if(self.column_sum, 1)
                .params(params)
                .grid(grid)
                .flops(2 * (many.count * self.m * self.n * self.k) as u64),
        ]
    }
}
