// SUBS cross-entropy of a chunk of masked rows and its gradient, in place, one row a workgroup.
//
// The mask column takes no part in the softmax. nll = log-sum-exp(z) - z[x0]; with GRADIENT the
// logits are overwritten by weight (softmax(z) - onehot(x0)), 0 in the mask column. Every
// invocation reads z[x0] before the first barrier, so nothing overwrites it too early.

const THREADS: u32 = 256u;
const LOWEST: f32 = -3.0e38;

struct Params {
  vocab: u32,
  mask_index: u32,
  base: u32, // first row of the chunk
  most: u32, // rows of a full chunk
}

//#include step
//#include reduce

@group(0) @binding(0) var<storage, read> targets: array<u32>; // x0 of the chunk's rows
//#if GRADIENT
@group(0) @binding(1) var<storage, read> weights: array<f32>;
//#endif
@group(0) @binding(2) var<storage, read_write> logits: array<f32>; // [most, vocab]
@group(0) @binding(3) var<storage, read_write> nll: array<f32>;
@group(0) @binding(4) var<uniform> p: Params;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group_index(group);
  if (row >= rows_from(p.base, p.most)) {
    return;
  }
  let begin = row * p.vocab;
  let x0 = targets[row];
  let target_logit = logits[begin + x0];
  var top = LOWEST;
  for (var v = lane; v < p.vocab; v += THREADS) {
    if (v != p.mask_index) {
      top = max(top, logits[begin + v]);
    }
  }
  top = reduce_max(lane, top);
  var sum = 0.0;
  for (var v = lane; v < p.vocab; v += THREADS) {
    if (v != p.mask_index) {
      sum += exp(logits[begin + v] - top);
    }
  }
  sum = reduce_sum(lane, sum);
  if (lane == 0u) {
    nll[row] = log(sum) + (top - target_logit);
  }
  //#if GRADIENT
  let weight = weights[row];
  for (var v = lane; v < p.vocab; v += THREADS) {
    var d = 0.0;
    if (v != p.mask_index) {
      d = exp(logits[begin + v] - top) / sum;
      if (v == x0) {
        d -= 1.0;
      }
    }
    logits[begin + v] = weight * d;
  }
  //#endif
}
