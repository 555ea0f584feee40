// Muon's two ends, an element of a parameter an invocation, 256 a workgroup; nothing is touched if a gradient is not
// finite. A parameter is parts of [rows, cols], which lie among other matrices at strides, TRANSPOSED if they have more
// rows than columns.
// momentum:  m = mu m + (1 - mu) g;  x = mu m + (1 - mu) g
// apply:  w -= lr decay w;  w -= lr rate x;  ema -= (1 - ema_decay) (ema - w)

//#params

//#include grid
//#if STEP
//#include step
//#endif

//#if MOMENTUM
@group(0) @binding(0) var<storage, read> grads: array<f32>;
@group(0) @binding(1) var<storage, read> stats: array<f32>; // norm, clip factor, finite
@group(0) @binding(2) var<storage, read_write> m: array<f32>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
//#else
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> stats: array<f32>;
@group(0) @binding(2) var<storage, read_write> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> ema: array<f32>;
//#endif
@group(0) @binding(4) var<uniform> p: Params;

fn place(i: u32) -> u32 {
  let size = p.rows * p.cols;
  let inside = i % size;
  let at = p.first + i / size * p.stride;
  //#if TRANSPOSED
  return at + inside % p.cols * p.rows + inside / p.cols;
  //#else
  return at + inside;
  //#endif
}

@compute @workgroup_size(256)
//#if MOMENTUM
fn momentum(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
//#else
fn apply(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
//#endif
  let i = group_index(group) * 256u + lane;
  if (i >= p.n) {
    return;
  }
  //#if MOMENTUM
  if (stats[2] == 0.0) {
    x[place(i)] = 1.0;
    return;
  }
  let g = grads[i] * stats[1];
  let m_new = p.momentum * m[i] + (1.0 - p.momentum) * g;
  m[i] = m_new;
  x[place(i)] = p.momentum * m_new + (1.0 - p.momentum) * g;
  //#else
  if (stats[2] == 0.0) {
    return;
  }
  var value = w[i];
  value -= now.lr * p.decay * value;
  value -= now.lr * p.rate * x[place(i)];
  w[i] = value;
  ema[i] -= (1.0 - now.ema_decay) * (ema[i] - value);
  //#endif
}
