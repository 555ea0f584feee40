// Columns of a matrix as columns of a wider one: y[row, first + i] = x[row, i]. A workgroup copies 256 of a row.

//#params

//#include grid

@group(0) @binding(0) var<storage, read> x: array<f32>; // [rows, width]
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // [rows, stride]
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let tile = group_index(group);
  let row = tile / p.tiles;
  let column = tile % p.tiles * 256u + lane;
  if (row >= p.rows || column >= p.width) {
    return;
  }
  y[row * p.stride + p.first + column] = x[row * p.width + column];
}
