// Attention and its backward pass without atomics, per head, of heads that lie in any tensors.
//
// A workgroup takes ROWS rows of one head, one an invocation, and walks over rows of the other side, eight at a time, so
// that no array is indexed at run time. All invocations look at the same rows: their loads are uniform and need neither
// workgroup memory nor barriers. An invocation's own row is read again for every eight, PART vectors at a time, and takes
// few registers.
//
// x: own rows, queries or with OF_KEYS keys. y: rows of the other side. s = x y scale, P = exp(s - lse).
// FORWARD: o = softmax(s) v with a running maximum and sum, and lse, the log-sum-exp of each row; z is v.
// SLOPES: dS = P (do v^T - delta), from u and z, which are do and v, or v and do; dq or dk is the sum of dS y.
// Else: dv is the sum of P z, where z is do.
// A key head's gradients are summed over its query heads, each with its own pass over the queries.
// LOOPS: for compilers that take minutes for long code; the sum lies in storage, as no array may be indexed at run time.
// CAUSAL: a query sees keys up to itself. BY_SIGHT: it sees what four integers a row say (src/ops/visibility.rs); rows
// that no row of a wave sees, or is seen by, cost it only that test.

const ROWS: u32 = 64u;
const VECTORS: u32 = 16u; // of 4 elements in a head
const PART: u32 = 4u; // vectors of a row that are multiplied at a time
const PARTS: u32 = 2u; // PARTS * PART divides VECTORS
const LOWEST: f32 = -1e30;
const NOTHING_SEEN: f32 = 1e30;

//#params

//#include grid
//#include sight

alias Number = f32;

@group(0) @binding(0) var<storage, read> x: array<vec4<Number>>;
@group(0) @binding(1) var<storage, read> y: array<vec4<Number>>;
//#if SLOPES
@group(0) @binding(2) var<storage, read> u: array<vec4<Number>>;
//#endif
@group(0) @binding(3) var<storage, read> z: array<vec4<Number>>;
//#if BY_SIGHT
@group(0) @binding(4) var<storage, read> own_sights: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> other_sights: array<vec4<u32>>;
//#endif
//#if !FORWARD
@group(0) @binding(6) var<storage, read> stats: array<vec2<f32>>; // (lse, delta) [batch, heads, queries]
//#endif
@group(0) @binding(7) var<storage, read_write> out: array<vec4<Number>>;
//#if FORWARD
@group(0) @binding(8) var<storage, read_write> lse: array<f32>; // [batch, heads, queries]
//#endif
@group(0) @binding(9) var<uniform> p: Params;

// s + the products of a piece of the own row with those of four others.
fn met(s: vec4<f32>, mine: vec4<f32>, y0: vec4<f32>, y1: vec4<f32>, y2: vec4<f32>, y3: vec4<f32>) -> vec4<f32> {
  var r = fma(vec4<f32>(mine.x), vec4<f32>(y0.x, y1.x, y2.x, y3.x), s);
  r = fma(vec4<f32>(mine.y), vec4<f32>(y0.y, y1.y, y2.y, y3.y), r);
  r = fma(vec4<f32>(mine.z), vec4<f32>(y0.z, y1.z, y2.z, y3.z), r);
  return fma(vec4<f32>(mine.w), vec4<f32>(y0.w, y1.w, y2.w, y3.w), r);
}

fn met_y(s: vec4<f32>, mine: vec4<f32>, at: vec4<u32>) -> vec4<f32> {
  return met(s, mine, vec4<f32>(y[at.x]), vec4<f32>(y[at.y]), vec4<f32>(y[at.z]), vec4<f32>(y[at.w]));
}

//#if SLOPES
fn met_z(s: vec4<f32>, mine: vec4<f32>, at: vec4<u32>) -> vec4<f32> {
  return met(s, mine, vec4<f32>(z[at.x]), vec4<f32>(z[at.y]), vec4<f32>(z[at.z]), vec4<f32>(z[at.w]));
}
//#endif

// r + four others' pieces, weighted.
fn weighted(r: vec4<f32>, by: vec4<f32>, at: vec4<u32>) -> vec4<f32> {
  //#if SLOPES
  let first = fma(vec4<f32>(by.y), vec4<f32>(y[at.y]), fma(vec4<f32>(by.x), vec4<f32>(y[at.x]), r));
  return fma(vec4<f32>(by.w), vec4<f32>(y[at.w]), fma(vec4<f32>(by.z), vec4<f32>(y[at.z]), first));
  //#else
  let first = fma(vec4<f32>(by.y), vec4<f32>(z[at.y]), fma(vec4<f32>(by.x), vec4<f32>(z[at.x]), r));
  return fma(vec4<f32>(by.w), vec4<f32>(z[at.w]), fma(vec4<f32>(by.z), vec4<f32>(z[at.z]), first));
  //#endif
}

//#if BY_SIGHT
fn sees_other(sight: vec4<u32>, at: u32) -> bool {
  //#if OF_KEYS
  return sees(other_sights[at], sight);
  //#else
  return sees(sight, other_sights[at]);
  //#endif
}

fn sees_four(sight: vec4<u32>, at: vec4<u32>) -> vec4<bool> {
  return vec4<bool>(sees_other(sight, at.x), sees_other(sight, at.y), sees_other(sight, at.z), sees_other(sight, at.w));
}
//#endif

@compute @workgroup_size(ROWS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let index = group_index(group);
  if (index >= p.total) {
    return;
  }
  let block = index % p.blocks;
  let own_head = (index / p.blocks) % p.own_heads;
  let sequence = index / (p.blocks * p.own_heads);
  let own = min(block * ROWS + lane, p.own - 1u); // in its sequence
  let row = sequence * p.own + own;
  let x0 = row * p.x_stride + p.x_column + own_head * VECTORS;
  //#if SLOPES
  let u0 = row * p.u_stride + p.u_column + own_head * VECTORS;
  //#endif
  //#if BY_SIGHT
  let sight = own_sights[own + select(sequence * p.own, 0u, p.own_sights == p.own)];
  let sight_first = select(sequence * p.others, 0u, p.other_sights == p.others);
  //#endif
  let stored = block * ROWS + lane < p.own;
  let out0 = row * p.out_stride + p.out_column + own_head * VECTORS;
  //#if LOOPS
  let vectors = p.vectors; // a number that no compiler knows
  //#else
  const vectors = VECTORS;
  //#endif
  //#if SUMS
  var sum: array<vec4<f32>, VECTORS>;
  //#else
  for (var d = 0u; d < vectors; d++) {
    if (stored) {
      out[out0 + d] = vec4<Number>();
    }
  }
  //#endif
  // parts of the own row; AHEAD: one is on its way while the other is multiplied
  var mine: array<array<vec4<f32>, PART>, PARTS>;
  //#if SLOPES
  var slope: array<array<vec4<f32>, PART>, PARTS>;
  //#endif
  //#if AHEAD
  //#unroll d PART
  for (var d = 0u; d < PART; d++) {
    mine[0][d] = vec4<f32>(x[x0 + d]);
    //#if SLOPES
    slope[0][d] = vec4<f32>(u[u0 + d]);
    //#endif
  }
  //#end
  //#endif
  //#if FORWARD
  var top = LOWEST;
  var total = 0.0;
  //#endif
  //#if OF_KEYS
  let begin = select(0u, block * ROWS, p.causal == 1u);
  let end = p.others;
  for (var head = own_head * p.group; head < (own_head + 1u) * p.group; head++) {
    let other_head = head;
  //#else
  let begin = 0u;
  let end = select(p.others, min(p.others, (block + 1u) * ROWS), p.causal == 1u);
  {
    let head = own_head;
    let other_head = own_head / p.group;
  //#endif
    let stats0 = (sequence * p.heads + head) * p.queries;
    //#if !FORWARD
    //#if !OF_KEYS
    let stat = stats[stats0 + own];
    //#endif
    //#endif
    for (var i = begin; i < end; i += 8u) {
      let others = vec4<u32>(i) + vec4<u32>(0u, 1u, 2u, 3u);
      let a = min(others, vec4<u32>(p.others - 1u));
      let b = min(others + 4u, vec4<u32>(p.others - 1u));
      //#if CAUSAL
      //#if OF_KEYS
      var seen_a = others >= vec4<u32>(own);
      var seen_b = others + 4u >= vec4<u32>(own);
      //#else
      var seen_a = others <= vec4<u32>(own);
      var seen_b = others + 4u <= vec4<u32>(own);
      //#endif
      //#else
      var seen_a = vec4<bool>(true);
      var seen_b = vec4<bool>(true);
      //#endif
      seen_a &= others < vec4<u32>(p.others);
      seen_b &= others + 4u < vec4<u32>(p.others);
      //#if BY_SIGHT
      seen_a &= sees_four(sight, sight_first + a);
      seen_b &= sees_four(sight, sight_first + b);
      if (any(seen_a) || any(seen_b)) {
      //#else
      {
      //#endif
        let rows_a = sequence * p.others + a;
        let rows_b = sequence * p.others + b;
        let y_a = rows_a * p.y_stride + (p.y_column + other_head * VECTORS);
        let y_b = rows_b * p.y_stride + (p.y_column + other_head * VECTORS);
        let z_a = rows_a * p.z_stride + (p.z_column + other_head * VECTORS);
        let z_b = rows_b * p.z_stride + (p.z_column + other_head * VECTORS);
        var s_a = vec4<f32>();
        var s_b = vec4<f32>();
        //#if SLOPES
        var dp_a = vec4<f32>();
        var dp_b = vec4<f32>();
        //#endif
        for (var part = 0u; part < vectors; part += PARTS * PART) {
          //#unroll turn PARTS
          for (var turn = 0u; turn < PARTS; turn++) {
            let at = part + turn * PART;
            //#if AHEAD
            let next = select(at + PART, 0u, at + PART == VECTORS);
            //#else
            let next = at;
            //#endif
            //#unroll d PART
            for (var d = 0u; d < PART; d++) {
              mine[(turn + 1u) % PARTS][d] = vec4<f32>(x[x0 + next + d]);
              //#if SLOPES
              slope[(turn + 1u) % PARTS][d] = vec4<f32>(u[u0 + next + d]);
              //#endif
            }
            //#end
            //#unroll d PART
            for (var d = 0u; d < PART; d++) {
              s_a = met_y(s_a, mine[turn][d], y_a + at + d);
              s_b = met_y(s_b, mine[turn][d], y_b + at + d);
              //#if SLOPES
              dp_a = met_z(dp_a, slope[turn][d], z_a + at + d);
              dp_b = met_z(dp_b, slope[turn][d], z_b + at + d);
              //#endif
            }
            //#end
          }
          //#end
        }
        //#if FORWARD
        s_a = select(vec4<f32>(LOWEST), s_a * p.scale, seen_a);
        s_b = select(vec4<f32>(LOWEST), s_b * p.scale, seen_b);
        let both = max(s_a, s_b);
        let higher = max(top, max(max(both.x, both.y), max(both.z, both.w)));
        let shrink = exp(top - higher);
        let e_a = exp(s_a - higher);
        let e_b = exp(s_b - higher);
        top = higher;
        total = total * shrink + dot(e_a + e_b, vec4<f32>(1.0));
        //#if LOOPS
        for (var d = 0u; d < vectors; d++) {
          //#if SUMS
          sum[d] = weighted(weighted(sum[d] * shrink, e_a, z_a + d), e_b, z_b + d);
          //#else
          if (stored) {
            out[out0 + d] = weighted(weighted(out[out0 + d] * shrink, e_a, z_a + d), e_b, z_b + d);
          }
          //#endif
        }
        //#else
        //#unroll d VECTORS
        for (var d = 0u; d < VECTORS; d++) {
          sum[d] = weighted(weighted(sum[d] * shrink, e_a, z_a + d), e_b, z_b + d);
        }
        //#end
        //#endif
        //#else
        //#if OF_KEYS
        let stat_a = array<vec2<f32>, 4>(stats[stats0 + a.x], stats[stats0 + a.y], stats[stats0 + a.z], stats[stats0 + a.w]);
        let stat_b = array<vec2<f32>, 4>(stats[stats0 + b.x], stats[stats0 + b.y], stats[stats0 + b.z], stats[stats0 + b.w]);
        let lse_a = vec4<f32>(stat_a[0].x, stat_a[1].x, stat_a[2].x, stat_a[3].x);
        let lse_b = vec4<f32>(stat_b[0].x, stat_b[1].x, stat_b[2].x, stat_b[3].x);
        let delta_a = vec4<f32>(stat_a[0].y, stat_a[1].y, stat_a[2].y, stat_a[3].y);
        let delta_b = vec4<f32>(stat_b[0].y, stat_b[1].y, stat_b[2].y, stat_b[3].y);
        //#else
        let lse_a = stat.x;
        let lse_b = stat.x;
        let delta_a = stat.y;
        let delta_b = stat.y;
        //#endif
        var by_a = select(vec4<f32>(), exp(s_a * p.scale - lse_a), seen_a);
        var by_b = select(vec4<f32>(), exp(s_b * p.scale - lse_b), seen_b);
        //#if SLOPES
        by_a *= dp_a - delta_a;
        by_b *= dp_b - delta_b;
        let from_a = y_a;
        let from_b = y_b;
        //#else
        let from_a = z_a;
        let from_b = z_b;
        //#endif
        //#if LOOPS
        for (var d = 0u; d < vectors; d++) {
          //#if SUMS
          sum[d] = weighted(weighted(sum[d], by_a, from_a + d), by_b, from_b + d);
          //#else
          if (stored) {
            out[out0 + d] = weighted(weighted(out[out0 + d], by_a, from_a + d), by_b, from_b + d);
          }
          //#endif
        }
        //#else
        //#unroll d VECTORS
        for (var d = 0u; d < VECTORS; d++) {
          sum[d] = weighted(weighted(sum[d], by_a, from_a + d), by_b, from_b + d);
        }
        //#end
        //#endif
        //#endif
      }
    }
  }
  if (stored) {
    //#if FORWARD
    let share = select(0.0, 1.0 / total, total > 0.0);
    lse[(sequence * p.heads + own_head) * p.queries + own] = select(NOTHING_SEEN, top + log(total), total > 0.0);
    //#else
    //#if SLOPES
    let share = p.scale;
    //#else
    const share = 1.0;
    //#endif
    //#endif
    //#if LOOPS
    for (var d = 0u; d < vectors; d++) {
      //#if SUMS
      out[out0 + d] = vec4<Number>(sum[d] * share);
      //#else
      out[out0 + d] *= share;
      //#endif
    }
    //#else
    //#unroll d VECTORS
    for (var d = 0u; d < VECTORS; d++) {
      out[out0 + d] = vec4<Number>(sum[d] * share);
    }
    //#end
    //#endif
  }
}
