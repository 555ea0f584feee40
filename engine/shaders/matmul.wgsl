// C[m, n] = sum over k of A[m, k] B[k, n], with optional epilogues.
//
// A workgroup makes a TILE_M x TILE_N tile of C; an invocation makes one 4 x 4 block of it, or two or
// four with EIGHT_M and EIGHT_N (EIGHT_MN: both), in registers from TILE_K-deep slices of A and B
// staged in workgroup memory. The first barrier of
// the loop protects the slices from being overwritten while others still read them, the second
// makes them visible. Any size: edges read zeros and are not stored. m * n and the operands must
// stay below 2^30 elements.
//
// A_T: A is stored [k, m]. B_T: B is stored [n, k]. HALF: B is in half precision. DYNAMIC_M / DYNAMIC_K: m or k is the
// step's row count from `base` on. MANY: several products of one shape, whose operands lie at strides. COMBINE:
// C = alpha A B + beta D.

const TILE_M: u32 = 64u;
const TILE_N: u32 = 64u;
const TILE_K: u32 = 16u;
const THREAD_M: u32 = 4u;
const THREAD_N: u32 = 4u;
const LANES_M: u32 = TILE_M / THREAD_M;
const LANES_N: u32 = TILE_N / THREAD_N;
const THREADS: u32 = LANES_M * LANES_N;

//#params

//#include grid
//#if STEP
//#include step
//#endif
//#include math
//#if DROPOUT
//#include threefry
//#endif

@group(0) @binding(0) var<storage, read> a: array<f32>;
//#if HALF
//#include at_rest
@group(0) @binding(1) var<storage, read> b: array<u32>; // pairs in half precision
//#else
@group(0) @binding(1) var<storage, read> b: array<f32>;
//#endif
//#if BIAS
@group(0) @binding(2) var<storage, read> bias: array<f32>; // [n]
//#endif
//#if RESIDUAL
@group(0) @binding(3) var<storage, read> residual: array<f32>; // [m, n]
//#endif
//#if COMBINE
@group(0) @binding(3) var<storage, read> d: array<f32>; // [m, n]
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

// slices as vec4 along m and n, so that one index check serves four elements
var<workgroup> a_tile: array<vec4<f32>, TILE_K * TILE_M / 4u>;
var<workgroup> b_tile: array<vec4<f32>, TILE_K * TILE_N / 4u>;

//#if MANY
var<private> first: vec3<u32>; // where a product's A, B and C begin
//#else
const first = vec3<u32>();
//#endif

fn load_a(row: u32, k: u32, m: u32, k_end: u32) -> f32 {
  if (row >= m || k >= k_end) {
    return 0.0;
  }
  //#if A_T
  return a[first.x + k * p.m + row];
  //#else
  return a[first.x + row * p.k + k];
  //#endif
}

fn load_b(col: u32, k: u32, k_end: u32) -> f32 {
  if (col >= p.n || k >= k_end) {
    return 0.0;
  }
  //#if B_T
  let at = first.y + col * p.k + k;
  //#else
  let at = first.y + k * p.n + col;
  //#endif
  //#if HALF
  return unpacked(b[at >> 1u], at);
  //#else
  return b[at];
  //#endif
}

// x y^T
fn outer(x: vec4<f32>, y: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(x.x * y, x.y * y, x.z * y, x.w * y);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  var tile = group_index(group);
  //#if MANY
  if (tile >= p.tiles * p.count) {
    return; // the whole workgroup
  }
  first = tile / p.tiles * vec3<u32>(p.a_stride, p.b_stride, p.c_stride);
  tile %= p.tiles;
  //#endif
  let row0 = (tile / p.tiles_n) * TILE_M;
  let col0 = (tile % p.tiles_n) * TILE_N;
  //#if DYNAMIC_M
  let m = counted_from(counted(), p.base, p.m);
  //#else
  let m = p.m;
  //#endif
  //#if DYNAMIC_K
  let k_end = counted_from(counted(), p.base, p.k);
  //#else
  let k_end = p.k;
  //#endif
  let lane_m = lane / LANES_N; // in groups of 4 rows, half a tile apart if an invocation has 8
  let lane_n = lane % LANES_N;
  // 4 x 4 blocks of C, one row a vector; named, since arrays would be indexed at run time
  var c00 = mat4x4<f32>();
  //#if EIGHT_N
  var c01 = mat4x4<f32>();
  //#endif
  //#if EIGHT_M
  var c10 = mat4x4<f32>();
  //#endif
  //#if EIGHT_MN
  var c11 = mat4x4<f32>();
  //#endif
  //#if COLUMN_SUM
  var column = vec4<f32>();
  //#endif

  for (var k0 = 0u; k0 < k_end; k0 += TILE_K) {
    workgroupBarrier();
    for (var e = lane; e < TILE_M * TILE_K / 4u; e += THREADS) {
      //#if A_T
      let i = e % (TILE_M / 4u);
      let kk = e / (TILE_M / 4u);
      //#else
      let i = e / TILE_K;
      let kk = e % TILE_K;
      //#endif
      let row = row0 + 4u * i;
      let k = k0 + kk;
      a_tile[kk * (TILE_M / 4u) + i] = vec4<f32>(
        load_a(row, k, m, k_end),
        load_a(row + 1u, k, m, k_end),
        load_a(row + 2u, k, m, k_end),
        load_a(row + 3u, k, m, k_end),
      );
    }
    for (var e = lane; e < TILE_N * TILE_K / 4u; e += THREADS) {
      //#if B_T
      let j = e / TILE_K;
      let kk = e % TILE_K;
      //#else
      let j = e % (TILE_N / 4u);
      let kk = e / (TILE_N / 4u);
      //#endif
      let col = col0 + 4u * j;
      let k = k0 + kk;
      b_tile[kk * (TILE_N / 4u) + j] = vec4<f32>(
        load_b(col, k, k_end),
        load_b(col + 1u, k, k_end),
        load_b(col + 2u, k, k_end),
        load_b(col + 3u, k, k_end),
      );
    }
    workgroupBarrier();
    for (var k4 = 0u; k4 < TILE_K; k4 += 4u) {
      //#unroll k1 4
      for (var k1 = 0u; k1 < 4u; k1++) {
        let a_row = (k4 + k1) * (TILE_M / 4u) + lane_m;
        let b_row = (k4 + k1) * (TILE_N / 4u) + lane_n;
        let x0 = a_tile[a_row];
        let y0 = b_tile[b_row];
        c00 += outer(x0, y0);
        //#if EIGHT_N
        let y1 = b_tile[b_row + LANES_N];
        c01 += outer(x0, y1);
        //#endif
        //#if EIGHT_M
        let x1 = a_tile[a_row + LANES_M];
        c10 += outer(x1, y0);
        //#endif
        //#if EIGHT_MN
        c11 += outer(x1, y1);
        //#endif
      }
      //#end
    }
    //#if COLUMN_SUM
    if (lane < TILE_M / 4u) {
      for (var kk = 0u; kk < TILE_K; kk++) {
        column += a_tile[kk * (TILE_M / 4u) + lane];
      }
    }
    //#endif
  }

  //#if COLUMN_SUM
  if (col0 == 0u && lane < TILE_M / 4u) {
    let row = row0 + 4u * lane;
    //#unroll i 4
    for (var i = 0u; i < 4u; i++) {
      if (row + i < m) {
        column_sum[row + i] += column[i];
      }
    }
    //#end
  }
  //#endif
  let row = row0 + 4u * lane_m;
  let col = col0 + 4u * lane_n;
  store_block(row, col, m, c00);
  //#if EIGHT_N
  store_block(row, col + 4u * LANES_N, m, c01);
  //#endif
  //#if EIGHT_M
  store_block(row + 4u * LANES_M, col, m, c10);
  //#endif
  //#if EIGHT_MN
  store_block(row + 4u * LANES_M, col + 4u * LANES_N, m, c11);
  //#endif
}

fn store_block(row: u32, col: u32, m: u32, block: mat4x4<f32>) {
  // loops stay loops: an epilogue is long, and it runs once
  for (var i = 0u; i < 4u; i++) {
    if (row + i < m) {
      store_row(row + i, col, block[i]);
    }
  }
}

fn store_row(row: u32, col: u32, values: vec4<f32>) {
  for (var j = 0u; j < 4u; j++) {
    if (col + j < p.n) {
      store(row, col + j, values[j]);
    }
  }
}

fn store(row: u32, col: u32, sum: f32) {
  let at = first.z + row * p.n + col;
  var value = sum;
  //#if COMBINE
  value = p.alpha * value + p.beta * d[at];
  //#endif
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
