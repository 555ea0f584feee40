// Muon's two ends, an element of a parameter an invocation, 256 a workgroup; nothing is touched if a gradient is not
// finite. A parameter is parts of [rows, cols], which lie among other matrices at strides, TRANSPOSED if they have more
// rows than columns.
// momentum:  m = mu m + (1 - mu) g;  x = mu m + (1 - mu) g
// BF16: m is kept as such, two elements an invocation, rounded up or down at random.
// apply:  w -= lr decay w;  w -= lr rate x;  ema -= (1 - ema_decay) (ema - w)

//#params

//#include grid
//#if STEP
//#include step
//#endif
//#if BF16
//#include threefry
//#include bf16
alias Moments = u32;
//#else
alias Moments = f32;
//#endif

//#if MOMENTUM
@group(0) @binding(0) var<storage, read> grads: array<f32>;
@group(0) @binding(1) var<storage, read> stats: array<f32>; // norm, clip factor, finite
@group(0) @binding(2) var<storage, read_write> m: array<Moments>;
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

//#if MOMENTUM
// The momentum of element i, updated, from what it was.
fn update(i: u32, old: f32) -> f32 {
  let g = grads[i] * stats[1];
  let m_new = p.momentum * old + (1.0 - p.momentum) * g;
  x[place(i)] = p.momentum * m_new + (1.0 - p.momentum) * g;
  return m_new;
}
//#endif

@compute @workgroup_size(256)
//#if MOMENTUM
fn momentum(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
//#else
fn apply(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
//#endif
  let i = group_index(group) * 256u + lane;
  //#if MOMENTUM
  //#if BF16
  let even = 2u * i;
  let both = even + 1u < p.n;
  if (even >= p.n) {
    return;
  }
  if (stats[2] == 0.0) {
    x[place(even)] = 1.0;
    if (both) {
      x[place(even + 1u)] = 1.0;
    }
    return;
  }
  let old = two_of(m[i]);
  let first = update(even, old.x);
  var second = old.y;
  if (both) {
    second = update(even + 1u, second);
  }
  let words = threefry(now.rounding_key, vec2<u32>(p.pairs_before + i, p.site));
  m[i] = rounded_two(first, second, words.x);
  //#else
  if (i >= p.n) {
    return;
  }
  if (stats[2] == 0.0) {
    x[place(i)] = 1.0;
    return;
  }
  m[i] = update(i, m[i]);
  //#endif
  //#else
  if (i >= p.n) {
    return;
  }
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
