//! Where requests are counted as they come: one addition each, without a lock.
//!
//! A request is one addition to one counter, which says by its place whether it failed and how long it took. So there is no
//! moment at which half of a request is counted: how many there were, how many failed and how they spread are all sums over the
//! same counters, taken away by [`Cells::drain`] one whole counter at a time.
//!
//! **Orderings.** All are relaxed: a counter publishes no other memory. What is added while a drain is under way is in it
//! or in the next one; an addition is never lost, because a drain takes by exchange.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::histogram::{exponential_bound, exponential_index};

/// Sixteen buckets for each doubling: the middle of a bucket is within 2.2 % of all that is in it.
pub const LATENCY_SCHEMA: i8 = 4;
const PER_OCTAVE: usize = 16;
/// Buckets are from 2⁻²⁰ s (0.95 µs) to 2¹² s (68 minutes); what is outside is in the first or the last.
const OCTAVES: usize = 32;
const FIRST_OCTAVE: i32 = -20;
pub(super) const BUCKETS: usize = OCTAVES * PER_OCTAVE;
/// Number in its schema of the first bucket, which ends just above 2⁻²⁰ s.
pub(super) const FIRST_INDEX: i32 = FIRST_OCTAVE * PER_OCTAVE as i32 + 1;
/// In the place of a bucket: the latency is not known.
const UNTIMED: u16 = BUCKETS as u16;
/// Counters of one outcome.
const STRIDE: u16 = UNTIMED + 1;
/// Places there are.
pub(super) const PLACES: usize = 3 * STRIDE as usize;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// A request that did not fail.
    Ok,
    /// A request that failed.
    Failed,
    /// The latency of a request which is counted elsewhere.
    LatencyOnly,
}

impl Outcome {
    /// How many requests `count` of these are, and how many of them failed.
    pub(super) fn counts(self, count: u64) -> (u64, u64) {
        match self {
            Outcome::Ok => (count, 0),
            Outcome::Failed => (count, count),
            Outcome::LatencyOnly => (0, 0),
        }
    }
}

/// The number of the counter of an outcome and a latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u16);

impl Place {
    pub(super) fn new(outcome: Outcome, bucket: Option<usize>) -> Place {
        Place(outcome as u16 * STRIDE + bucket.map_or(UNTIMED, |bucket| bucket as u16))
    }

    /// Below [`PLACES`].
    pub(super) fn number(self) -> usize {
        usize::from(self.0)
    }

    pub(super) fn of_number(number: usize) -> Place {
        debug_assert!(number < PLACES);
        Place(number as u16)
    }

    pub(super) fn outcome(self) -> Outcome {
        match self.0 / STRIDE {
            0 => Outcome::Ok,
            1 => Outcome::Failed,
            _ => Outcome::LatencyOnly,
        }
    }

    /// `None` when the latency is not known.
    pub(super) fn bucket(self) -> Option<usize> {
        Some(self.0 % STRIDE).filter(|bucket| *bucket != UNTIMED).map(usize::from)
    }
}

/// The bucket of a latency. One below zero, as of clocks that disagree, is none at all; one that is not a number is not known.
pub(super) fn bucket_of(seconds: f64) -> Option<usize> {
    if seconds.is_nan() {
        return None;
    }
    // Infinity is beyond the last bucket, and has no number of its own.
    let index = if seconds <= 0.0 { FIRST_INDEX } else { exponential_index(seconds.min(1e6), LATENCY_SCHEMA) };
    Some(index.saturating_sub(FIRST_INDEX).clamp(0, BUCKETS as i32 - 1) as usize)
}

/// Lower and upper end of a bucket, seconds.
pub(super) fn bounds(bucket: usize) -> (f64, f64) {
    let index = FIRST_INDEX + bucket as i32;
    (exponential_bound(index - 1, LATENCY_SCHEMA), exponential_bound(index, LATENCY_SCHEMA))
}

/// Counters by bucket; those of an octave are there from its first request on.
#[derive(Debug, Default)]
struct Buckets {
    octaves: [OnceLock<Box<[AtomicU64; PER_OCTAVE]>>; OCTAVES],
    untimed: AtomicU64,
}

impl Buckets {
    fn counter(&self, bucket: Option<usize>) -> &AtomicU64 {
        match bucket {
            Some(bucket) => &self.octaves[bucket / PER_OCTAVE].get_or_init(Box::default)[bucket % PER_OCTAVE],
            None => &self.untimed,
        }
    }

    fn bytes(&self) -> usize {
        let octaves = self.octaves.iter().filter(|octave| octave.get().is_some()).count();
        octaves * size_of::<[AtomicU64; PER_OCTAVE]>()
    }

    fn all(&self) -> impl Iterator<Item = (Option<usize>, &AtomicU64)> {
        let octaves = self.octaves.iter().enumerate().filter_map(|(octave, counters)| Some((octave, counters.get()?)));
        let timed = octaves.flat_map(|(octave, counters)| {
            counters.iter().enumerate().map(move |(at, counter)| (Some(octave * PER_OCTAVE + at), counter))
        });
        timed.chain([(None, &self.untimed)])
    }
}

/// What was counted and not yet taken away.
#[derive(Debug, Default)]
pub(super) struct Cells {
    ok: Buckets,
    failed: OnceLock<Box<Buckets>>,
    latency_only: OnceLock<Box<Buckets>>,
}

impl Cells {
    /// Counts. Any number of threads; allocates only for the first request of an outcome and an octave.
    pub(super) fn add(&self, place: Place, by: u64) {
        let buckets = match place.outcome() {
            Outcome::Ok => &self.ok,
            Outcome::Failed => self.failed.get_or_init(Box::default),
            Outcome::LatencyOnly => self.latency_only.get_or_init(Box::default),
        };
        buckets.counter(place.bucket()).fetch_add(by, Ordering::Relaxed);
    }

    fn all(&self) -> impl Iterator<Item = (Place, &AtomicU64)> {
        fn of(outcome: Outcome, buckets: &Buckets) -> impl Iterator<Item = (Place, &AtomicU64)> {
            buckets.all().map(move |(bucket, counter)| (Place::new(outcome, bucket), counter))
        }
        let failed = self.failed.get().map(|buckets| of(Outcome::Failed, buckets));
        let latency_only = self.latency_only.get().map(|buckets| of(Outcome::LatencyOnly, buckets));
        of(Outcome::Ok, &self.ok).chain(failed.into_iter().flatten()).chain(latency_only.into_iter().flatten())
    }

    /// Takes away all that was counted, in the order of places.
    pub(super) fn drain(&self, mut take: impl FnMut(Place, u64)) {
        for (place, counter) in self.all() {
            // Most are zero, and reading takes the line from nobody.
            if counter.load(Ordering::Relaxed) != 0 {
                take(place, counter.swap(0, Ordering::Relaxed));
            }
        }
    }

    /// Bytes it holds on the heap.
    pub(super) fn bytes(&self) -> usize {
        let boxed = [&self.failed, &self.latency_only].into_iter().filter_map(OnceLock::get);
        self.ok.bytes() + boxed.map(|buckets| size_of::<Buckets>() + buckets.bytes()).sum::<usize>()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all().all(|(_, counter)| counter.load(Ordering::Relaxed) == 0)
    }
}
