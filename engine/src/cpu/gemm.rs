//! Safe matrix product over the `gemm` crate: the only unsafe code of the crate.
#![allow(unsafe_code)]

/// A matrix view: element (i, j) is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a, F> {
    pub(super) data: &'a [F],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
    pub(super) col_stride: usize,
}

/// A mutable matrix view with contiguous rows.
#[derive(Debug)]
pub struct MatMut<'a, F> {
    pub(super) data: &'a mut [F],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
}

fn extent(rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> usize {
    if rows == 0 || cols == 0 {
        0
    } else {
        (rows - 1) * row_stride + (cols - 1) * col_stride + 1
    }
}

impl<'a, F> MatRef<'a, F> {
    /// A `rows` x `cols` view whose rows begin `row_stride` elements apart.
    pub fn new(data: &'a [F], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(
            extent(rows, cols, row_stride, 1) <= data.len(),
            "matrix view exceeds its slice"
        );
        Self {
            data,
            rows,
            cols,
            row_stride,
            col_stride: 1,
        }
    }

    /// The rows from `first` on.
    #[cfg(any(test, all(target_arch = "wasm32", target_feature = "relaxed-simd")))]
    pub(super) fn rows_from(self, first: usize) -> Self {
        let begin = (first * self.row_stride).min(self.data.len());
        Self {
            data: &self.data[begin..],
            rows: self.rows - first,
            ..self
        }
    }

    /// The transposed view.
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

impl<'a, F> MatMut<'a, F> {
    /// A `rows` x `cols` view whose rows begin `row_stride` elements apart.
    pub fn new(data: &'a mut [F], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(
            extent(rows, cols, row_stride, 1) <= data.len(),
            "matrix view exceeds its slice"
        );
        assert!(row_stride >= cols || rows <= 1, "rows of an output overlap");
        Self {
            data,
            rows,
            cols,
            row_stride,
        }
    }
}

pub(super) fn call<T: 'static + Copy + From<f32>>(
    dst: &mut MatMut<'_, T>,
    lhs: MatRef<'_, T>,
    rhs: MatRef<'_, T>,
    accumulate: bool,
    alpha: T,
    parallel: bool,
) {
    assert!(
        lhs.rows == dst.rows && rhs.cols == dst.cols && lhs.cols == rhs.rows,
        "matrix shapes do not agree"
    );
    #[cfg(not(target_arch = "wasm32"))]
    let parallelism = if parallel {
        gemm::Parallelism::Rayon(0)
    } else {
        gemm::Parallelism::None
    };
    #[cfg(target_arch = "wasm32")]
    let (parallelism, _) = (gemm::Parallelism::None, parallel);
    // SAFETY: the constructors checked that every element the strides reach lies in the slices,
    // the shapes agree, `dst` is borrowed mutably and its rows do not overlap.
    unsafe {
        gemm::gemm(
            dst.rows,
            dst.cols,
            lhs.cols,
            dst.data.as_mut_ptr(),
            1,
            dst.row_stride as isize,
            accumulate,
            lhs.data.as_ptr(),
            lhs.col_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.col_stride as isize,
            rhs.row_stride as isize,
            T::from(1.0),
            alpha,
            false,
            false,
            false,
            parallelism,
        );
    }
}
