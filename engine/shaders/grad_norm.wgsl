// Global gradient norm in a fixed order.
//
// partial: workgroup i sums the squares of its contiguous share of a slab and notes whether any
// element is not finite, told by its bits.
// finish: one workgroup adds the partials of all slabs and writes (norm, factor, finite): gradients are loss_scale times
// the true ones, and the factor undoes that and clips.

const THREADS: u32 = 256u;

//#params

//#include math
//#include reduce

//#if FINISH
//#include step

@group(0) @binding(0) var<storage, read> partials: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read_write> stats: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(THREADS)
fn finish(@builtin(local_invocation_index) lane: u32) {
  var sum = 0.0;
  var bad = 0.0;
  for (var i = lane; i < p.n; i += THREADS) {
    sum += partials[i].x;
    bad += partials[i].y;
  }
  sum = reduce_sum(lane, sum);
  bad = reduce_sum(lane, bad);
  if (lane == 0u) {
    let norm = sqrt(sum) / now.loss_scale;
    stats[0] = norm;
    stats[1] = select(1.0, min(1.0, p.clip / (norm + 1e-6)), p.clip > 0.0) / now.loss_scale;
    stats[2] = select(1.0, 0.0, bad > 0.0 || not_finite(bitcast<u32>(norm)));
    stats[3] = 0.0;
  }
}
//#else
@group(0) @binding(0) var<storage, read> grads: array<u32>; // bits of f32
@group(0) @binding(1) var<storage, read_write> partials: array<vec2<f32>>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(THREADS)
fn partial(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let first = group.x * p.share;
  let last = min(first + p.share, p.n);
  var sum = 0.0;
  var bad = 0.0;
  for (var i = first + lane; i < last; i += THREADS) {
    let bits = grads[i];
    if (not_finite(bits)) {
      bad = 1.0;
    } else {
      let g = bitcast<f32>(bits);
      sum += g * g;
    }
  }
  sum = reduce_sum(lane, sum);
  bad = reduce_sum(lane, bad);
  if (lane == 0u) {
    partials[p.first + group.x] = vec2<f32>(sum, bad);
  }
}
//#endif
