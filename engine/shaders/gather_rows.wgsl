// Rows of a [rows, width] tensor by number, one element an invocation.
// Forward: y[i] = x[rows[i]] for the listed rows.
// SCATTER (backward): y[row] = x[row_of[row]] where the row is listed, 0 elsewhere; row_of is the
// inverse list, with 0xffffffff for rows that are not listed.

//#params

//#include grid
//#if !SCATTER
//#include step
//#endif

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> list: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(group) * 256u + lane;
  let row = i / p.width;
  //#if SCATTER
  if (row >= p.rows) {
    return;
  }
  let source = list[row];
  var value = 0.0;
  if (source != 0xffffffffu) {
    value = x[source * p.width + i % p.width];
  }
  y[i] = value;
  //#else
  if (row >= counted_from(counted(), 0u, p.rows)) {
    return;
  }
  y[i] = x[list[row] * p.width + i % p.width];
  //#endif
}
