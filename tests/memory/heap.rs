//! An allocator that counts.
#![allow(unsafe_code)] // an allocator cannot be written without; it only counts and passes on

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Smaller than any activation of a model whose allocations are counted.
pub const LARGE: usize = 64 << 10;

/// Large allocations of vectors.
pub static LARGE_VECTORS: AtomicU64 = AtomicU64::new(0);
/// Those of the matrix library, which aligns the buffers it packs operands into to cache lines at least; vectors of
/// numbers are aligned to their elements.
pub static LARGE_PACKED: AtomicU64 = AtomicU64::new(0);

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Bytes that are allocated now.
pub fn live() -> usize {
    LIVE.load(Ordering::SeqCst)
}

/// What `f` returns, and by how many bytes the heap was larger at its largest than before.
pub fn peak<T>(f: impl FnOnce() -> T) -> (T, usize) {
    let before = live();
    PEAK.store(before, Ordering::SeqCst);
    let result = f();
    (result, PEAK.load(Ordering::SeqCst).saturating_sub(before))
}

struct Counting;

fn grown(layout: Layout, size: usize) {
    if size >= LARGE {
        let large = match layout.align() >= 64 {
            true => &LARGE_PACKED,
            false => &LARGE_VECTORS,
        };
        large.fetch_add(1, Ordering::Relaxed);
    }
    let live = LIVE.fetch_add(size, Ordering::SeqCst) + size;
    PEAK.fetch_max(live, Ordering::SeqCst);
}

fn shrunk(size: usize) {
    LIVE.fetch_sub(size, Ordering::SeqCst);
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout, layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout, layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // where it moves, both are there for a moment
        grown(layout, size);
        let moved = unsafe { System.realloc(at, layout, size) };
        shrunk(layout.size());
        moved
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        shrunk(layout.size());
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
