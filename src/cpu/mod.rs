//! The CPU executor: the twin of every kernel, in f32 and f64. It is the oracle of the kernel
//! tests and what runs where there is no GPU.

mod executor;
mod float;
mod gemm;
pub mod math;
mod par;

pub use executor::{Call, Cpu, Io, Memory, Program, Twin};
pub use float::Float;
pub use gemm::{MatMut, MatRef, gemm};
pub use par::{for_blocks3, for_each_row, for_rows, for_rows2, for_rows4, sum_rows, threads};
