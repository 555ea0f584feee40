// AdamW and the weights' moving average over a slab, one element an invocation (BF16: two), 256 a workgroup.
// The gradient is scaled by the clip factor; if any gradient is not finite nothing is touched.
//   p -= lr weight_decay p;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
//   p -= lr / (1 - b1^k) m / (sqrt(v / (1 - b2^k)) + eps);  ema -= (1 - decay) (ema - p)
// BF16: m and v are kept as such, rounded up or down at random.

//#params

//#include grid
//#include step
//#if BF16
//#include threefry
//#include bf16
alias Moments = u32;
//#else
alias Moments = f32;
//#endif

@group(0) @binding(0) var<storage, read> grads: array<f32>;
@group(0) @binding(1) var<storage, read> stats: array<f32>; // norm, clip factor, finite
@group(0) @binding(2) var<storage, read_write> params: array<f32>;
@group(0) @binding(3) var<storage, read_write> m: array<Moments>;
@group(0) @binding(4) var<storage, read_write> v: array<Moments>;
@group(0) @binding(5) var<storage, read_write> ema: array<f32>;
@group(0) @binding(6) var<uniform> p: Params;

// The moments of element i, updated, from those that it has.
fn update(i: u32, old: vec2<f32>) -> vec2<f32> {
  let g = grads[i] * stats[1];
  let m_new = p.beta1 * old.x + (1.0 - p.beta1) * g;
  let v_new = p.beta2 * old.y + (1.0 - p.beta2) * g * g;
  var x = params[i];
  let lr = now.lr * p.rate;
  x -= lr * p.weight_decay * x;
  x -= lr / now.bias1 * m_new / (sqrt(v_new / now.bias2) + p.eps);
  params[i] = x;
  ema[i] -= (1.0 - now.ema_decay) * (ema[i] - x);
  return vec2<f32>(m_new, v_new);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(group) * 256u + lane;
  //#if BF16
  let even = 2u * i;
  if (even >= p.n || stats[2] == 0.0) {
    return;
  }
  let old_m = two_of(m[i]);
  let old_v = two_of(v[i]);
  let first = update(even, vec2<f32>(old_m.x, old_v.x));
  var second = vec2<f32>(old_m.y, old_v.y);
  if (even + 1u < p.n) {
    second = update(even + 1u, second);
  }
  let words = threefry(now.rounding_key, vec2<u32>(p.pairs_before + i, p.site));
  m[i] = rounded_two(first.x, second.x, words.x);
  v[i] = rounded_two(first.y, second.y, words.y);
  //#else
  if (i >= p.n || stats[2] == 0.0) {
    return;
  }
  let moments = update(i, vec2<f32>(m[i], v[i]));
  m[i] = moments.x;
  v[i] = moments.y;
  //#endif
}
