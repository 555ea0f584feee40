//! What the process holds in memory: in a training step, while damaged files are read, and in the long run. A test
//! crate of its own, as its allocator counts what the whole process does; its tests take turns.
#![allow(clippy::unwrap_used)]

#[path = "memory/attacks.rs"]
mod attacks;
#[path = "memory/bodies.rs"]
mod bodies;
mod common;
#[path = "memory/corpus.rs"]
mod corpus;
#[path = "memory/cycles.rs"]
mod cycles;
#[path = "memory/fuzz.rs"]
mod fuzz;
#[path = "memory/heap.rs"]
mod heap;
#[path = "memory/mutants.rs"]
mod mutants;
#[path = "memory/specimens.rs"]
mod specimens;
#[path = "memory/steps.rs"]
mod steps;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Held by a test as long as it counts.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
