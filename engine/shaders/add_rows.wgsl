// y[r] = x[r] + table[r mod period], one element an invocation. BACKWARD: d table += the sum of the gradient's rows that
// it was added to, in order, one element an invocation.

//#params

//#include grid

//#if BACKWARD
@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read_write> dtable: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(group) * 64u + lane;
  if (i >= p.total) {
    return;
  }
  var sum = 0.0;
  for (var at = i; at < p.rows * p.width; at += p.total) {
    sum += dy[at];
  }
  dtable[i] += sum;
}
//#else
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> table: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(group) * 256u + lane;
  if (i < p.total) {
    y[i] = x[i] + table[i % (p.period * p.width)];
  }
}
//#endif
