// Attention of one new token a sequence over cached keys and values.
//
// APPEND: the token's k and v go to the cache at its position, one number an invocation. ATTEND: one
// head of one sequence a workgroup: scores of the positions up to the token's by stride, their
// softmax by two reductions, then the sum of values, HEAD_DIM invocations to a row of v and
// THREADS / HEAD_DIM rows at a time. Scores lie in storage, so any length fits; the storage barrier
// makes them visible to the workgroup.

const THREADS: u32 = 128u;
const HEAD_DIM: u32 = 64u;
const LOWEST: f32 = -3.0e38;

//#params

//#include grid

@group(0) @binding(0) var<storage, read> qkv: array<f32>; // [batch, 3, heads, HEAD_DIM]
@group(0) @binding(1) var<storage, read> positions: array<u32>; // [batch]
//#if APPEND
@group(0) @binding(2) var<storage, read_write> cache: array<f32>; // [batch, length, 2, heads, HEAD_DIM]
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(THREADS)
fn append(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(group) * THREADS + lane;
  let pair = 2u * p.heads * HEAD_DIM;
  let sequence = i / pair;
  if (sequence >= p.batch) {
    return;
  }
  let inside = i % pair;
  let at = (sequence * p.length + positions[sequence]) * pair + inside;
  cache[at] = qkv[sequence * (pair + pair / 2u) + pair / 2u + inside];
}
//#endif
//#if ATTEND
//#include reduce

@group(0) @binding(2) var<storage, read> cache: array<f32>;
@group(0) @binding(3) var<storage, read_write> o: array<f32>; // [batch, heads, HEAD_DIM]
@group(0) @binding(4) var<storage, read_write> scores: array<f32>; // [batch, heads, length]
@group(0) @binding(5) var<uniform> p: Params;

var<workgroup> partial: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn attend(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let index = group_index(group);
  if (index >= p.batch * p.heads) {
    return;
  }
  let sequence = index / p.heads;
  let head = index % p.heads;
  let width = p.heads * HEAD_DIM;
  let q = sequence * 3u * width + head * HEAD_DIM;
  let keys = sequence * p.length * 2u * width + head * HEAD_DIM;
  let count = positions[sequence] + 1u;
  var top = LOWEST;
  for (var j = lane; j < count; j += THREADS) {
    var score = 0.0;
    for (var d = 0u; d < HEAD_DIM; d++) {
      score += qkv[q + d] * cache[keys + j * 2u * width + d];
    }
    score *= p.scale;
    scores[index * p.length + j] = score;
    top = max(top, score);
  }
  top = reduce_max(lane, top);
  var sum = 0.0;
  for (var j = lane; j < count; j += THREADS) {
    sum += exp(scores[index * p.length + j] - top);
  }
  sum = reduce_sum(lane, sum);
  storageBarrier();
  let d = lane % HEAD_DIM;
  var value = 0.0;
  for (var j = lane / HEAD_DIM; j < count; j += THREADS / HEAD_DIM) {
    let weight = exp(scores[index * p.length + j] - top);
    value += weight * cache[keys + (j * 2u + 1u) * width + d];
  }
  partial[lane] = value;
  workgroupBarrier();
  if (lane < HEAD_DIM) {
    var total = 0.0;
    for (var i = lane; i < THREADS; i += HEAD_DIM) {
      total += partial[i];
    }
    o[(sequence * p.heads + head) * HEAD_DIM + lane] = total / sum;
  }
}
//#endif
