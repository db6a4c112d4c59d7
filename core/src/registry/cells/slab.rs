//! Numbers that threads write without sharing, and readers add up.
//!
//! A *cell* is a number with an id. Every thread has a *slab*, an array with a place for each id it has touched, and is the
//! only one to write there; the value of the cell is the sum over all slabs. Slabs are whole cache lines, so that what one
//! thread writes takes no line away from another.
//!
//! **Writer.** [`Local`] holds the address of the thread's slab. A write is a relaxed load and a relaxed store, no locked
//! instruction: nobody else writes there. (Slabs of processors instead of threads would lose counts when a thread is moved
//! between the load and the store.) An id beyond the slab takes the cold path: under the lock the slab is copied into a
//! longer one. Nobody reads slabs but under that lock, so no reader sees half a copy.
//!
//! **Reader.** Holds the lock and adds. It may miss what a writer is just about to store; the next reader will see it.
//!
//! **A thread ends.** Its slab stays in the list with all its values, marked idle, and the next new thread goes on writing
//! to it. Nothing is folded into anything, so nothing can be lost or counted twice. There are never more slabs than there
//! were threads at one time.
//!
//! **What has no slab** writes to *pages* that all threads share, by locked adds: a thread that has handed its slab over and
//! still records (in the destructor of another thread-local value), and ids beyond [`THREAD_CELLS_MAX`].
//!
//! **Freeing.** A cell is freed when no handle to it is left, so nobody writes to it any more. Under the lock it is set to
//! zero everywhere and its id may be given out again.
//!
//! # Orderings
//! Relaxed for all cells. A cell publishes no other memory. The last value a thread stored happens before the end of its
//! life through the lock it hands its slab over with, and the next owner takes that lock too. That the writes of all
//! handles happen before a cell is freed is the business of whoever counts handles (`Arc` does, and so do pins).
//!
//! This file knows its atomics only through `super::sync`, so that `model` can compile it again with loom's.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::{Arc, PoisonError};

use super::sync::{AtomicU64, GROWTH_MIN, Line, Mutex, MutexGuard, Ordering::Relaxed, SharedPages};

/// Ids that have a place in slabs: 8 MiB for a thread that touches all of them. Those beyond are shared.
#[cfg(not(test))]
pub(super) const THREAD_CELLS_MAX: u32 = 1 << 20;
/// Small in tests, so that they reach what lies beyond.
#[cfg(test)]
pub(super) const THREAD_CELLS_MAX: u32 = 1 << 12;

/// Where a cell is in every slab that reaches to it, in bytes from its start: an id that is multiplied already, for handles
/// that add to one cell and nothing else. Always a multiple of the size of a cell.
#[derive(Debug, Clone, Copy)]
pub(in crate::registry) struct Place(u64);

impl Place {
    pub(in crate::registry) const fn of(id: u32) -> Self {
        Self(id as u64 * size_of::<AtomicU64>() as u64)
    }

    pub(in crate::registry) const fn id(self) -> u32 {
        (self.0 / size_of::<AtomicU64>() as u64) as u32
    }
}

/// A thread's side: where its slab is. Belongs to one thread at a time.
#[derive(Debug)]
pub(super) struct Local {
    cells: Cell<*const AtomicU64>,
    /// `len` as a place.
    end: Cell<Place>,
    len: Cell<u32>,
    /// Number of the slab plus one; 0 for none.
    slab: Cell<u32>,
}

impl Local {
    pub(super) const fn new() -> Self {
        Self { cells: Cell::new(std::ptr::null()), end: Cell::new(Place::of(0)), len: Cell::new(0), slab: Cell::new(0) }
    }

    /// The thread's cell of this place; `None` sends the caller to the cold path.
    #[inline(always)]
    pub(super) fn cell(&self, place: Place) -> Option<&AtomicU64> {
        if place.0 >= self.end.get().0 {
            return None;
        }
        // SAFETY: `cells` is the start of a slab of `len` atomics, and the place is that of one of them. `Slabs` keeps it alive until this very thread replaces it
        // in `grow` or gives it up in `hand_over`; both need `&self` on this thread (`Local` is not `Sync`), set `cells`, `end`
        // and `len` anew, and cannot run while the returned reference is in use, as no user code runs while it is held.
        Some(unsafe { &*super::in_register(self.cells.get().byte_add(place.0 as usize)) })
    }

    /// Hands on the thread's cells of `first` and of `first + 1 + after`; `false` sends the caller to the cold path.
    #[inline(always)]
    pub(super) fn with_two(&self, first: u32, after: u32, write: impl FnOnce(&AtomicU64, &AtomicU64)) -> bool {
        // As wide as no sum of the two can be.
        let second = u64::from(first) + 1 + u64::from(after);
        if second >= u64::from(self.len.get()) {
            return false;
        }
        let cells = self.cells.get();
        // SAFETY: as in `cell`, for both: the first id is the lower one.
        let (first, second) = unsafe {
            (&*super::in_register(cells.add(first as usize)), &*super::in_register(cells.add(second as usize)))
        };
        write(first, second);
        true
    }

    /// Says how many cells there are from `cells` on.
    fn reach(&self, len: u32) {
        self.len.set(len);
        self.end.set(Place::of(len));
    }

    /// A number that no other living thread has, if the thread has a slab.
    pub(super) fn number(&self) -> Option<u32> {
        self.slab.get().checked_sub(1)
    }
}

/// All slabs.
#[derive(Debug)]
pub(super) struct Slabs {
    /// Guards the list of slabs and their lengths, and which ids are in use; not the values. Held for sums over few cells,
    /// a copy of one slab, or an id. No other lock is taken under it.
    state: Mutex<State>,
    pages: SharedPages,
}

/// Cells of a thread, in whole lines.
#[derive(Debug)]
struct Slab(Arc<[Line]>);

const _: () = assert!(size_of::<Line>() % size_of::<AtomicU64>() == 0 && GROWTH_MIN as usize % LINE_CELLS == 0);
const LINE_CELLS: usize = size_of::<Line>() / size_of::<AtomicU64>();

impl Slab {
    /// As many cells as whole lines have, at first with these values and then zero.
    fn new(values: impl Iterator<Item = u64>, len: u32) -> Self {
        let mut values = values;
        let mut line = || Line(std::array::from_fn(|_| AtomicU64::new(values.next().unwrap_or_default())));
        Self((0..len as usize / LINE_CELLS).map(|_| line()).collect())
    }

    fn cells(&self) -> &[AtomicU64] {
        let lines = &*self.0;
        // SAFETY: a line is nothing but its cells, as is asserted above, and so are lines in a row.
        unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * LINE_CELLS) }
    }
}

#[derive(Debug)]
pub(super) struct State {
    slabs: Vec<Slab>,
    /// Slabs of threads that ended.
    idle: Vec<u32>,
    next_id: u32,
    /// First ids of freed runs, by their length. The lowest is given out first, so that series made one after the other
    /// have neighbouring cells again, however those before them went: a page reads a cache line for eight of them.
    free: BTreeMap<u32, BinaryHeap<Reverse<u32>>>,
}

impl Slabs {
    pub(super) const fn from_parts(state: Mutex<State>, pages: SharedPages) -> Self {
        Self { state, pages }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ids for `len` cells in a row, all of them zero. Returns the first.
    ///
    /// # Panics
    /// With more than 2^30 cells: their handles alone would take 100 GB.
    pub(super) fn allocate(&self, len: u32) -> u32 {
        let mut state = self.state();
        if let Some(Reverse(first)) = state.free.get_mut(&len).and_then(BinaryHeap::pop) {
            return first;
        }
        let first = state.next_id;
        state.next_id = first.checked_add(len).filter(|end| *end <= 1 << 30).expect("fewer than 2^30 cells");
        first
    }

    /// Gives ids back. Nobody may write to the cells any more.
    pub(super) fn free(&self, first: u32, len: u32) {
        let mut state = self.state();
        for slab in &state.slabs {
            let cells = slab.cells();
            let range = (first as usize).min(cells.len())..(first as usize + len as usize).min(cells.len());
            cells[range].iter().for_each(|cell| cell.store(0, Relaxed));
        }
        (first..first + len).filter_map(|id| self.pages.existing(id)).for_each(|cell| cell.store(0, Relaxed));
        state.free.entry(len).or_default().push(Reverse(first));
    }

    /// Gives the thread a slab that reaches to `end`; `false` where ids are beyond slabs.
    #[cold]
    pub(super) fn grow(&self, local: &Local, end: u32) -> bool {
        if end > THREAD_CELLS_MAX {
            return false;
        }
        let mut state = self.state();
        let number = match local.number() {
            Some(number) => number,
            None => state.idle.pop().unwrap_or_else(|| {
                state.slabs.push(Slab(Arc::new([])));
                (state.slabs.len() - 1) as u32
            }),
        };
        let slab = &mut state.slabs[number as usize];
        let have = slab.cells().len() as u32;
        if have < end {
            let wanted = end.max(have + have / 4).next_multiple_of(GROWTH_MIN).min(THREAD_CELLS_MAX);
            *slab = Slab::new(slab.0.iter().flat_map(|line| &line.0).map(|cell| cell.load(Relaxed)), wanted);
        }
        local.cells.set(slab.cells().as_ptr());
        local.reach(slab.cells().len() as u32);
        local.slab.set(number + 1);
        true
    }

    /// Takes the slab of a thread that ends; another goes on with it.
    pub(super) fn hand_over(&self, local: &Local) {
        let number = local.number();
        local.reach(0);
        local.cells.set(std::ptr::null());
        local.slab.set(0);
        if let Some(number) = number {
            self.state().idle.push(number);
        }
    }

    /// The cell of this id that all threads share.
    pub(super) fn shared(&self, id: u32) -> &AtomicU64 {
        self.pages.cell(id)
    }

    /// Locks all slabs for sums.
    pub(super) fn read(&self) -> Sums<'_> {
        Sums { state: self.state(), pages: &self.pages }
    }
}

/// No slab and no id. [`Slabs`] is made from it elsewhere, as only std's lock can be made in a constant.
pub(super) const fn empty_state() -> State {
    State { slabs: Vec::new(), idle: Vec::new(), next_id: 0, free: BTreeMap::new() }
}

/// All slabs, for as long as nobody may change their list.
pub(in crate::registry) struct Sums<'a> {
    state: MutexGuard<'a, State>,
    pages: &'a SharedPages,
}

impl Sums<'_> {
    /// Values of one cell, slab by slab.
    fn parts(&self, id: u32) -> impl Iterator<Item = u64> {
        let owned = self.state.slabs.iter().filter_map(move |slab| slab.cells().get(id as usize));
        owned.chain(self.pages.existing(id)).map(|cell| cell.load(Relaxed))
    }

    /// The sum of a cell of whole numbers; wraps.
    #[inline]
    pub(in crate::registry) fn whole(&self, id: u32) -> u64 {
        self.parts(id).fold(0, u64::wrapping_add)
    }

    /// The sums of many cells of whole numbers, in place of what `sums` held.
    pub(in crate::registry) fn wholes(&self, ids: impl Iterator<Item = u32> + Clone, sums: &mut Vec<u64>) {
        sums.clear();
        sums.extend(ids.clone().map(|id| self.pages.existing(id).map_or(0, |cell| cell.load(Relaxed))));
        for slab in &self.state.slabs {
            let cells = slab.cells();
            for (sum, id) in sums.iter_mut().zip(ids.clone()) {
                let part = cells.get(id as usize).map_or(0, |cell| cell.load(Relaxed));
                *sum = sum.wrapping_add(part);
            }
        }
    }

    /// The sum of a cell of floats.
    pub(in crate::registry) fn float(&self, id: u32) -> f64 {
        // -0.0 is what adds nothing; a cell never written holds +0.0, so no sum stays at -0.0.
        self.parts(id).map(f64::from_bits).sum::<f64>() + 0.0
    }

    /// How many slabs there are, and how many cells they have room for.
    #[cfg(test)]
    pub(in crate::registry) fn size(&self) -> (usize, usize) {
        (self.state.slabs.len(), self.state.slabs.iter().map(|slab| slab.cells().len()).sum())
    }

    /// Where slabs begin.
    #[cfg(test)]
    pub(in crate::registry) fn addresses(&self) -> impl Iterator<Item = usize> {
        self.state.slabs.iter().map(|slab| slab.cells().as_ptr().addr())
    }
}
