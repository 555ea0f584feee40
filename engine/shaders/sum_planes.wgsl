// C = the sum of its planes in order, four of its numbers an invocation (one without VEC); with ACCUMULATE it is added to
// what is there. COLUMN_SUM: the groups behind those of C add the planes of the column sums.

//#params

//#include grid

alias C = f32;
//#if VEC
alias Value = vec4<f32>;
alias Stored = vec4<C>;
//#else
alias Value = f32;
alias Stored = C;
//#endif
@group(0) @binding(0) var<storage, read> planes: array<Value>; // [planes, len]
//#if COLUMN_SUM
@group(0) @binding(1) var<storage, read> column_planes: array<f32>; // [planes, m]
//#endif
@group(0) @binding(2) var<storage, read_write> c: array<Stored>; // [len]
//#if COLUMN_SUM
@group(0) @binding(3) var<storage, read_write> column_sum: array<f32>; // [m]
//#endif
@group(0) @binding(4) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(group) * 64u + lane;
  //#if COLUMN_SUM
  if (i >= p.columns_from) {
    let row = i - p.columns_from;
    if (row < p.m) {
      var sum = column_sum[row];
      for (var plane = 0u; plane < p.planes; plane++) {
        sum += column_planes[plane * p.m + row];
      }
      column_sum[row] = sum;
    }
    return;
  }
  //#endif
  if (i >= p.len) {
    return;
  }
  //#if ACCUMULATE
  var sum = Value(c[i]);
  //#else
  var sum = Value();
  //#endif
  for (var plane = 0u; plane < p.planes; plane++) {
    sum += planes[plane * p.len + i];
  }
  c[i] = Stored(sum);
}
