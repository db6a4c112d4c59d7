//! Series by their label values, found without a lock.
//!
//! Open addressing, linear probing, at most three quarters full. One writer at a time (the family's lock) and any number of
//! readers under a [`Pin`].
//!
//! **Readers** walk the slots from the hash on. A slot that was filled is published whole (the node is complete before the
//! pointer is stored), so whatever a reader finds is a series of this family. A reader may miss a series that is just being
//! added, or moved to a larger table; it then asks again under the lock.
//!
//! **Marks.** The lowest bits of a pointer are zero, so a slot keeps some bits of the hash there that its place does not
//! tell: of the series that a reader passes on its way, seven of eight are passed without a look at their labels.
//!
//! **Removal** leaves a mark in the slot, so that later ones in the run are still found, and retires the node: its memory
//! stays until no reader can hold it. So does a table that was replaced.
//!
//! # Orderings
//! SeqCst for pointers that readers follow and removers change, as `epoch::grace` asks for; on x86 a load of that kind is a
//! plain one.
//!
//! With `--cfg kymo_portable` there is no unsafe code and no pin: a lock around a map, with the same answers.

#![cfg_attr(
    not(kymo_portable),
    allow(unsafe_code, reason = "slots are bare pointers that readers follow without a lock")
)]

#[cfg(not(kymo_portable))]
pub(super) use lock_free::Table;
#[cfg(kymo_portable)]
pub(super) use locked::Table;

#[cfg(not(kymo_portable))]
mod lock_free {
    use std::ptr;
    use std::sync::Arc;
    use std::sync::atomic::{
        AtomicPtr, AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    };

    use crate::epoch::{self, Pin};
    use crate::registry::node::Node;

    const SLOTS_MIN: usize = 4;

    #[derive(Debug)]
    pub(in crate::registry) struct Table<V: Send + Sync + 'static> {
        /// Never null; made by `Box::into_raw`.
        slots: AtomicPtr<Slots<V>>,
    }

    /// Each slot is null, [`removed`], or a count of the node that `Arc::into_raw` gave away, [`marked`] by its hash.
    #[derive(Debug)]
    struct Slots<V> {
        slots: Box<[AtomicPtr<Node<V>>]>,
        /// Slots that are not null, removed ones included. Written under the family's lock.
        used: AtomicUsize,
    }

    /// What is in a slot whose series was removed.
    fn removed<V>() -> *mut Node<V> {
        ptr::without_provenance_mut(align_of::<Node<V>>())
    }

    /// Bits of a node's address that are zero.
    const MARK: usize = 7;
    const _: () = assert!(align_of::<Node<()>>() > MARK);

    /// The pointer with the highest bits of the hash in its lowest: those in the middle decide on the place.
    fn marked<V>(node: *mut Node<V>, hash: u64) -> *mut Node<V> {
        node.map_addr(|address| address | mark(hash))
    }

    #[inline]
    fn mark(hash: u64) -> usize {
        (hash >> 61) as usize
    }

    fn unmarked<V>(slot: *mut Node<V>) -> *mut Node<V> {
        slot.map_addr(|address| address & !MARK)
    }

    impl<V> Slots<V> {
        fn new(len: usize) -> Box<Self> {
            Box::new(Self { slots: (0..len).map(|_| AtomicPtr::default()).collect(), used: AtomicUsize::new(0) })
        }

        /// Indices from where a hash begins, each once.
        #[inline]
        fn run(&self, hash: u64) -> impl Iterator<Item = &AtomicPtr<Node<V>>> {
            let mask = self.slots.len() - 1;
            let start = hash as usize;
            (0..self.slots.len()).map(move |step| &self.slots[(start + step) & mask])
        }

        /// The next node from `at` on whose mark is that of the hash, and where it is.
        ///
        /// A loop that does not look at labels, so that it takes few registers and nothing is made ready for it.
        #[inline(always)]
        fn candidate(&self, hash: u64, at: usize) -> Option<(usize, *const Node<V>)> {
            let mask = self.slots.len() - 1;
            let mut at = at & mask;
            loop {
                // SAFETY: there is a power of two of slots, and no bit of `at` is beyond that of their number less one.
                let found = unsafe { self.slots.get_unchecked(at) }.load(SeqCst);
                // There is always a slot that is null: the table is never full.
                if found.is_null() {
                    return None;
                }
                let node = found.map_addr(|address| address ^ mark(hash));
                if node.addr() & MARK == 0 && node != removed() {
                    return Some((at, node));
                }
                at = (at + 1) & mask;
            }
        }

        /// Looks beyond a series that is another one of the same mark.
        ///
        /// # Safety
        /// No node in the slots may be freed during `'a`.
        #[cold]
        #[inline(never)]
        unsafe fn find_beyond<'a>(
            &self,
            hash: u64,
            mut at: usize,
            is_it: impl Fn(&Node<V>) -> bool,
        ) -> Option<&'a Node<V>> {
            loop {
                let (found_at, node) = self.candidate(hash, at + 1)?;
                // SAFETY: nodes in the slots live, says the caller.
                let node = unsafe { &*node };
                if is_it(node) {
                    return Some(node);
                }
                at = found_at;
            }
        }

        fn place(&self, hash: u64, node: *mut Node<V>) {
            if let Some(slot) = self.run(hash).find(|slot| slot.load(SeqCst).is_null()) {
                slot.store(marked(node, hash), SeqCst);
                self.used.fetch_add(1, Relaxed);
            }
        }
    }

    impl<V: Send + Sync + 'static> Table<V> {
        pub(in crate::registry) fn new() -> Self {
            Self { slots: AtomicPtr::new(Box::into_raw(Slots::new(SLOTS_MIN))) }
        }

        /// The node whose labels are the right ones.
        #[inline]
        pub(in crate::registry) fn find<'a>(
            &self,
            _pin: &'a Pin,
            hash: u64,
            is_it: impl Fn(&Node<V>) -> bool,
        ) -> Option<&'a Node<V>> {
            // SAFETY: `slots` was not retired before the pin, so it is not freed before the pin ends.
            let slots = unsafe { &*self.slots.load(SeqCst) };
            let (at, node) = slots.candidate(hash, hash as usize)?;
            // SAFETY: as above: a node in a slot is retired only after it was taken out of it.
            let node = unsafe { &*node };
            if is_it(node) {
                return Some(node);
            }
            // SAFETY: as above.
            unsafe { slots.find_beyond(hash, at, is_it) }
        }

        /// A found node with a count of its own.
        #[cfg(feature = "metrics")]
        pub(in crate::registry) fn counted<'a>(node: &'a Node<V>, _pin: &'a Pin) -> Arc<Node<V>> {
            // The table's count, or that of what was retired, lives through the pin.
            Self::count(node)
        }

        /// As [`find`](Self::find), with a count of its own. Under the family's lock, as all that follow.
        pub(in crate::registry) fn find_locked(
            &self,
            hash: u64,
            is_it: impl Fn(&Node<V>) -> bool,
        ) -> Option<Arc<Node<V>>> {
            let slots = self.slots_locked();
            for slot in slots.run(hash) {
                let found = slot.load(SeqCst);
                if found.is_null() {
                    return None;
                }
                let node = unmarked(found);
                // SAFETY: the table holds a count of every node in it, and only holders of the lock take nodes out.
                if found != removed() && is_it(unsafe { &*node }) {
                    return Some(Self::count(node));
                }
            }
            None
        }

        /// One more count of a node.
        fn count(node: *const Node<V>) -> Arc<Node<V>> {
            // SAFETY: the pointer is of `Arc::into_raw`, and the caller knows of a count that lives through this call.
            unsafe {
                Arc::increment_strong_count(node);
                Arc::from_raw(node)
            }
        }

        fn slots_locked(&self) -> &Slots<V> {
            // SAFETY: only holders of the lock replace it.
            unsafe { &*self.slots.load(SeqCst) }
        }

        /// Adds a node that is not there. `len` is how many there are, `hash_of` gives the hash of any node.
        pub(in crate::registry) fn insert(
            &self,
            hash: u64,
            node: Arc<Node<V>>,
            len: usize,
            hash_of: impl Fn(&Node<V>) -> u64,
        ) {
            let slots = self.slots_locked();
            if (slots.used.load(Relaxed) + 1) * 4 > slots.slots.len() * 3 {
                self.rebuild(((len + 1) * 4 / 3 + 1).next_power_of_two().max(SLOTS_MIN), hash_of);
            }
            self.slots_locked().place(hash, Arc::into_raw(node).cast_mut());
        }

        /// Moves all nodes to new slots.
        fn rebuild(&self, len: usize, hash_of: impl Fn(&Node<V>) -> u64) {
            let new = Slots::new(len);
            for node in self.pointers() {
                // SAFETY: as in `find_locked`.
                new.place(hash_of(unsafe { &*node }), node);
            }
            let old = self.slots.swap(Box::into_raw(new), SeqCst);
            // SAFETY: made by `Box::into_raw`, and taken out just now. Its pointers are bare: no count is given up.
            epoch::retire(unsafe { Box::from_raw(old) });
        }

        /// Takes a node out and gives it back; it must outlive all pins of now, which is what [`epoch::retire`] is for.
        pub(in crate::registry) fn remove(&self, hash: u64, is_it: impl Fn(&Node<V>) -> bool) -> Option<Arc<Node<V>>> {
            for slot in self.slots_locked().run(hash) {
                let found = slot.load(SeqCst);
                if found.is_null() {
                    return None;
                }
                let node = unmarked(found);
                // SAFETY: as in `find_locked`.
                if found != removed() && is_it(unsafe { &*node }) {
                    slot.store(removed(), SeqCst);
                    // SAFETY: the table's own count, which the slot no longer holds.
                    return Some(unsafe { Arc::from_raw(node) });
                }
            }
            None
        }

        fn pointers(&self) -> impl Iterator<Item = *mut Node<V>> {
            let all = self.slots_locked().slots.iter().map(|slot| slot.load(SeqCst));
            all.filter(|slot| !slot.is_null() && *slot != removed()).map(unmarked)
        }

        /// All nodes, in no order.
        pub(in crate::registry) fn nodes(&self) -> Vec<Arc<Node<V>>> {
            self.pointers().map(|node| Self::count(node)).collect()
        }

        /// How many hold the node besides the table.
        pub(in crate::registry) fn holders(node: &Arc<Node<V>>) -> usize {
            // One is the table's, one the caller's.
            Arc::strong_count(node).saturating_sub(2)
        }
    }

    impl<V: Send + Sync + 'static> Drop for Table<V> {
        fn drop(&mut self) {
            for node in self.pointers() {
                // SAFETY: nobody can look up any more (`&mut self`), so the table's counts are given up.
                drop(unsafe { Arc::from_raw(node) });
            }
            // SAFETY: made by `Box::into_raw`, and nobody reads it any more.
            drop(unsafe { Box::from_raw(*self.slots.get_mut()) });
        }
    }
}

#[cfg(kymo_portable)]
mod locked {
    use std::collections::BTreeMap;
    use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

    use crate::registry::node::Node;

    /// Nodes by hash; those of one hash in a list.
    #[derive(Debug)]
    pub(in crate::registry) struct Table<V: Send + Sync + 'static> {
        nodes: RwLock<BTreeMap<u64, Vec<Arc<Node<V>>>>>,
    }

    impl<V: Send + Sync + 'static> Table<V> {
        pub(in crate::registry) fn new() -> Self {
            Self { nodes: RwLock::default() }
        }

        fn read(&self) -> RwLockReadGuard<'_, BTreeMap<u64, Vec<Arc<Node<V>>>>> {
            self.nodes.read().unwrap_or_else(PoisonError::into_inner)
        }

        pub(in crate::registry) fn find_locked(
            &self,
            hash: u64,
            is_it: impl Fn(&Node<V>) -> bool,
        ) -> Option<Arc<Node<V>>> {
            self.read().get(&hash)?.iter().find(|node| is_it(node)).cloned()
        }

        pub(in crate::registry) fn insert(
            &self,
            hash: u64,
            node: Arc<Node<V>>,
            _len: usize,
            _hash_of: impl Fn(&Node<V>) -> u64,
        ) {
            self.nodes.write().unwrap_or_else(PoisonError::into_inner).entry(hash).or_default().push(node);
        }

        pub(in crate::registry) fn remove(&self, hash: u64, is_it: impl Fn(&Node<V>) -> bool) -> Option<Arc<Node<V>>> {
            let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
            let same = nodes.get_mut(&hash)?;
            let at = same.iter().position(|node| is_it(node))?;
            let node = same.swap_remove(at);
            if same.is_empty() {
                nodes.remove(&hash);
            }
            Some(node)
        }

        pub(in crate::registry) fn nodes(&self) -> Vec<Arc<Node<V>>> {
            self.read().values().flatten().cloned().collect()
        }

        pub(in crate::registry) fn holders(node: &Arc<Node<V>>) -> usize {
            Arc::strong_count(node).saturating_sub(2)
        }
    }
}
