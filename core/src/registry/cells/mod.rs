//! The process's cells: what handles add to and readers sum up.
//!
//! `slab` is the protocol and argues for it; here it is tied to this process: one list of slabs, one slab for each thread,
//! handed over when the thread ends.

#![allow(
    unsafe_code,
    reason = "a slab is reached through a bare pointer: a checked index costs 1.5 ns of a 0.5 ns add"
)]

#[cfg(test)]
mod model;
mod slab;
mod sync;
#[cfg(test)]
mod tests;

#[cfg(all(target_arch = "x86_64", not(miri), not(kymo_portable)))]
use std::arch::asm;
use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use slab::{Local, Slabs};
pub(super) use slab::{Place, Sums};

static SLABS: Slabs = Slabs::from_parts(Mutex::new(slab::empty_state()), sync::SharedPages::new());

thread_local! {
    /// Made at compile time and without a destructor, so an access is an address and no check.
    static LOCAL: Local = const { Local::new() };
    /// Has a destructor, so it is touched only when the thread takes a slab.
    static END: End = const { End(Cell::new(false)) };
}

struct End(Cell<bool>);

impl Drop for End {
    fn drop(&mut self) {
        LOCAL.with(|local| SLABS.hand_over(local));
    }
}

/// Hands an address on in a register.
///
/// Without this the compiler folds base and index into the operand of the add, which this generation of processors does
/// not forward from store to load by renaming: 2.1 ns instead of 0.5 for increments back to back.
#[inline(always)]
#[cfg_attr(
    all(target_arch = "x86_64", not(miri), not(kymo_portable)),
    expect(clippy::pointers_in_nomem_asm_block, reason = "nothing is read through the pointer")
)]
fn in_register(address: *const AtomicU64) -> *const AtomicU64 {
    #[cfg(all(target_arch = "x86_64", not(miri), not(kymo_portable)))]
    {
        let mut address = address;
        // SAFETY: no instruction; the address goes in and comes out unchanged.
        unsafe { asm!("/* {0} */", inout(reg) address, options(pure, nomem, nostack, preserves_flags)) };
        address
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri), not(kymo_portable))))]
    {
        address
    }
}

/// `len` cells in a row, zero at first, freed on drop.
#[derive(Debug)]
pub(super) struct Cells {
    first: u32,
    len: u32,
}

impl Cells {
    pub(super) fn new(len: u32) -> Self {
        Self { first: SLABS.allocate(len), len }
    }

    /// Takes them back from where [`keep`](Self::keep) left them.
    pub(super) fn of(first: u32, len: u32) -> Self {
        Self { first, len }
    }

    /// Leaves them allocated, to be taken back by [`of`](Self::of), and gives the first id: for where four bytes count.
    pub(super) fn keep(self) -> u32 {
        let first = self.first;
        std::mem::forget(self);
        first
    }

    /// The id of the first cell, by whose [`Place`] a handle adds to it without going through here. It is the first one's as
    /// long as these cells live.
    pub(super) fn first(&self) -> u32 {
        self.first
    }
}

impl Drop for Cells {
    fn drop(&mut self) {
        SLABS.free(self.first, self.len);
    }
}

/// Adds to a cell of whole numbers; wraps.
#[inline]
pub(super) fn add(place: Place, by: u64) {
    let is_added = LOCAL.with(|local| match owned(local, place) {
        Some(cell) => {
            cell.store(cell.load(Relaxed).wrapping_add(by), Relaxed);
            true
        }
        None => false,
    });
    if !is_added {
        add_cold(place, by);
    }
}

/// Adds to a cell of floats.
#[inline]
pub(super) fn add_float(id: u32, by: f64) {
    let is_added = LOCAL.with(|local| match owned(local, Place::of(id)) {
        Some(cell) => {
            add_to_owned(cell, by);
            true
        }
        None => false,
    });
    if !is_added {
        add_float_cold(id, by);
    }
}

/// Adds one to the cell `first + 1 + bucket` of whole numbers and `value` to the cell `first` of floats.
#[inline]
pub(super) fn observe(first: u32, bucket: u32, value: f64) {
    let is_added = LOCAL.with(|local| {
        !cfg!(kymo_portable)
            && local.with_two(first, bucket, |sum, count| {
                count.store(count.load(Relaxed).wrapping_add(1), Relaxed);
                add_to_owned(sum, value);
            })
    });
    if !is_added {
        observe_cold(first, bucket, value);
    }
}

#[inline(always)]
fn owned(local: &Local, place: Place) -> Option<&AtomicU64> {
    if cfg!(kymo_portable) { None } else { local.cell(place) }
}

#[inline(always)]
fn add_to_owned(cell: &AtomicU64, by: f64) {
    cell.store((f64::from_bits(cell.load(Relaxed)) + by).to_bits(), Relaxed);
}

/// Whether the thread has a slab that reaches to `end` now. Not when it is ending, or `end` is beyond slabs.
fn reach(end: u32) -> bool {
    // Fails when the thread's destructor has run, and arms it otherwise.
    let is_alive = END.try_with(|armed| armed.0.set(true)).is_ok();
    !cfg!(kymo_portable) && is_alive && LOCAL.with(|local| SLABS.grow(local, end))
}

#[cold]
#[inline(never)]
fn add_cold(place: Place, by: u64) {
    if reach(place.id() + 1) {
        add(place, by);
    } else {
        SLABS.shared(place.id()).fetch_add(by, Relaxed);
    }
}

#[cold]
#[inline(never)]
fn add_float_cold(id: u32, by: f64) {
    if reach(id + 1) {
        add_float(id, by);
    } else {
        add_to_shared(SLABS.shared(id), by);
    }
}

#[cold]
#[inline(never)]
fn observe_cold(first: u32, bucket: u32, value: f64) {
    let count = first + 1 + bucket;
    if reach(count + 1) {
        observe(first, bucket, value);
    } else {
        SLABS.shared(count).fetch_add(1, Relaxed);
        add_to_shared(SLABS.shared(first), value);
    }
}

/// Adds to a float kept as bits that other threads write too.
pub(super) fn add_to_shared(cell: &AtomicU64, by: f64) {
    let add = |bits: u64| Some((f64::from_bits(bits) + by).to_bits());
    // `add` never gives `None`, so the update cannot fail.
    let _ = cell.fetch_update(Relaxed, Relaxed, add);
}

/// Adds to a cell of whole numbers what no thread owns: the difference to a total counted elsewhere.
///
/// `wanted` gets the cell's sum and gives what to add; no other call of this function comes between.
pub(super) fn add_shared(id: u32, wanted: impl FnOnce(u64) -> u64) {
    let sums = read();
    SLABS.shared(id).fetch_add(wanted(sums.whole(id)), Relaxed);
}

/// Locks the cells for sums.
pub(super) fn read() -> Sums<'static> {
    SLABS.read()
}

/// A small number that few other living threads have: for picking one of several locks.
pub(super) fn thread_number() -> u32 {
    LOCAL.with(|local| match local.number() {
        Some(number) => number,
        None if reach(0) => local.number().unwrap_or(0),
        None => 0,
    })
}
