//! What is asked of the heap: counted by an allocator that a program puts in front of the system's.

#![allow(unsafe_code, reason = "an allocator implements an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicI64 = AtomicI64::new(0);

/// The system's allocator, counted. Costs a locked add or two for each allocation.
pub struct Counting;

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        BYTES.fetch_add(layout.size() as i64, Relaxed);
        // SAFETY: the caller's promise about `layout` is the one `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size() as i64, Relaxed);
        // SAFETY: `pointer` came from `System.alloc` or `System.realloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        BYTES.fetch_add(size as i64 - layout.size() as i64, Relaxed);
        // SAFETY: as for `dealloc`, and the caller promises a valid `size`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Bytes that are allocated. What the allocator keeps besides is not among them.
#[must_use]
pub fn bytes() -> i64 {
    BYTES.load(Relaxed)
}

/// Allocations that `work` makes, and bytes it leaves. Counts every thread of the program.
pub fn of<T>(work: impl FnOnce() -> T) -> (u64, i64, T) {
    let (allocations, bytes) = (ALLOCATIONS.load(Relaxed), BYTES.load(Relaxed));
    let made = work();
    (ALLOCATIONS.load(Relaxed) - allocations, BYTES.load(Relaxed) - bytes, made)
}
