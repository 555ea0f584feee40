// Attention (attention.wgsl) for one query a sequence: a workgroup takes one head and shares out its keys.
//
// Scores of the keys by stride, their exponentials in place by two reductions, then the sum of values: HEAD_DIM invocations to a row
// of v and PARTS rows at a time, or a column of v after the other where a head is wider than the workgroup. Scores
// lie in storage, so any number of keys fits; the storage barrier makes them visible to the workgroup. Keys that the
// query does not see have a score that leaves nothing.

const THREADS: u32 = 128u;
const HEAD_DIM: u32 = 64u;
const PARTS: u32 = max(THREADS / HEAD_DIM, 1u);
const LOWEST: f32 = -1e30;
const NOTHING_SEEN: f32 = 1e30;

//#params

//#include grid
//#include reduce
//#include sight

alias Number = f32;

@group(0) @binding(0) var<storage, read> q: array<Number>;
@group(0) @binding(1) var<storage, read> k: array<Number>;
@group(0) @binding(2) var<storage, read> v: array<Number>;
//#if BY_SIGHT
@group(0) @binding(3) var<storage, read> query_sights: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> key_sights: array<vec4<u32>>;
//#endif
@group(0) @binding(5) var<storage, read_write> o: array<Number>;
@group(0) @binding(6) var<storage, read_write> lse: array<f32>;
@group(0) @binding(7) var<storage, read_write> scores: array<f32>; // [batch, heads, keys]
@group(0) @binding(8) var<uniform> p: Params;

var<workgroup> partial: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let index = group_index(group);
  if (index >= p.total) {
    return;
  }
  let sequence = index / p.heads;
  let head = index % p.heads;
  let first = sequence * p.keys;
  let q0 = 4u * (sequence * p.q_stride + p.q_column) + head * HEAD_DIM;
  let k_head = 4u * p.k_column + head / p.group * HEAD_DIM;
  let v_head = 4u * p.v_column + head / p.group * HEAD_DIM;
  //#if BY_SIGHT
  let sight = query_sights[select(sequence, 0u, p.sight_queries == 1u)];
  let sight_first = select(first, 0u, p.sight_keys == p.keys);
  //#endif
  var top = LOWEST;
  for (var j = lane; j < p.keys; j += THREADS) {
    var score = LOWEST;
    //#if BY_SIGHT
    if (sees(sight, key_sights[sight_first + j])) {
    //#else
    {
    //#endif
      let k0 = 4u * (first + j) * p.k_stride + k_head;
      score = 0.0;
      for (var d = 0u; d < HEAD_DIM; d++) {
        score += f32(q[q0 + d]) * f32(k[k0 + d]);
      }
      score *= p.scale;
    }
    scores[index * p.keys + j] = score;
    top = max(top, score);
  }
  top = reduce_max(lane, top);
  var sum = 0.0;
  for (var j = lane; j < p.keys; j += THREADS) {
    let score = scores[index * p.keys + j];
    let e = select(0.0, exp(score - top), score > LOWEST);
    scores[index * p.keys + j] = e;
    sum += e;
  }
  sum = reduce_sum(lane, sum);
  let share = select(0.0, 1.0 / sum, sum > 0.0);
  storageBarrier();
  for (var column = 0u; column < HEAD_DIM; column += THREADS) {
    let d = column + lane % min(HEAD_DIM, THREADS);
    var value = 0.0;
    if (lane < PARTS * HEAD_DIM && d < HEAD_DIM) {
      for (var j = lane / HEAD_DIM; j < p.keys; j += PARTS) {
        value += scores[index * p.keys + j] * f32(v[4u * (first + j) * p.v_stride + v_head + d]);
      }
    }
    workgroupBarrier();
    partial[lane] = value;
    workgroupBarrier();
    if (lane < min(HEAD_DIM - column, THREADS)) {
      var total = 0.0;
      for (var part = 0u; part < PARTS; part++) {
        total += partial[part * HEAD_DIM + lane];
      }
      o[index * HEAD_DIM + d] = Number(total * share);
    }
  }
  if (lane == 0u) {
    lse[index] = select(NOTHING_SEEN, top + log(sum), sum > 0.0);
  }
}
