// What the device can do at most, for benchmarks to compare with.
// MULTIPLY_ADD: `rounds` times 16 multiply-adds in registers, one invocation for 16 results.
// Else: y = x, one vec4 an invocation.

//#params

//#include grid

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(group) * 256u + lane;
  //#if MULTIPLY_ADD
  if (4u * i + 3u >= p.n) {
    return;
  }
  let factor = vec4(x[0].x);
  var a = x[4u * i];
  var b = x[4u * i + 1u];
  var c = x[4u * i + 2u];
  var d = x[4u * i + 3u];
  for (var r = 0u; r < p.rounds; r++) {
    a = a * factor + factor;
    b = b * factor + factor;
    c = c * factor + factor;
    d = d * factor + factor;
  }
  y[4u * i] = a;
  y[4u * i + 1u] = b;
  y[4u * i + 2u] = c;
  y[4u * i + 3u] = d;
  //#else
  if (i < p.n) {
    y[i] = x[i];
  }
  //#endif
}
