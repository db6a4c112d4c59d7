//! What contexts take of memory, counted byte by byte.

#![expect(unsafe_code, reason = "a counting allocator implements an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use kymo_context::Context;

thread_local! {
    /// Allocations of this thread, and the bytes it holds.
    static COUNTS: Cell<(u64, i64)> = const { Cell::new((0, 0)) };
}

fn count(allocations: u64, bytes: i64) {
    COUNTS.with(|counts| {
        let (all, held) = counts.get();
        counts.set((all + allocations, held + bytes));
    });
}

struct Counting;

// SAFETY: every call is handed on to the system's allocator unchanged; counting touches only a thread-local that is
// initialised at compile time and has no destructor, so it never allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller's promise about `layout` is the one `System` asks for.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: `pointer` came from `System.alloc` or `System.realloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as i64 - layout.size() as i64);
        // SAFETY: as for `dealloc`, and the caller promises a valid `size`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations() -> u64 {
    COUNTS.get().0
}

fn held() -> i64 {
    COUNTS.get().1
}

#[test]
fn persist_allocates_nothing_once_the_path_exists() {
    let root = Context::new("global");
    let request = root.child("p2p").begin().child("alice").begin().child("stream").begin();
    request.persist();
    root.persist();
    let before = allocations();
    for _ in 0..10_000 {
        request.persist();
        root.persist();
    }
    assert_eq!(allocations() - before, 0);
}

#[test]
fn requests_that_are_done_leave_nothing_behind() {
    const REQUESTS: u32 = 200_000;
    let root = Context::new("global");
    let http = root.child("http").begin();
    let handle = || {
        let request = http.child("request").begin();
        request.persist();
        request.complete_with_status(true, "done");
    };
    // The ring of finished contexts fills first.
    (0..1_000).for_each(|_| handle());
    let before = held();
    (0..REQUESTS).for_each(|_| handle());
    assert_eq!(held() - before, 0);
}

#[test]
fn a_living_context_takes_at_most_600_bytes() {
    const CONTEXTS: i64 = 10_000;
    let root = Context::new("global");
    let http = root.child("http").begin();
    http.child("warm-up").begin().persist();
    let before = held();
    let mut contexts: Vec<Arc<Context>> = Vec::with_capacity(CONTEXTS as usize);
    contexts.extend((0..CONTEXTS).map(|n| http.child(&format!("request-{n}")).begin()));
    contexts.iter().for_each(|context| context.persist());
    let each = (held() - before) / CONTEXTS;
    println!("{each} bytes per living context");
    assert!(each <= 600, "{each} bytes per living context");
    let _ = root.status_with_latest();
    let with_status_read = (held() - before) / CONTEXTS;
    assert!(with_status_read <= each, "looking keeps nothing: {with_status_read} bytes");
    drop(contexts);
    assert!(held() - before < 100_000, "{} bytes kept", held() - before);
}
