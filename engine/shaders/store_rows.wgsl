// New rows of each sequence go to their places among the rows that are kept, one number an invocation. Positions are
// below the length.

//#params

//#include grid

@group(0) @binding(0) var<storage, read> x: array<f32>; // [batch * rows, stride]
@group(0) @binding(1) var<storage, read> positions: array<u32>; // [batch * rows]
@group(0) @binding(2) var<storage, read_write> state: array<f32>; // [batch, length, width]
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(group) * 256u + lane;
  if (i >= p.total) {
    return;
  }
  let row = i / p.width;
  let column = i % p.width;
  let to = (row / p.rows * p.length + positions[row]) * p.width + column;
  state[to] = x[row * p.stride + p.column + column];
}
