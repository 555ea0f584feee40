//! A step of the twin allocates no memory of a tensor's size, once every size has been seen. A test
//! crate of its own, as it counts what the whole process allocates.
#![allow(clippy::unwrap_used)]
#![allow(unsafe_code)] // an allocator cannot be written without; it only counts and passes on

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use common::Executor;
use common::training::{Training, model};
use mdlm::config::ModelConfig;

/// Smaller than any activation of the model below.
const LARGE: usize = 64 << 10;

static OURS: AtomicU64 = AtomicU64::new(0);
static PACKING: AtomicU64 = AtomicU64::new(0);

struct Counting;

/// The matrix library aligns the buffers it packs operands into to cache lines at least; vectors of
/// numbers are aligned to their elements.
fn count(layout: Layout, size: usize) {
    if size >= LARGE {
        let counter = if layout.align() >= 64 {
            &PACKING
        } else {
            &OURS
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout, layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout, layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout, size);
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_step_allocates_nothing_large() {
    let config = ModelConfig {
        hidden_size: 128,
        length: 65,
        ..model(true, 0.1)
    };
    let mut training = Training::new(Executor::CpuF32.shared(), &config, 4, usize::MAX).unwrap();
    let read = || [&OURS, &PACKING].map(|counter| counter.load(Ordering::Relaxed));
    training.step(0).unwrap();
    let [warm, packed] = read();
    assert!(warm > 10, "the counter does not count");
    for k in 1..4 {
        for (micro, update) in [(2 * k, false), (2 * k + 1, true)] {
            training.run(micro, update).unwrap();
        }
    }
    let [ours, packing] = read();
    println!("{} large buffers for packed matrices", packing - packed);
    assert_eq!(ours, warm, "large allocations in a step");
}
