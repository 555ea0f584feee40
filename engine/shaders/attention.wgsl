// o = softmax(q k^T scale) v per head, of heads that lie in any tensors, with the log-sum-exp of each row [batch,
// heads, queries].
//
// A workgroup takes ROWS queries of one head, one an invocation, and walks over the keys with a running maximum and
// sum, four keys at a time, so that their scores fit a vector and no array is indexed at run time. All invocations
// look at the same keys: their loads are uniform and need neither workgroup memory nor barriers. CAUSAL: a query sees
// keys up to itself. BY_SIGHT: it sees what four integers a row say (src/ops/visibility.rs); keys that no query of a
// wave sees cost it only that test.

const ROWS: u32 = 64u;
const VECTORS: u32 = 16u; // of 4 elements in a head
const LOWEST: f32 = -1e30;
const NOTHING_SEEN: f32 = 1e30;

//#params

//#include grid
//#include sight

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> v: array<vec4<f32>>;
//#if BY_SIGHT
@group(0) @binding(3) var<storage, read> query_sights: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> key_sights: array<vec4<u32>>;
//#endif
@group(0) @binding(5) var<storage, read_write> o: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> lse: array<f32>;
@group(0) @binding(7) var<uniform> p: Params;

@compute @workgroup_size(ROWS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let index = group_index(group);
  if (index >= p.total) {
    return;
  }
  let block = index % p.blocks;
  let head = (index / p.blocks) % p.heads;
  let sequence = index / (p.blocks * p.heads);
  let i = min(block * ROWS + lane, p.queries - 1u);
  let q0 = (sequence * p.queries + i) * p.q_stride + p.q_column + head * VECTORS;
  let k_head = p.k_column + head / p.group * VECTORS;
  let v_head = p.v_column + head / p.group * VECTORS;
  var mine: array<vec4<f32>, VECTORS>;
  var acc: array<vec4<f32>, VECTORS>;
  //#unroll d VECTORS
  for (var d = 0u; d < VECTORS; d++) {
    mine[d] = q[q0 + d] * p.scale;
  }
  //#end
  //#if BY_SIGHT
  let sight = query_sights[i + select(sequence * p.queries, 0u, p.sight_queries == p.queries)];
  // of the keys' sights, which all sequences may share, counted from the first row of keys
  let sight_first = select(0u, 0u - sequence * p.keys, p.sight_keys == p.keys);
  //#endif
  //#if CAUSAL
  let keys = min(p.keys, (block + 1u) * ROWS);
  //#else
  let keys = p.keys;
  //#endif
  let first = sequence * p.keys;
  let last = first + p.keys - 1u;
  var top = LOWEST;
  var sum = 0.0;
  for (var j = 0u; j < keys; j += 4u) {
    let key = vec4<u32>(j) + vec4<u32>(0u, 1u, 2u, 3u);
    let row = min(vec4<u32>(first) + key, vec4<u32>(last));
    //#if CAUSAL
    let seen = key <= vec4<u32>(i);
    //#else
    var seen = key < vec4<u32>(p.keys);
    //#endif
    //#if BY_SIGHT
    seen &= vec4<bool>(
      sees(sight, key_sights[sight_first + row.x]),
      sees(sight, key_sights[sight_first + row.y]),
      sees(sight, key_sights[sight_first + row.z]),
      sees(sight, key_sights[sight_first + row.w]),
    );
    if (any(seen)) {
    //#else
    {
    //#endif
      let k0 = row * p.k_stride + vec4<u32>(k_head);
      var s = vec4<f32>();
      //#unroll d VECTORS
      for (var d = 0u; d < VECTORS; d++) {
        s += vec4<f32>(
          dot(mine[d], k[k0.x + d]),
          dot(mine[d], k[k0.y + d]),
          dot(mine[d], k[k0.z + d]),
          dot(mine[d], k[k0.w + d]),
        );
      }
      //#end
      s = select(vec4<f32>(LOWEST), s, seen);
      let higher = max(max(top, max(s.x, s.y)), max(s.z, s.w));
      let shrink = exp(top - higher);
      let e = exp(s - higher);
      top = higher;
      sum = sum * shrink + ((e.x + e.y) + (e.z + e.w));
      let v0 = row * p.v_stride + vec4<u32>(v_head);
      //#unroll d VECTORS
      for (var d = 0u; d < VECTORS; d++) {
        acc[d] = acc[d] * shrink
          + e.x * v[v0.x + d]
          + e.y * v[v0.y + d]
          + e.z * v[v0.z + d]
          + e.w * v[v0.w + d];
      }
      //#end
    }
  }
  if (block * ROWS + lane < p.queries) {
    let o0 = ((sequence * p.queries + i) * p.heads + head) * VECTORS;
    let share = select(0.0, 1.0 / sum, sum > 0.0);
    //#unroll d VECTORS
    for (var d = 0u; d < VECTORS; d++) {
      o[o0 + d] = acc[d] * share;
    }
    //#end
    lse[(sequence * p.heads + head) * p.queries + i] = select(NOTHING_SEEN, top + log(sum), sum > 0.0);
  }
}
