//! Known series by the bytes that named them, so that a label set is parsed only when it is first seen.
//!
//! The key is what stood in the request (version 1: the raw protobuf label fields; 2: the referenced symbols
//! behind their lengths), the value the engine's ref. A hit compares the key's bytes; the hash only says where to look.
//!
//! **Successor prediction.** A sender repeats its order. Every entry remembers which entry followed it
//! last, so the next series is usually found by one comparison, without finding the end of its labels, without a
//! hash and without a probe. It is a hint: it may name an entry that was evicted or used again, and the
//! comparison decides.
//!
//! **Refs grow old.** A ref may become unknown to the engine at any time (reopened, series freed). Nothing
//! here notices; the engine says so in its report, the rows are sent again with labels, and
//! [`Learning::put`] puts the new ref in the old one's place.
//!
//! **One lock.** A prediction may lead anywhere, so shards by hash would have to be held all at once; instead there
//! is one lock, taken for reading once per [`SESSION_SERIES`] series and for writing only by requests that brought a
//! new series. It is held during neither I/O nor a call of the engine.
//!
//! **Bounded.** Entries are paid for from a [`Budget`]; at its limit the clock algorithm makes room, and where
//! that is not enough the series is simply not remembered. What no request has brought for [`IDLE`] to twice that is
//! forgotten in any case, and its memory given back, so that series that come and go leave nothing behind.

use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use kymo_core::{Budget, Reservation, SeriesRef};

/// Series resolved, or learned, under one lock: some 15 µs, so nobody waits longer than that for the other kind.
pub(crate) const SESSION_SERIES: usize = 256;
/// Reserved at a time.
const STEP_BYTES: u64 = 64 << 10;
/// Between two rounds in which series are forgotten that were not hit since the round before.
pub(crate) const IDLE: Duration = Duration::from_secs(300);
/// Entries that a round looks at under one lock.
const ROUND_STEP: usize = 1_024;
/// Arrays of which less than one part in so many is in use are made anew.
const SPARSE: usize = 4;
/// Entries the clock looks at before it takes the next one whether used or not.
const SWEEP_MAX: usize = 128;

/// Where an entry stands. A slot may be used again by another series, so it is never enough by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(u32);

impl Slot {
    /// No entry; also the successor of an entry that nothing followed yet.
    pub(crate) const NONE: Slot = Slot(u32::MAX);
}

/// An entry that was hit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hit {
    pub(crate) slot: Slot,
    pub(crate) series: SeriesRef,
    pub(crate) key_len: usize,
}

#[derive(Debug)]
pub(crate) struct SeriesCache<S = RandomState> {
    hasher: S,
    /// Guards the entries; the atomics in them may be written under a read lock.
    table: RwLock<Table>,
    /// Milliseconds of the caller's clock when the last round began; 0 before the first. Relaxed: it guards nothing.
    round_ms: AtomicU64,
}

#[derive(Debug)]
struct Table {
    /// Slots of live entries, by hash of their keys.
    index: HashTable<u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// The clock's hand.
    hand: usize,
    held: Reservation,
    used: u64,
}

#[derive(Debug)]
struct Entry {
    /// Empty in a free slot; no series has an empty key.
    key: Box<[u8]>,
    hash: u64,
    series: SeriesRef,
    /// Fingerprint of the metadata last sent to the engine with this series; 0 = none.
    metadata: AtomicU64,
    /// The slot that followed last.
    ///
    /// All three atomics are Relaxed: they are hints that publish no other memory.
    next: AtomicU32,
    /// Whether it was hit since the clock's hand passed.
    used: AtomicBool,
}

impl Entry {
    fn cost(key: &[u8]) -> u64 {
        // The entry, its key with the allocator's header, its place in the index at 7/8 load, doubled once.
        (size_of::<Entry>() + key.len() + 16 + 10) as u64
    }
}

impl SeriesCache<RandomState> {
    pub(crate) fn new(budget: &Budget) -> SeriesCache {
        SeriesCache::with_hasher(budget, RandomState::default())
    }
}

impl<S: BuildHasher> SeriesCache<S> {
    pub(crate) fn with_hasher(budget: &Budget, hasher: S) -> SeriesCache<S> {
        let held = budget.try_reserve(0).expect("nothing is within every limit");
        let table = Table { index: HashTable::new(), entries: Vec::new(), free: Vec::new(), hand: 0, held, used: 0 };
        SeriesCache { hasher, table: RwLock::new(table), round_ms: AtomicU64::new(0) }
    }

    /// Begins to look up series in the order of a request; `last` is the one before the first.
    pub(crate) fn session(&self, last: Slot) -> Session<'_, S> {
        Session { hasher: &self.hasher, table: self.table.read().unwrap_or_else(PoisonError::into_inner), last }
    }

    /// Begins to remember series, or to give known ones their new refs.
    pub(crate) fn learning(&self) -> Learning<'_, S> {
        Learning { hasher: &self.hasher, table: self.table.write().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Notes that metadata with this fingerprint reached the engine, for entries that still hold `series`.
    pub(crate) fn metadata_sent(&self, sent: impl Iterator<Item = (Slot, SeriesRef, u64)>) {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        for (slot, series, fingerprint) in sent {
            if let Some(entry) = table.entries.get(slot.0 as usize).filter(|e| e.series == series) {
                entry.metadata.store(fingerprint, Ordering::Relaxed);
            }
        }
    }

    /// Forgets what was not hit since the round before, if that began [`IDLE`] ago; gives how many series those were.
    pub(crate) fn forget_idle(&self, now: Duration) -> usize {
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX).max(1);
        let began_ms = self.round_ms.load(Ordering::Relaxed);
        let is_due = began_ms == 0 || u128::from(now_ms.saturating_sub(began_ms)) >= IDLE.as_millis();
        let begin = || self.round_ms.compare_exchange(began_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed);
        if !is_due || begin().is_err() {
            return 0;
        }
        let (mut at, mut forgotten) = (0, 0);
        loop {
            let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
            let end = table.entries.len().min(at + ROUND_STEP);
            forgotten += (at..end).filter(|at| table.forget_unless_used(*at)).count();
            at = end;
            if at == table.entries.len() {
                table.pack();
                return forgotten;
            }
        }
    }

    /// Bytes reserved for entries that are there or may come.
    #[cfg(feature = "otlp")]
    pub(crate) fn reserved(&self) -> u64 {
        self.table.read().unwrap_or_else(PoisonError::into_inner).held.bytes()
    }

    /// Entries and the bytes they are accounted for.
    pub(crate) fn size(&self) -> (usize, u64) {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        (table.index.len(), table.used)
    }
}

impl Table {
    fn put(&mut self, key: &[u8], hash: u64, series: SeriesRef) -> Slot {
        let entries = &self.entries;
        if let Some(&at) = self.index.find(hash, |&at| *entries[at as usize].key == *key) {
            let entry = &mut self.entries[at as usize];
            if entry.series != series {
                entry.series = series;
                entry.metadata = AtomicU64::new(0);
            }
            return Slot(at);
        }
        if key.is_empty() || !self.pay(Entry::cost(key)) {
            return Slot::NONE;
        }
        let entry = Entry {
            key: Box::from(key),
            hash,
            series,
            metadata: AtomicU64::new(0),
            next: AtomicU32::new(Slot::NONE.0),
            used: AtomicBool::new(true),
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.entries[at as usize] = entry;
                at
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        let entries = &self.entries;
        self.index.insert_unique(hash, at, |&at| entries[at as usize].hash);
        Slot(at)
    }

    /// Makes room for `cost` bytes, by evicting where the budget gives no more.
    fn pay(&mut self, cost: u64) -> bool {
        while self.used + cost > self.held.bytes() {
            let missing = (self.used + cost - self.held.bytes()).next_multiple_of(STEP_BYTES);
            if self.held.grow(missing).is_err() && !self.evict() {
                return false;
            }
        }
        self.used += cost;
        true
    }

    /// Frees the first entry under the clock's hand that was not used since the hand last passed.
    fn evict(&mut self) -> bool {
        if self.index.is_empty() {
            return false;
        }
        let mut looked_at = 0;
        loop {
            self.hand = if self.hand + 1 < self.entries.len() { self.hand + 1 } else { 0 };
            let entry = &mut self.entries[self.hand];
            if entry.key.is_empty() {
                continue;
            }
            looked_at += 1;
            if *entry.used.get_mut() && looked_at < SWEEP_MAX {
                *entry.used.get_mut() = false;
                continue;
            }
            self.remove(self.hand);
            return true;
        }
    }

    /// Empties a slot.
    fn remove(&mut self, at: usize) {
        let entry = &mut self.entries[at];
        let (key, hash) = (std::mem::take(&mut entry.key), entry.hash);
        let at = at as u32;
        if let Ok(found) = self.index.find_entry(hash, |&other| other == at) {
            found.remove();
        }
        self.free.push(at);
        self.used -= Entry::cost(&key);
    }

    /// Empties a slot that was not hit since it was asked about last; whether it was so.
    fn forget_unless_used(&mut self, at: usize) -> bool {
        let entry = &mut self.entries[at];
        if entry.key.is_empty() || std::mem::take(entry.used.get_mut()) {
            return false;
        }
        self.remove(at);
        true
    }

    /// Gives back what few entries do not need. They move to other slots, and their successors with them; whoever still has
    /// an old slot compares what it finds there, as always.
    fn pack(&mut self) {
        if self.entries.len() / SPARSE > self.index.len() {
            let mut moved = vec![Slot::NONE.0; self.entries.len()];
            let mut kept: Vec<Entry> = Vec::with_capacity(self.index.len());
            for (entry, moved) in std::mem::take(&mut self.entries).into_iter().zip(&mut moved) {
                if !entry.key.is_empty() {
                    *moved = kept.len() as u32;
                    kept.push(entry);
                }
            }
            for entry in &mut kept {
                let next = entry.next.get_mut();
                *next = moved.get(*next as usize).copied().unwrap_or(Slot::NONE.0);
            }
            let mut index = HashTable::with_capacity(kept.len());
            for (at, entry) in (0..).zip(&kept) {
                index.insert_unique(entry.hash, at, |&at: &u32| kept[at as usize].hash);
            }
            (self.entries, self.index, self.free, self.hand) = (kept, index, Vec::new(), 0);
        }
        let spare = self.held.bytes().saturating_sub(self.used.next_multiple_of(STEP_BYTES));
        self.held.shrink(spare);
    }
}

/// Holds the cache for writing.
#[derive(Debug)]
pub(crate) struct Learning<'c, S = RandomState> {
    hasher: &'c S,
    table: RwLockWriteGuard<'c, Table>,
}

impl<S: BuildHasher> Learning<'_, S> {
    /// Remembers a series that stood behind the one at `after`; returns where.
    pub(crate) fn put(&mut self, key: &[u8], series: SeriesRef, after: Slot) -> Slot {
        let slot = self.table.put(key, self.hasher.hash_one(key), series);
        if let (Some(before), true) = (self.table.entries.get(after.0 as usize), slot != Slot::NONE) {
            before.next.store(slot.0, Ordering::Relaxed);
        }
        slot
    }
}

/// Looks up the series of one request, one after the other.
#[derive(Debug)]
pub(crate) struct Session<'c, S = RandomState> {
    hasher: &'c S,
    table: RwLockReadGuard<'c, Table>,
    last: Slot,
}

impl<S: BuildHasher> Session<'_, S> {
    /// The key expected next, to be compared with what stands in the request.
    #[inline]
    pub(crate) fn predicted(&self) -> Option<(Slot, &[u8])> {
        let last = self.table.entries.get(self.last.0 as usize)?;
        let next = last.next.load(Ordering::Relaxed);
        let entry = self.table.entries.get(next as usize).filter(|e| !e.key.is_empty())?;
        Some((Slot(next), &entry.key))
    }

    /// Goes on to an entry whose key has been compared.
    #[inline]
    pub(crate) fn hit(&mut self, slot: Slot) -> Option<Hit> {
        let entry = self.table.entries.get(slot.0 as usize)?;
        // Stored only where it changes, so that readers on several cores do not pass the line around.
        if !entry.used.load(Ordering::Relaxed) {
            entry.used.store(true, Ordering::Relaxed);
        }
        self.last = slot;
        Some(Hit { slot, series: entry.series, key_len: entry.key.len() })
    }

    /// Finds a key by its hash, and notes that it followed the last one.
    pub(crate) fn find(&mut self, key: &[u8]) -> Option<Hit> {
        let table = &self.table;
        let hash = self.hasher.hash_one(key);
        let slot = table.index.find(hash, |&at| *table.entries[at as usize].key == *key).map(|&at| Slot(at))?;
        if let Some(last) = table.entries.get(self.last.0 as usize) {
            last.next.store(slot.0, Ordering::Relaxed);
        }
        self.hit(slot)
    }

    /// The fingerprint of the metadata last sent with an entry.
    pub(crate) fn metadata(&self, slot: Slot) -> u64 {
        self.table.entries.get(slot.0 as usize).map_or(0, |e| e.metadata.load(Ordering::Relaxed))
    }

    /// A number that stands for a piece of metadata in this cache; never 0.
    pub(crate) fn fingerprint(&self, metadata: impl Hash) -> u64 {
        self.hasher.hash_one(metadata).max(1)
    }

    /// Where the session stands; ends it.
    pub(crate) fn end(self) -> Slot {
        self.last
    }
}

/// Renews a session now and then, so that a writer of the cache never waits for a whole request.
#[derive(Debug)]
pub(crate) struct Sessions<'c, S = RandomState> {
    cache: &'c SeriesCache<S>,
    session: Option<Session<'c, S>>,
    left: usize,
    last: Slot,
}

impl<'c, S: BuildHasher> Sessions<'c, S> {
    pub(crate) fn new(cache: &'c SeriesCache<S>) -> Sessions<'c, S> {
        Sessions { cache, session: None, left: 0, last: Slot::NONE }
    }

    /// The session for the next series.
    #[inline]
    pub(crate) fn next(&mut self) -> &mut Session<'c, S> {
        if self.left == 0 {
            // The old lock is given back before the new one is asked for.
            if let Some(session) = self.session.take() {
                self.last = session.end();
            }
            self.left = SESSION_SERIES;
        }
        self.left -= 1;
        self.session.get_or_insert_with(|| self.cache.session(self.last))
    }
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher;

    use super::*;

    /// Gives every key the same hash.
    #[derive(Debug, Default, Clone, Copy)]
    struct Collide;

    impl BuildHasher for Collide {
        type Hasher = Collide;
        fn build_hasher(&self) -> Collide {
            Collide
        }
    }

    impl Hasher for Collide {
        fn finish(&self) -> u64 {
            7
        }
        fn write(&mut self, _: &[u8]) {}
    }

    fn series(n: u64) -> SeriesRef {
        SeriesRef::new(1, n).unwrap()
    }

    fn learn<S: BuildHasher>(cache: &SeriesCache<S>, keys: &[(&str, u64)]) {
        let mut after = Slot::NONE;
        for &(key, number) in keys {
            after = cache.learning().put(key.as_bytes(), series(number), after);
        }
    }

    fn look_up<S: BuildHasher>(cache: &SeriesCache<S>, keys: &[&str]) -> Vec<Option<u64>> {
        let mut session = cache.session(Slot::NONE);
        let found = |key: &&str| session.find(key.as_bytes()).map(|hit| hit.series.index());
        keys.iter().map(found).collect()
    }

    #[test]
    fn series_of_equal_hash_are_told_apart_by_their_bytes() {
        let cache = SeriesCache::with_hasher(&Budget::unlimited(), Collide);
        learn(&cache, &[("a", 1), ("b", 2), ("c", 3)]);
        assert_eq!(look_up(&cache, &["c", "a", "b", "d"]), [Some(3), Some(1), Some(2), None]);
        learn(&cache, &[("b", 20)]);
        assert_eq!(look_up(&cache, &["c", "a", "b"]), [Some(3), Some(1), Some(20)]);
    }

    #[test]
    fn the_order_of_a_request_is_predicted_in_the_next() {
        let cache = SeriesCache::new(&Budget::unlimited());
        learn(&cache, &[("a", 1), ("b", 2), ("c", 3)]);
        let mut session = cache.session(Slot::NONE);
        assert!(session.predicted().is_none());
        session.find(b"a").unwrap();
        let (slot, key) = session.predicted().unwrap();
        assert_eq!(key, b"b");
        assert_eq!(session.hit(slot).unwrap().series, series(2));
        assert_eq!(session.predicted().unwrap().1, b"c");
        // Another order is learned by walking it once.
        session.find(b"a").unwrap();
        assert_eq!(session.predicted().unwrap().1, b"b");
        session.find(b"c").unwrap();
        session.find(b"a").unwrap();
        assert_eq!(session.predicted().unwrap().1, b"c");
    }

    #[test]
    fn the_bytes_stay_within_the_budget_and_what_is_used_stays() {
        let root = Budget::root("process", 100 << 10);
        let cache = SeriesCache::new(&root);
        let keys: Vec<String> = (0..5_000).map(|n| format!("series number {n} of many")).collect();
        for (n, key) in keys.iter().enumerate() {
            learn(&cache, &[(key, n as u64)]);
            // Hit again and again, so the clock passes it by.
            assert_eq!(look_up(&cache, &[&keys[0]]), [Some(0)], "after {n}");
        }
        let (entries, bytes) = cache.size();
        assert!(root.used() <= 100 << 10 && bytes <= root.used(), "{bytes} of {}", root.used());
        assert!((100..5_000).contains(&entries), "{entries}");
        let found = look_up(&cache, &keys.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(found.iter().flatten().count(), entries);
        assert!(found.iter().enumerate().all(|(n, found)| found.is_none_or(|f| f == n as u64)));
        drop(cache);
        assert_eq!(root.used(), 0);
    }

    #[test]
    fn what_no_request_brings_any_more_is_forgotten_and_its_memory_given_back() {
        let root = Budget::root("process", 64 << 20);
        let cache = SeriesCache::new(&root);
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let keys: Vec<String> = (0..10_000).map(|n| format!("series number {n} of many")).collect();
        let pairs: Vec<(&str, u64)> = keys.iter().map(String::as_str).zip(0..).collect();
        learn(&cache, &pairs);
        let lasting: Vec<&str> = keys.iter().step_by(100).map(String::as_str).collect();
        let numbers: Vec<Option<u64>> = (0..10_000).step_by(100).map(Some).collect();
        let most = root.used();
        // The first round notes what was hit, or learned, and until the next nothing goes.
        assert_eq!(cache.forget_idle(minutes(1)), 0);
        assert_eq!(look_up(&cache, &lasting), numbers);
        assert_eq!((cache.forget_idle(minutes(5)), cache.size().0), (0, 10_000));
        assert_eq!((cache.forget_idle(minutes(6)), cache.size().0), (9_900, 100));
        assert!(most > 10 * STEP_BYTES && root.used() == STEP_BYTES, "{} of {most}", root.used());
        assert!(cache.table.read().unwrap().entries.capacity() <= 100);
        // Those that stay keep their refs and their order.
        assert_eq!(look_up(&cache, &lasting), numbers);
        let mut session = cache.session(Slot::NONE);
        session.find(lasting[3].as_bytes()).unwrap();
        assert_eq!(session.predicted().unwrap().1, lasting[4].as_bytes());
        session.end();
        learn(&cache, &pairs[..1_000]);
        let found = look_up(&cache, &keys[..1_000].iter().map(String::as_str).collect::<Vec<_>>());
        assert!(found.iter().zip(0..).all(|(found, number)| *found == Some(number)));
        for round in 0..2 {
            cache.forget_idle(minutes(60 + 10 * round));
        }
        assert_eq!((cache.size(), root.used()), ((0, 0), 0));
    }

    #[test]
    fn without_memory_nothing_is_remembered_and_nothing_fails() {
        let cache = SeriesCache::new(&Budget::root("none", 10));
        learn(&cache, &[("a", 1)]);
        assert_eq!(look_up(&cache, &["a"]), [None]);
    }

    #[test]
    fn metadata_is_noted_only_for_the_series_it_was_sent_with() {
        let cache = SeriesCache::new(&Budget::unlimited());
        learn(&cache, &[("a", 1)]);
        let slot = cache.session(Slot::NONE).find(b"a").unwrap().slot;
        cache.metadata_sent([(slot, series(9), 5)].into_iter());
        assert_eq!(cache.session(Slot::NONE).metadata(slot), 0);
        cache.metadata_sent([(slot, series(1), 5)].into_iter());
        assert_eq!(cache.session(Slot::NONE).metadata(slot), 5);
        // A new ref may mean an engine that has never seen the metadata.
        learn(&cache, &[("a", 2)]);
        assert_eq!(cache.session(Slot::NONE).metadata(slot), 0);
    }
}
