// Rotary position embedding of the first heads of rows, half-split pairs (d, d + pairs) of the first dimensions of a
// head; the rest is copied. One pair an invocation. INVERSE rotates back: that is the backward pass.

//#params

//#include grid

alias X = f32;

@group(0) @binding(0) var<storage, read> x: array<X>;
@group(0) @binding(1) var<storage, read> table: array<f32>; // [positions, pairs, (cos, sin)]
@group(0) @binding(2) var<storage, read_write> y: array<X>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(group) * 256u + lane;
  if (i >= p.total) {
    return;
  }
  let row = 2u * i / p.width;
  let head = i % (p.width / 2u) / p.half_dim;
  let d = i % p.half_dim;
  let begin = row * p.width + head * 2u * p.half_dim;
  if (head >= p.heads || d >= p.pairs) {
    // dimensions behind the pairs of a head that is rotated, or any of another
    let at = begin + select(2u * d, 2u * p.pairs + 2u * (d - p.pairs), head < p.heads);
    y[at] = x[at];
    y[at + 1u] = x[at + 1u];
    return;
  }
  let x1 = f32(x[begin + d]);
  let x2 = f32(x[begin + d + p.pairs]);
  let at = 2u * (row % p.positions * p.pairs + d);
  let c = table[at];
  var s = table[at + 1u];
  //#if INVERSE
  s = -s;
  //#endif
  y[begin + d] = X(x1 * c - x2 * s);
  y[begin + d + p.pairs] = X(x2 * c + x1 * s);
}
