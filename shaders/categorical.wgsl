// Draws a token for each listed row from softmax(logits) without the mask, one row a workgroup, by
// an exponential race: the winner has the largest z - log(E), E exponential. Also its probability
// and the entropy of the row, nats. With `now.greedy` the most probable token wins.
//
// E keeps its relative precision near 0, where the race is decided: its uniform has a 24-bit
// mantissa and a geometric exponent, and -log(1 - u) is a series there, since the builtin log has
// only absolute accuracy near 1.

const THREADS: u32 = 256u;
const LOWEST: f32 = -3.0e38;

struct Params {
  vocab: u32,
  mask_index: u32,
  base: u32,
  most: u32,
}

//#include step
//#include reduce
//#include threefry

@group(0) @binding(0) var<storage, read> logits: array<f32>; // [most, vocab]
@group(0) @binding(1) var<storage, read> rows: array<u32>; // numbers of the chunk's rows
@group(0) @binding(2) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(3) var<storage, read_write> probability: array<f32>;
@group(0) @binding(4) var<storage, read_write> entropy: array<f32>;
@group(0) @binding(5) var<uniform> p: Params;

var<workgroup> best_token: array<u32, THREADS>;
var<workgroup> best_score: array<f32, THREADS>;

// log of a standard exponential variate.
fn log_exponential(words: vec2<u32>) -> f32 {
  let mantissa = 0.5 + f32(words.x >> 9u) * exp2(-24.0); // [0.5, 1) on a grid of 2^-24
  let exponent = countLeadingZeros(words.y);
  let u = ldexp(mantissa, -i32(exponent));
  if (exponent == 0u) {
    return log(-log(1.0 - u)); // 1 - u is exact
  }
  let s = u / (2.0 - u); // -log(1 - u) = 2 atanh(s)
  let q = s * s;
  var series = 1.0 / 17.0;
  series = series * q + 1.0 / 15.0;
  series = series * q + 1.0 / 13.0;
  series = series * q + 1.0 / 11.0;
  series = series * q + 1.0 / 9.0;
  series = series * q + 1.0 / 7.0;
  series = series * q + 1.0 / 5.0;
  series = series * q + 1.0 / 3.0;
  return log(2.0 * s * (1.0 + q * series));
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group_index(group);
  if (row >= rows_from(p.base, p.most)) {
    return;
  }
  let begin = row * p.vocab;
  var top = LOWEST;
  var score = LOWEST;
  var token = 0u;
  for (var v = lane; v < p.vocab; v += THREADS) {
    if (v != p.mask_index) {
      let z = logits[begin + v];
      top = max(top, z);
      var perturbed = z;
      if (now.greedy == 0u) {
        perturbed -= log_exponential(threefry(now.draw_key, vec2<u32>(v, rows[row])));
      }
      if (perturbed > score) {
        score = perturbed;
        token = v;
      }
    }
  }
  top = reduce_max(lane, top);
  var sum = 0.0;
  var mean = 0.0;
  for (var v = lane; v < p.vocab; v += THREADS) {
    if (v != p.mask_index) {
      let z = logits[begin + v] - top;
      sum += exp(z);
      mean += exp(z) * z;
    }
  }
  sum = reduce_sum(lane, sum);
  mean = reduce_sum(lane, mean) / sum;
  best_token[lane] = token;
  best_score[lane] = score;
  workgroupBarrier();
  if (lane == 0u) {
    for (var i = 1u; i < THREADS; i++) {
      let better = best_score[i] > score || (best_score[i] == score && best_token[i] < token);
      if (better) {
        score = best_score[i];
        token = best_token[i];
      }
    }
    tokens[row] = token;
    probability[row] = exp(logits[begin + token] - top) / sum;
    entropy[row] = log(sum) - mean;
  }
}
