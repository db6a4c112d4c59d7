//! The head: samples that are not in blocks yet, and the series that can take more.
//!
//! ```text
//!   number ──► HeadSeries, 64 bytes ──► slot: 60 values or 1 Slots   (open)
//!                              │ └────► track: shared times   Tracks  (open)
//!                              └──────► newest chunk ──► chunk before ──► …     ChunkStore
//!                                          └──► column: shared times
//! ```
//!
//! One lock guards all of it: appends are applied one at a time, in the order of the log, and a batch is seen whole or
//! not at all, so a lock per shard would be taken by everybody for everything. So two threads that append take no more
//! together than one alone, rather less (`kymo-benches engine --row append`); what is gained by more is what comes before an
//! append. Readers copy what they need, which is encoded, and decode after unlocking.
//!
//! Per series, in the order in which they win at one timestamp, last highest: sealed *chunks* (by the order of
//! sealing), the *late* run, the *open* run.
//!
//! Invariants: (1) the open run takes only times above everything that the head ever took of the series, so a time in it is
//! nowhere else in the head, and nowhere in blocks either unless replay put it there; (2) a time in the late run that is
//! also in a chunk was written after it; (3) chunks of a series are linked in the order of sealing, frozen ones below all
//! others.

mod codec;
mod indexer;
mod late;
mod open;
mod order;
mod postings;
mod series;
mod slab;
mod snapshot;
mod state;
mod store;
mod table;

pub(crate) use snapshot::{HeadCopy, HeadRun, HeadSnapshot};
pub(crate) use state::{HeadState, Outcome};

use std::hash::BuildHasher;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use foldhash::fast::FixedState;
use kymo_core::{LabelsRef, SeriesRef};

/// Series that are looked at under the lock at once by who goes through all of them.
pub(crate) const SERIES_PER_LOCK: u32 = 1_024;

/// See the module.
pub(crate) struct Head {
    state: RwLock<HeadState>,
    order: order::Order,
    opening: u32,
    hasher: FixedState,
}

impl Head {
    pub(crate) fn new(opening: u32, seed: u64) -> Head {
        let hasher = FixedState::with_seed(seed);
        Head { state: RwLock::new(HeadState::new(hasher.clone())), order: Default::default(), opening, hasher }
    }

    pub(crate) fn hash(&self, labels: LabelsRef<'_>) -> u64 {
        self.hasher.hash_one(labels.packed())
    }

    /// The series' number, if the ref is of this opening.
    #[inline]
    pub(crate) fn locate(&self, series: SeriesRef) -> Option<u32> {
        if series.opening() != self.opening {
            return None;
        }
        u32::try_from(series.index()).ok()
    }

    pub(crate) fn series_ref(&self, number: u32) -> Option<SeriesRef> {
        SeriesRef::new(self.opening, u64::from(number))
    }

    pub(crate) fn opening(&self) -> u32 {
        self.opening
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, HeadState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, HeadState> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Door for benches: the floats of a run; gives the name of their encoding.
#[cfg(feature = "encoders")]
pub(crate) fn encode_floats(bits: &[u64], out: &mut Vec<u8>) -> &'static str {
    let first = out.len();
    codec::encode(codec::RunValues { bits, starts: &[], histograms: &[] }, out);
    codec::name(out[first])
}

/// The way back.
#[cfg(feature = "encoders")]
pub(crate) fn decode_floats(
    bytes: &[u8],
    count: usize,
    columns: &mut kymo_core::storage::Columns,
) -> Result<(), crate::Malformed> {
    codec::decode(bytes, count, 0..count, columns)
}

/// Door for the fuzz target: any bytes are refused or a run of the samples they claim.
#[cfg(feature = "fuzz")]
pub(crate) fn fuzz_run(bytes: &[u8]) {
    let [count, width, encoded @ ..] = bytes else { return };
    let count = usize::from(*count) % crate::sample::RUN_SAMPLES + 1;
    let mut times = vec![0; count];
    if codec::times::decode(encoded, -1, *width, &mut times).is_ok() {
        assert!(times.is_sorted_by(|a, b| a < b), "times rise");
    }
    for kept in [0..count, count / 3..count] {
        let mut columns = kymo_core::storage::Columns::default();
        columns.times.extend(kept.clone().map(|at| at as i64));
        if codec::decode(encoded, count, kept, &mut columns).is_ok() {
            assert_eq!(columns.iter().count(), columns.times.len(), "every time has a value");
            assert!(columns.starts.is_empty() || columns.starts.len() == columns.times.len(), "starts for all or none");
        }
    }
}

/// What [`fuzz_run`] reads as a run of these values: its times stand apart.
#[cfg(all(test, feature = "fuzz"))]
pub(crate) fn fuzz_run_seed(
    bits: &[u64],
    starts: &[i64],
    histograms: &[(u8, std::sync::Arc<kymo_core::NativeHistogram>)],
) -> Vec<u8> {
    let mut out = vec![(bits.len() - 1) as u8, 0];
    codec::encode(codec::RunValues { bits, starts, histograms }, &mut out);
    out
}

/// What [`fuzz_run`] reads as the times of a run.
#[cfg(all(test, feature = "fuzz"))]
pub(crate) fn fuzz_times_seed(times: &[i64]) -> Vec<u8> {
    let mut out = vec![(times.len() - 1) as u8, 0];
    out[1] = codec::times::encode(times, &mut out);
    out
}

#[cfg(test)]
mod tests;
