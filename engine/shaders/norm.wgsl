// y = n w with n = (x - mean) / sqrt(var + eps), one row a workgroup of THREADS invocations; without CENTRED
// the mean counts as 0 (RMSNorm). BIAS: y = n w + b. MODULATED: y = n w (1 + scale) + shift.
// Mean and reciprocal deviation go to `stats` [rows, 2].

const THREADS: u32 = 256u;

//#params

alias Y = f32;

//#include grid
//#include reduce

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
//#if MODULATED
@group(0) @binding(2) var<storage, read> modulation: array<f32>;
//#endif
//#if BIAS
@group(0) @binding(2) var<storage, read> bias: array<f32>;
//#endif
@group(0) @binding(3) var<storage, read_write> y: array<Y>;
@group(0) @binding(4) var<storage, read_write> stats: array<f32>;
@group(0) @binding(5) var<uniform> p: Params;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group_index(group);
  if (row >= p.rows) {
    return;
  }
  let base = row * p.width;
  //#if CENTRED
  var sum = 0.0;
  for (var d = lane; d < p.width; d += THREADS) {
    sum += x[base + d];
  }
  let mean = reduce_sum(lane, sum) / f32(p.width);
  //#else
  let mean = 0.0;
  //#endif
  var squares = 0.0;
  for (var d = lane; d < p.width; d += THREADS) {
    let c = x[base + d] - mean;
    squares += c * c;
  }
  let rstd = 1.0 / sqrt(reduce_sum(lane, squares) / f32(p.width) + p.eps);
  let m = (row / p.sample_rows) * p.mod_stride;
  for (var d = lane; d < p.width; d += THREADS) {
    var value = (x[base + d] - mean) * rstd * weight[d];
    //#if BIAS
    value += bias[d];
    //#endif
    //#if MODULATED
    value = value * (1.0 + modulation[m + p.scale_column + d]) + modulation[m + p.shift_column + d];
    //#endif
    y[base + d] = Y(value);
  }
  if (lane == 0u) {
    stats[2u * row] = mean;
    stats[2u * row + 1u] = rstd;
  }
}
