// Matrices at strides, each divided by its Frobenius norm, in place.
//
// `partial`: GROUPS workgroups a matrix, each the sum of squares of every GROUPS-th run of THREADS elements; lanes
// are summed by halves, with a barrier a half. `scale`: an element an invocation, which adds the GROUPS sums of its
// matrix in order; no barriers.

const THREADS: u32 = 256u;
const GROUPS: u32 = 32u;

//#params

//#include grid

@group(0) @binding(0) var<storage, read_write> x: array<f32>; // [count, stride]
//#if PARTIAL
@group(0) @binding(1) var<storage, read_write> partials: array<f32>; // [count, GROUPS]
//#else
@group(0) @binding(1) var<storage, read> partials: array<f32>;
//#endif
@group(0) @binding(2) var<uniform> p: Params;

//#if PARTIAL
//#include reduce

@compute @workgroup_size(THREADS)
fn partial(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let index = group_index(group);
  if (index >= p.count * GROUPS) {
    return; // the whole workgroup
  }
  let first = index / GROUPS * p.stride;
  var sum = 0.0;
  for (var i = index % GROUPS * THREADS + lane; i < p.n; i += GROUPS * THREADS) {
    let value = x[first + i];
    sum += value * value;
  }
  sum = reduce_sum(lane, sum);
  if (lane == 0u) {
    partials[index] = sum;
  }
}
//#else
@compute @workgroup_size(THREADS)
fn scale(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let index = group_index(group);
  let shares = (p.n + THREADS - 1u) / THREADS;
  let matrix = index / shares;
  let i = index % shares * THREADS + lane;
  if (matrix >= p.count || i >= p.n) {
    return;
  }
  var sum = 0.0;
  for (var j = 0u; j < GROUPS; j++) {
    sum += partials[matrix * GROUPS + j];
  }
  x[matrix * p.stride + i] /= sqrt(sum) + p.eps;
}
//#endif
