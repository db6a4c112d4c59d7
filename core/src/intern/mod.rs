//! One number for each string: attribute values and the like, kept once.
//!
//! A [`StringPool`] is bounded in strings and in bytes. When it is full, strings that were not asked for lately make room
//! (second chance, the usual approximation of least recently used: a hit marks a string, and who needs room takes the first
//! unmarked one, unmarking on the way).
//!
//! Rules that hold here: (1) at any moment a string has one id, however many threads ask for it first at once; (2) an id is
//! given out once and never again, so it means its string or nothing: it is 64 bits and does not wrap; (3) a hit takes no
//! lock, does not allocate, and writes to nothing that other threads use, but for the first hit after a string was unmarked.
//!
//! ```
//! use kymo_core::intern::StringPool;
//!
//! let pool = StringPool::new(10_000, 1 << 20);
//! let id = pool.intern_string("GET");
//! assert_eq!(pool.intern_string("GET"), id);
//! assert_eq!(id.and_then(|id| pool.resolve(id)).as_deref(), Some("GET"));
//! ```

#[cfg(kymo_portable)]
mod locked;
#[cfg(not(kymo_portable))]
mod table;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};

#[cfg(kymo_portable)]
use locked::Table;
#[cfg(not(kymo_portable))]
use table::Table;

use crate::random::{OsRandom, Random};
use crate::short;

/// What an interned string is called. Never given out twice by one pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StringId(u64);

impl StringId {
    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// A bounded set of strings with ids.
#[derive(Debug)]
pub struct StringPool {
    /// Of hashes: random, so that who chooses strings cannot choose hashes.
    seeds: [u64; 2],
    /// Changed only under `state`.
    table: Table,
    /// Guards what is in the table, and the next id.
    state: Mutex<State>,
    strings_max: usize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    strings: usize,
    /// Of the strings alone.
    bytes: usize,
    evicted: u64,
}

/// How much a pool holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSize {
    /// Strings there now.
    pub strings: usize,
    /// Their bytes, without what is kept beside them (some 50 each).
    pub bytes: usize,
    /// Strings that had to make room since the start.
    pub evicted: u64,
}

impl StringPool {
    /// A pool of at most so many strings, of so many bytes together.
    pub fn new(strings_max: usize, bytes_max: usize) -> Self {
        Self {
            seeds: [OsRandom::new().next_u64(), OsRandom::new().next_u64()],
            table: Table::new(),
            state: Mutex::default(),
            strings_max: strings_max.max(1),
            bytes_max,
        }
    }

    /// The id of a string, a new one if it has none. `None` only for a string that alone is longer than the pool.
    #[inline]
    pub fn intern_string(&self, text: &str) -> Option<StringId> {
        let hash = short::hash([text], &self.seeds);
        match self.table.find(hash, text) {
            Some(id) => Some(StringId(id)),
            None => self.add(hash, text),
        }
    }

    /// The string of an id; `None` when it had to make room. Takes a lock and copies.
    pub fn resolve(&self, id: StringId) -> Option<String> {
        let _state = self.state();
        self.table.resolve_locked(id.0)
    }

    /// How much it holds.
    pub fn size(&self) -> PoolSize {
        let state = self.state();
        PoolSize { strings: state.strings, bytes: state.bytes, evicted: state.evicted }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cold]
    fn add(&self, hash: u64, text: &str) -> Option<StringId> {
        if text.len() > self.bytes_max {
            return None;
        }
        let mut state = self.state();
        // Another thread may have been first (rule 1).
        if let Some(id) = self.table.find_locked(hash, text) {
            return Some(StringId(id));
        }
        while state.strings >= self.strings_max || state.bytes + text.len() > self.bytes_max {
            let evicted = self.table.evict_locked()?;
            state.strings -= 1;
            state.bytes -= evicted;
            state.evicted += 1;
        }
        let id = state.next_id;
        state.next_id += 1;
        self.table.insert_locked(hash, text, id, |text| short::hash([text], &self.seeds));
        state.strings += 1;
        state.bytes += text.len();
        Some(StringId(id))
    }
}
