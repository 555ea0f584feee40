//! How a product is launched: on the vector units, or on the matrix units of a GPU that has them.

use super::{Form, Many, Matmul};
use crate::gpu::{CooperativeTile, Grid, MatmulTile};
use crate::graph::{Kernel, Lower, Op, Role};
use crate::ops::epilogue::Epilogue;
use crate::ops::{DROPOUT_KEY, Modulation};
use crate::program::{Declared, Element, Extent};
use crate::{params, shader};

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

/// The tile of a workgroup.
enum Tile {
    Vector(MatmulTile),
    Cooperative(CooperativeTile, u32),
}

impl Tile {
    /// Rows, columns, depth and invocations.
    const fn sizes(&self) -> [u32; 4] {
        match self {
            Self::Vector(tile) => [tile.m, tile.n, tile.k, tile.threads()],
            Self::Cooperative(tile, _) => [tile.m, tile.n, tile.k, tile.threads],
        }
    }
}

/// Whether numbers come in fours along a side.
fn fours(sizes: &[usize]) -> bool {
    sizes.iter().all(|size| size.is_multiple_of(4))
}

/// So many workgroups; none if there is nothing to add to C.
fn where_rows(op: &Matmul, lower: &Lower<'_>, groups: usize) -> Grid {
    match (op.form, op.accumulate) {
        (Form::Tn, true) => Grid {
            extent: lower.extent(),
            per_group: op.k,
            repeat: groups,
        },
        _ => Grid::groups(groups),
    }
}

fn sum_of_planes(op: &Matmul, lower: &Lower<'_>) -> Kernel {
    const LANES: usize = 64;
    let wide = if op.n.is_multiple_of(4) { 4 } else { 1 };
    let len = op.m * op.n / wide;
    let groups = len.div_ceil(LANES);
    let columns = if op.column_sum {
        op.m.div_ceil(LANES)
    } else {
        0
    };
    let grid = match op.form {
        Form::Tn => where_rows(op, lower, groups + columns),
        _ => Grid {
            extent: lower.extent(),
            per_group: LANES,
            repeat: op.n / wide,
        },
    };
    Kernel::new(shader!("sum_planes"))
        .numbers("C", lower.write_element(0))
        .flag("VEC", wide == 4)
        .flag("ACCUMULATE", op.accumulate)
        .flag("COLUMN_SUM", op.column_sum)
        .temp_read(0)
        .temp_read_if(op.column_sum, 1)
        .write(0)
        .write_if(op.column_sum, 1)
        .params(PlanesParams {
            len: len as u32,
            planes: op.planes as u32,
            m: op.m as u32,
            columns_from: (groups * LANES) as u32,
        })
        .grid(grid)
}

/// The matrix units' tile where there are units, one operand is f16 at least, and both come in fours.
fn tile(op: &Matmul, lower: &Lower<'_>, vectors: bool) -> Tile {
    let tuning = lower.tuning;
    let tiles = |m: u32, n: u32| {
        let one = op.m.div_ceil(m as usize) * op.n.div_ceil(n as usize);
        one * op.planes * op.many.map_or(1, |many| many.count)
    };
    let few = |m, n| tiles(m, n) < tuning.matmul_small_below as usize;
    let half = lower.read_element(0) == Element::F16;
    // a constant in browsers, which have none, so that their module holds nothing of it
    let units = tuning
        .cooperative
        .filter(|_| cfg!(not(target_arch = "wasm32")));
    if let Some(units) = units
        && half
        && vectors
        && op.many.is_none()
    {
        let large = units.tile(false);
        return Tile::Cooperative(units.tile(few(large.m, large.n)), units.side);
    }
    let large = tuning.matmul;
    Tile::Vector(match few(large.m, large.n) {
        true => tuning.matmul_small,
        false => large,
    })
}

fn kernels(op: &Matmul, lower: &Lower<'_>) -> Vec<Kernel> {
    let dynamic = match lower.extent() {
        Extent::Counted { base, .. } => Some(base),
        Extent::Fixed(_) => None,
    };
    let residual = match &op.epilogue {
        Epilogue::Residual(r) => Some(r),
        _ => None,
    };
    let gate = residual.and_then(|r| r.modulation.as_ref());
    let second = op.epilogue != Epilogue::None;
    let split = op.planes > 1;
    let tn = op.form == Form::Tn;
    let many = op.many.unwrap_or(Many {
        count: 1,
        strides: [0; 3],
        alpha: 1.0,
        beta: None,
    });
    let combine = many.beta.is_some();
    let dropped = residual.is_some_and(|r| r.dropout.p > 0.0);
    let place = gate.copied().unwrap_or(Modulation {
        sample_rows: op.m.max(1),
        stride: 0,
        column: 0,
    });
    // sides along which an operand's numbers follow each other, read in fours where they come in fours
    let side_a = if tn { op.m } else { op.k };
    let side_b = if op.form == Form::Nt { op.k } else { op.n };
    let vec_a = fours(&[side_a, many.strides[0]]);
    let vec_b = fours(&[side_b, many.strides[1]]);
    let tile = tile(op, lower, vec_a && vec_b);
    let [tile_m, tile_n, tile_k, threads] = tile.sizes();
    let tiles_m = op.m.div_ceil(tile_m as usize);
    let tiles_n = op.n.div_ceil(tile_n as usize);
    let guarded = dynamic.is_some() && tn || !op.k.is_multiple_of(tile_k as usize);
    let of_b = lower.read_element(1);
    let written = |used: bool, i| {
        if used {
            lower.write_element(i)
        } else {
            Element::F32
        }
    };
    let kernel = match tile {
        Tile::Vector(tile) => Kernel::new(shader!("matmul"))
            .flag("TURN_A", vec_a && !tn)
            .flag("TURN_B", vec_b && op.form == Form::Nt)
            .flag("LOOP", tile.terms < tile.k)
            .flag("EIGHT_M", tile.thread_m == 8)
            .flag("EIGHT_N", tile.thread_n == 8)
            .flag("EIGHT_MN", tile.thread_m == 8 && tile.thread_n == 8)
            .flag("MANY", op.many.is_some())
            .constant("THREAD_M", tile.thread_m)
            .constant("THREAD_N", tile.thread_n)
            .constant("TERMS", tile.terms),
        Tile::Cooperative(tile, side) => Kernel::new(shader!("matmul_cooperative"))
            .flag("EIGHT", side == 8)
            .flag("WIDE", tile.wide)
            .constant("SIDE", side)
            .constant("STEPS", tile.k / side)
            .constant("THREADS", tile.threads),
    };
    let kernel = kernel
        .at_rest(if tn { Element::F32 } else { of_b })
        .numbers("OfA", lower.read_element(0))
        .numbers("OfB", if tn { of_b } else { Element::F32 })
        .numbers("OfC", written(!split, 0))
        .numbers("OfSecond", written(second, 1))
        .flag("A_T", tn)
        .flag("B_T", op.form == Form::Nt)
        .flag("VEC_A", vec_a)
        .flag("VEC_B", vec_b)
        .flag(
            "VEC_C",
            fours(&[op.n, many.strides[2], place.stride, place.column]),
        )
        .flag("GUARD_K", guarded)
        .flag("BIAS", op.bias)
        .flag("GELU", op.epilogue == Epilogue::Gelu)
        .flag("SECOND", second)
        .flag("RESIDUAL", residual.is_some())
        .flag("GATE", gate.is_some())
        .flag("DROPOUT", dropped)
        .flag("STEP", dropped || dynamic.is_some())
        .flag("ACCUMULATE", op.accumulate && !split)
        .flag("COLUMN_SUM", op.column_sum)
        .flag("SPLIT", split)
        .flag("PLACED", split || op.many.is_some())
        .flag("COMBINE", combine)
        .flag("DYNAMIC_M", dynamic.is_some() && !tn)
        .flag("DYNAMIC_K", dynamic.is_some() && tn)
        .constant("TILE_M", tile_m)
        .constant("TILE_N", tile_n)
        .constant("TILE_K", tile_k)
        .constant("A_LOADS", tile_m * tile_k / 4 / threads)
        .constant("B_LOADS", tile_n * tile_k / 4 / threads);
    let dropout = residual.map(|r| r.dropout).unwrap_or_default();
    let params = MatmulParams {
        m: op.m as u32,
        n: op.n as u32,
        k: op.k as u32,
        planes: op.planes as u32,
        tiles_n: tiles_n as u32,
        base: dynamic.unwrap_or(0) as u32,
        sample_rows: place.sample_rows as u32,
        mod_stride: place.stride as u32,
        gate_column: place.column as u32,
        threshold: dropout.threshold(),
        keep_scale: dropout.scale(),
        site: dropout.site,
        count: many.count as u32,
        tiles: (tiles_n * tiles_m) as u32,
        a_stride: many.strides[0] as u32,
        b_stride: many.strides[1] as u32,
        c_stride: many.strides[2] as u32,
        alpha: many.alpha as f32,
        beta: many.beta.unwrap_or(0.0) as f32,
    };
    let repeat = tiles_n * many.count * op.planes;
    let grid = match (op.many, tn) {
        (None, false) => Grid {
            extent: lower.extent(),
            per_group: tile_m as usize,
            repeat,
        },
        _ => where_rows(op, lower, tiles_m * repeat),
    };
    let at = 2 + usize::from(op.bias);
    let kernel = kernel
        .counted(lower.extent())
        .read(0)
        .read(1)
        .read_if(op.bias, 2)
        .read_if(residual.is_some() || combine, at)
        .read_if(gate.is_some(), at + 1);
    let kernel = if split {
        kernel.temp(0).temp_if(false, 1).temp_if(op.column_sum, 1)
    } else {
        kernel
            .write(0)
            .write_if(second, 1)
            .write_if(op.column_sum, 1)
    };
    let kernel = kernel
        .params(params)
        .grid(grid)
        .flops(2 * (many.count * op.m * op.n * op.k) as u64);
    if split {
        vec![kernel, sum_of_planes(op, lower)]
    } else {
        vec![kernel]
    }
}

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
        kernels(self, lower)
    }
}
