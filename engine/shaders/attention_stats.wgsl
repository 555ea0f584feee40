// (lse, delta) of each row for the backward pass of attention, delta the sum over d of do o; one (query, head) an
// invocation.

const VECTORS: u32 = 16u; // of 4 elements in a head

//#params

//#include grid

alias Number = f32;

@group(0) @binding(0) var<storage, read> o: array<vec4<Number>>;
@group(0) @binding(1) var<storage, read> lse: array<f32>;
@group(0) @binding(2) var<storage, read> g: array<vec4<Number>>; // gradient of o
@group(0) @binding(3) var<storage, read_write> stats: array<vec2<f32>>; // [batch, heads, queries]
@group(0) @binding(4) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group_index(group) * 64u + lane; // over rows and heads
  if (i >= p.total) {
    return;
  }
  var delta = 0.0;
  //#unroll d VECTORS
  for (var d = 0u; d < VECTORS; d++) {
    delta += dot(vec4<f32>(o[i * VECTORS + d]), vec4<f32>(g[i * VECTORS + d]));
  }
  //#end
  let row = i / p.heads;
  let at = ((row / p.queries) * p.heads + i % p.heads) * p.queries + row % p.queries;
  stats[at] = vec2<f32>(lse[at], delta);
}
