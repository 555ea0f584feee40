//! Matrix product in its three forms, with the epilogues of [`super::linear`].

use crate::error::Result;
use crate::gpu::{Grid, MatmulTile};
use crate::graph::{Graph, Kernel, Lower, Op, Role, Tensor};
use crate::ops::epilogue::Epilogue;
use crate::ops::{DROPOUT_KEY, Modulation};
use crate::program::{Declared, Element, Extent};
use crate::{params, shader, twin};

mod twin;

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
    /// Parts of k, summed apart; more than one if the node has room for their planes.
    pub(crate) planes: usize,
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
        /// Parts of k.
        planes: u32,
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

params! {
    struct PlanesParams {
        /// Of C, in vectors.
        len: u32,
        planes: u32,
        m: u32,
        /// The first invocation that adds column sums.
        columns_from: u32,
    }
}

impl Graph {
    /// The product of two matrices stored as `form` says, `[m, n]`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shapes do not agree.
    pub fn matmul(&mut self, name: &str, form: Form, a: Tensor, b: Tensor) -> Result<Tensor> {
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
        Matmul::new(form, m, n, k).push(self, [a, b], &[c], Extent::Fixed(rows))?;
        Ok(c)
    }
}

/// Parts of k such that a large GPU has work, and that planes cost little beside what they are sums of: a number of a
/// plane is moved twice, for `k / planes` multiply-adds.
fn planes(m: usize, n: usize, k: usize) -> usize {
    let tiles = m.div_ceil(128) * n.div_ceil(128);
    let least = (8 * m.min(n)).clamp(64, 512);
    match (192 / tiles.max(1)).min(k / least).min(64) {
        0..4 => 1,
        planes => planes,
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
            planes: 1,
        }
    }

    /// Appends a node without bias and epilogue; long sums with few outputs are split into planes.
    pub(crate) fn push(
        mut self,
        graph: &mut Graph,
        reads: [Tensor; 2],
        writes: &[Tensor],
        extent: Extent,
    ) -> Result<()> {
        self.planes = planes(self.m, self.n, self.k);
        let mut temps = Vec::new();
        if self.planes > 1 {
            temps.push(graph.activation("planes", &[self.planes, self.m, self.n]));
            if self.column_sum {
                temps.push(graph.activation("column planes", &[self.planes, self.m]));
            }
        }
        graph.push(self, &reads, writes, &temps, extent)
    }

    /// So many workgroups; none if there is nothing to add to C.
    fn where_rows(&self, lower: &Lower<'_>, groups: usize) -> Grid {
        match (self.form, self.accumulate) {
            (Form::Tn, true) => Grid {
                extent: lower.extent(),
                per_group: self.k,
                repeat: groups,
            },
            _ => Grid::groups(groups),
        }
    }

    fn sum_of_planes(&self, lower: &Lower<'_>) -> Kernel {
        const LANES: usize = 64;
        let wide = if self.n.is_multiple_of(4) { 4 } else { 1 };
        let len = self.m * self.n / wide;
        let groups = len.div_ceil(LANES);
        let columns = if self.column_sum {
            self.m.div_ceil(LANES)
        } else {
            0
        };
        let grid = match self.form {
            Form::Tn => self.where_rows(lower, groups + columns),
            _ => Grid {
                extent: lower.extent(),
                per_group: LANES,
                repeat: self.n / wide,
            },
        };
        Kernel::new(shader!("sum_planes"))
            .numbers("C", lower.write_element(0))
            .flag("VEC", wide == 4)
            .flag("ACCUMULATE", self.accumulate)
            .flag("COLUMN_SUM", self.column_sum)
            .temp_read(0)
            .temp_read_if(self.column_sum, 1)
            .write(0)
            .write_if(self.column_sum, 1)
            .params(PlanesParams {
                len: len as u32,
                planes: self.planes as u32,
                m: self.m as u32,
                columns_from: (groups * LANES) as u32,
            })
            .grid(grid)
    }

    fn tile(&self, lower: &Lower<'_>) -> MatmulTile {
        let tuning = lower.tuning;
        let tiles =
            self.m.div_ceil(tuning.matmul.m as usize) * self.n.div_ceil(tuning.matmul.n as usize);
        let tiles = tiles * self.planes * self.many.map_or(1, |many| many.count);
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
            (1, Form::Nt | Form::Nn) => Role::Weight,
            (0 | 1, _) => Role::Half,
            _ => Role::Number,
        }
    }

    fn writes_half(&self, output: usize) -> bool {
        output == 0 || self.epilogue == Epilogue::Gelu
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
        let split = self.planes > 1;
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
        let of_b = lower.read_element(1);
        let kernel = Kernel::new(shader!("matmul"))
            .at_rest(if tn { Element::F32 } else { of_b })
            .numbers("A", lower.read_element(0))
            .numbers("B", if tn { of_b } else { Element::F32 })
            .numbers(
                "C",
                if split {
                    Element::F32
                } else {
                    lower.write_element(0)
                },
            )
            .numbers(
                "Second",
                if second {
                    lower.write_element(1)
                } else {
                    Element::F32
                },
            )
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
            .flag("ACCUMULATE", self.accumulate && !split)
            .flag("COLUMN_SUM", self.column_sum)
            .flag("EIGHT_M", tile.thread_m == 8)
            .flag("EIGHT_N", tile.thread_n == 8)
            .flag("EIGHT_MN", tile.thread_m == 8 && tile.thread_n == 8)
            .flag("MANY", self.many.is_some())
            .flag("SPLIT", split)
            .flag("PLACED", split || self.many.is_some())
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
            planes: self.planes as u32,
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
        let tiles_m = self.m.div_ceil(tile.m as usize);
        let repeat = tiles_n * many.count * self.planes;
        let grid = match (self.many, tn) {
            (None, false) => Grid {
                extent: lower.extent(),
                per_group: tile.m as usize,
                repeat,
            },
            _ => self.where_rows(lower, tiles_m * repeat),
        };
        let kernel = kernel
            .counted(lower.extent())
            .read(0)
            .read(1)
            .read_if(self.bias, 2)
            .read_if(residual.is_some() || combine, at)
            .read_if(gate.is_some(), at + 1);
        let kernel = if split {
            kernel.temp(0).temp_if(false, 1).temp_if(self.column_sum, 1)
        } else {
            kernel
                .write(0)
                .write_if(second, 1)
                .write_if(self.column_sum, 1)
        };
        let kernel = kernel
            .params(params)
            .grid(grid)
            .flops(2 * (many.count * self.m * self.n * self.k) as u64);
        if split {
            vec![kernel, self.sum_of_planes(lower)]
        } else {
            vec![kernel]
        }
    }
}
