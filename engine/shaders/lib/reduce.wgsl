// Reductions over the THREADS invocations of a workgroup, in a fixed tree order. Call them from
// uniform control flow. The first barrier lets readers of the previous result finish.
var<workgroup> reduce_scratch: array<f32, THREADS>;

fn reduce_sum(lane: u32, x: f32) -> f32 {
  workgroupBarrier();
  reduce_scratch[lane] = x;
  for (var half = THREADS / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) {
      reduce_scratch[lane] += reduce_scratch[lane + half];
    }
  }
  workgroupBarrier();
  return reduce_scratch[0];
}

fn reduce_max(lane: u32, x: f32) -> f32 {
  workgroupBarrier();
  reduce_scratch[lane] = x;
  for (var half = THREADS / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) {
      reduce_scratch[lane] = max(reduce_scratch[lane], reduce_scratch[lane + half]);
    }
  }
  workgroupBarrier();
  return reduce_scratch[0];
}
