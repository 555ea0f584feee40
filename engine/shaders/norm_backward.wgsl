// Backward pass of norm.wgsl, in three entry points.
//
// rows: one row a workgroup. dn = dy w (1 + scale); dx (+)= rstd (dn - mean(dn) - n mean(dn n)), without
// mean(dn) if not CENTRED.
// columns: a workgroup takes BLOCK rows of one sample and 64 columns, one column an invocation, and
// writes the block's S1 = sum of dy and S2 = sum of dy n to `partials` [blocks, 2, width].
// finish: one column an invocation, over all samples in order: d shift += S1, d scale += w S2,
// dw += sum over samples of (1 + scale) S2; with BIAS db += S1.

const THREADS: u32 = 256u;
const BLOCK: u32 = 64u;

//#params

//#include grid
//#if ROWS
//#include reduce

alias Dy = f32;
@group(0) @binding(0) var<storage, read> dy: array<Dy>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read> stats: array<f32>;
//#if MODULATED
@group(0) @binding(4) var<storage, read> modulation: array<f32>;
//#endif
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;
@group(0) @binding(6) var<uniform> p: Params;

fn scaled(at: u32, m: u32, d: u32) -> f32 {
  var dn = f32(dy[at]) * weight[d];
  //#if MODULATED
  dn *= 1.0 + modulation[m + p.scale_column + d];
  //#endif
  return dn;
}

@compute @workgroup_size(THREADS)
fn rows(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group_index(group);
  if (row >= p.rows) {
    return;
  }
  let base = row * p.width;
  let m = (row / p.sample_rows) * p.mod_stride;
  let mean = stats[2u * row];
  let rstd = stats[2u * row + 1u];
  var sum = 0.0;
  var dot = 0.0;
  for (var d = lane; d < p.width; d += THREADS) {
    let dn = scaled(base + d, m, d);
    sum += dn;
    dot += dn * (x[base + d] - mean) * rstd;
  }
  //#if CENTRED
  let mean_dn = reduce_sum(lane, sum) / f32(p.width);
  //#else
  let mean_dn = 0.0;
  //#endif
  let mean_dot = reduce_sum(lane, dot) / f32(p.width);
  for (var d = lane; d < p.width; d += THREADS) {
    let n = (x[base + d] - mean) * rstd;
    var value = rstd * (scaled(base + d, m, d) - mean_dn - n * mean_dot);
    //#if ACCUMULATE
    value += dx[base + d];
    //#endif
    dx[base + d] = value;
  }
}
//#endif
//#if COLUMNS
alias Dy = f32;
@group(0) @binding(0) var<storage, read> dy: array<Dy>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> stats: array<f32>;
@group(0) @binding(3) var<storage, read_write> partials: array<f32>;
@group(0) @binding(4) var<uniform> p: Params;

@compute @workgroup_size(64)
fn columns(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let tile = group_index(group);
  let block = tile / p.tiles;
  let col = (tile % p.tiles) * 64u + lane;
  let sample = block / p.blocks;
  if (sample * p.sample_rows >= p.rows || col >= p.width) {
    return;
  }
  let first = (block % p.blocks) * BLOCK;
  let last = min(first + BLOCK, p.sample_rows);
  var s1 = 0.0;
  var s2 = 0.0;
  for (var r = first; r < last; r++) {
    let row = sample * p.sample_rows + r;
    let d = f32(dy[row * p.width + col]);
    s1 += d;
    s2 += d * (x[row * p.width + col] - stats[2u * row]) * stats[2u * row + 1u];
  }
  partials[(2u * block) * p.width + col] = s1;
  partials[(2u * block + 1u) * p.width + col] = s2;
}
//#endif
//#if FINISH
@group(0) @binding(0) var<storage, read> partials: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
//#if MODULATED
@group(0) @binding(2) var<storage, read> modulation: array<f32>;
//#endif
@group(0) @binding(3) var<storage, read_write> dweight: array<f32>;
//#if MODULATED
@group(0) @binding(4) var<storage, read_write> dmod: array<f32>;
//#endif
//#if BIAS
@group(0) @binding(4) var<storage, read_write> dbias: array<f32>;
//#endif
@group(0) @binding(5) var<uniform> p: Params;

@compute @workgroup_size(64)
fn finish(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let col = group_index(group) * 64u + lane;
  if (col >= p.width) {
    return;
  }
  var dw = 0.0;
  for (var sample = 0u; sample * p.sample_rows < p.rows; sample++) {
    var s1 = 0.0;
    var s2 = 0.0;
    for (var b = 0u; b < p.blocks; b++) {
      let block = sample * p.blocks + b;
      s1 += partials[(2u * block) * p.width + col];
      s2 += partials[(2u * block + 1u) * p.width + col];
    }
    //#if MODULATED
    let m = sample * p.mod_stride;
    dmod[m + p.shift_column + col] += s1;
    dmod[m + p.scale_column + col] += weight[col] * s2;
    dw += (1.0 + modulation[m + p.scale_column + col]) * s2;
    //#else
    dw += s2;
    //#endif
    //#if BIAS
    dbias[col] += s1;
    //#endif
  }
  dweight[col] += dw;
}
//#endif
