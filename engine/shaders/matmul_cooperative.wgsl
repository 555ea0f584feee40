// As `matmul`, on the matrix units of a GPU: operands in f16 (what is f32 is rounded on its way to workgroup memory),
// sums in f32. Rows of both operands are multiples of four.
//
// A workgroup makes a TILE_M x TILE_N tile of C in parts of 4 x 2 blocks of SIDE x SIDE (WIDE: 4 x 4), each a
// subgroup's. It is meant to have as many subgroups as there are parts; with fewer it goes over k again for the next
// parts, with more some make one that is not stored (no condition may stand around cooperative operations). Slices lie in workgroup memory with k along their rows, whose
// numbers are constants for the clamps of wgpu's checks: so the compiler knows how loads are aligned.

enable wgpu_cooperative_matrix;

const TILE_M: u32 = 128u;
const TILE_N: u32 = 128u;
const TILE_K: u32 = 32u;
const THREADS: u32 = 256u;
// rows and columns of the units' matrices
const SIDE: u32 = 16u;
// vectors of a slice that an invocation loads
const A_LOADS: u32 = 4u;
const B_LOADS: u32 = 4u;
// products of the units in a slice
const STEPS: u32 = 2u;
const QUADS_M: u32 = TILE_M / 4u;
const QUADS_N: u32 = TILE_N / 4u;
const QUADS_K: u32 = TILE_K / 4u;
const PART_M: u32 = 4u * SIDE;
//#if WIDE
const BLOCKS: u32 = 16u;
const PART_N: u32 = 4u * SIDE;
//#else
const BLOCKS: u32 = 8u;
const PART_N: u32 = 2u * SIDE;
//#endif
const PARTS_N: u32 = TILE_N / PART_N;
const PARTS: u32 = TILE_M / PART_M * PARTS_N;
// numbers from one row of a slice to the next: not a power of two, so that rows begin in different banks
const ROW: u32 = TILE_K + 8u;

//#if EIGHT
alias MatrixA = coop_mat8x8<f16, A>;
alias MatrixB = coop_mat8x8<f16, B>;
alias MatrixC = coop_mat8x8<f32, C>;
//#else
alias MatrixA = coop_mat16x16<f16, A>;
alias MatrixB = coop_mat16x16<f16, B>;
alias MatrixC = coop_mat16x16<f32, C>;
//#endif

//#params

//#include grid
//#if STEP
//#include step
//#endif
//#include operands
//#include epilogue

var<workgroup> a_tile: array<array<f16, ROW>, TILE_M>;
var<workgroup> b_tile: array<array<f16, ROW>, TILE_N>;
var<workgroup> blocks: array<array<f32, SIDE * SIDE>, PARTS + 1u>;
var<workgroup> subgroup_count: u32;
//#if COLUMN_SUM
var<workgroup> columns: array<vec4<f32>, THREADS>;
//#endif

// Where in a slice the vector `e` lies: its row (or the first of its four), and its term (or the first of its four).
fn place_a(e: u32) -> vec2<u32> {
  //#if A_T
  return vec2<u32>(4u * (e % QUADS_M), e / QUADS_M);
  //#else
  return vec2<u32>(e / QUADS_K, 4u * (e % QUADS_K));
  //#endif
}

fn place_b(e: u32) -> vec2<u32> {
  //#if B_T
  return vec2<u32>(e / QUADS_K, 4u * (e % QUADS_K));
  //#else
  return vec2<u32>(4u * (e % QUADS_N), e / QUADS_N);
  //#endif
}

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(num_subgroups) subgroups: u32,
  @builtin(subgroup_invocation_id) sublane: u32,
  @builtin(subgroup_size) sublanes: u32,
) {
  var tile = group_index(group);
  //#include tile
  //#if COLUMN_SUM
  var column = vec4<f32>();
  //#endif

  // the same for all, which the language does not know of the builtin
  if (lane == 0u) {
    subgroup_count = subgroups;
  }
  let together = workgroupUniformLoad(&subgroup_count);
  for (var done = 0u; done < PARTS; done += together) {
    let part = min(done + subgroup, PARTS);
    let row = part / PARTS_N * PART_M;
    let col = part % PARTS_N * PART_N;
    // blocks of C; named, since arrays of matrices are not allowed
    var c00 = MatrixC();
    var c01 = MatrixC();
    var c10 = MatrixC();
    var c11 = MatrixC();
    var c20 = MatrixC();
    var c21 = MatrixC();
    var c30 = MatrixC();
    var c31 = MatrixC();
    //#if WIDE
    var c02 = MatrixC();
    var c03 = MatrixC();
    var c12 = MatrixC();
    var c13 = MatrixC();
    var c22 = MatrixC();
    var c23 = MatrixC();
    var c32 = MatrixC();
    var c33 = MatrixC();
    //#endif
    var from_a: array<vec4<f16>, A_LOADS>;
    var from_b: array<vec4<f16>, B_LOADS>;
    //#unroll r A_LOADS
    for (var r = 0u; r < A_LOADS; r++) {
      let at = place_a(lane + r * THREADS);
      from_a[r] = vec4<f16>(load_a(row0 + at.x, k_begin + at.y));
    }
    //#end
    //#unroll r B_LOADS
    for (var r = 0u; r < B_LOADS; r++) {
      let at = place_b(lane + r * THREADS);
      from_b[r] = vec4<f16>(load_b(col0 + at.x, k_begin + at.y));
    }
    //#end

    for (var k0 = k_begin; k0 < k_end; k0 += TILE_K) {
      workgroupBarrier();
      //#unroll r A_LOADS
      for (var r = 0u; r < A_LOADS; r++) {
        let at = place_a(lane + r * THREADS);
        //#if GUARD_K
        let x = select(vec4<f16>(), from_a[r], k0 + at.y < k_end);
        //#else
        let x = from_a[r];
        //#endif
        //#if COLUMN_SUM
        column += vec4<f32>(x);
        //#endif
        //#if A_T
        a_tile[at.x][at.y] = x.x;
        a_tile[at.x + 1u][at.y] = x.y;
        a_tile[at.x + 2u][at.y] = x.z;
        a_tile[at.x + 3u][at.y] = x.w;
        //#else
        a_tile[at.x][at.y] = x.x;
        a_tile[at.x][at.y + 1u] = x.y;
        a_tile[at.x][at.y + 2u] = x.z;
        a_tile[at.x][at.y + 3u] = x.w;
        //#endif
      }
      //#end
      //#unroll r B_LOADS
      for (var r = 0u; r < B_LOADS; r++) {
        let at = place_b(lane + r * THREADS);
        //#if GUARD_K
        let y = select(vec4<f16>(), from_b[r], k0 + at.y < k_end);
        //#else
        let y = from_b[r];
        //#endif
        //#if B_T
        b_tile[at.x][at.y] = y.x;
        b_tile[at.x][at.y + 1u] = y.y;
        b_tile[at.x][at.y + 2u] = y.z;
        b_tile[at.x][at.y + 3u] = y.w;
        //#else
        b_tile[at.x][at.y] = y.x;
        b_tile[at.x + 1u][at.y] = y.y;
        b_tile[at.x + 2u][at.y] = y.z;
        b_tile[at.x + 3u][at.y] = y.w;
        //#endif
      }
      //#end
      workgroupBarrier();
      // the next slice, on its way while this one is multiplied; behind the last one it is not used
      //#unroll r A_LOADS
      for (var r = 0u; r < A_LOADS; r++) {
        let at = place_a(lane + r * THREADS);
        from_a[r] = vec4<f16>(load_a(row0 + at.x, k0 + TILE_K + at.y));
      }
      //#end
      //#unroll r B_LOADS
      for (var r = 0u; r < B_LOADS; r++) {
        let at = place_b(lane + r * THREADS);
        from_b[r] = vec4<f16>(load_b(col0 + at.x, k0 + TILE_K + at.y));
      }
      //#end
      //#unroll k1 STEPS
      for (var k1 = 0u; k1 < STEPS; k1++) {
        let a0 = coopLoadT<MatrixA>(&a_tile[row + 0u * SIDE][k1 * SIDE], ROW);
        let a1 = coopLoadT<MatrixA>(&a_tile[row + 1u * SIDE][k1 * SIDE], ROW);
        let a2 = coopLoadT<MatrixA>(&a_tile[row + 2u * SIDE][k1 * SIDE], ROW);
        let a3 = coopLoadT<MatrixA>(&a_tile[row + 3u * SIDE][k1 * SIDE], ROW);
        let b0 = coopLoad<MatrixB>(&b_tile[col + 0u * SIDE][k1 * SIDE], ROW);
        let b1 = coopLoad<MatrixB>(&b_tile[col + 1u * SIDE][k1 * SIDE], ROW);
        c00 = coopMultiplyAdd(a0, b0, c00);
        c10 = coopMultiplyAdd(a1, b0, c10);
        c20 = coopMultiplyAdd(a2, b0, c20);
        c30 = coopMultiplyAdd(a3, b0, c30);
        c01 = coopMultiplyAdd(a0, b1, c01);
        c11 = coopMultiplyAdd(a1, b1, c11);
        c21 = coopMultiplyAdd(a2, b1, c21);
        c31 = coopMultiplyAdd(a3, b1, c31);
        //#if WIDE
        let b2 = coopLoad<MatrixB>(&b_tile[col + 2u * SIDE][k1 * SIDE], ROW);
        let b3 = coopLoad<MatrixB>(&b_tile[col + 3u * SIDE][k1 * SIDE], ROW);
        c02 = coopMultiplyAdd(a0, b2, c02);
        c12 = coopMultiplyAdd(a1, b2, c12);
        c22 = coopMultiplyAdd(a2, b2, c22);
        c32 = coopMultiplyAdd(a3, b2, c32);
        c03 = coopMultiplyAdd(a0, b3, c03);
        c13 = coopMultiplyAdd(a1, b3, c13);
        c23 = coopMultiplyAdd(a2, b3, c23);
        c33 = coopMultiplyAdd(a3, b3, c33);
        //#endif
      }
      //#end
    }

    // block after block through workgroup memory, so that the epilogue stands here once
    for (var block = 0u; block < BLOCKS; block++) {
      workgroupBarrier();
      switch (block) {
        case 0u: { coopStoreT(c00, &blocks[part][0], SIDE); }
        case 1u: { coopStoreT(c10, &blocks[part][0], SIDE); }
        case 2u: { coopStoreT(c20, &blocks[part][0], SIDE); }
        case 3u: { coopStoreT(c30, &blocks[part][0], SIDE); }
        case 4u: { coopStoreT(c01, &blocks[part][0], SIDE); }
        case 5u: { coopStoreT(c11, &blocks[part][0], SIDE); }
        case 6u: { coopStoreT(c21, &blocks[part][0], SIDE); }
        case 7u: { coopStoreT(c31, &blocks[part][0], SIDE); }
        //#if WIDE
        case 8u: { coopStoreT(c02, &blocks[part][0], SIDE); }
        case 9u: { coopStoreT(c12, &blocks[part][0], SIDE); }
        case 10u: { coopStoreT(c22, &blocks[part][0], SIDE); }
        case 11u: { coopStoreT(c32, &blocks[part][0], SIDE); }
        case 12u: { coopStoreT(c03, &blocks[part][0], SIDE); }
        case 13u: { coopStoreT(c13, &blocks[part][0], SIDE); }
        case 14u: { coopStoreT(c23, &blocks[part][0], SIDE); }
        case 15u: { coopStoreT(c33, &blocks[part][0], SIDE); }
        //#endif
        default: {}
      }
      workgroupBarrier();
      if (part < PARTS) {
        let block_row = row0 + row + block % 4u * SIDE;
        let block_col = col0 + col + block / 4u * SIDE;
        for (var i = sublane; i < SIDE * SIDE / 4u; i += sublanes) {
          let to = block_row + 4u * i / SIDE;
          let at = 4u * i;
          let sums = vec4<f32>(blocks[part][at], blocks[part][at + 1u], blocks[part][at + 2u], blocks[part][at + 3u]);
          if (to < m) {
            store_row(to, block_col + at % SIDE, sums);
          }
        }
      }
    }
    //#if COLUMN_SUM
    // an invocation has summed some terms of the same four rows as others
    workgroupBarrier();
    columns[lane] = column;
    workgroupBarrier();
    if (col0 == 0u && lane < QUADS_M && done == 0u) {
      column = vec4<f32>();
      for (var i = lane; i < THREADS; i += QUADS_M) {
        column += columns[i];
      }
      //#unroll i 4
      for (var i = 0u; i < 4u; i++) {
        let to = row0 + 4u * lane + i;
        if (to < m) {
          //#if SPLIT
          column_sum[plane * p.m + to] = column[i];
          //#else
          column_sum[to] += column[i];
          //#endif
        }
      }
      //#end
    }
    //#endif
  }
}
