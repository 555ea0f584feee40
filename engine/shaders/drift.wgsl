// How far each row's distribution has moved since the last time, one row a workgroup: the sum of p (log p - log q) over
// all tokens but `absent`, with p of the logits now and q what is kept in the row's place. Then p is kept there.

const THREADS: u32 = 256u;

//#params

//#include grid
//#include step
//#include reduce

@group(0) @binding(0) var<storage, read> logits: array<f32>; // [most, vocab]
@group(0) @binding(1) var<storage, read> log_total: array<f32>; // log-sum-exps of the rows
@group(0) @binding(2) var<storage, read> places: array<u32>; // [most]
@group(0) @binding(3) var<storage, read_write> logs: array<f32>; // [places, vocab]
@group(0) @binding(4) var<storage, read_write> drift: array<f32>;
@group(0) @binding(5) var<uniform> p: Params;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group_index(group);
  if (row >= counted_from(counted(), p.base, p.most)) {
    return;
  }
  let last = places[row] * p.vocab;
  let total = log_total[row];
  var sum = 0.0;
  for (var v = lane; v < p.vocab; v += THREADS) {
    let log_p = logits[row * p.vocab + v] - total;
    if (v != p.absent) {
      sum += exp(log_p) * (log_p - logs[last + v]);
    }
    logs[last + v] = log_p;
  }
  sum = reduce_sum(lane, sum);
  if (lane == 0u) {
    drift[row] = sum;
  }
}
