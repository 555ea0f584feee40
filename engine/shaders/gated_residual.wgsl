// Backward pass of y = x + gate * dropout(branch), for [rows, width] tensors.
//
// partial: a workgroup takes BLOCK rows of one gate group and 64 columns, one column an invocation.
// It writes dbranch = gate * dropout * dy and the block's sum of dy * dropout(branch).
// finish: sums the blocks of a group into the gate's columns of d modulation, one column an
// invocation, in order.

const BLOCK: u32 = 64u;

//#params

//#include grid
//#if DROPOUT
//#include step
//#include threefry
//#endif

//#if FINISH
@group(0) @binding(0) var<storage, read> partials: array<f32>; // [groups * blocks, width]
@group(0) @binding(1) var<storage, read_write> dmod: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(64)
fn finish(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let tile = group_index(group);
  let g = tile / p.tiles;
  let col = (tile % p.tiles) * 64u + lane;
  if (g >= p.groups || col >= p.width) {
    return;
  }
  var sum = 0.0;
  for (var b = 0u; b < p.blocks; b++) {
    sum += partials[(g * p.blocks + b) * p.width + col];
  }
  dmod[g * p.mod_stride + p.gate_column + col] += sum;
}
//#else
alias Branch = f32;
@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> branch: array<Branch>;
//#if GATE
@group(0) @binding(2) var<storage, read> modulation: array<f32>;
//#endif
@group(0) @binding(3) var<storage, read_write> dbranch: array<Branch>;
//#if GATE
@group(0) @binding(4) var<storage, read_write> partials: array<f32>;
//#endif
@group(0) @binding(5) var<uniform> p: Params;

@compute @workgroup_size(64)
fn partial(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let tile = group_index(group);
  let block = tile / p.tiles;
  let col = (tile % p.tiles) * 64u + lane;
  let g = block / p.blocks;
  if (g >= p.groups || col >= p.width) {
    return;
  }
  var gate = 1.0;
  //#if GATE
  gate = modulation[g * p.mod_stride + p.gate_column + col];
  //#endif
  let first = (block % p.blocks) * BLOCK;
  let last = min(first + BLOCK, p.group_rows);
  var sum = 0.0;
  for (var r = first; r < last; r++) {
    let at = (g * p.group_rows + r) * p.width + col;
    var d = dy[at];
    //#if DROPOUT
    d *= dropout(now.dropout_key, p.site, at, p.threshold, p.keep_scale);
    //#endif
    sum += d * f32(branch[at]);
    dbranch[at] = Branch(d * gate);
  }
  //#if GATE
  partials[block * p.width + col] = sum;
  //#endif
}
//#endif
