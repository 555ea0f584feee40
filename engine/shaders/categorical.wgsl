// Draws a token for each listed row from softmax(logits / temperature) without the token `never`, one
// row a workgroup, by an exponential race: the winner has the largest z / temperature - log(E), E
// exponential; at temperature 0 the most probable token wins. Also the token's probability, the
// entropy of the row in nats, the log-sum-exp of its logits, and by how much the most probable token
// is ahead of the next, all of softmax(sharpness logits) without `absent`. Where a token stands, it is
// said again in place of the winner; with REDRAWN the winner is, and the probability is of what stands.
//
// Top-k and top-p leave the logits at or above a threshold in the race, found without sorting: the
// order of floats is that of an integer image, whose 32 bits are settled one reduction each.
//
// E keeps its relative precision near 0, where the race is decided: its uniform has a 24-bit
// mantissa and a geometric exponent, and -log(1 - u) is a series there, since the builtin log has
// only absolute accuracy near 1.

const THREADS: u32 = 256u;
const LOWEST: f32 = -3.0e38;
const OPEN: u32 = 0xffffffffu;
const REDRAWN: u32 = 0u;

//#params

//#include grid
//#include step
//#include math
//#include reduce
//#include threefry

@group(0) @binding(0) var<storage, read> logits: array<f32>; // [most, vocab]
@group(0) @binding(1) var<storage, read> keys: array<u32>; // [most, 3]: a key of two words, and a number
//#if STANDING
@group(0) @binding(2) var<storage, read> standing: array<u32>; // tokens that are said again, or OPEN
//#endif
@group(0) @binding(3) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(4) var<storage, read_write> probability: array<f32>;
@group(0) @binding(5) var<storage, read_write> entropy: array<f32>;
@group(0) @binding(6) var<storage, read_write> log_total: array<f32>;
@group(0) @binding(7) var<storage, read_write> margin: array<f32>;
@group(0) @binding(8) var<uniform> p: Params;

var<workgroup> best_token: array<u32, THREADS>;
var<workgroup> best_score: array<f32, THREADS>;

// log of a standard exponential variate.
fn log_exponential(words: vec2<u32>) -> f32 {
  let mantissa = 0.5 + f32(words.x >> 9u) * exp2(-24.0); // [0.5, 1) on a grid of 2^-24
  let exponent = countLeadingZeros(words.y);
  let u = ldexp(mantissa, -i32(exponent));
  return log(-log1p_safe(-u)); // 1 - u is exact where u is large
}

// Unsigned image of a float with the same order; both zeros have one.
fn image(x: f32) -> u32 {
  let word = bitcast<u32>(x);
  let bits = select(word, 0u, word == 0x80000000u);
  return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}

// Sum of exp(scale (z - top)) over the logits whose image is at least `least`; their number with a
// scale of 0.
fn amount(lane: u32, begin: u32, least: u32, top: f32, scale: f32) -> f32 {
  var sum = 0.0;
  for (var v = lane; v < p.vocab; v += THREADS) {
    let z = logits[begin + v];
    if (v != p.never && image(z) >= least) {
      sum += select(exp((z - top) * scale), 1.0, scale == 0.0);
    }
  }
  return reduce_sum(lane, sum);
}

// The largest image, at least `low`, that leaves an amount of at least `need`.
fn threshold(lane: u32, begin: u32, low: u32, need: f32, top: f32, scale: f32) -> u32 {
  var least = 0u;
  for (var bit = 0x80000000u; bit > 0u; bit >>= 1u) {
    let next = least | bit;
    let left = amount(lane, begin, max(next, low), top, scale);
    least = select(least, next, left >= need);
  }
  return max(least, low);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group_index(group);
  if (row >= counted_from(counted(), p.base, p.most)) {
    return;
  }
  let begin = row * p.vocab;
  var best = LOWEST;
  var next = LOWEST;
  for (var v = lane; v < p.vocab; v += THREADS) {
    if (v != p.absent) {
      let z = logits[begin + v];
      next = max(next, min(best, z));
      best = max(best, z);
    }
  }
  let top = reduce_max(lane, best);
  // of two equal ones, one is the next
  let shared_top = reduce_sum(lane, select(0.0, 1.0, best == top)) > 1.5;
  next = reduce_max(lane, select(best, select(next, top, shared_top), best == top));
  var sum = 0.0;
  var mean = 0.0;
  for (var v = lane; v < p.vocab; v += THREADS) {
    if (v != p.absent) {
      let z = (logits[begin + v] - top) * now.sharpness;
      sum += exp(z);
      mean += exp(z) * z;
    }
  }
  sum = reduce_sum(lane, sum);
  mean = reduce_sum(lane, mean) / sum;
  let scale = now.inverse_temperature;
  var least = 0u;
  if (scale > 0.0) {
    if (now.top_k > 0u && now.top_k < p.vocab) {
      least = threshold(lane, begin, 0u, f32(now.top_k), top, 0.0);
    }
    if (now.top_p < 1.0) {
      let all = amount(lane, begin, least, top, scale);
      least = threshold(lane, begin, least, now.top_p * all, top, scale);
    }
  }
  let key = vec2<u32>(keys[3u * row], keys[3u * row + 1u]);
  var score = LOWEST;
  var token = 0u;
  for (var v = lane; v < p.vocab; v += THREADS) {
    let z = logits[begin + v];
    if (v != p.never && image(z) >= least) {
      var perturbed = z - top;
      if (scale > 0.0) {
        let noise = log_exponential(threefry(key, vec2<u32>(v, keys[3u * row + 2u])));
        perturbed = perturbed * scale - noise;
      }
      if (perturbed > score) {
        score = perturbed;
        token = v;
      }
    }
  }
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
    var said = token;
    //#if STANDING
    said = select(standing[row], token, standing[row] == OPEN);
    //#endif
    tokens[row] = select(said, token, REDRAWN == 1u);
    probability[row] = exp((logits[begin + said] - top) * now.sharpness) / sum;
    entropy[row] = log(sum) - mean;
    log_total[row] = top * now.sharpness + log(sum);
    margin[row] = (1.0 - exp((next - top) * now.sharpness)) / sum;
  }
}
