// Gated activation y = f(a) b of columns of rows, one element of y an invocation. BACKWARD: da = f'(a) b dy and
// db = f(a) dy, in tensors of their own (APART) or in the columns of one, as a and b lie.

//#params

//#include grid
//#include math
//#include activation

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
//#if BACKWARD
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> da: array<f32>;
//#if APART
@group(0) @binding(4) var<storage, read_write> db: array<f32>;
//#endif
@group(0) @binding(5) var<uniform> p: Params;

@compute @workgroup_size(256)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(group) * 256u + lane;
  if (i >= p.total) {
    return;
  }
  let at_a = i / p.width * p.a_stride + p.a_column + i % p.width;
  let at_b = i / p.width * p.b_stride + p.b_column + i % p.width;
  let x = a[at_a];
  da[at_a] = activation_slope(x) * b[at_b] * dy[i];
  //#if APART
  db[at_b] = activate(x) * dy[i];
  //#else
  da[at_b] = activate(x) * dy[i];
  //#endif
}
//#else
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(group) * 256u + lane;
  if (i >= p.total) {
    return;
  }
  let x = a[i / p.width * p.a_stride + p.a_column + i % p.width];
  y[i] = activate(x) * b[i / p.width * p.b_stride + p.b_column + i % p.width];
}
//#endif
