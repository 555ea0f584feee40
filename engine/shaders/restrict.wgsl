// Bars tokens from a draw, one row a workgroup: where the bit of a logit is 0 in the row's set, the logit becomes
// BARRED, in place. The others keep every bit.

const THREADS: u32 = 256u;
const BARRED: f32 = -1e30;

//#params

//#include grid
//#include step

@group(0) @binding(0) var<storage, read> sets: array<u32>; // [sets, words]
@group(0) @binding(1) var<storage, read> choice: array<u32>; // [most]
@group(0) @binding(2) var<storage, read_write> logits: array<f32>; // [most, vocab]
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group_index(group);
  if (row >= counted_from(counted(), p.base, p.most)) {
    return;
  }
  let words = choice[row] * p.words;
  for (var v = lane; v < p.vocab; v += THREADS) {
    if (((sets[words + v / 32u] >> (v % 32u)) & 1u) == 0u) {
      logits[row * p.vocab + v] = BARRED;
    }
  }
}
