// Loss of a chunk of listed rows and its gradient, in place, one row a workgroup; the formulas stand
// in src/ops/row_loss.rs.
//
// SUBS: cross-entropy without the mask. D3PM: the mask takes part. SEDD: score entropy, nothing is
// normalised. With GRADIENT the logits are overwritten by the row's weight times the slope, or, where the
// row's loss would make the batch's overflow, by NaN. Every invocation reads the target's and the mask's
// logit before the first barrier, so that nothing overwrites them too early.

const THREADS: u32 = 256u;
const LOWEST: f32 = -3.0e38;

//#params

//#include grid
//#include step
//#include reduce
//#include math

@group(0) @binding(0) var<storage, read> targets: array<u32>; // x0 of the chunk's rows
//#if GRADIENT
@group(0) @binding(1) var<storage, read> weights: array<f32>;
//#endif
//#if COEFFICIENTS
@group(0) @binding(2) var<storage, read> coefficients: array<vec4<f32>>;
//#endif
@group(0) @binding(3) var<storage, read_write> logits: array<f32>; // [most, vocab]
@group(0) @binding(4) var<storage, read_write> nll: array<f32>;
@group(0) @binding(5) var<uniform> p: Params;

// Whether a column takes part.
fn counts(v: u32) -> bool {
  //#if D3PM
  return true;
  //#else
  return v != p.mask_index;
  //#endif
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group_index(group);
  if (row >= counted_from(counted(), p.base, p.most)) {
    return;
  }
  let begin = row * p.vocab;
  let x0 = targets[row];
  let target_logit = logits[begin + x0];
  //#if COEFFICIENTS
  let c = coefficients[row];
  //#endif
  //#if D3PM
  let mask_logit = logits[begin + p.mask_index];
  //#endif
  //#if SEDD
  let top = c.x;
  //#else
  var top = LOWEST;
  for (var v = lane; v < p.vocab; v += THREADS) {
    if (counts(v)) {
      top = max(top, logits[begin + v]);
    }
  }
  top = reduce_max(lane, top);
  //#endif
  var sum = 0.0;
  for (var v = lane; v < p.vocab; v += THREADS) {
    if (counts(v)) {
      sum += exp(logits[begin + v] - top);
    }
  }
  sum = reduce_sum(lane, sum);
  //#if SEDD
  let loss = sum - c.y * (target_logit - c.x) + c.z;
  let scale = 1.0;
  let at_target = c.y;
  //#else
  var loss = log(sum) + (top - target_logit);
  var scale = 1.0 / sum;
  let at_target = 1.0;
  //#endif
  //#if D3PM
  let p_m = exp(mask_logit - top) / sum;
  let under = 1.0 + c.y * p_m;
  loss += log1p_safe(c.y * p_m) + c.x * log1p_safe(c.z * p_m / under);
  let pull = p_m * (c.y / under + c.x * c.z / (under * (under + c.z * p_m)));
  scale *= 1.0 - pull;
  //#endif
  if (lane == 0u) {
    nll[row] = loss;
  }
  //#if GRADIENT
  let weight = weights[row] * now.loss_scale;
  let bad = not_finite(bitcast<u32>(weight * loss * f32(counted())));
  for (var v = lane; v < p.vocab; v += THREADS) {
    var d = 0.0;
    if (counts(v)) {
      d = exp(logits[begin + v] - top) * scale;
      if (v == x0) {
        d -= at_target;
      }
      //#if D3PM
      if (v == p.mask_index) {
        d += pull;
      }
      //#endif
    }
    // as bits: no arithmetic here has to keep a NaN
    logits[begin + v] = bitcast<f32>(select(bitcast<u32>(weight * d), 0x7fc00000u, bad));
  }
  //#endif
}
