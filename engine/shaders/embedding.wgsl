// Embedding lookup and its gradient without atomics.
//
// gather: x[row] = table[ids[row]], one element an invocation; PACKED: of a packed table; PART: of a table that has
// the rows of some ids, those of others stay.
// partial: rows sorted by token are cut into parts of at most 256; one (part, column) an invocation
// sums its rows in order. The mask token owns about half of all rows, hence the parts.
// finish: one (token, column) an invocation adds its parts, in order, to d table.

//#params

//#include grid
//#if !GATHER
//#include step
//#endif

//#if GATHER
@group(0) @binding(0) var<storage, read> ids: array<u32>;
//#if PACKED
//#include at_rest
@group(0) @binding(1) var<storage, read> table: array<u32>;
//#else
@group(0) @binding(1) var<storage, read> table: array<f32>;
//#endif
@group(0) @binding(2) var<storage, read_write> x: array<f32>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(256)
fn gather(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(group) * 256u + lane;
  if (i < p.rows * p.width) {
    let id = ids[i / p.width];
    //#if PART
    if (id < p.first || id >= p.end) {
      return;
    }
    let at = (id - p.first) * p.width + i % p.width;
    //#else
    let at = id * p.width + i % p.width;
    //#endif
    //#if PACKED
    let four = at & 0xfffffffcu;
    x[i] = four_of(table[first_word(four)], table[second_word(four)], four)[at & 3u];
    //#else
    x[i] = table[at];
    //#endif
  }
}
//#endif
//#if PARTIAL
@group(0) @binding(0) var<storage, read> dx: array<f32>;
@group(0) @binding(1) var<storage, read> order: array<u32>; // row numbers, sorted by token
@group(0) @binding(2) var<storage, read> parts: array<u32>; // [parts, (first, count)] in `order`
@group(0) @binding(3) var<storage, read_write> partials: array<f32>; // [parts, width]
@group(0) @binding(4) var<uniform> p: Params;

@compute @workgroup_size(64)
fn partial(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let tile = group_index(group);
  let part = tile / p.tiles;
  let col = (tile % p.tiles) * 64u + lane;
  if (part >= now.parts || col >= p.width) {
    return;
  }
  var sum = 0.0;
  for (var i = 0u; i < parts[2u * part + 1u]; i++) {
    sum += dx[order[parts[2u * part] + i] * p.width + col];
  }
  partials[part * p.width + col] = sum;
}
//#endif
//#if FINISH
@group(0) @binding(0) var<storage, read> partials: array<f32>;
@group(0) @binding(1) var<storage, read> segments: array<u32>; // [segments, (token, first part, parts)]
@group(0) @binding(2) var<storage, read_write> dtable: array<f32>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(64)
fn finish(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let tile = group_index(group);
  let segment = tile / p.tiles;
  let col = (tile % p.tiles) * 64u + lane;
  if (segment >= now.segments || col >= p.width) {
    return;
  }
  var sum = 0.0;
  for (var i = 0u; i < segments[3u * segment + 2u]; i++) {
    sum += partials[(segments[3u * segment + 1u] + i) * p.width + col];
  }
  dtable[segments[3u * segment] * p.width + col] += sum;
}
//#endif
