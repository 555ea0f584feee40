//! Rows in parallel, on rayon's threads; in a browser that shares no memory that is the one there is. Work is split
//! in fixed pieces, so a result never depends on the number of threads.

use super::Float;
use rayon::prelude::*;

/// Threads that share the work: those of rayon's current pool.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// Elements below which a loop is not worth splitting.
const GRAIN: usize = 1 << 13;

fn block_rows(width: usize) -> usize {
    GRAIN.div_ceil(width.max(1))
}

/// Calls `f(first_row, rows)` for blocks of rows of `out`, each `width` wide, with SIMD enabled.
pub fn for_rows<T: Send>(out: &mut [T], width: usize, f: impl Fn(usize, &mut [T]) + Sync + Send) {
    let block = block_rows(width);
    let run = |i: usize, rows: &mut [T]| pulp::Arch::new().dispatch(|| f(i * block, rows));
    out.par_chunks_mut(block * width)
        .enumerate()
        .for_each(|(i, rows)| run(i, rows));
}

/// [`for_rows`] over two outputs with the same number of rows.
pub fn for_rows2<A: Send, B: Send>(
    a: &mut [A],
    width_a: usize,
    b: &mut [B],
    width_b: usize,
    f: impl Fn(usize, &mut [A], &mut [B]) + Sync + Send,
) {
    let block = block_rows(width_a.max(width_b));
    let run =
        |i: usize, a: &mut [A], b: &mut [B]| pulp::Arch::new().dispatch(|| f(i * block, a, b));
    a.par_chunks_mut(block * width_a)
        .zip(b.par_chunks_mut(block * width_b))
        .enumerate()
        .for_each(|(i, (a, b))| run(i, a, b));
}

/// [`for_rows`] over four outputs of one size, element by element.
pub fn for_rows4<T: Send>(
    [a, b, c, d]: [&mut [T]; 4],
    f: impl Fn(usize, [&mut [T]; 4]) + Sync + Send,
) {
    let run = |i: usize, parts: [&mut [T]; 4]| pulp::Arch::new().dispatch(|| f(i * GRAIN, parts));
    a.par_chunks_mut(GRAIN)
        .zip(b.par_chunks_mut(GRAIN))
        .zip(c.par_chunks_mut(GRAIN))
        .zip(d.par_chunks_mut(GRAIN))
        .enumerate()
        .for_each(|(i, (((a, b), c), d))| run(i, [a, b, c, d]));
}

/// Calls `f(row, a, [b, c, d, e])` for each row of outputs with one element a row; a row is worth a
/// thread's while.
pub fn for_each_row<A: Send, B: Send>(
    a: &mut [A],
    [b, c, d, e]: [&mut [B]; 4],
    f: impl Fn(usize, &mut A, [&mut B; 4]) + Sync + Send,
) {
    let run = |row: usize, a: &mut A, rest: [&mut B; 4]| {
        pulp::Arch::new().dispatch(|| f(row, a, rest));
    };
    a.par_iter_mut()
        .zip(b.par_iter_mut())
        .zip(c.par_iter_mut())
        .zip(d.par_iter_mut())
        .zip(e.par_iter_mut())
        .enumerate()
        .for_each(|(row, ((((a, b), c), d), e))| run(row, a, [b, c, d, e]));
}

/// Calls `f(i, blocks)` for the i-th block of each array; `sizes` are the blocks' elements.
pub fn for_blocks<T: Send, const N: usize>(
    arrays: [&mut [T]; N],
    sizes: [usize; N],
    f: &(impl Fn(usize, [&mut [T]; N]) + Sync),
) {
    let count = arrays[0].len() / sizes[0].max(1);
    blocks(0, count, arrays, sizes, f);
}

/// Halves the work until a block is left.
fn blocks<T: Send, const N: usize>(
    first: usize,
    count: usize,
    arrays: [&mut [T]; N],
    sizes: [usize; N],
    f: &(impl Fn(usize, [&mut [T]; N]) + Sync),
) {
    if count <= 1 {
        if count == 1 {
            f(first, arrays);
        }
        return;
    }
    let half = count / 2;
    let mut i = 0;
    let halves = arrays.map(|array| {
        let halves = array.split_at_mut(half * sizes[i]);
        i += 1;
        halves
    });
    let (left, right) = unzip(halves);
    let (a, b) = (
        move || blocks(first, half, left, sizes, f),
        move || blocks(first + half, count - half, right, sizes, f),
    );
    rayon::join(a, b);
}

fn unzip<A, const N: usize>(pairs: [(A, A); N]) -> ([A; N], [A; N]) {
    let (mut left, mut right) = ([const { None }; N], [const { None }; N]);
    for (i, (a, b)) in pairs.into_iter().enumerate() {
        (left[i], right[i]) = (Some(a), Some(b));
    }
    let all = |half: [Option<A>; N]| half.map(|x| x.unwrap_or_else(|| unreachable!()));
    (all(left), all(right))
}

/// `out[c] += sum of f(row, c)` with the columns split over threads and rows in order, so the sum
/// has one order. `f(first_column, row, out)` adds row `row` into the piece `out`.
pub fn sum_rows<F: Float>(
    out: &mut [F],
    rows: usize,
    f: impl Fn(usize, usize, &mut [F]) + Sync + Send,
) {
    let piece = out.len().div_ceil(threads()).next_multiple_of(16).max(16);
    let run = |i: usize, out: &mut [F]| {
        pulp::Arch::new().dispatch(|| {
            for row in 0..rows {
                f(i * piece, row, out);
            }
        });
    };
    out.par_chunks_mut(piece)
        .enumerate()
        .for_each(|(i, out)| run(i, out));
}
