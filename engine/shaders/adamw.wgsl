// AdamW and the weights' moving average over a slab, one element an invocation, 256 a workgroup.
// The gradient is scaled by the clip factor; if any gradient is not finite nothing is touched.
//   p -= lr weight_decay p;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
//   p -= lr / (1 - b1^k) m / (sqrt(v / (1 - b2^k)) + eps);  ema -= (1 - decay) (ema - p)

//#params

//#include grid
//#include step

@group(0) @binding(0) var<storage, read> grads: array<f32>;
@group(0) @binding(1) var<storage, read> stats: array<f32>; // norm, clip factor, finite
@group(0) @binding(2) var<storage, read_write> params: array<f32>;
@group(0) @binding(3) var<storage, read_write> m: array<f32>;
@group(0) @binding(4) var<storage, read_write> v: array<f32>;
@group(0) @binding(5) var<storage, read_write> ema: array<f32>;
@group(0) @binding(6) var<uniform> p: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(group) * 256u + lane;
  if (i >= p.n || stats[2] == 0.0) {
    return;
  }
  let g = grads[i] * stats[1];
  let m_new = p.beta1 * m[i] + (1.0 - p.beta1) * g;
  let v_new = p.beta2 * v[i] + (1.0 - p.beta2) * g * g;
  var x = params[i];
  let lr = now.lr * p.rate;
  x -= lr * p.weight_decay * x;
  x -= lr / now.bias1 * m_new / (sqrt(v_new / now.bias2) + p.eps);
  m[i] = m_new;
  v[i] = v_new;
  params[i] = x;
  ema[i] -= (1.0 - now.ema_decay) * (ema[i] - x);
}
