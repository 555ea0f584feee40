//! Matrix product in f32 for browsers with relaxed SIMD, whose multiply-add is one instruction where the `gemm`
//! crate's has two. Elsewhere it is compiled for its tests only.

use super::gemm::{MatMut, MatRef};
use lane::Lane;
use rayon::prelude::*;

/// Rows of a tile and its columns in lanes of four: their eight sums hide the latency of a multiply-add, and with a
/// row of the right side and a number of the left one they fit the 15 registers that browsers use.
const ROWS: usize = 2;
const COLS: usize = 4;
const WIDTH: usize = 4 * COLS;
/// Terms that are summed before the next ones are packed: a panel of the right side stays in the first cache.
const DEPTH: usize = 256;
/// Most rows that meet a panel while it is there; their part of the left side stays in the second cache.
const BLOCK: usize = 64;

/// A row of a panel of the right side, and a column of a strip of the left one.
type Right = [Lane; COLS];
type Left = [f32; ROWS];

/// `dst = alpha lhs rhs`, added to `dst` with `accumulate`. The order of the sums depends on the shapes alone.
pub(super) fn product(
    dst: &mut MatMut<'_, f32>,
    lhs: MatRef<'_, f32>,
    rhs: MatRef<'_, f32>,
    accumulate: bool,
    alpha: f32,
    parallel: bool,
) {
    let (rows, cols, depth) = (dst.rows, dst.cols, lhs.cols);
    if rows <= ROWS {
        // too few to pack for
        return super::gemm::call(dst, lhs, rhs, accumulate, alpha, parallel);
    }
    if rows == 0 || cols == 0 {
        return;
    }
    let panels = cols.div_ceil(WIDTH);
    let mut packed = vec![[Lane::ZERO; COLS]; panels * depth.min(DEPTH)];
    let stride = dst.row_stride;
    let dst = &mut dst.data[..(rows - 1) * stride + cols];
    let share = rows.div_ceil(if parallel {
        rayon::current_num_threads()
    } else {
        1
    });
    let block = share.next_multiple_of(ROWS).min(BLOCK);
    // a product without terms is zero
    for begin in (0..depth.max(1)).step_by(DEPTH) {
        let deep = DEPTH.min(depth - begin);
        let right = &mut packed[..panels * deep];
        each(right, deep, parallel, |panel, out| {
            pack_right(rhs, begin, panel * WIDTH, out);
        });
        let right = &*right;
        let add = accumulate || begin > 0;
        each(dst, block * stride, parallel, |i, out| {
            let lhs = lhs.rows_from(i * block);
            add_block(out, stride, cols, lhs, begin, right, deep, alpha, add);
        });
    }
}

/// The rows `out` of a product, summed over `deep` terms from `begin` on.
fn add_block(
    out: &mut [f32],
    stride: usize,
    cols: usize,
    lhs: MatRef<'_, f32>,
    begin: usize,
    right: &[Right],
    deep: usize,
    alpha: f32,
    add: bool,
) {
    let rows = out.len().div_ceil(stride);
    let mut left = vec![[0.0; ROWS]; rows.div_ceil(ROWS) * deep];
    let size = deep.max(1);
    for (strip, left) in left.chunks_mut(size).enumerate() {
        pack_left(lhs, begin, strip * ROWS, left);
    }
    for first in (0..cols).step_by(WIDTH) {
        let right = &right[first / WIDTH * deep..][..deep];
        let width = WIDTH.min(cols - first);
        for (strip, out) in out.chunks_mut(ROWS * stride).enumerate() {
            let tile = multiply(&left[strip * deep..][..deep], right);
            for (row, tile) in out.chunks_mut(stride).zip(&tile) {
                let tile = tile.map(Lane::array);
                let terms = tile.as_flattened();
                for (c, &term) in row[first..][..width].iter_mut().zip(terms) {
                    *c = alpha * term + if add { *c } else { 0.0 };
                }
            }
        }
    }
}

/// Calls `f` for each piece of `size` elements; the last one may be smaller.
fn each<T: Send>(data: &mut [T], size: usize, parallel: bool, f: impl Fn(usize, &mut [T]) + Sync) {
    let size = size.max(1);
    if parallel {
        let pieces = data.par_chunks_mut(size).enumerate();
        pieces.for_each(|(i, piece)| f(i, piece));
    } else {
        let pieces = data.chunks_mut(size).enumerate();
        pieces.for_each(|(i, piece)| f(i, piece));
    }
}

/// Columns from `first` on of the rows from `begin` on; zeros beyond the edge.
fn pack_right(rhs: MatRef<'_, f32>, begin: usize, first: usize, out: &mut [Right]) {
    let width = WIDTH.min(rhs.cols - first);
    let at = |i: usize, j: usize| (begin + i) * rhs.row_stride + (first + j) * rhs.col_stride;
    if rhs.row_stride == 1 && width == WIDTH {
        // a transposed matrix: squares of sixteen numbers at a time
        for c in 0..COLS {
            let column = |j: usize| &rhs.data[at(0, 4 * c + j)..][..out.len()];
            let columns = [column(0), column(1), column(2), column(3)];
            let (squares, _) = out.as_chunks_mut::<4>();
            for (i, square) in squares.iter_mut().enumerate() {
                let lanes = columns.map(|column| Lane::new(&column[4 * i..]));
                for (row, lane) in square.iter_mut().zip(Lane::transposed(lanes)) {
                    row[c] = lane;
                }
            }
            for i in out.len() / 4 * 4..out.len() {
                out[i][c] = Lane::new(&columns.map(|column| column[i]));
            }
        }
        return;
    }
    for (i, row) in out.iter_mut().enumerate() {
        let mut plain = [0.0; WIDTH];
        for (j, x) in plain[..width].iter_mut().enumerate() {
            *x = rhs.data[at(i, j)];
        }
        *row = std::array::from_fn(|c| Lane::new(&plain[4 * c..]));
    }
}

/// Rows from `first` on of the columns from `begin` on; zeros beyond the edge.
fn pack_left(lhs: MatRef<'_, f32>, begin: usize, first: usize, out: &mut [Left]) {
    for r in 0..ROWS.min(lhs.rows - first) {
        let at = (first + r) * lhs.row_stride + begin * lhs.col_stride;
        for (i, column) in out.iter_mut().enumerate() {
            column[r] = lhs.data[at + i * lhs.col_stride];
        }
    }
}

/// A tile of the product.
#[inline(always)]
fn multiply(left: &[Left], right: &[Right]) -> [Right; ROWS] {
    let mut tile = [[Lane::ZERO; COLS]; ROWS];
    for (column, row) in left.iter().zip(right) {
        for (sums, &x) in tile.iter_mut().zip(column) {
            let x = Lane::splat(x);
            for (sum, &y) in sums.iter_mut().zip(row) {
                *sum = sum.add_product(x, y);
            }
        }
    }
    tile
}

#[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
mod lane {
    use std::arch::wasm32::{
        f32x4, f32x4_extract_lane as number, f32x4_relaxed_madd, f32x4_splat, i32x4_shuffle as mix,
        i64x2_shuffle as join, v128,
    };

    /// Four numbers.
    #[derive(Clone, Copy)]
    pub(super) struct Lane(v128);

    impl Lane {
        pub(super) const ZERO: Self = Self(f32x4(0.0, 0.0, 0.0, 0.0));

        /// The first four.
        #[inline(always)]
        pub(super) fn new(x: &[f32]) -> Self {
            let x = &x[..4];
            Self(f32x4(x[0], x[1], x[2], x[3]))
        }
        #[inline(always)]
        pub(super) fn splat(x: f32) -> Self {
            Self(f32x4_splat(x))
        }
        /// `self + x y`, rounded once or twice.
        #[inline(always)]
        pub(super) fn add_product(self, x: Self, y: Self) -> Self {
            Self(f32x4_relaxed_madd(x.0, y.0, self.0))
        }
        /// Rows of a square made its columns.
        #[inline(always)]
        pub(super) fn transposed([a, b, c, d]: [Self; 4]) -> [Self; 4] {
            let halves = |a, b| (mix::<0, 4, 1, 5>(a, b), mix::<2, 6, 3, 7>(a, b));
            let ((ab, ab2), (cd, cd2)) = (halves(a.0, b.0), halves(c.0, d.0));
            [
                Self(join::<0, 2>(ab, cd)),
                Self(join::<1, 3>(ab, cd)),
                Self(join::<0, 2>(ab2, cd2)),
                Self(join::<1, 3>(ab2, cd2)),
            ]
        }
        #[inline(always)]
        pub(super) fn array(self) -> [f32; 4] {
            let Self(x) = self;
            [
                number::<0>(x),
                number::<1>(x),
                number::<2>(x),
                number::<3>(x),
            ]
        }
    }
}

#[cfg(not(all(target_arch = "wasm32", target_feature = "relaxed-simd")))]
mod lane {
    /// Four numbers.
    #[derive(Clone, Copy)]
    pub(super) struct Lane([f32; 4]);

    impl Lane {
        pub(super) const ZERO: Self = Self([0.0; 4]);

        pub(super) fn new(x: &[f32]) -> Self {
            Self(std::array::from_fn(|i| x[i]))
        }
        pub(super) fn splat(x: f32) -> Self {
            Self([x; 4])
        }
        pub(super) fn add_product(self, x: Self, y: Self) -> Self {
            let sum = |i: usize| x.0[i].mul_add(y.0[i], self.0[i]);
            Self(std::array::from_fn(sum))
        }
        pub(super) fn transposed(rows: [Self; 4]) -> [Self; 4] {
            let column = |i: usize| Self(rows.map(|row| row.0[i]));
            std::array::from_fn(column)
        }
        pub(super) fn array(self) -> [f32; 4] {
            self.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::gemm;

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    #[test]
    fn products_equal_those_in_f64() {
        let shapes = [1, 3, 16, 17, 35, 2 * BLOCK + 1];
        let depths = [0, 1, 7, DEPTH, DEPTH + 3, 2 * DEPTH + 1];
        let all = shapes.map(|m| shapes.map(|n| depths.map(|k| (m, n, k))));
        for &(m, n, k) in all.as_flattened().as_flattened() {
            for (transposed, accumulate, parallel) in [
                (false, false, false),
                (true, true, true),
                (true, false, true),
            ] {
                let stride = n + 2;
                let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
                let begin = numbers(m * stride, 3);
                let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
                let (mut found, mut right) = (begin.clone(), wide(&begin));
                // with `transposed` the same numbers are read along the other axis
                fn view<F>(x: &[F], rows: usize, cols: usize, t: bool) -> MatRef<'_, F> {
                    if t {
                        MatRef::new(x, cols, rows, rows).t()
                    } else {
                        MatRef::new(x, rows, cols, cols)
                    }
                }
                let t = transposed;
                product(
                    &mut MatMut::new(&mut found, m, n, stride),
                    view(&a, m, k, t),
                    view(&b, k, n, t),
                    accumulate,
                    0.5,
                    parallel,
                );
                let (a, b) = (wide(&a), wide(&b));
                let dst = MatMut::new(&mut right, m, n, stride);
                gemm(
                    dst,
                    view(&a, m, k, t),
                    view(&b, k, n, t),
                    accumulate,
                    0.5,
                    false,
                );
                for (i, (x, y)) in found.iter().zip(&right).enumerate() {
                    let bound = 2e-6 * (k as f64).sqrt().max(1.0);
                    assert!(
                        (f64::from(*x) - y).abs() <= bound,
                        "{m} {n} {k}, element {i}: {x} instead of {y}"
                    );
                    // what lies between the rows is not touched
                    assert!(i % stride < n || *x == begin[i]);
                }
            }
        }
    }
}
