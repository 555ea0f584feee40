// SUBS parameterisation: log-probabilities from logits, one row a workgroup. Masked rows: the
// mask's logit is lowered by 1e6, then log-softmax. Other rows carry their token over: 0 there, -1e6
// elsewhere.

const THREADS: u32 = 256u;
const LOWEST: f32 = -3.0e38;
const NEG_INFINITY: f32 = -1e6;

//#params

//#include grid
//#include reduce

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> xt: array<u32>;
@group(0) @binding(2) var<storage, read_write> log_probs: array<f32>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group_index(group);
  if (row >= p.rows) {
    return;
  }
  let begin = row * p.vocab;
  var top = LOWEST;
  for (var v = lane; v < p.vocab; v += THREADS) {
    top = max(top, logits[begin + v] + select(0.0, NEG_INFINITY, v == p.mask_index));
  }
  top = reduce_max(lane, top);
  var sum = 0.0;
  for (var v = lane; v < p.vocab; v += THREADS) {
    sum += exp(logits[begin + v] + select(0.0, NEG_INFINITY, v == p.mask_index) - top);
  }
  let lse = top + log(reduce_sum(lane, sum));
  let token = xt[row];
  for (var v = lane; v < p.vocab; v += THREADS) {
    var value = logits[begin + v] + select(0.0, NEG_INFINITY, v == p.mask_index) - lse;
    if (token != p.mask_index) {
      value = select(NEG_INFINITY, 0.0, v == token);
    }
    log_probs[begin + v] = value;
  }
}
