//! The head: samples that are not in blocks yet, and the series that can take more.
//!
//! Series are spread over shards by their label set's hash; a ref's index is `number × SHARDS + shard`.
//! An append takes the write locks of the shards it touches, a select the read locks of all, both
//! in rising order and all at once, so a batch is seen whole or not at all.
//!
//! Per series, in the order in which they win at one timestamp, last highest: sealed *chunks* (by
//! sequence), the *late* run, the *open* run.
//!
//! Invariants: (1) the open run begins above every time ever written to the series, so a time at or above
//! its first is nowhere else; (2) a time in the late run that is also in a chunk was written after it;
//! (3) a chunk's sequence is above that of every chunk sealed before it.

mod postings;
mod series;
mod shard;

pub(crate) use series::{HeadRun, HeadSeries, HeadSnapshot, Outcome, Scratch};
pub(crate) use shard::Shard;

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use foldhash::fast::FixedState;
use kymo_core::{LabelsRef, SeriesRef};
use std::hash::BuildHasher;

/// Shards of the head: enough that two writers seldom meet, few enough that taking all is cheap.
pub(crate) const SHARDS: usize = 16;

/// See the module.
pub(crate) struct Head {
    shards: Vec<RwLock<Shard>>,
    opening: u32,
    hasher: FixedState,
}

impl Head {
    pub(crate) fn new(opening: u32, seed: u64) -> Head {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        Head { shards, opening, hasher: FixedState::with_seed(seed) }
    }

    pub(crate) fn hash(&self, labels: LabelsRef<'_>) -> u64 {
        self.hasher.hash_one(labels.packed())
    }

    pub(crate) fn shard_of_hash(&self, hash: u64) -> usize {
        // The low bits choose the slot within a shard's table.
        (hash >> 32) as usize % SHARDS
    }

    /// Shard and number of a ref of this opening.
    pub(crate) fn locate(&self, series: SeriesRef) -> Option<(usize, u64)> {
        let index = series.index();
        (series.opening() == self.opening).then_some(((index % SHARDS as u64) as usize, index / SHARDS as u64))
    }

    pub(crate) fn series_ref(&self, shard: usize, number: u64) -> Option<SeriesRef> {
        SeriesRef::new(self.opening, number.checked_mul(SHARDS as u64)? + shard as u64)
    }

    pub(crate) fn opening(&self) -> u32 {
        self.opening
    }

    pub(crate) fn read(&self, shard: usize) -> RwLockReadGuard<'_, Shard> {
        self.shards[shard].read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self, shard: usize) -> RwLockWriteGuard<'_, Shard> {
        self.shards[shard].write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn read_all(&self) -> Vec<RwLockReadGuard<'_, Shard>> {
        (0..SHARDS).map(|shard| self.read(shard)).collect()
    }

    pub(crate) fn write_all(&self) -> Vec<RwLockWriteGuard<'_, Shard>> {
        (0..SHARDS).map(|shard| self.write(shard)).collect()
    }
}
