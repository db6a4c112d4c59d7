//! A cache of what was read from blocks: bounded in bytes, paid for from the memory budget.
//!
//! Keys are spread over shards, each with its share of the bytes. Within a shard the clock goes round: an entry used
//! since the hand last passed stays one round longer, any other goes. An entry is loaded outside the lock, so
//! two threads may load the same one; the later finds the earlier's and drops its own.
//!
//! What is larger unpacked than it lies on disk is kept from the second time on that it is asked for, so that one look at
//! everything does not drive out what is looked at again and again.

use std::any::Any;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use foldhash::{HashMap, HashMapExt};
use kymo_core::{Budget, Reservation};

const SHARDS: usize = 8;
/// Keys remembered as asked for once.
const ASKED: usize = 1 << 15;

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
    is_used: bool,
}

#[derive(Debug)]
struct Shard {
    at: HashMap<Key, usize>,
    slots: Vec<Slot>,
    hand: usize,
    held: Reservation,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct BlockCache {
    shards: Vec<Mutex<Shard>>,
    shard_bytes_max: u64,
    /// Keys asked for once, each in a place of its own or of several, of whom the last is there.
    asked: OnceLock<Box<[AtomicU32]>>,
}

impl BlockCache {
    /// A cache of at most `bytes_max` bytes, taken from `budget` as it fills.
    pub(crate) fn new(budget: &Budget, bytes_max: u64) -> BlockCache {
        let shard = || {
            let held = budget.try_reserve(0).ok()?;
            Some(Mutex::new(Shard { at: HashMap::new(), slots: Vec::new(), hand: 0, held }))
        };
        let shards: Vec<Mutex<Shard>> = std::iter::repeat_with(shard).take(SHARDS).flatten().collect();
        BlockCache { shard_bytes_max: bytes_max / SHARDS as u64, shards, asked: OnceLock::new() }
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        (0..self.shards.len()).map(|shard| self.shard(shard).held.bytes()).sum()
    }

    fn shard(&self, number: usize) -> MutexGuard<'_, Shard> {
        self.shards[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard_of(&self, key: &Key) -> Option<MutexGuard<'_, Shard>> {
        let count = self.shards.len() as u64;
        (count > 0).then(|| self.shard(((mixed(key) >> 32) % count) as usize))
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
        Arc::downcast(Arc::clone(&slot.entry)).ok()
    }

    /// Keeps an entry that takes so many bytes, as long as there is room.
    pub(crate) fn keep<T: Any + Send + Sync>(&self, key: Key, entry: &Arc<T>, bytes: u64) {
        if let Some(mut shard) = self.shard_of(&key) {
            shard.insert(key, Arc::clone(entry) as Entry, bytes, self.shard_bytes_max);
        }
    }

    /// Whether this was asked of the same key before, and not of too many others since. Of a key in billions it is said
    /// wrongly, which costs no more than its entry's room.
    pub(crate) fn is_asked_again(&self, key: Key) -> bool {
        let asked = self.asked.get_or_init(|| (0..ASKED).map(|_| AtomicU32::new(0)).collect());
        let mixed = mixed(&key);
        let mark = (mixed >> 32) as u32 | 1;
        // Relaxed: it guards nothing.
        asked[mixed as usize % ASKED].swap(mark, Ordering::Relaxed) == mark
    }

    /// Gives back everything held for a block that is closed.
    pub(crate) fn forget(&self, block: u64) {
        (0..self.shards.len()).for_each(|shard| self.shard(shard).retain(|key| key.block != block));
    }

    /// Gives back everything.
    pub(crate) fn clear(&self) {
        (0..self.shards.len()).for_each(|shard| self.shard(shard).retain(|_| false));
    }
}

/// Well spread in its upper half, and in its lower bits.
fn mixed(key: &Key) -> u64 {
    let mixed = (key.block << 8 ^ u64::from(key.number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}

impl Shard {
    fn insert(&mut self, key: Key, entry: Entry, bytes: u64, bytes_max: u64) {
        if bytes > bytes_max || self.at.contains_key(&key) {
            return;
        }
        while self.held.bytes() + bytes > bytes_max {
            self.evict();
        }
        // Without memory for it, it is not kept; what is kept can be shed by whoever tends the engine.
        if self.held.grow(bytes).is_err() {
            return;
        }
        self.at.insert(key, self.slots.len());
        self.slots.push(Slot { key, entry, bytes, is_used: false });
    }

    fn evict(&mut self) {
        while !self.slots.is_empty() {
            self.hand %= self.slots.len();
            let slot = &mut self.slots[self.hand];
            if std::mem::take(&mut slot.is_used) {
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
        if let Some(moved) = self.slots.get(at) {
            self.at.insert(moved.key, at);
        }
    }

    fn retain(&mut self, keep: impl Fn(&Key) -> bool) {
        let mut at = 0;
        while at < self.slots.len() {
            if keep(&self.slots[at].key) { at += 1 } else { self.remove(at) }
        }
        if self.slots.is_empty() {
            self.slots.shrink_to_fit();
            self.at.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

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

    #[test]
    fn what_is_used_stays_and_bytes_are_bounded_and_paid_for() {
        let budget = Budget::root("test", 1 << 20);
        let cache = BlockCache::new(&budget, 80_000);
        assert!(load(&cache, 0, 100) && !load(&cache, 0, 100));
        for number in 1..10_000 {
            load(&cache, number, 100);
            assert!(!load(&cache, 0, 100), "used before {number}");
            assert!(cache.bytes() <= 80_000 && budget.used() == cache.bytes());
        }
        assert!(cache.bytes() > 70_000);
        assert!(load(&cache, 20_000, 10_001) && load(&cache, 20_000, 10_001), "too large to keep");
        cache.forget(2);
        assert!(cache.bytes() > 70_000);
        cache.forget(1);
        assert_eq!((cache.bytes(), budget.used()), (0, 0));
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
                scope.spawn(move || (0..2_000).for_each(|n| _ = load(cache, (n * (thread + 1)) % 300, 50)));
            }
        });
        assert!(cache.bytes() <= 8_000);
    }
}
