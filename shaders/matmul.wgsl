// C[m, n] = sum over k of A[m, k] B[k, n], with optional epilogues.
//
// A workgroup makes a TILE_M x TILE_N tile of C; an invocation makes THREAD_M x THREAD_N of it in
// registers from TILE_K-deep slices of A and B staged in workgroup memory. The first barrier of
// the loop protects the slices from being overwritten while others still read them, the second
// makes them visible. Any size: edges read zeros and are not stored. m * n and the operands must
// stay below 2^30 elements.
//
// A_T: A is stored [k, m]. B_T: B is stored [n, k]. DYNAMIC_M / DYNAMIC_K: m or k is the step's row
// count from `base` on.

const TILE_M: u32 = 64u;
const TILE_N: u32 = 64u;
const TILE_K: u32 = 16u;
const THREAD_M: u32 = 4u;
const THREAD_N: u32 = 4u;
const LANES_N: u32 = TILE_N / THREAD_N;
const THREADS: u32 = (TILE_M / THREAD_M) * LANES_N;

struct Params {
  m: u32,
  n: u32,
  k: u32,
  tiles_n: u32,
  base: u32,
  // row r takes its gate from row r / sample_rows of `mod`
  sample_rows: u32,
  mod_stride: u32,
  gate_column: u32,
  threshold: u32,
  keep_scale: f32,
  site: u32,
  reserved: u32,
}

//#include step
//#include math
//#include threefry

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
//#if BIAS
@group(0) @binding(2) var<storage, read> bias: array<f32>; // [n]
//#endif
//#if RESIDUAL
@group(0) @binding(3) var<storage, read> residual: array<f32>; // [m, n]
//#endif
//#if GATE
@group(0) @binding(4) var<storage, read> modulation: array<f32>;
//#endif
@group(0) @binding(5) var<storage, read_write> c: array<f32>; // [m, n]
//#if SECOND
@group(0) @binding(6) var<storage, read_write> second: array<f32>; // [m, n]
//#endif
//#if COLUMN_SUM
@group(0) @binding(7) var<storage, read_write> column_sum: array<f32>; // [m]
//#endif
@group(0) @binding(8) var<uniform> p: Params;

var<workgroup> a_tile: array<f32, TILE_K * TILE_M>;
var<workgroup> b_tile: array<f32, TILE_K * TILE_N>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let tile = group_index(group);
  let row0 = (tile / p.tiles_n) * TILE_M;
  let col0 = (tile % p.tiles_n) * TILE_N;
  //#if DYNAMIC_M
  let m = rows_from(p.base, p.m);
  //#else
  let m = p.m;
  //#endif
  //#if DYNAMIC_K
  let k_end = rows_from(p.base, p.k);
  //#else
  let k_end = p.k;
  //#endif
  let lane_m = (lane / LANES_N) * THREAD_M;
  let lane_n = (lane % LANES_N) * THREAD_N;
  var acc: array<array<f32, THREAD_N>, THREAD_M>;
  //#if COLUMN_SUM
  var column = 0.0;
  //#endif

  for (var k0 = 0u; k0 < k_end; k0 += TILE_K) {
    workgroupBarrier();
    for (var e = lane; e < TILE_M * TILE_K; e += THREADS) {
      //#if A_T
      let i = e % TILE_M;
      let kk = e / TILE_M;
      let at = (k0 + kk) * p.m + row0 + i;
      //#else
      let i = e / TILE_K;
      let kk = e % TILE_K;
      let at = (row0 + i) * p.k + k0 + kk;
      //#endif
      var value = 0.0;
      if (row0 + i < m && k0 + kk < k_end) {
        value = a[at];
      }
      a_tile[kk * TILE_M + i] = value;
    }
    for (var e = lane; e < TILE_N * TILE_K; e += THREADS) {
      //#if B_T
      let j = e / TILE_K;
      let kk = e % TILE_K;
      let at = (col0 + j) * p.k + k0 + kk;
      //#else
      let j = e % TILE_N;
      let kk = e / TILE_N;
      let at = (k0 + kk) * p.n + col0 + j;
      //#endif
      var value = 0.0;
      if (col0 + j < p.n && k0 + kk < k_end) {
        value = b[at];
      }
      b_tile[kk * TILE_N + j] = value;
    }
    workgroupBarrier();
    for (var kk = 0u; kk < TILE_K; kk++) {
      var b_row: array<f32, THREAD_N>;
      for (var j = 0u; j < THREAD_N; j++) {
        b_row[j] = b_tile[kk * TILE_N + lane_n + j];
      }
      for (var i = 0u; i < THREAD_M; i++) {
        let x = a_tile[kk * TILE_M + lane_m + i];
        for (var j = 0u; j < THREAD_N; j++) {
          acc[i][j] += x * b_row[j];
        }
      }
    }
    //#if COLUMN_SUM
    if (lane < TILE_M) {
      for (var kk = 0u; kk < TILE_K; kk++) {
        column += a_tile[kk * TILE_M + lane];
      }
    }
    //#endif
  }

  //#if COLUMN_SUM
  if (col0 == 0u && lane < TILE_M && row0 + lane < m) {
    column_sum[row0 + lane] += column;
  }
  //#endif
  for (var i = 0u; i < THREAD_M; i++) {
    let row = row0 + lane_m + i;
    for (var j = 0u; j < THREAD_N; j++) {
      let col = col0 + lane_n + j;
      if (row < m && col < p.n) {
        store(row, col, acc[i][j]);
      }
    }
  }
}

fn store(row: u32, col: u32, sum: f32) {
  let at = row * p.n + col;
  var value = sum;
  //#if BIAS
  value += bias[col];
  //#endif
  //#if ACCUMULATE
  value += c[at];
  //#endif
  c[at] = value;
  //#if GELU
  second[at] = gelu(value);
  //#endif
  //#if RESIDUAL
  var branch = value;
  //#if DROPOUT
  branch *= dropout(now.dropout_key, p.site, at, p.threshold, p.keep_scale);
  //#endif
  //#if GATE
  branch *= modulation[(row / p.sample_rows) * p.mod_stride + p.gate_column + col];
  //#endif
  second[at] = residual[at] + branch;
  //#endif
}
