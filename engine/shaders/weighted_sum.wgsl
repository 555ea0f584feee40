// y = sum over i of x[i] w[i], over the step's rows if DYNAMIC, else over all; one workgroup.
// BACKWARD: dx (+)= dy w, one element an invocation.

const THREADS: u32 = 256u;

//#params

//#if BACKWARD
//#include grid

@group(0) @binding(0) var<storage, read> dy: array<f32>; // [1]
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(256)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(group) * 256u + lane;
  if (i >= p.n) {
    return;
  }
  var value = dy[0] * w[i];
  //#if ACCUMULATE
  value += dx[i];
  //#endif
  dx[i] = value;
}
//#else
//#if DYNAMIC
//#include step
//#endif
//#include reduce

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) lane: u32) {
  //#if DYNAMIC
  let n = counted_from(counted(), 0u, p.n);
  //#else
  let n = p.n;
  //#endif
  var sum = 0.0;
  for (var i = lane; i < n; i += THREADS) {
    sum += x[i] * w[i];
  }
  sum = reduce_sum(lane, sum);
  if (lane == 0u) {
    y[0] = sum;
  }
}
//#endif
