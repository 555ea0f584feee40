// Rotary position embedding of q and k in a fused [rows, 3, heads, head_dim] tensor, half-split
// pairs (d, d + head_dim / 2); v is copied. One pair an invocation. INVERSE rotates back: that is
// the backward pass.

//#params

//#include grid

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> table: array<f32>; // [length, half_dim, (cos, sin)]
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(group) * 256u + lane;
  if (i >= p.pairs) {
    return;
  }
  let d = i % p.half_dim;
  let head = i / p.half_dim; // over rows, parts and heads
  let part = (head / p.heads) % 3u;
  let position = (head / (3u * p.heads)) % p.length;
  let at = head * 2u * p.half_dim + d;
  let x1 = x[at];
  let x2 = x[at + p.half_dim];
  var c = table[2u * (position * p.half_dim + d)];
  var s = table[2u * (position * p.half_dim + d) + 1u];
  //#if INVERSE
  s = -s;
  //#endif
  if (part == 2u) {
    c = 1.0;
    s = 0.0;
  }
  y[at] = x1 * c - x2 * s;
  y[at + p.half_dim] = x2 * c + x1 * s;
}
