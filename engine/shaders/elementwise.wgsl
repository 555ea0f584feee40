// One invocation per element of y, 256 per workgroup, for up to 2^30 elements.
// ACTIVATE: y = f(x). SLOPE: y (+)= f'(u) x. GELU_BACKWARD: y *= gelu'(x).
// SCALE: y (+)= factor x. SUM: y = x + u. ADD: y += x. ZERO: y = 0.

//#params

//#include grid
//#include math
//#if ACTIVATION
//#include activation
//#endif

alias Y = f32;
//#if !ZERO
alias X = f32;
@group(0) @binding(0) var<storage, read> x: array<X>;
//#endif
//#if SLOPE
@group(0) @binding(1) var<storage, read> u: array<f32>;
//#endif
//#if SUM
@group(0) @binding(1) var<storage, read> u: array<f32>;
//#endif
@group(0) @binding(2) var<storage, read_write> y: array<Y>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(group) * 256u + lane;
  if (i >= p.n) {
    return;
  }
  //#if ACTIVATE
  y[i] = Y(activate(f32(x[i])));
  //#endif
  //#if SLOPE
  var dx = f32(x[i]) * activation_slope(u[i]);
  //#if ACCUMULATE
  dx += f32(y[i]);
  //#endif
  y[i] = Y(dx);
  //#endif
  //#if GELU_BACKWARD
  y[i] = Y(f32(y[i]) * gelu_backward(f32(x[i])));
  //#endif
  //#if SCALE
  var scaled = p.factor * f32(x[i]);
  //#if ACCUMULATE
  scaled += f32(y[i]);
  //#endif
  y[i] = Y(scaled);
  //#endif
  //#if SUM
  y[i] = Y(f32(x[i]) + u[i]);
  //#endif
  //#if ADD
  y[i] = Y(f32(y[i]) + f32(x[i]));
  //#endif
  //#if ZERO
  y[i] = Y(0.0);
  //#endif
}
