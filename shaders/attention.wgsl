// o = softmax(q k^T / sqrt(head_dim)) v per head, q, k, v from a fused [rows, 3, heads, head_dim]
// tensor; also stores each row's log-sum-exp [batch, heads, length].
//
// A workgroup takes ROWS queries of one head, one an invocation, and walks over the keys in tiles of
// TILE with a running maximum and sum. The first barrier of the loop protects the staged tile from
// being overwritten while others read it, the second makes it visible. CAUSAL: a query sees keys up
// to itself. Memory is linear in length.

const HEAD_DIM: u32 = 64u;
const ROWS: u32 = 64u;
const TILE: u32 = 16u;
const VECTORS: u32 = HEAD_DIM / 4u;
const LOWEST: f32 = -1e30;

struct Params {
  length: u32,
  heads: u32,
  blocks: u32, // of ROWS queries in a sequence
  scale: f32,
  total: u32, // workgroups
  reserved0: u32,
  reserved1: u32,
  reserved2: u32,
}

//#include step

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
    for (var d = 0u; d < VECTORS; d++) {
      q[d] = qkv[(first + i) * 3u * row_vectors + head * VECTORS + d] * p.scale;
    }
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
      var scores: array<f32, TILE>;
      var tile_top = top;
      for (var j = 0u; j < TILE; j++) {
        var s = 0.0;
        for (var d = 0u; d < VECTORS; d++) {
          s += dot(q[d], k_tile[j * VECTORS + d]);
        }
        //#if CAUSAL
        let seen = j0 + j <= i;
        //#else
        let seen = j0 + j < p.length;
        //#endif
        scores[j] = select(LOWEST, s, seen);
        tile_top = max(tile_top, scores[j]);
      }
      let shrink = exp(top - tile_top);
      top = tile_top;
      sum *= shrink;
      for (var d = 0u; d < VECTORS; d++) {
        acc[d] *= shrink;
      }
      for (var j = 0u; j < TILE; j++) {
        let e = exp(scores[j] - top);
        sum += e;
        for (var d = 0u; d < VECTORS; d++) {
          acc[d] += e * v_tile[j * VECTORS + d];
        }
      }
    }
  }
  if (live) {
    for (var d = 0u; d < VECTORS; d++) {
      o[(first + i) * row_vectors + head * VECTORS + d] = acc[d] / sum;
    }
    lse[(sequence * p.heads + head) * p.length + i] = top + log(sum);
  }
}
