// Backward pass of attention.wgsl without atomics: P is recomputed from the stored log-sum-exp.
//
// delta: delta_i = sum over d of do o, one (query, head) an invocation.
// dq: a workgroup owns ROWS queries and walks over the keys: dS = P (do v^T - delta), dq += dS k.
// dv, dk: a workgroup owns ROWS keys and walks over the queries: dv += P^T do, dk += dS^T q; two
// passes, so that neither runs out of registers.
// Barriers are those of attention.wgsl. All write disjoint parts of dqkv.

const ROWS: u32 = 64u;
const TILE: u32 = 16u;
const VECTORS: u32 = 16u; // of 4 elements in a head

//#params

//#include grid

//#if DELTA
@group(0) @binding(0) var<storage, read> o: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> do_: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> delta: array<f32>; // [batch, heads, length]
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(64)
fn delta_rows(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(group) * 64u + lane; // over rows and heads
  if (i >= p.total) {
    return;
  }
  var sum = 0.0;
  //#unroll d VECTORS
  for (var d = 0u; d < VECTORS; d++) {
    sum += dot(o[i * VECTORS + d], do_[i * VECTORS + d]);
  }
  //#end
  let row = i / p.heads;
  delta[((row / p.length) * p.heads + i % p.heads) * p.length + row % p.length] = sum;
}
//#else
@group(0) @binding(0) var<storage, read> qkv: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> do_: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> lse: array<f32>;
//#if !DV
@group(0) @binding(3) var<storage, read> delta: array<f32>;
//#endif
@group(0) @binding(4) var<storage, read_write> dqkv: array<vec4<f32>>;
@group(0) @binding(5) var<uniform> p: Params;

// keys k and v for dq, queries q and gradients do for dk and dv
var<workgroup> a_tile: array<vec4<f32>, TILE * VECTORS>;
var<workgroup> b_tile: array<vec4<f32>, TILE * VECTORS>;
var<workgroup> lse_tile: array<f32, TILE>;
var<workgroup> delta_tile: array<f32, TILE>;

struct Place {
  head: u32,
  first: u32, // row of the sequence's beginning
  stats: u32, // its beginning in lse and delta
  block: u32,
}

fn place(index: u32) -> Place {
  let head = (index / p.blocks) % p.heads;
  let sequence = index / (p.blocks * p.heads);
  return Place(head, sequence * p.length, (sequence * p.heads + head) * p.length, index % p.blocks);
}

// Vector d of q (part 0), k (1) or v (2).
fn at(w: Place, row: u32, part: u32, d: u32) -> u32 {
  return ((w.first + row) * 3u + part) * p.heads * VECTORS + w.head * VECTORS + d;
}

fn at_output(w: Place, row: u32, d: u32) -> u32 {
  return ((w.first + row) * p.heads + w.head) * VECTORS + d;
}

//#if DQ
@compute @workgroup_size(ROWS)
fn dq(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let index = group_index(group);
  if (index >= p.total) {
    return;
  }
  let w = place(index);
  let i = w.block * ROWS + lane;
  let live = i < p.length;
  var q: array<vec4<f32>, VECTORS>;
  var g: array<vec4<f32>, VECTORS>;
  var sum: array<vec4<f32>, VECTORS>;
  var row_lse = 0.0;
  var row_delta = 0.0;
  if (live) {
    //#unroll d VECTORS
    for (var d = 0u; d < VECTORS; d++) {
      q[d] = qkv[at(w, i, 0u, d)] * p.scale;
      g[d] = do_[at_output(w, i, d)];
    }
    //#end
    row_lse = lse[w.stats + i];
    row_delta = delta[w.stats + i];
  }
  //#if CAUSAL
  let keys = min(p.length, (w.block + 1u) * ROWS);
  //#else
  let keys = p.length;
  //#endif
  for (var j0 = 0u; j0 < keys; j0 += TILE) {
    workgroupBarrier();
    for (var e = lane; e < TILE * VECTORS; e += ROWS) {
      let j = j0 + e / VECTORS;
      var k = vec4<f32>();
      var v = vec4<f32>();
      if (j < p.length) {
        k = qkv[at(w, j, 1u, e % VECTORS)];
        v = qkv[at(w, j, 2u, e % VECTORS)];
      }
      a_tile[e] = k;
      b_tile[e] = v;
    }
    workgroupBarrier();
    for (var j = 0u; j < TILE; j++) {
      //#if CAUSAL
      let seen = live && j0 + j <= i;
      //#else
      let seen = live && j0 + j < p.length;
      //#endif
      if (seen) {
        var s = 0.0;
        var dp = 0.0;
        //#unroll d VECTORS
        for (var d = 0u; d < VECTORS; d++) {
          s += dot(q[d], a_tile[j * VECTORS + d]);
          dp += dot(g[d], b_tile[j * VECTORS + d]);
        }
        //#end
        let ds = exp(s - row_lse) * (dp - row_delta);
        //#unroll d VECTORS
        for (var d = 0u; d < VECTORS; d++) {
          sum[d] += ds * a_tile[j * VECTORS + d];
        }
        //#end
      }
    }
  }
  if (live) {
    //#unroll d VECTORS
    for (var d = 0u; d < VECTORS; d++) {
      dqkv[at(w, i, 0u, d)] = sum[d] * p.scale;
    }
    //#end
  }
}
//#else
@compute @workgroup_size(ROWS)
fn dkv(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let index = group_index(group);
  if (index >= p.total) {
    return;
  }
  let w = place(index);
  let j = w.block * ROWS + lane;
  let live = j < p.length;
  var k: array<vec4<f32>, VECTORS>;
  //#if !DV
  var v: array<vec4<f32>, VECTORS>;
  //#endif
  var sum: array<vec4<f32>, VECTORS>;
  if (live) {
    //#unroll d VECTORS
    for (var d = 0u; d < VECTORS; d++) {
      k[d] = qkv[at(w, j, 1u, d)];
      //#if !DV
      v[d] = qkv[at(w, j, 2u, d)];
      //#endif
    }
    //#end
  }
  //#if CAUSAL
  let queries = (w.block * ROWS / TILE) * TILE;
  //#else
  let queries = 0u;
  //#endif
  for (var i0 = queries; i0 < p.length; i0 += TILE) {
    workgroupBarrier();
    for (var e = lane; e < TILE * VECTORS; e += ROWS) {
      let i = i0 + e / VECTORS;
      var q = vec4<f32>();
      var g = vec4<f32>();
      if (i < p.length) {
        q = qkv[at(w, i, 0u, e % VECTORS)] * p.scale;
        g = do_[at_output(w, i, e % VECTORS)];
      }
      a_tile[e] = q;
      b_tile[e] = g;
    }
    if (lane < TILE && i0 + lane < p.length) {
      lse_tile[lane] = lse[w.stats + i0 + lane];
      //#if !DV
      delta_tile[lane] = delta[w.stats + i0 + lane];
      //#endif
    }
    workgroupBarrier();
    for (var i = 0u; i < TILE; i++) {
      //#if CAUSAL
      let seen = live && i0 + i < p.length && j <= i0 + i;
      //#else
      let seen = live && i0 + i < p.length;
      //#endif
      if (seen) {
        var s = 0.0;
        //#unroll d VECTORS
        for (var d = 0u; d < VECTORS; d++) {
          s += dot(a_tile[i * VECTORS + d], k[d]);
        }
        //#end
        let probability = exp(s - lse_tile[i]);
        //#if DV
        //#unroll d VECTORS
        for (var d = 0u; d < VECTORS; d++) {
          sum[d] += probability * b_tile[i * VECTORS + d];
        }
        //#end
        //#else
        var dp = 0.0;
        //#unroll d VECTORS
        for (var d = 0u; d < VECTORS; d++) {
          dp += dot(b_tile[i * VECTORS + d], v[d]);
        }
        //#end
        let ds = probability * (dp - delta_tile[i]);
        //#unroll d VECTORS
        for (var d = 0u; d < VECTORS; d++) {
          sum[d] += ds * a_tile[i * VECTORS + d];
        }
        //#end
        //#endif
      }
    }
  }
  if (live) {
    //#unroll d VECTORS
    for (var d = 0u; d < VECTORS; d++) {
      //#if DV
      dqkv[at(w, j, 2u, d)] = sum[d];
      //#else
      dqkv[at(w, j, 1u, d)] = sum[d];
      //#endif
    }
    //#end
  }
}
//#endif
//#endif
