//! Kernels of attention.

use super::sizes::{Attention, Lies, Rule};
use crate::graph::{Kernel, Lower};
use crate::program::Element;
use crate::{params, shader};

/// Invocations that share a head where a sequence has one query.
const ROW_THREADS: u32 = 128;

params! {
    struct WalkParams {
        /// Workgroups.
        total: u32,
        /// Of a head's own rows.
        blocks: u32,
        own_heads: u32,
        /// Query heads, and those of a key head.
        heads: u32,
        group: u32,
        /// Rows of a sequence.
        own: u32,
        others: u32,
        queries: u32,
        causal: u32,
        /// Of a head.
        vectors: u32,
        // of vec4 up to the sights
        x_stride: u32,
        x_column: u32,
        y_stride: u32,
        y_column: u32,
        u_stride: u32,
        u_column: u32,
        z_stride: u32,
        z_column: u32,
        out_stride: u32,
        out_column: u32,
        /// Rows of the integers that say who sees whom.
        own_sights: u32,
        other_sights: u32,
        scale: f32,
    }
}

params! {
    struct RowParams {
        keys: u32,
        heads: u32,
        /// Query heads of a key head.
        group: u32,
        /// Workgroups.
        total: u32,
        // of vec4 up to the sights
        q_stride: u32,
        q_column: u32,
        k_stride: u32,
        k_column: u32,
        v_stride: u32,
        v_column: u32,
        /// Rows of the integers that say who sees whom.
        sight_queries: u32,
        sight_keys: u32,
        scale: f32,
    }
}

params! {
    struct StatsParams {
        /// Rows and heads.
        total: u32,
        queries: u32,
        heads: u32,
    }
}

/// How a walk's operands lie: own rows, the other side's, and what is summed with them or meets them in dP.
struct Walk {
    of_keys: bool,
    x: Lies,
    y: Lies,
    u: Lies,
    z: Lies,
    out: Lies,
}

fn vectors(lies: Lies) -> [u32; 2] {
    [lies.stride, lies.column].map(|elements| elements as u32 / 4)
}

fn sights(op: &Attention) -> [u32; 2] {
    match op.rule {
        Rule::By(rows) => rows.map(|rows| rows as u32),
        _ => [1, 1],
    }
}

fn walk(op: &Attention, lower: &Lower<'_>, walk: &Walk) -> Kernel {
    let (tuning, element) = (lower.tuning, lower.read_element(0));
    let (mut sides, mut sights) = ([op.queries, op.keys], sights(op));
    let mut own_heads = op.heads;
    if walk.of_keys {
        sides.reverse();
        sights.reverse();
        own_heads = op.kv_heads;
    }
    let blocks = sides[0].div_ceil(tuning.attention_rows as usize);
    let total = op.batch * own_heads * blocks;
    let [x_stride, x_column] = vectors(walk.x);
    let [y_stride, y_column] = vectors(walk.y);
    let [u_stride, u_column] = vectors(walk.u);
    let [z_stride, z_column] = vectors(walk.z);
    let [out_stride, out_column] = vectors(walk.out);
    let causal = op.rule == Rule::Causal;
    let vectors = op.head_dim as u32 / 4;
    let ahead = !tuning.attention_loops && vectors.is_multiple_of(2);
    let parts = if ahead { 2 } else { 1 };
    let fits = |part: &u32| ahead && vectors.is_multiple_of(part * parts);
    let part = [4, 2].into_iter().find(fits).unwrap_or(1);
    Kernel::new(shader!("attention"))
        .flag("AHEAD", ahead)
        .flag("LOOPS", tuning.attention_loops)
        // a sum that lies in the output would be rounded every time
        .flag("SUMS", !tuning.attention_loops || element == Element::F16)
        .numbers("Number", element)
        .flag("OF_KEYS", walk.of_keys)
        .flag("CAUSAL", causal)
        .flag("BY_SIGHT", op.by_sight())
        .constant("VECTORS", vectors)
        .constant("PART", part)
        .constant("PARTS", parts)
        .constant("ROWS", tuning.attention_rows)
        .params(WalkParams {
            total: total as u32,
            blocks: blocks as u32,
            own_heads: own_heads as u32,
            heads: op.heads as u32,
            group: op.group() as u32,
            own: sides[0] as u32,
            others: sides[1] as u32,
            queries: op.queries as u32,
            causal: u32::from(causal),
            vectors,
            x_stride,
            x_column,
            y_stride,
            y_column,
            u_stride,
            u_column,
            z_stride,
            z_column,
            out_stride,
            out_column,
            own_sights: sights[0],
            other_sights: sights[1],
            scale: op.scale::<f32>(),
        })
        .groups(total)
}

pub(super) fn forward(op: &Attention, lower: &Lower<'_>) -> Kernel {
    let flops = 2 * op.product_flops();
    if op.one_query() {
        return row(op, lower).flops(flops);
    }
    let by_sight = op.by_sight();
    let lies = Walk {
        of_keys: false,
        x: op.q,
        y: op.k,
        u: op.q,
        z: op.v,
        out: op.output(),
    };
    walk(op, lower, &lies)
        .flag("FORWARD", true)
        .read(0)
        .read(1)
        .read_if(false, 2)
        .read(2)
        .read_if(by_sight, 3)
        .read_if(by_sight, 4)
        .read_if(false, 2)
        .write(0)
        .write(1)
        .flops(flops)
}

/// With one query a sequence its keys are shared out, not its queries.
fn row(op: &Attention, lower: &Lower<'_>) -> Kernel {
    let total = op.batch * op.heads;
    let [q_stride, q_column] = vectors(op.q);
    let [k_stride, k_column] = vectors(op.k);
    let [v_stride, v_column] = vectors(op.v);
    let [sight_queries, sight_keys] = sights(op);
    Kernel::new(shader!("attention_row"))
        .numbers("Number", lower.read_element(0))
        .flag("BY_SIGHT", op.by_sight())
        .constant("HEAD_DIM", op.head_dim as u32)
        .constant("THREADS", ROW_THREADS)
        .read(0)
        .read(1)
        .read(2)
        .read_if(op.by_sight(), 3)
        .read_if(op.by_sight(), 4)
        .write(0)
        .write(1)
        .temp(0)
        .params(RowParams {
            keys: op.keys as u32,
            heads: op.heads as u32,
            group: op.group() as u32,
            total: total as u32,
            q_stride,
            q_column,
            k_stride,
            k_column,
            v_stride,
            v_column,
            sight_queries,
            sight_keys,
            scale: op.scale::<f32>(),
        })
        .groups(total)
}

/// Operands are q, k, v, o, lse, do and the integers of [`Rule::By`]; `place`: which output the gradients of q, k and v
/// lie in.
pub(super) fn backward(op: &Attention, place: [usize; 3], lower: &Lower<'_>) -> Vec<Kernel> {
    let o = op.output();
    let rows = op.batch * op.queries * op.heads;
    let stats = Kernel::new(shader!("attention_stats"))
        .numbers("Number", lower.read_element(0))
        .constant("VECTORS", op.head_dim as u32 / 4)
        .read(3)
        .read(4)
        .read(5)
        .temp(0)
        .params(StatsParams {
            total: rows as u32,
            queries: op.queries as u32,
            heads: op.heads as u32,
        })
        .items(rows, 64);
    let dq = Walk {
        of_keys: false,
        x: op.q,
        y: op.k,
        u: o,
        z: op.v,
        out: op.q,
    };
    let dk = Walk {
        of_keys: true,
        x: op.k,
        y: op.q,
        u: op.v,
        z: o,
        out: op.k,
    };
    let dv = Walk { out: op.v, ..dk };
    let by_sight = op.by_sight();
    let pass = |lies: &Walk, slopes: bool, [x, y, u, z]: [usize; 4], write: usize| {
        let (own, other) = if lies.of_keys { (7, 6) } else { (6, 7) };
        walk(op, lower, lies)
            .flag("SLOPES", slopes)
            .read(x)
            .read(y)
            .read_if(slopes, u)
            .read(z)
            .read_if(by_sight, own)
            .read_if(by_sight, other)
            .temp_read(0)
            .write(write)
            .write_if(false, write)
            .flops(if slopes { 3 } else { 2 } * op.product_flops())
    };
    vec![
        stats,
        pass(&dq, true, [0, 1, 5, 2], place[0]),
        pass(&dk, true, [1, 0, 2, 5], place[1]),
        pass(&dv, false, [1, 0, 2, 5], place[2]),
    ]
}
