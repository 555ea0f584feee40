// C[m, n] = sum over k of A[m, k] B[k, n], with optional epilogues.
//
// A workgroup makes a TILE_M x TILE_N tile of C; an invocation makes one 4 x 4 block of it, or two or
// four with EIGHT_M and EIGHT_N (EIGHT_MN: both), in registers from TILE_K-deep slices of A and B
// staged in workgroup memory. A slice is loaded into registers while the products of the one before are
// computed. The first barrier of the loop protects the slices from being overwritten while others still
// read them, the second makes them visible. Any size: rows and columns beyond the edges hold what lies
// there, which reaches nothing that is stored; with GUARD_K terms beyond k are zero. m * n and the
// operands must stay below 2^30 elements.
//
// A_T: A is stored [k, m]. B_T: B is stored [n, k]. VEC_A, VEC_B, VEC_C: rows of an operand (of C and what
// lies as it does) are read as vec4. TURN_A, TURN_B: those rows go along k, so they are turned on the way to
// workgroup memory. PACKED: B is packed. DYNAMIC_M / DYNAMIC_K: m or k is the step's row count from
// `base` on. MANY: several products of one shape, whose operands lie at strides. COMBINE: C = alpha A B + beta D.
// SPLIT: several workgroups a tile, each with its part of k, make planes of C that `sum_planes` adds up.
// LOOP: products of a slice in a loop, for compilers that take minutes otherwise.

const TILE_M: u32 = 64u;
const TILE_N: u32 = 64u;
const TILE_K: u32 = 16u;
const THREAD_M: u32 = 4u;
const THREAD_N: u32 = 4u;
// vectors of a slice that an invocation loads
const A_LOADS: u32 = 1u;
const B_LOADS: u32 = 1u;
// products that are written out
const TERMS: u32 = 4u;
const LANES_M: u32 = TILE_M / THREAD_M;
const LANES_N: u32 = TILE_N / THREAD_N;
const THREADS: u32 = LANES_M * LANES_N;
const QUADS_M: u32 = TILE_M / 4u;
const QUADS_N: u32 = TILE_N / 4u;
const QUADS_K: u32 = TILE_K / 4u;

//#params

//#include grid
//#if STEP
//#include step
//#endif
//#include operands
//#include epilogue

// slices by term, then in fours along m and n; arrays where their numbers are stored one by one
//#if TURN_A
alias FourOfA = array<f32, 4>;
//#else
alias FourOfA = vec4<f32>;
//#endif
//#if TURN_B
alias FourOfB = array<f32, 4>;
//#else
alias FourOfB = vec4<f32>;
//#endif
var<workgroup> a_tile: array<array<FourOfA, QUADS_M>, TILE_K>;
var<workgroup> b_tile: array<array<FourOfB, QUADS_N>, TILE_K>;

// Where in a slice the vector `e` lies: its row (or the first of its four), and its term (or the first of its four).
fn place_a(e: u32) -> vec2<u32> {
  //#if A_T
  return vec2<u32>(4u * (e % QUADS_M), e / QUADS_M);
  //#else
  //#if TURN_A
  return vec2<u32>(e / QUADS_K, 4u * (e % QUADS_K));
  //#else
  return vec2<u32>(4u * (e / TILE_K), e % TILE_K);
  //#endif
  //#endif
}

fn place_b(e: u32) -> vec2<u32> {
  //#if B_T
  //#if TURN_B
  return vec2<u32>(e / QUADS_K, 4u * (e % QUADS_K));
  //#else
  return vec2<u32>(4u * (e / TILE_K), e % TILE_K);
  //#endif
  //#else
  return vec2<u32>(4u * (e % QUADS_N), e / QUADS_N);
  //#endif
}

fn four_of_a(x: FourOfA) -> vec4<f32> {
  return vec4<f32>(x[0], x[1], x[2], x[3]);
}

fn four_of_b(x: FourOfB) -> vec4<f32> {
  return vec4<f32>(x[0], x[1], x[2], x[3]);
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
  //#include tile
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

  var from_a: array<vec4<f32>, A_LOADS>;
  var from_b: array<vec4<f32>, B_LOADS>;
  //#unroll r A_LOADS
  for (var r = 0u; r < A_LOADS; r++) {
    let at = place_a(lane + r * THREADS);
    from_a[r] = load_a(row0 + at.x, k_begin + at.y);
  }
  //#end
  //#unroll r B_LOADS
  for (var r = 0u; r < B_LOADS; r++) {
    let at = place_b(lane + r * THREADS);
    from_b[r] = load_b(col0 + at.x, k_begin + at.y);
  }
  //#end

  for (var k0 = k_begin; k0 < k_end; k0 += TILE_K) {
    workgroupBarrier();
    //#unroll r A_LOADS
    for (var r = 0u; r < A_LOADS; r++) {
      let at = place_a(lane + r * THREADS);
      //#if GUARD_K
      let x = select(vec4<f32>(), from_a[r], k0 + at.y < k_end);
      //#else
      let x = from_a[r];
      //#endif
      //#if COLUMN_SUM
      column += x;
      //#endif
      //#if TURN_A
      a_tile[at.y][at.x / 4u][at.x % 4u] = x.x;
      a_tile[at.y + 1u][at.x / 4u][at.x % 4u] = x.y;
      a_tile[at.y + 2u][at.x / 4u][at.x % 4u] = x.z;
      a_tile[at.y + 3u][at.x / 4u][at.x % 4u] = x.w;
      //#else
      a_tile[at.y][at.x / 4u] = x;
      //#endif
    }
    //#end
    //#unroll r B_LOADS
    for (var r = 0u; r < B_LOADS; r++) {
      let at = place_b(lane + r * THREADS);
      //#if GUARD_K
      let y = select(vec4<f32>(), from_b[r], k0 + at.y < k_end);
      //#else
      let y = from_b[r];
      //#endif
      //#if TURN_B
      b_tile[at.y][at.x / 4u][at.x % 4u] = y.x;
      b_tile[at.y + 1u][at.x / 4u][at.x % 4u] = y.y;
      b_tile[at.y + 2u][at.x / 4u][at.x % 4u] = y.z;
      b_tile[at.y + 3u][at.x / 4u][at.x % 4u] = y.w;
      //#else
      b_tile[at.y][at.x / 4u] = y;
      //#endif
    }
    //#end
    workgroupBarrier();
    // the next slice, on its way while this one is multiplied; behind the last one it is not used
    //#unroll r A_LOADS
    for (var r = 0u; r < A_LOADS; r++) {
      let at = place_a(lane + r * THREADS);
      from_a[r] = load_a(row0 + at.x, k0 + TILE_K + at.y);
    }
    //#end
    //#unroll r B_LOADS
    for (var r = 0u; r < B_LOADS; r++) {
      let at = place_b(lane + r * THREADS);
      from_b[r] = load_b(col0 + at.x, k0 + TILE_K + at.y);
    }
    //#end
    //#if LOOP
    for (var k4 = 0u; k4 < TILE_K; k4 += TERMS) {
    //#else
    {
      const k4 = 0u;
    //#endif
      //#unroll k1 TERMS
      for (var k1 = 0u; k1 < TERMS; k1++) {
        let x0 = four_of_a(a_tile[k4 + k1][lane_m]);
        let y0 = four_of_b(b_tile[k4 + k1][lane_n]);
        c00 += outer(x0, y0);
        //#if EIGHT_N
        let y1 = four_of_b(b_tile[k4 + k1][lane_n + LANES_N]);
        c01 += outer(x0, y1);
        //#endif
        //#if EIGHT_M
        let x1 = four_of_a(a_tile[k4 + k1][lane_m + LANES_M]);
        c10 += outer(x1, y0);
        //#endif
        //#if EIGHT_MN
        c11 += outer(x1, y1);
        //#endif
      }
      //#end
    }
  }

  //#if COLUMN_SUM
  // an invocation has summed some terms of the same four rows as others
  workgroupBarrier();
  a_tile[lane / QUADS_M][lane % QUADS_M] = column;
  workgroupBarrier();
  if (col0 == 0u && lane < QUADS_M) {
    column = vec4<f32>();
    for (var i = 0u; i < THREADS / QUADS_M; i++) {
      column += a_tile[i][lane];
    }
    let row = row0 + 4u * lane;
    //#unroll i 4
    for (var i = 0u; i < 4u; i++) {
      if (row + i < m) {
        //#if SPLIT
        column_sum[plane * p.m + row + i] = column[i];
        //#else
        column_sum[row + i] += column[i];
        //#endif
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

// With constant numbers, so that the block stays in registers where the loop stays a loop.
fn row_of(block: mat4x4<f32>, i: u32) -> vec4<f32> {
  return select(select(block[0], block[1], i == 1u), select(block[2], block[3], i == 3u), i >= 2u);
}

fn store_block(row: u32, col: u32, m: u32, block: mat4x4<f32>) {
  // loops stay loops: an epilogue is long, and it runs once
  for (var i = 0u; i < 4u; i++) {
    if (row + i < m) {
      store_row(row + i, col, row_of(block, i));
    }
  }
}
