//! A cache of what was read from blocks: bounded in bytes, paid for from the memory budget, and empty again when nobody asks.
//!
//! Keys are spread over shards, each with its share of the bytes. What is read for the first time is *on trial*: it takes a
//! quarter of a shard at the most and leaves in the order it came, so that one look at everything does not drive out what is
//! looked at again and again. What is asked for again in a later second, or read again soon after it left, is *kept*: there the
//! clock goes round, an entry used since the hand last passed stays one round longer, any other goes. Whatever nobody has asked
//! for during a time is let go by whoever tends the engine.
//!
//! An entry is loaded outside the lock, so two threads may load the same one; the later finds the earlier's and drops
//! its own.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::{HashMap, HashMapExt};
use kymo_core::{Budget, Reservation};

const SHARDS: usize = 8;
/// Part of a shard for what is on trial: one in so many bytes.
const TRIAL_SHARE: u64 = 4;
/// Keys that a shard remembers as asked for.
const ASKED: usize = 1 << 12;
/// Looks for idle entries in the time after which an entry is idle.
const LOOKS_PER_IDLE: u32 = 8;
/// Entries that one step lets go of at the most.
const AGED_AT_ONCE: usize = 4_096;

/// What a key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A stretch of the section of chunks.
    Chunks,
    /// The floats of one chunk that holds nothing else, unpacked; none for a chunk that does.
    Floats,
    /// A page of timestamp columns, unpacked.
    TimePage,
    /// First and last time and length of timestamp columns.
    Bounds,
    /// One timestamp column.
    Times,
    /// A page of symbols.
    Symbols,
    /// A page of the series table.
    Series,
    /// A page of postings.
    Postings,
}

/// A piece of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// Of the open block; never used again in a process.
    pub(crate) block: u64,
    pub(crate) kind: Kind,
    pub(crate) number: u32,
}

type Entry = Arc<dyn Any + Send + Sync>;

#[derive(Debug)]
struct Slot {
    key: Key,
    entry: Entry,
    bytes: u64,
    /// When it was asked for first and last, in seconds of [`BlockCache::now_s`].
    since_s: u32,
    asked_s: u32,
    is_used: bool,
    is_on_trial: bool,
}

#[derive(Debug)]
struct Shard {
    at: HashMap<Key, usize>,
    slots: Vec<Slot>,
    hand: usize,
    held: Reservation,
    /// Keys on trial, the oldest first, and among them some that left.
    trial: VecDeque<Key>,
    trial_bytes: u64,
    /// Marks of keys that were asked for, each in a place of its own or of several, of whom the last is there. Empty until the
    /// first is.
    asked: Box<[u32]>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct BlockCache {
    shards: Vec<Mutex<Shard>>,
    shard_bytes_max: u64,
    /// Seconds of the engine's clock at the last step.
    now_s: AtomicU32,
    /// When to look for idle entries again.
    look_s: AtomicU32,
    /// Entries that were let go all at once, not for others.
    let_go: AtomicU64,
}

impl BlockCache {
    /// A cache of at most `bytes_max` bytes, taken from `budget` as it fills.
    pub(crate) fn new(budget: &Budget, bytes_max: u64) -> BlockCache {
        let shard = || {
            Some(Mutex::new(Shard {
                at: HashMap::new(),
                slots: Vec::new(),
                hand: 0,
                held: budget.try_reserve(0).ok()?,
                trial: VecDeque::new(),
                trial_bytes: 0,
                asked: Box::default(),
            }))
        };
        let shards: Vec<Mutex<Shard>> = std::iter::repeat_with(shard).take(SHARDS).flatten().collect();
        let [now_s, look_s] = [AtomicU32::new(0), AtomicU32::new(0)];
        BlockCache { shard_bytes_max: bytes_max / SHARDS as u64, shards, now_s, look_s, let_go: AtomicU64::new(0) }
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        (0..self.shards.len()).map(|shard| self.shard(shard).held.bytes()).sum()
    }

    /// Entries that were let go because nobody asked for them or memory was short, since it was made.
    pub(crate) fn let_go(&self) -> u64 {
        self.let_go.load(Ordering::Relaxed)
    }

    fn shard(&self, number: usize) -> MutexGuard<'_, Shard> {
        self.shards[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard_of(&self, key: &Key) -> Option<MutexGuard<'_, Shard>> {
        let count = self.shards.len() as u64;
        (count > 0).then(|| self.shard(((mixed(key) >> 32) % count) as usize))
    }

    /// Relaxed: being late by a step costs an entry a second on trial.
    fn now_s(&self) -> u32 {
        self.now_s.load(Ordering::Relaxed)
    }

    /// The entry of `key`, loaded if it is not there; `load` also says how many bytes it takes.
    ///
    /// # Errors
    /// Those of `load`.
    pub(crate) fn get<T: Any + Send + Sync, E>(
        &self,
        key: Key,
        load: impl FnOnce() -> Result<(T, u64), E>,
    ) -> Result<Arc<T>, E> {
        if let Some(found) = self.find(key) {
            return Ok(found);
        }
        let (entry, bytes) = load()?;
        let entry = Arc::new(entry);
        self.keep(key, &entry, bytes);
        Ok(entry)
    }

    /// The entry of `key`, if it is there.
    pub(crate) fn find<T: Any + Send + Sync>(&self, key: Key) -> Option<Arc<T>> {
        let mut shard = self.shard_of(&key)?;
        let at = *shard.at.get(&key)?;
        let slot = &mut shard.slots[at];
        slot.is_used = true;
        slot.asked_s = self.now_s();
        Arc::downcast(Arc::clone(&slot.entry)).ok()
    }

    /// Keeps an entry that takes so many bytes, as long as there is room.
    pub(crate) fn keep<T: Any + Send + Sync>(&self, key: Key, entry: &Arc<T>, bytes: u64) {
        if let Some(mut shard) = self.shard_of(&key) {
            let is_on_trial = !shard.is_asked_again(&key);
            let (entry, now_s) = (Arc::clone(entry) as Entry, self.now_s());
            let slot = Slot { key, entry, bytes, since_s: now_s, asked_s: now_s, is_used: false, is_on_trial };
            shard.insert(slot, self.shard_bytes_max);
        }
    }

    /// Whether this was asked of the same key before, and not of too many others since. Of a key in billions it is said
    /// wrongly, which costs no more than its entry's room.
    pub(crate) fn is_asked_again(&self, key: Key) -> bool {
        self.shard_of(&key).is_some_and(|mut shard| shard.is_asked_again(&key))
    }

    /// Gives back everything held for a block that is closed.
    pub(crate) fn forget(&self, block: u64) {
        (0..self.shards.len()).for_each(|shard| _ = self.shard(shard).retain(|slot| slot.key.block != block));
    }

    /// Gives back everything.
    pub(crate) fn clear(&self) {
        let mut gone = 0;
        (0..self.shards.len()).for_each(|shard| gone += self.shard(shard).retain(|_| false));
        self.let_go.fetch_add(gone as u64, Ordering::Relaxed);
    }

    /// Tells it the time, and gives back what was not asked for during `idle`, give or take an eighth: a bounded number of
    /// entries. Whether there are more.
    pub(crate) fn age(&self, now: Duration, idle: Duration) -> bool {
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let (now_s, idle_s) = (seconds(now), seconds(idle).max(1));
        self.now_s.store(now_s, Ordering::Relaxed);
        if now_s < self.look_s.load(Ordering::Relaxed) {
            return false;
        }
        let mut left = AGED_AT_ONCE;
        for shard in 0..self.shards.len() {
            self.shard(shard).retain(|slot| {
                let goes = left > 0 && now_s.saturating_sub(slot.asked_s) >= idle_s;
                left -= usize::from(goes);
                !goes
            });
        }
        self.let_go.fetch_add((AGED_AT_ONCE - left) as u64, Ordering::Relaxed);
        if left > 0 {
            self.look_s.store(now_s.saturating_add((idle_s / LOOKS_PER_IDLE).max(1)), Ordering::Relaxed);
        }
        left == 0
    }
}

/// Well spread in its upper half, and in its lower bits.
fn mixed(key: &Key) -> u64 {
    let piece = u64::from(key.number) | (key.kind as u64) << 32;
    let mixed = (key.block << 40 ^ key.block >> 24 ^ piece).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}

impl Shard {
    fn is_asked_again(&mut self, key: &Key) -> bool {
        if self.asked.is_empty() {
            self.asked = vec![0; ASKED].into();
        }
        let mixed = mixed(key);
        let mark = (mixed >> 32) as u32 | 1;
        std::mem::replace(&mut self.asked[mixed as usize % ASKED], mark) == mark
    }

    fn insert(&mut self, slot: Slot, bytes_max: u64) {
        let trial_max = bytes_max / TRIAL_SHARE;
        let most = if slot.is_on_trial { trial_max } else { bytes_max };
        if slot.bytes > most || self.at.contains_key(&slot.key) {
            return;
        }
        while slot.is_on_trial && self.trial_bytes + slot.bytes > trial_max {
            self.end_trial();
        }
        while self.held.bytes() + slot.bytes > bytes_max {
            if self.trial_bytes < self.held.bytes() { self.evict() } else { self.end_trial() }
        }
        // Without memory for it, it is not kept; what is kept can be shed by whoever tends the engine.
        if self.held.grow(slot.bytes).is_err() {
            return;
        }
        if slot.is_on_trial {
            self.trial.push_back(slot.key);
            self.trial_bytes += slot.bytes;
        }
        self.at.insert(slot.key, self.slots.len());
        self.slots.push(slot);
    }

    /// Keeps the oldest entry on trial if it was asked for again, and lets go of it if not.
    fn end_trial(&mut self) {
        while let Some(key) = self.trial.pop_front() {
            let Some(&at) = self.at.get(&key) else { continue };
            let slot = &mut self.slots[at];
            if !slot.is_on_trial {
                continue;
            }
            // Asked for in one second is asked for once: one query comes back to a page for each of its series.
            if slot.asked_s > slot.since_s {
                slot.is_on_trial = false;
                self.trial_bytes -= slot.bytes;
            } else {
                self.remove(at);
            }
            return;
        }
    }

    /// Lets go of one that is kept.
    fn evict(&mut self) {
        // Twice round at the most: the first takes every mark away.
        for _ in 0..2 * self.slots.len() + 1 {
            self.hand %= self.slots.len();
            let slot = &mut self.slots[self.hand];
            if slot.is_on_trial || std::mem::take(&mut slot.is_used) {
                self.hand += 1;
            } else {
                self.remove(self.hand);
                return;
            }
        }
    }

    fn remove(&mut self, at: usize) {
        let gone = self.slots.swap_remove(at);
        self.at.remove(&gone.key);
        self.held.shrink(gone.bytes);
        if gone.is_on_trial {
            self.trial_bytes -= gone.bytes;
        }
        if let Some(moved) = self.slots.get(at) {
            self.at.insert(moved.key, at);
        }
    }

    /// Lets go of all others; gives how many those were.
    fn retain(&mut self, mut keep: impl FnMut(&Slot) -> bool) -> usize {
        let (mut at, before) = (0, self.slots.len());
        while at < self.slots.len() {
            if keep(&self.slots[at]) { at += 1 } else { self.remove(at) }
        }
        let gone = before - self.slots.len();
        if gone == 0 {
            return 0;
        }
        let (at, slots) = (&self.at, &self.slots);
        self.trial.retain(|key| at.get(key).is_some_and(|at| slots[*at].is_on_trial));
        if self.slots.len() < self.slots.capacity() / 4 {
            self.slots.shrink_to_fit();
            self.at.shrink_to_fit();
            self.trial.shrink_to_fit();
        }
        if self.slots.is_empty() {
            self.asked = Box::default();
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const IDLE: Duration = Duration::from_secs(300);

    fn key(number: u32) -> Key {
        Key { block: 1, kind: Kind::Chunks, number }
    }

    fn load(cache: &BlockCache, number: u32, bytes: u64) -> bool {
        let mut loaded = false;
        let found = cache.get(key(number), || {
            loaded = true;
            Ok::<_, Infallible>((number, bytes))
        });
        assert_eq!(found.map(|n| *n), Ok(number));
        loaded
    }

    /// Brings the time on, and lets go of what is idle.
    fn pass(cache: &BlockCache, seconds: u64) {
        while cache.age(Duration::from_secs(seconds), IDLE) {}
    }

    #[test]
    fn what_is_used_stays_and_bytes_are_bounded_and_paid_for() {
        let budget = Budget::root("test", 1 << 20);
        let cache = BlockCache::new(&budget, 80_000);
        assert!(load(&cache, 0, 100) && !load(&cache, 0, 100));
        pass(&cache, 1);
        for number in 1..10_000 {
            assert!(!load(&cache, 0, 100), "used before {number}");
            load(&cache, number, 100);
            assert!(cache.bytes() <= 80_000 && budget.used() == cache.bytes());
        }
        assert!(cache.bytes() <= 80_000 / 4 + 800, "one look at everything");
        for number in (0..900).cycle().take(9_000) {
            load(&cache, number, 100);
            assert!(cache.bytes() <= 80_000 && budget.used() == cache.bytes());
        }
        assert!(cache.bytes() > 70_000, "what is read again and again fills it");
        assert!(load(&cache, 20_000, 10_001) && load(&cache, 20_000, 10_001), "too large to keep");
        cache.forget(2);
        assert!(cache.bytes() > 70_000);
        cache.forget(1);
        assert_eq!((cache.bytes(), budget.used()), (0, 0));
    }

    #[test]
    fn one_look_at_everything_drives_out_nothing_that_is_looked_at_again() {
        let cache = BlockCache::new(&Budget::unlimited(), 80_000);
        // Some fall onto one shard, which then keeps no more than its share; 300 are far below that.
        (0..300).for_each(|number| _ = load(&cache, number, 100));
        pass(&cache, 1);
        assert!((0..300).filter(|number| load(&cache, *number, 100)).count() <= 150);
        pass(&cache, 2);
        (0..300).for_each(|number| _ = load(&cache, number, 100));
        for number in 1_000..50_000 {
            // As one query does, which comes back to a page for each of its series.
            (0..3).for_each(|_| _ = load(&cache, number, 100));
        }
        assert!(cache.bytes() <= 300 * 100 + 80_000 / 4);
        assert_eq!((0..300).filter(|number| load(&cache, *number, 100)).count(), 0);
    }

    #[test]
    fn what_nobody_asks_for_goes_with_its_time_and_what_is_hot_stays() {
        let budget = Budget::root("test", 64 << 20);
        let cache = BlockCache::new(&budget, 64 << 20);
        (0..50_000).for_each(|number| _ = load(&cache, number, 100));
        assert_eq!(cache.bytes(), 5_000_000);
        for minute in 1..20 {
            (0..100).for_each(|number| _ = load(&cache, number, 100));
            let (before, mut steps) = (cache.bytes(), 0);
            while cache.age(Duration::from_secs(60 * minute), IDLE) {
                steps += 1;
                assert!(before - cache.bytes() <= steps * 100 * AGED_AT_ONCE as u64, "a step is bounded");
            }
            assert_eq!(cache.bytes(), if minute < 5 { 5_000_000 } else { 10_000 });
        }
        assert_eq!((cache.let_go(), budget.used()), (49_900, 10_000));
        assert_eq!((0..100).filter(|number| load(&cache, *number, 100)).count(), 0);
        pass(&cache, 10_000);
        assert_eq!((cache.bytes(), budget.used()), (0, 0));
        for shard in 0..SHARDS {
            let shard = cache.shard(shard);
            assert_eq!((shard.slots.capacity(), shard.at.capacity(), shard.trial.capacity()), (0, 0, 0));
            assert_eq!((shard.asked.len(), shard.trial_bytes), (0, 0));
        }
    }

    #[test]
    fn without_memory_nothing_is_kept_and_everything_works() {
        let budget = Budget::root("test", 10);
        let cache = BlockCache::new(&budget, 80_000);
        assert!(load(&cache, 1, 100) && load(&cache, 1, 100));
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn many_threads_find_what_they_ask_for() {
        let cache = BlockCache::new(&Budget::unlimited(), 8_000);
        std::thread::scope(|scope| {
            for thread in 0..4u32 {
                let cache = &cache;
                scope.spawn(move || {
                    for n in 0..2_000 {
                        load(cache, (n * (thread + 1)) % 300, 50);
                        cache.age(Duration::from_secs(u64::from(n / 100)), Duration::from_secs(3));
                    }
                });
            }
        });
        assert!(cache.bytes() <= 8_000);
        let held: u64 =
            (0..SHARDS).map(|shard| cache.shard(shard).slots.iter().map(|slot| slot.bytes).sum::<u64>()).sum();
        assert_eq!(held, cache.bytes());
    }
}
