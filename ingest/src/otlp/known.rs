//! Resources, scopes and metrics that requests name again and again, known by their bytes.
//!
//! What a request says of its resource, scope and metric is looked up once for all points below it; a hit gives a number
//! that stands for it in the keys of its series ([`SeriesCache`](crate::series_cache::SeriesCache)), and what else was
//! found out when it was first read. A hit compares the key's bytes.
//!
//! Invariants: (1) a number is never given out twice; (2) what is remembered was read whole and found valid; (3) entries
//! are paid for from a [`Budget`], and where that or [`BYTES_MAX`] ends, all are forgotten: they come back with the next
//! request, under other numbers.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use kymo_core::{Budget, Reservation};

/// Some eighty thousand metrics, each of one resource and scope.
const BYTES_MAX: u64 = 16 << 20;
/// Reserved at a time.
const STEP_BYTES: u64 = 64 << 10;

/// What is known of a resource, a scope of it, or a metric of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Facts {
    pub(super) number: u64,
    /// Its number in the identity of a stream.
    pub(super) stream: u64,
    /// Of a resource: whether it says which process it is.
    pub(super) has_instance: bool,
    /// Of a resource: whether it has a `target_info`.
    pub(super) has_target: bool,
}

#[derive(Debug)]
pub(super) struct Known {
    hasher: RandomState,
    /// Held for a look-up or an insertion, never over anything else.
    table: RwLock<Table>,
    /// Relaxed: only that it differs matters.
    next: AtomicU64,
}

#[derive(Debug)]
struct Table {
    entries: HashTable<(Box<[u8]>, Facts)>,
    held: Reservation,
    used: u64,
}

impl Known {
    pub(super) fn new(budget: &Budget) -> Known {
        let held = budget.try_reserve(0).expect("nothing is within every limit");
        let table = Table { entries: HashTable::new(), held, used: 0 };
        Known { hasher: RandomState::default(), table: RwLock::new(table), next: AtomicU64::new(1) }
    }

    /// A number that nothing has.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<Facts> {
        let hash = self.hasher.hash_one(key);
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.entries.find(hash, |(known, _)| **known == *key).map(|(_, facts)| *facts)
    }

    /// Remembers `facts`; of two that come at once the first stays.
    pub(super) fn put(&self, key: &[u8], facts: Facts) {
        let hash = self.hasher.hash_one(key);
        // The entry, its key with the allocator's header, and a table that doubles.
        let cost = 2 * size_of::<(Box<[u8]>, Facts)>() as u64 + key.len() as u64 + 18;
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let table = &mut *table;
        if table.entries.find(hash, |(known, _)| **known == *key).is_some() || !table.pay(cost) {
            return;
        }
        table.entries.insert_unique(hash, (Box::from(key), facts), |(key, _)| self.hasher.hash_one(key));
    }

    /// Forgets all.
    pub(super) fn forget(&self) {
        self.table.write().unwrap_or_else(PoisonError::into_inner).forget();
    }

    /// Bytes reserved.
    pub(super) fn bytes(&self) -> u64 {
        self.table.read().unwrap_or_else(PoisonError::into_inner).held.bytes()
    }
}

impl Table {
    fn pay(&mut self, cost: u64) -> bool {
        if self.used + cost > BYTES_MAX {
            self.forget();
        }
        if self.used + cost > self.held.bytes() {
            let missing = (self.used + cost - self.held.bytes()).next_multiple_of(STEP_BYTES);
            if self.held.grow(missing).is_err() {
                self.forget();
                return false;
            }
        }
        self.used += cost;
        true
    }

    fn forget(&mut self) {
        self.entries = HashTable::new();
        self.held.shrink(self.held.bytes());
        self.used = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_first_stays_until_memory_ends() {
        let root = Budget::root("process", 200 << 10);
        let known = Known::new(&root);
        let facts = |number| Facts { number, ..Facts::default() };
        assert_eq!(known.get(b"a"), None);
        known.put(b"a", facts(1));
        known.put(b"a", facts(2));
        assert_eq!((known.get(b"a"), known.get(b"b")), (Some(facts(1)), None));
        let keys: Vec<String> = (0..3_000).map(|n| format!("some resource, number {n}")).collect();
        for (n, key) in keys.iter().enumerate() {
            known.put(key.as_bytes(), facts(n as u64));
            assert!(known.bytes() <= 200 << 10 && root.used() == known.bytes());
        }
        let kept = keys.iter().filter(|key| known.get(key.as_bytes()).is_some()).count();
        assert!(kept > 0 && kept < keys.len(), "{kept}");
        assert_ne!(known.number(), known.number());
    }
}
