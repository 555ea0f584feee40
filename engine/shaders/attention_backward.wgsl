// Backward pass of attention.wgsl without atomics: P is recomputed from the stored log-sum-exp.
//
// stats: (lse, delta) of each row, delta_i = sum over d of do o, one (query, head) an invocation.
// dq: a workgroup owns ROWS queries and walks over the keys: dS = P (do v^T - delta), dq = sum of dS k.
// dv, dk: a workgroup owns ROWS keys of a key head and walks over the queries of its query heads: dv = sum of P^T do,
// dk = sum of dS^T q; two passes, so that neither runs out of registers.
// What all invocations of a workgroup look at they load at the same address, as attention.wgsl does. All write
// disjoint parts of the gradients.

const ROWS: u32 = 64u;
const VECTORS: u32 = 16u; // of 4 elements in a head

//#params

//#include grid
//#include sight

//#if STATS
@group(0) @binding(0) var<storage, read> o: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> lse: array<f32>;
@group(0) @binding(2) var<storage, read> g: array<vec4<f32>>; // gradient of o
@group(0) @binding(3) var<storage, read_write> stats: array<vec2<f32>>; // [batch, heads, queries]
@group(0) @binding(4) var<uniform> p: Params;

@compute @workgroup_size(64)
fn stats_rows(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(group) * 64u + lane; // over rows and heads
  if (i >= p.total) {
    return;
  }
  var delta = 0.0;
  //#unroll d VECTORS
  for (var d = 0u; d < VECTORS; d++) {
    delta += dot(o[i * VECTORS + d], g[i * VECTORS + d]);
  }
  //#end
  let row = i / p.heads;
  let at = ((row / p.queries) * p.heads + i % p.heads) * p.queries + row % p.queries;
  stats[at] = vec2<f32>(lse[at], delta);
}
//#else
@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> k: array<vec4<f32>>;
//#if !DV
@group(0) @binding(2) var<storage, read> v: array<vec4<f32>>;
//#endif
@group(0) @binding(3) var<storage, read> g: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> stats: array<vec2<f32>>;
//#if BY_SIGHT
@group(0) @binding(5) var<storage, read> query_sights: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read> key_sights: array<vec4<u32>>;
//#endif
@group(0) @binding(7) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(8) var<uniform> p: Params;

//#if DQ
@compute @workgroup_size(ROWS)
fn dq(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let index = group_index(group);
  if (index >= p.total) {
    return;
  }
  let block = index % p.blocks;
  let head = (index / p.blocks) % p.heads;
  let sequence = index / (p.blocks * p.heads);
  let i = min(block * ROWS + lane, p.queries - 1u);
  let row = sequence * p.queries + i;
  let q0 = row * p.q_stride + p.q_column + head * VECTORS;
  let g0 = (row * p.heads + head) * VECTORS;
  var mine: array<vec4<f32>, VECTORS>;
  var slope: array<vec4<f32>, VECTORS>;
  var sum: array<vec4<f32>, VECTORS>;
  //#unroll d VECTORS
  for (var d = 0u; d < VECTORS; d++) {
    mine[d] = q[q0 + d] * p.scale;
    slope[d] = g[g0 + d];
  }
  //#end
  let stat = stats[(sequence * p.heads + head) * p.queries + i];
  //#if BY_SIGHT
  let sight = query_sights[i + select(sequence * p.queries, 0u, p.sight_queries == p.queries)];
  let sight_first = select(sequence * p.keys, 0u, p.sight_keys == p.keys);
  //#endif
  //#if CAUSAL
  let keys = min(p.keys, (block + 1u) * ROWS);
  //#else
  let keys = p.keys;
  //#endif
  for (var j = 0u; j < keys; j++) {
    let key = sequence * p.keys + j;
    //#if BY_SIGHT
    if (sees(sight, key_sights[sight_first + j])) {
    //#else
    {
    //#endif
      let k0 = key * p.k_stride + p.k_column + head / p.group * VECTORS;
      let v0 = key * p.v_stride + p.v_column + head / p.group * VECTORS;
      var s = 0.0;
      var dp = 0.0;
      //#unroll d VECTORS
      for (var d = 0u; d < VECTORS; d++) {
        s += dot(mine[d], k[k0 + d]);
        dp += dot(slope[d], v[v0 + d]);
      }
      //#end
      var ds = exp(s - stat.x) * (dp - stat.y);
      //#if CAUSAL
      ds = select(0.0, ds, j <= i);
      //#endif
      //#unroll d VECTORS
      for (var d = 0u; d < VECTORS; d++) {
        sum[d] += ds * k[k0 + d];
      }
      //#end
    }
  }
  if (block * ROWS + lane < p.queries) {
    let d0 = row * p.d_stride + p.d_column + head * VECTORS;
    //#unroll d VECTORS
    for (var d = 0u; d < VECTORS; d++) {
      out[d0 + d] = sum[d] * p.scale;
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
  let kv_heads = p.heads / p.group;
  let block = index % p.blocks;
  let kv_head = (index / p.blocks) % kv_heads;
  let sequence = index / (p.blocks * kv_heads);
  let j = min(block * ROWS + lane, p.keys - 1u);
  let key = sequence * p.keys + j;
  let k0 = key * p.k_stride + p.k_column + kv_head * VECTORS;
  var mine: array<vec4<f32>, VECTORS>;
  //#if !DV
  let v0 = key * p.v_stride + p.v_column + kv_head * VECTORS;
  var value: array<vec4<f32>, VECTORS>;
  //#endif
  var sum: array<vec4<f32>, VECTORS>;
  //#unroll d VECTORS
  for (var d = 0u; d < VECTORS; d++) {
    mine[d] = k[k0 + d] * p.scale;
    //#if !DV
    value[d] = v[v0 + d];
    //#endif
  }
  //#end
  //#if BY_SIGHT
  let sight = key_sights[j + select(sequence * p.keys, 0u, p.sight_keys == p.keys)];
  let sight_first = select(sequence * p.queries, 0u, p.sight_queries == p.queries);
  //#endif
  //#if CAUSAL
  let first = block * ROWS;
  //#else
  let first = 0u;
  //#endif
  for (var head = kv_head * p.group; head < (kv_head + 1u) * p.group; head++) {
    for (var i = first; i < p.queries; i++) {
      let row = sequence * p.queries + i;
      //#if BY_SIGHT
      if (sees(query_sights[sight_first + i], sight)) {
      //#else
      {
      //#endif
        let q0 = row * p.q_stride + p.q_column + head * VECTORS;
        let g0 = (row * p.heads + head) * VECTORS;
        let stat = stats[(sequence * p.heads + head) * p.queries + i];
        var s = 0.0;
        //#unroll d VECTORS
        for (var d = 0u; d < VECTORS; d++) {
          s += dot(mine[d], q[q0 + d]);
        }
        //#end
        var probability = exp(s - stat.x);
        //#if CAUSAL
        probability = select(0.0, probability, j <= i);
        //#endif
        //#if DV
        //#unroll d VECTORS
        for (var d = 0u; d < VECTORS; d++) {
          sum[d] += probability * g[g0 + d];
        }
        //#end
        //#else
        var dp = 0.0;
        //#unroll d VECTORS
        for (var d = 0u; d < VECTORS; d++) {
          dp += dot(value[d], g[g0 + d]);
        }
        //#end
        let ds = probability * (dp - stat.y);
        //#unroll d VECTORS
        for (var d = 0u; d < VECTORS; d++) {
          sum[d] += ds * q[q0 + d];
        }
        //#end
        //#endif
      }
    }
  }
  if (block * ROWS + lane < p.keys) {
    let d0 = key * p.d_stride + p.d_column + kv_head * VECTORS;
    //#unroll d VECTORS
    for (var d = 0u; d < VECTORS; d++) {
      //#if DV
      out[d0 + d] = sum[d];
      //#else
      out[d0 + d] = sum[d] * p.scale;
      //#endif
    }
    //#end
  }
}
//#endif
//#endif
