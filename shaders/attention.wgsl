// o = softmax(q k^T / sqrt(head_dim)) v per head, q, k, v from a fused [rows, 3, heads, head_dim]
// tensor; also stores each row's log-sum-exp [batch, heads, length].
//
// A workgroup takes ROWS queries of one head, one an invocation, and walks over the keys in tiles of
// TILE with a running maximum and sum. The first barrier of the loop protects the staged tile from
// being overwritten while others read it, the second makes it visible. CAUSAL: a query sees keys up
// to itself. Memory is linear in length.

const ROWS: u32 = 64u;
const TILE: u32 = 16u;
const VECTORS: u32 = 16u; // of 4 elements in a head
const LOWEST: f32 = -1e30;

//#params

//#include grid

@group(0) @binding(0) var<storage, read> qkv: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> o: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> lse: array<f32>;
@group(0) @binding(3) var<uniform> p: Params;

var<workgroup> k_tile: array<vec4<f32>, TILE * VECTORS>;
var<workgroup> v_tile: array<vec4<f32>, TILE * VECTORS>;

@compute @workgroup_size(ROWS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let index = group_index(group);
  if (index >= p.total) {
    return;
  }
  let block = index % p.blocks;
  let head = (index / p.blocks) % p.heads;
  let sequence = index / (p.blocks * p.heads);
  let row_vectors = p.heads * VECTORS; // of one of q, k, v in a row
  let first = sequence * p.length;
  let i = block * ROWS + lane;
  let live = i < p.length;
  var q: array<vec4<f32>, VECTORS>;
  var acc: array<vec4<f32>, VECTORS>;
  if (live) {
    //#unroll d VECTORS
    for (var d = 0u; d < VECTORS; d++) {
      q[d] = qkv[(first + i) * 3u * row_vectors + head * VECTORS + d] * p.scale;
    }
    //#end
  }
  var top = LOWEST;
  var sum = 0.0;
  //#if CAUSAL
  let keys = min(p.length, (block + 1u) * ROWS);
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
        let at = (first + j) * 3u * row_vectors + head * VECTORS + e % VECTORS;
        k = qkv[at + row_vectors];
        v = qkv[at + 2u * row_vectors];
      }
      k_tile[e] = k;
      v_tile[e] = v;
    }
    workgroupBarrier();
    if (live) {
      // four keys at a time: their scores fit a vector, so that no array is indexed at run time
      for (var j = 0u; j < TILE; j += 4u) {
        var s = vec4<f32>();
        //#unroll d VECTORS
        for (var d = 0u; d < VECTORS; d++) {
          s += vec4<f32>(
            dot(q[d], k_tile[j * VECTORS + d]),
            dot(q[d], k_tile[(j + 1u) * VECTORS + d]),
            dot(q[d], k_tile[(j + 2u) * VECTORS + d]),
            dot(q[d], k_tile[(j + 3u) * VECTORS + d]),
          );
        }
        //#end
        let key = vec4<u32>(j0 + j) + vec4<u32>(0u, 1u, 2u, 3u);
        //#if CAUSAL
        s = select(vec4<f32>(LOWEST), s, key <= vec4<u32>(i));
        //#else
        s = select(vec4<f32>(LOWEST), s, key < vec4<u32>(p.length));
        //#endif
        let higher = max(max(top, max(s.x, s.y)), max(s.z, s.w));
        let shrink = exp(top - higher);
        let e = exp(s - higher);
        top = higher;
        sum = sum * shrink + ((e.x + e.y) + (e.z + e.w));
        //#unroll d VECTORS
        for (var d = 0u; d < VECTORS; d++) {
          acc[d] = acc[d] * shrink
            + e.x * v_tile[j * VECTORS + d]
            + e.y * v_tile[(j + 1u) * VECTORS + d]
            + e.z * v_tile[(j + 2u) * VECTORS + d]
            + e.w * v_tile[(j + 3u) * VECTORS + d];
        }
        //#end
      }
    }
  }
  if (live) {
    //#unroll d VECTORS
    for (var d = 0u; d < VECTORS; d++) {
      o[(first + i) * row_vectors + head * VECTORS + d] = acc[d] / sum;
    }
    //#end
    lse[(sequence * p.heads + head) * p.length + i] = top + log(sum);
  }
}
