//! Several that train one model together: each computes the gradients of its share of a batch, and between backward
//! pass and update they add them up.
//!
//! [`Ranks`] is what a trainer knows of the others; [`Alone`] is a run without others, [`Threads`] several devices or
//! shares of the CPU in one process, and `Mpi` (feature `mpi`) processes on any number of machines. All sums are
//! made of one exchange of messages and added in the order of ranks, so that as many ranks give the same bits run
//! after run, whatever carries the messages and whoever is first.

mod alone;
mod bytes;
mod common;
#[cfg(all(feature = "mpi", not(target_arch = "wasm32")))]
mod courier;
#[cfg(all(feature = "mpi", not(target_arch = "wasm32")))]
mod mpi;
mod narrow;
#[cfg(not(target_arch = "wasm32"))]
mod threads;

pub use alone::Alone;
pub use common::Ranks;
#[cfg(all(feature = "mpi", not(target_arch = "wasm32")))]
pub use mpi::Mpi;
pub use narrow::Narrow;
#[cfg(not(target_arch = "wasm32"))]
pub use threads::{Threads, each};
