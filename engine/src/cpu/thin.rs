//! Products of a few rows with a large matrix, as in sampling a canvas: the matrix is read once, where it lies, and
//! unpacked a few rows at a time.

use super::{Float, Weights, for_blocks, threads};

/// Most rows for which this beats a product that rearranges its operands first.
pub const MOST_ROWS: usize = 192;
/// Rows of the matrix that are multiplied together, and of the others.
const SIDE: usize = 4;
const LANES: usize = 16;
/// Pieces of the matrix a thread, so that none waits long for another.
const PIECES: usize = 8;

/// Whether the processor multiplies and adds vectors in one instruction; without, this is slower than other products.
pub fn thin_suits() -> bool {
    !cfg!(target_arch = "wasm32") && !matches!(pulp::Arch::new(), pulp::Arch::Scalar)
}

/// How the rows of a matrix are dealt out: pieces, and rows of each.
fn pieces(n: usize) -> (usize, usize) {
    let rows = n.div_ceil(PIECES * threads()).next_multiple_of(SIDE);
    (n.div_ceil(rows), rows)
}

/// Rows of a product, those included that fill up lanes.
pub fn thin_rows(m: usize) -> usize {
    m.next_multiple_of(LANES)
}

/// Elements of the work area of [`thin`].
pub fn thin_scratch(m: usize, n: usize, k: usize) -> usize {
    let (count, rows) = pieces(n);
    thin_rows(m) * k + count * (rows * thin_rows(m) + SIDE * k)
}

/// `b a^T [n, thin_rows(m)]` of `a [m, k]` and `b [n, k]`, in `scratch`; the columns from m on mean nothing. A sum goes
/// over k in order.
pub fn thin<'s, F: Float>(
    a: &[F],
    b: Weights<'_, F>,
    [m, n, k]: [usize; 3],
    scratch: &'s mut [F],
) -> &'s [F] {
    let (count, rows) = pieces(n);
    let wide = thin_rows(m);
    let (turned, rest) = scratch.split_at_mut(wide * k);
    for (row, a) in a.chunks_exact(k).take(m).enumerate() {
        for (to, &x) in turned[row..].iter_mut().step_by(wide).zip(a) {
            *to = x;
        }
    }
    let (out, space) = rest.split_at_mut(count * rows * wide);
    let a = &*turned;
    let run = |piece: usize, [out, space]: [&mut [F]; 2]| {
        pulp::Arch::new().dispatch(Piece {
            a,
            b,
            sizes: [wide, n, k],
            first: piece * rows,
            out,
            space,
        });
    };
    for_blocks([&mut *out, space], [rows * wide, SIDE * k], &run);
    &out[..n * wide]
}

/// Some rows of the matrix, to be multiplied with all of the others. A type of its own, as its code must be inlined to be
/// compiled for the processor that is there.
struct Piece<'a, F> {
    /// `[k, wide]`
    a: &'a [F],
    b: Weights<'a, F>,
    sizes: [usize; 3],
    first: usize,
    out: &'a mut [F],
    space: &'a mut [F],
}

impl<F: Float> pulp::NullaryFnOnce for Piece<'_, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let [wide, n, k] = self.sizes;
        for (i, out) in self.out.chunks_exact_mut(SIDE * wide).enumerate() {
            let first = self.first + i * SIDE;
            if first >= n {
                break;
            }
            let have = SIDE.min(n - first);
            let b = self.b.part(first * k, have * k, self.space);
            // rows that are not there are the last one once more
            let row = |j: usize| &b[j.min(have - 1) * k..][..k];
            let b = [row(0), row(1), row(2), row(3)];
            for at in (0..wide).step_by(LANES) {
                let sums = products(&self.a[at..], wide, b);
                for (out, sums) in out.chunks_exact_mut(wide).zip(&sums) {
                    out[at..at + LANES].copy_from_slice(sums);
                }
            }
        }
    }
}

/// The products of four rows of the matrix with a few of the others, which stand side by side in `a`.
#[inline(always)]
fn products<F: Float>(a: &[F], wide: usize, [p, q, r, s]: [&[F]; SIDE]) -> [[F; LANES]; SIDE] {
    // four by name, so that each stays in registers
    let [mut u, mut v, mut w, mut z] = [[F::ZERO; LANES]; SIDE];
    let terms = p.iter().zip(q).zip(r).zip(s).zip(a.chunks(wide));
    for ((((&p, &q), &r), &s), a) in terms {
        let a = &a[..LANES];
        for l in 0..LANES {
            u[l] = a[l].mul_add(p, u[l]);
            v[l] = a[l].mul_add(q, v[l]);
            w[l] = a[l].mul_add(r, w[l]);
            z[l] = a[l].mul_add(s, z[l]);
        }
    }
    [u, v, w, z]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, Stream};

    #[test]
    fn odd_sizes() {
        let mut rng = Rng::new(1, Stream::Init, 0);
        for [m, n, k] in [
            [1, 1, 1],
            [3, 7, 5],
            [5, 130, 67],
            [64, 33, 16],
            [32, 257, 40],
        ] {
            let mut random = |n: usize| (0..n).map(|_| rng.uniform() - 0.5).collect::<Vec<f64>>();
            let (a, b) = (random(m * k), random(n * k));
            let mut scratch = vec![0.0; thin_scratch(m, n, k)];
            let got = thin(&a, Weights::Number(&b), [m, n, k], &mut scratch);
            for (i, got) in got.iter().enumerate() {
                let (j, i) = (i / thin_rows(m), i % thin_rows(m));
                if i >= m {
                    continue;
                }
                let exact: f64 = (0..k).map(|l| a[i * k + l] * b[j * k + l]).sum();
                assert!((got - exact).abs() < 1e-12, "{m} {n} {k}: {got} {exact}");
            }
        }
    }
}
