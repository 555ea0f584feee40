//! The CPU executor: the twin of every kernel, in f32 and f64. It is the oracle of the kernel
//! tests and what runs where there is no GPU.

mod executor;
mod float;
mod gemm;
mod io;
pub mod math;
mod memory;
mod par;
#[cfg(any(test, all(target_arch = "wasm32", target_feature = "relaxed-simd")))]
mod relaxed;
mod thin;

pub use executor::{Call, Cpu, Program, Twin};
pub use float::{Float, gemm};
pub use gemm::{MatMut, MatRef};
pub use io::{Io, Weights};
pub use memory::{Memory, available};
pub use par::{for_blocks, for_each_row, for_rows, for_rows2, for_rows4, sum_rows, threads};
pub use thin::{MOST_ROWS, thin, thin_rows, thin_scratch, thin_suits};
