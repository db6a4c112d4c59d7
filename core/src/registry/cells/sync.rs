//! What `slab` is made of outside its model.

pub(super) use std::sync::atomic::{AtomicU64, Ordering};
pub(super) use std::sync::{Mutex, MutexGuard};

use std::sync::OnceLock;

/// Slabs are as long as a multiple of this: a few cache lines.
pub(super) const GROWTH_MIN: u32 = 64;

/// Cells of a slab that lie together: 128 bytes, as processors fetch lines of 64 in pairs. So no line of a slab holds anything
/// that another thread writes, another's slab above all.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Line(pub(super) [AtomicU64; 16]);

/// Cells of a page: 128 KiB.
const PAGE_CELLS: usize = 1 << 14;
/// Pages for the 2^30 ids there can be. The list is zeroes until a page is needed, which takes no memory.
const PAGES: usize = (1 << 30) / PAGE_CELLS;

/// Cells that all threads share, made page by page when they are first written.
#[derive(Debug)]
pub(super) struct SharedPages {
    pages: [OnceLock<Box<[AtomicU64]>>; PAGES],
}

impl SharedPages {
    pub(super) const fn new() -> Self {
        Self { pages: [const { OnceLock::new() }; PAGES] }
    }

    pub(super) fn cell(&self, id: u32) -> &AtomicU64 {
        let page =
            self.pages[id as usize / PAGE_CELLS].get_or_init(|| (0..PAGE_CELLS).map(|_| AtomicU64::new(0)).collect());
        &page[id as usize % PAGE_CELLS]
    }

    /// The cell if its page was made; otherwise it is zero.
    #[inline]
    pub(super) fn existing(&self, id: u32) -> Option<&AtomicU64> {
        self.pages[id as usize / PAGE_CELLS].get().map(|page| &page[id as usize % PAGE_CELLS])
    }
}
