//! Strings found by their hash without a lock: the same scheme as the registry's table of series, with the string and its id
//! in one allocation.
//!
//! Readers hold a [`Pin`]; whoever holds the pool's lock adds, evicts and rebuilds. A string is published whole. What is
//! taken out is retired, not freed: `crate::epoch` argues for that and for the SeqCst accesses.

#![allow(unsafe_code, reason = "slots are bare pointers that readers follow without a lock")]

use std::ptr::{self, NonNull};
use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;

use crate::epoch::{self, Pin};
use crate::short;

const SLOTS_MIN: usize = 16;

#[derive(Debug)]
pub(super) struct Table {
    /// Never null; made by `Box::into_raw`.
    slots: AtomicPtr<Slots>,
    /// Entries in the slots by id. Taken under the pool's lock, and alone.
    by_id: Mutex<HashMap<u64, Shown, foldhash::fast::RandomState>>,
}

/// An entry that somebody else owns.
#[derive(Debug, Clone, Copy)]
struct Shown(*const u8);

// SAFETY: as for `Entry`.
unsafe impl Send for Shown {}

/// Each slot is null, [`removed`], or an [`Entry`].
#[derive(Debug)]
struct Slots {
    slots: Box<[AtomicPtr<u8>]>,
    /// Whether a slot's string was asked for since the hand last passed.
    is_marked: Box<[AtomicBool]>,
    /// Slots that are not null, removed ones included. Written under the pool's lock, as is the hand.
    used: AtomicUsize,
    live: AtomicUsize,
    hand: AtomicUsize,
}

/// A string behind its length and id: eight bytes each, so that a slot can be one thin pointer.
///
/// Owns the allocation, which is that of a `Box<[u8]>`.
#[derive(Debug)]
struct Entry(NonNull<u8>);

const HEADER: usize = 16;

// SAFETY: an entry is bytes that nobody writes after it was made.
unsafe impl Send for Entry {}

impl Entry {
    fn new(text: &str, id: u64) -> Self {
        let mut bytes = Vec::with_capacity(HEADER + text.len());
        bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
        let start = Box::into_raw(bytes.into_boxed_slice()).cast::<u8>();
        // SAFETY: a box is never null.
        Self(unsafe { NonNull::new_unchecked(start) })
    }

    /// # Safety
    /// `start` is of an entry that lives for `'a`.
    #[inline(always)]
    unsafe fn read<'a>(start: *const u8) -> (&'a [u8], u64) {
        // SAFETY: an entry begins with its header, and its length is that of the text behind it.
        unsafe {
            let header = |at: usize| u64::from_le_bytes(ptr::read(start.add(at).cast::<[u8; 8]>()));
            (std::slice::from_raw_parts(start.add(HEADER), header(0) as usize), header(8))
        }
    }

    fn into_raw(self) -> *mut u8 {
        let start = self.0.as_ptr();
        std::mem::forget(self);
        start
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let start = self.0.as_ptr();
        // SAFETY: the entry owns its allocation, whose length its header says.
        unsafe {
            let (text, _) = Self::read(start);
            drop(Box::from_raw(ptr::slice_from_raw_parts_mut(start, HEADER + text.len())));
        }
    }
}

/// What is in a slot whose string made room.
fn removed() -> *mut u8 {
    ptr::without_provenance_mut(1)
}

impl Slots {
    fn new(len: usize) -> Box<Self> {
        Box::new(Self {
            slots: (0..len).map(|_| AtomicPtr::default()).collect(),
            is_marked: (0..len).map(|_| AtomicBool::new(false)).collect(),
            used: AtomicUsize::new(0),
            live: AtomicUsize::new(0),
            hand: AtomicUsize::new(0),
        })
    }

    /// Where the text is.
    ///
    /// # Safety
    /// Nothing that is in the slots may be freed meanwhile.
    #[inline(always)]
    unsafe fn find(&self, hash: u64, text: &str) -> Option<(usize, u64)> {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            // There is always a slot that is null: the table is never full.
            let found = self.slots[at].load(SeqCst);
            if found.is_null() {
                return None;
            }
            if found != removed() {
                // SAFETY: entries in slots live, says the caller.
                let (known, id) = unsafe { Entry::read(found) };
                if short::equal(known, text.as_bytes()) {
                    return Some((at, id));
                }
            }
            at = (at + 1) & mask;
        }
    }

    /// Puts an entry that is not there into the first free slot; a removed one does, as its run goes on behind it.
    fn place(&self, hash: u64, entry: *mut u8, is_marked: bool) {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        let mut old = self.slots[at].load(SeqCst);
        while !old.is_null() && old != removed() {
            at = (at + 1) & mask;
            old = self.slots[at].load(SeqCst);
        }
        self.is_marked[at].store(is_marked, Relaxed);
        self.slots[at].store(entry, SeqCst);
        self.used.fetch_add(usize::from(old.is_null()), Relaxed);
        self.live.fetch_add(1, Relaxed);
    }

    /// Entries and whether they are marked.
    fn entries(&self) -> impl Iterator<Item = (*mut u8, bool)> {
        let all = self.slots.iter().zip(&self.is_marked);
        all.map(|(slot, mark)| (slot.load(SeqCst), mark.load(Relaxed)))
            .filter(|(entry, _)| !entry.is_null() && *entry != removed())
    }
}

impl Table {
    pub(super) fn new() -> Self {
        Self { slots: AtomicPtr::new(Box::into_raw(Slots::new(SLOTS_MIN))), by_id: Mutex::default() }
    }

    /// The id of a text, which is then marked. A text that is just being added may be missed.
    #[inline]
    pub(super) fn find(&self, hash: u64, text: &str) -> Option<u64> {
        let pin = Pin::new()?;
        // SAFETY: retired only after the pin, so not freed before its end; so are entries.
        let found = unsafe {
            let slots = &*self.slots.load(SeqCst);
            slots.find(hash, text).map(|(at, id)| (&slots.is_marked[at], id))
        };
        let id = found.map(|(mark, id)| {
            // Looked at first: a mark that is there is not written again, so a hot string is only read.
            if !mark.load(Relaxed) {
                mark.store(true, Relaxed);
            }
            id
        });
        drop(pin);
        id
    }

    fn slots_locked(&self) -> &Slots {
        // SAFETY: only holders of the pool's lock replace it.
        unsafe { &*self.slots.load(SeqCst) }
    }

    /// As [`find`](Self::find), missing nothing. Under the pool's lock, as all that follow.
    pub(super) fn find_locked(&self, hash: u64, text: &str) -> Option<u64> {
        // SAFETY: only holders of the lock take entries out.
        unsafe { self.slots_locked().find(hash, text).map(|(_, id)| id) }
    }

    pub(super) fn resolve_locked(&self, id: u64) -> Option<String> {
        let entry = *self.by_id().get(&id)?;
        // SAFETY: an entry leaves `by_id` before it leaves the table, which only holders of the lock do.
        let (text, _) = unsafe { Entry::read(entry.0) };
        Some(String::from_utf8_lossy(text).into_owned())
    }

    fn by_id(&self) -> MutexGuard<'_, HashMap<u64, Shown, foldhash::fast::RandomState>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a text that is not there. It is not marked: what was asked for once makes room for what is asked for again.
    pub(super) fn insert_locked(&self, hash: u64, text: &str, id: u64, hash_of: impl Fn(&str) -> u64) {
        let slots = self.slots_locked();
        if (slots.used.load(Relaxed) + 1) * 8 > slots.slots.len() * 7 {
            // Twice as many only if it is live strings that fill it.
            let wanted = (slots.live.load(Relaxed) + 1) * 5 / 4 + 1;
            self.rebuild(wanted.next_power_of_two().max(SLOTS_MIN), hash_of);
        }
        let entry = Entry::new(text, id).into_raw();
        self.by_id().insert(id, Shown(entry));
        self.slots_locked().place(hash, entry, false);
    }

    fn rebuild(&self, len: usize, hash_of: impl Fn(&str) -> u64) {
        let new = Slots::new(len);
        let old = self.slots_locked();
        // In slots as many as before, strings stand where they stood, so the hand goes on from its place.
        new.hand.store(old.hand.load(Relaxed), Relaxed);
        for (entry, is_marked) in old.entries() {
            // SAFETY: as in `find_locked`.
            let (text, _) = unsafe { Entry::read(entry) };
            // Only text goes in, so only text comes out.
            if let Ok(text) = std::str::from_utf8(text) {
                new.place(hash_of(text), entry, is_marked);
            }
        }
        let old = self.slots.swap(Box::into_raw(new), SeqCst);
        // SAFETY: made by `Box::into_raw`, and taken out just now. Its pointers are bare: no entry is given up.
        epoch::retire(unsafe { Box::from_raw(old) });
    }

    /// Takes the first text out that was not asked for lately, and says how long it was.
    pub(super) fn evict_locked(&self) -> Option<usize> {
        let slots = self.slots_locked();
        let len = slots.slots.len();
        // At the second time round nothing is marked but what is asked for just now.
        for _ in 0..4 * len {
            let at = slots.hand.load(Relaxed) % len;
            slots.hand.store(at + 1, Relaxed);
            let entry = slots.slots[at].load(SeqCst);
            if entry.is_null() || entry == removed() || slots.is_marked[at].swap(false, Relaxed) {
                continue;
            }
            slots.slots[at].store(removed(), SeqCst);
            slots.live.fetch_sub(1, Relaxed);
            // SAFETY: made by `Entry::into_raw`, and just taken out of the only slot that held it.
            let entry = Entry(unsafe { NonNull::new_unchecked(entry) });
            // SAFETY: it lives at least as long as this variable.
            let (text, id) = unsafe { Entry::read(entry.0.as_ptr()) };
            let text_len = text.len();
            self.by_id().remove(&id);
            epoch::retire(entry);
            return Some(text_len);
        }
        None
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        for (entry, _) in self.slots_locked().entries() {
            // SAFETY: nobody can look up any more (`&mut self`), so the table gives its entries up.
            drop(unsafe { Entry(NonNull::new_unchecked(entry)) });
        }
        // SAFETY: made by `Box::into_raw`, and nobody reads it any more.
        drop(unsafe { Box::from_raw(*self.slots.get_mut()) });
    }
}
