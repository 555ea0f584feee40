// A new row of each sequence goes to its place among the rows that are kept, one number an invocation. Positions are
// below the length.

//#params

//#include grid

@group(0) @binding(0) var<storage, read> x: array<f32>; // [batch, stride]
@group(0) @binding(1) var<storage, read> positions: array<u32>; // [batch]
@group(0) @binding(2) var<storage, read_write> rows: array<f32>; // [batch, length, width]
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(group) * 256u + lane;
  if (i >= p.total) {
    return;
  }
  let sequence = i / p.width;
  let column = i % p.width;
  let to = (sequence * p.length + positions[sequence]) * p.width + column;
  rows[to] = x[sequence * p.stride + p.column + column];
}
