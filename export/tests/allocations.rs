//! A page of the series of the page before allocates nothing, whatever was counted meanwhile.

#![expect(unsafe_code, reason = "a counting allocator implements an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use kymo_core::registry::Registry;
use kymo_export::exposition::{Escaping, Exposition, Format};

thread_local! {
    /// Allocations of this thread.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed on to the system's allocator unchanged; counting touches only a
// thread-local that is initialised at compile time and has no destructor, so it never allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise about `layout` is the one `System` asks for.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System.alloc` or `System.realloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as for `dealloc`, and the caller promises a valid `size`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_page_like_the_one_before_allocates_nothing() {
    let registry = Registry::new();
    let counters = registry.counter("asked_total").help("Asked.").labels(["path", "code"]).family().unwrap();
    let levels = registry.gauge("level").labels(["of"]).family().unwrap();
    let waits = registry.histogram("wait_seconds").unit("seconds").labels(["path"]).family().unwrap();
    let ranks = registry.summary("size_bytes").unit("bytes").register().unwrap();
    let names: Vec<String> = (0..200).map(|n| format!("/path/{n}")).collect();
    let count = |by: u64| {
        for (n, name) in names.iter().enumerate() {
            counters.with([name, "200"]).add(by + n as u64);
            levels.with([name]).set(by as f64 / 3.0);
            waits.with([name]).record(by as f64 / 100.0);
        }
        ranks.record(by as f64);
    };
    let exposition = Exposition::from(registry.clone());
    let formats = [
        Format::Text004,
        Format::OpenMetrics100(Escaping::Underscores),
        Format::Text100(Escaping::AllowUtf8),
        Format::Protobuf(Escaping::AllowUtf8),
    ];
    // Room for digits that come later, too.
    let mut page = Vec::with_capacity(4 << 20);
    for round in 0..3 {
        count(1);
        for format in formats {
            page.clear();
            let before = ALLOCATIONS.with(Cell::get);
            exposition.render_into(format, &mut page);
            let allocated = ALLOCATIONS.with(Cell::get) - before;
            // The first page of each format makes the texts.
            assert!(
                round == 0 || allocated == 0,
                "{allocated} allocations for a page of {} bytes in {format:?}",
                page.len()
            );
        }
        count(1_000_000);
    }
}
