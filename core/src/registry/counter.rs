//! Counters and up-down counters: cells that each thread writes for itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::cells::{self, Cells, Place};
use super::exemplar;
use super::node::{Mark, Node};
use super::options::Options;
use super::view::{Reading, Recorded, Scratch};
use crate::batch::Exemplar;
use crate::labels::Labels;
use crate::metric::MetricKind;

use super::handle::{Handle, sealed};

/// A total that only rises.
///
/// Adding a whole number costs a load and a store to a cell that no other thread writes: no lock, no allocation, no shared
/// cache line, however many threads count in the same series.
#[derive(Debug, Clone)]
pub struct Counter {
    /// Of the node's cell.
    cell: Place,
    node: Arc<Node<CounterValue>>,
}

/// Whole increments and others apart: whole ones stay exact up to 2^64.
#[derive(Debug)]
pub struct CounterValue {
    /// Id of a cell of whole numbers.
    whole: u32,
    /// Made when a number is added that is not whole, which most counters never see.
    fraction: Fraction,
}

/// A cell that may not be there yet, in four bytes.
#[derive(Debug, Default)]
struct Fraction(AtomicU32);

impl Fraction {
    const NONE: u32 = 0;

    fn id(&self) -> Option<u32> {
        // Acquire: pairs with the Release below, so that the cell was set up for whoever sees its id.
        self.0.load(Ordering::Acquire).checked_sub(1)
    }

    #[cold]
    fn make(&self) -> u32 {
        let new = Cells::new(1);
        match self.0.compare_exchange(Self::NONE, new.first() + 1, Ordering::Release, Ordering::Acquire) {
            Ok(_) => new.keep(),
            // Another thread was first; ours is freed.
            Err(theirs) => theirs - 1,
        }
    }
}

impl Recorded for CounterValue {
    fn new(_: &Arc<Options>) -> Self {
        Self { whole: Cells::new(1).keep(), fraction: Fraction::default() }
    }

    fn read_run(nodes: &[Arc<Node<Self>>], scratch: &mut Scratch) {
        let Scratch { wholes, fractions, is_plain, .. } = scratch;
        let has_fractions = nodes.iter().any(|node| node.value.fraction.id().is_some());
        let sums = cells::read();
        sums.wholes(nodes.iter().map(|node| node.value.whole), wholes);
        fractions.clear();
        if has_fractions {
            fractions.extend(nodes.iter().map(|node| node.value.fraction(&sums)));
        }
        *is_plain = !has_fractions && !nodes.iter().any(|node| node.marks.has(Mark::HasExemplars));
    }

    fn totals(scratch: &Scratch) -> Option<&[u64]> {
        scratch.is_plain.then_some(scratch.wholes.as_slice())
    }

    fn reading<'a>(&'a self, index: usize, scratch: &'a mut Scratch) -> Reading<'a> {
        let fraction = scratch.fractions.get(index).copied().unwrap_or_default();
        Reading::Counter { whole: scratch.wholes.get(index).copied().unwrap_or_default(), fraction }
    }
}

impl CounterValue {
    #[cfg(feature = "metrics")]
    pub(super) fn add(&self, by: u64) {
        cells::add(Place::of(self.whole), by);
    }

    pub(super) fn raise_to(&self, total: u64) {
        cells::add_shared(self.whole, |now| total.saturating_sub(now));
    }

    fn fraction(&self, sums: &cells::Sums<'_>) -> f64 {
        self.fraction.id().map_or(0.0, |id| sums.float(id))
    }
}

impl Drop for CounterValue {
    fn drop(&mut self) {
        drop(Cells::of(self.whole, 1));
        drop(self.fraction.id().map(|id| Cells::of(id, 1)));
    }
}

impl Handle for Counter {
    const KIND: MetricKind = MetricKind::Counter;
}

impl sealed::Sealed for Counter {
    type Value = CounterValue;
    const TYPE_NAME: &'static str = "Counter";

    #[inline]
    fn of(node: Arc<Node<CounterValue>>) -> Self {
        Self { cell: Place::of(node.value.whole), node }
    }

    fn node(&self) -> &Arc<Node<CounterValue>> {
        &self.node
    }
}

impl Counter {
    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds a whole number.
    #[inline]
    pub fn add(&self, by: u64) {
        cells::add(self.cell, by);
    }

    /// Adds any number; one that is negative or not finite is ignored, because a total only rises.
    pub fn add_f64(&self, by: f64) {
        if by.is_finite() && by > 0.0 {
            let fraction = &self.node.value.fraction;
            cells::add_float(fraction.id().unwrap_or_else(|| fraction.make()), by);
        }
    }

    /// Adds a whole number and keeps `labels`, such as a `trace_id`, as the newest exemplar of this counter.
    ///
    /// Takes a lock. `time_ms` is milliseconds since the Unix epoch.
    pub fn add_with_exemplar(&self, by: u64, labels: Labels, time_ms: i64) {
        self.add(by);
        keep_exemplar(&self.node, 0, 1, Exemplar { labels, value: by as f64, time_ms });
    }

    /// Raises the whole part to `total` if it is below: for totals counted elsewhere. Takes a lock.
    pub fn raise_to(&self, total: u64) {
        self.node.value.raise_to(total);
    }

    /// The total. Takes a lock, and time for each thread there was at once.
    pub fn value(&self) -> f64 {
        let sums = cells::read();
        sums.whole(self.cell.id()) as f64 + self.node.value.fraction(&sums)
    }
}

const _: () = assert!(size_of::<Node<CounterValue>>() <= 32);

/// Keeps an exemplar of a series.
pub(super) fn keep_exemplar<V>(node: &Node<V>, bucket: i64, buckets_max: usize, exemplar: Exemplar) {
    exemplar::keep(node.address(), bucket, buckets_max, exemplar);
    // The series' end is ordered after this by its count of handles.
    node.marks.set(Mark::HasExemplars);
}

/// A whole number that is counted up and down, such as connections open. Costs what a [`Counter`] does.
#[derive(Debug, Clone)]
pub struct UpDownCounter {
    /// Of the node's cell.
    cell: Place,
    node: Arc<Node<UpDownValue>>,
}

/// A cell of whole numbers that wrap, so that −1 is added as 2^64 − 1.
#[derive(Debug)]
pub struct UpDownValue {
    cell: Cells,
}

impl Recorded for UpDownValue {
    fn new(_: &Arc<Options>) -> Self {
        Self { cell: Cells::new(1) }
    }

    fn read_run(nodes: &[Arc<Node<Self>>], scratch: &mut Scratch) {
        cells::read().wholes(nodes.iter().map(|node| node.value.cell.first()), &mut scratch.wholes);
    }

    fn reading<'a>(&'a self, index: usize, scratch: &'a mut Scratch) -> Reading<'a> {
        Reading::UpDownCounter(scratch.wholes.get(index).copied().unwrap_or_default() as i64)
    }
}

impl Handle for UpDownCounter {
    const KIND: MetricKind = MetricKind::Gauge;
}

impl sealed::Sealed for UpDownCounter {
    type Value = UpDownValue;
    const TYPE_NAME: &'static str = "UpDownCounter";

    #[inline]
    fn of(node: Arc<Node<UpDownValue>>) -> Self {
        Self { cell: Place::of(node.value.cell.first()), node }
    }

    fn node(&self) -> &Arc<Node<UpDownValue>> {
        &self.node
    }
}

impl UpDownCounter {
    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Takes one away.
    #[inline]
    pub fn dec(&self) {
        self.add(-1);
    }

    /// Adds a number, which may be negative.
    #[inline]
    pub fn add(&self, by: i64) {
        cells::add(self.cell, by as u64);
    }

    /// The number. Takes a lock, and time for each thread there was at once.
    pub fn value(&self) -> i64 {
        cells::read().whole(self.cell.id()) as i64
    }
}
