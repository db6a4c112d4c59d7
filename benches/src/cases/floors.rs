//! The cheapest things that could stand for a handle: what recording has to do at the least, with no registry around it.

use std::any::Any;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::handles::{BOUNDS, ROTATION, five, in_rotation, label_values, observations, repeat};

/// Cells, buckets and tables, and values for them.
pub struct Floors {
    owned: AtomicU64,
    shared: AtomicU64,
    in_turn: [AtomicU64; ROTATION],
    bare: BareHistogram,
    bare_in_turn: Vec<(BareHistogram, f64)>,
    by_two: FlatTable<2>,
    by_five: FlatTable<5>,
    values: [f64; ROTATION],
    label_values: Vec<[String; 2]>,
}

#[derive(Default)]
struct BareHistogram {
    counts: [AtomicU64; BOUNDS.len() + 1],
    /// Bits of an `f64`, written by one thread only.
    sum: AtomicU64,
}

impl BareHistogram {
    #[inline(always)]
    fn record(&self, value: f64) {
        let index = BOUNDS.iter().map(|bound| usize::from(*bound < value)).sum::<usize>();
        self.counts[index].fetch_add(1, Relaxed);
        let sum = f64::from_bits(self.sum.load(Relaxed)) + value;
        self.sum.store(sum.to_bits(), Relaxed);
    }
}

/// A table without growth and removal: hash, probe, compare.
struct FlatTable<const N: usize>(Vec<Option<FlatSeries<N>>>);

struct FlatSeries<const N: usize> {
    values: [String; N],
    count: AtomicU64,
}

/// Slots of a table for [`ROTATION`] series, as a power of two: a quarter of them is used.
const SLOT_BITS: u32 = 8;

impl<const N: usize> FlatTable<N> {
    fn of<'a>(series: impl Iterator<Item = [&'a str; N]>) -> Self {
        let mut table = FlatTable((0..1 << SLOT_BITS).map(|_| None).collect());
        for values in series {
            let slot = table.slot(values);
            table.0[slot] = Some(FlatSeries { values: values.map(str::to_owned), count: AtomicU64::new(0) });
        }
        table
    }

    /// Where these values are, or would be.
    fn slot(&self, values: [&str; N]) -> usize {
        let mut slot = (hash(values) >> (u64::BITS - SLOT_BITS)) as usize;
        while self.0[slot].as_ref().is_some_and(|series| series.values != values) {
            slot = (slot + 1) % (1 << SLOT_BITS);
        }
        slot
    }

    fn count(&self, values: [&str; N]) -> Option<&AtomicU64> {
        self.0[self.slot(values)].as_ref().map(|series| &series.count)
    }
}

/// A multiplication for each eight bytes.
fn hash<const N: usize>(values: [&str; N]) -> u64 {
    const FACTOR: u64 = 0x517c_c1b7_2722_0a95;
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    values.iter().fold(0, |hash, value| {
        let (words, rest) = value.as_bytes().as_chunks::<8>();
        let hash = words.iter().fold(hash, |hash, word| mix(hash, u64::from_le_bytes(*word)));
        mix(hash, rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)))
    })
}

impl Default for Floors {
    fn default() -> Self {
        let label_values = label_values();
        Floors {
            owned: AtomicU64::new(0),
            shared: AtomicU64::new(0),
            in_turn: std::array::from_fn(|_| AtomicU64::new(0)),
            bare: BareHistogram::default(),
            bare_in_turn: observations().into_iter().map(|value| (BareHistogram::default(), value)).collect(),
            by_two: FlatTable::of(label_values.iter().map(|[method, path]| [method.as_str(), path])),
            by_five: FlatTable::of(label_values.iter().map(five)),
            values: observations(),
            label_values,
        }
    }
}

#[inline(always)]
fn add_to_owned(cell: &AtomicU64) {
    cell.store(cell.load(Relaxed) + 1, Relaxed);
}

impl Floors {
    /// Of whatever is behind a call that is not inlined: the call.
    pub fn call(&self, times: u64) {
        let cell = black_box(&self.owned);
        repeat(times, || nothing(cell));
    }

    /// The same with values in turn.
    pub fn call_in_rotation(&self, times: u64) {
        let (cell, values) = black_box((&self.owned, &self.values));
        in_rotation(times, values, |_| nothing(cell));
    }

    /// The same with label values in turn.
    pub fn call_with_labels(&self, times: u64) {
        let (cell, labels) = black_box((&self.owned, &self.label_values));
        in_rotation(times, labels, |_| nothing(cell));
    }

    /// Of any counter: a load and a store to a cell that one thread owns.
    pub fn owned_add(&self, times: u64) {
        #[inline(never)]
        fn inc(cell: &AtomicU64) {
            add_to_owned(cell);
        }
        let cell = black_box(&self.owned);
        repeat(times, || inc(cell));
    }

    /// The same, inlined.
    pub fn owned_add_inlined(&self, times: u64) {
        let cell = black_box(&self.owned);
        repeat(times, || add_to_owned(cell));
    }

    /// The same with [`ROTATION`] cells in turn.
    pub fn owned_adds_inlined(&self, times: u64) {
        in_rotation(times, black_box(&self.in_turn), add_to_owned);
    }

    /// Of counters that threads share: one locked add.
    pub fn shared_add(&self, times: u64) {
        #[inline(never)]
        fn inc(cell: &AtomicU64) {
            cell.fetch_add(1, Relaxed);
        }
        let cell = black_box(&self.shared);
        repeat(times, || inc(cell));
    }

    /// Of gauges: one store.
    pub fn store(&self, times: u64) {
        #[inline(never)]
        fn set(cell: &AtomicU64, value: f64) {
            cell.store(value.to_bits(), Relaxed);
        }
        let (cell, values) = black_box((&self.owned, &self.values));
        in_rotation(times, values, |value| set(cell, *value));
    }

    /// The same, inlined.
    pub fn store_inlined(&self, times: u64) {
        let (cell, values) = black_box((&self.owned, &self.values));
        in_rotation(times, values, |value| cell.store(value.to_bits(), Relaxed));
    }

    /// The same with [`ROTATION`] cells in turn.
    pub fn stores_inlined(&self, times: u64) {
        let value = black_box(self.values[0]);
        in_rotation(times, black_box(&self.in_turn), |cell| cell.store(value.to_bits(), Relaxed));
    }

    /// Of histograms: all bounds compared, one locked add, a sum that one thread owns.
    pub fn bare_histogram(&self, times: u64) {
        #[inline(never)]
        fn record(histogram: &BareHistogram, value: f64) {
            histogram.record(value);
        }
        let (histogram, values) = black_box((&self.bare, &self.values));
        in_rotation(times, values, |value| record(histogram, *value));
    }

    /// The same, inlined.
    pub fn bare_histogram_inlined(&self, times: u64) {
        let (histogram, values) = black_box((&self.bare, &self.values));
        in_rotation(times, values, |value| histogram.record(*value));
    }

    /// The same with [`ROTATION`] histograms in turn, each of which gets one value.
    pub fn bare_histograms_inlined(&self, times: u64) {
        in_rotation(times, black_box(self.bare_in_turn.as_slice()), |(histogram, value)| histogram.record(*value));
    }

    /// Of counters found by two label values: a table that never changes, and a cell that one thread owns.
    pub fn find_by_two(&self, times: u64) {
        #[inline(never)]
        fn inc(table: &FlatTable<2>, values: [&str; 2]) {
            table.count(values).into_iter().for_each(add_to_owned);
        }
        let (table, labels) = black_box((&self.by_two, &self.label_values));
        in_rotation(times, labels, |[method, path]| inc(table, [method, path]));
    }

    /// The same with a locked add, for more than one thread.
    pub fn find_by_two_shared(&self, times: u64) {
        #[inline(never)]
        fn inc(table: &FlatTable<2>, values: [&str; 2]) {
            if let Some(count) = table.count(values) {
                count.fetch_add(1, Relaxed);
            }
        }
        let (table, labels) = black_box((&self.by_two, &self.label_values));
        in_rotation(times, labels, |[method, path]| inc(table, [method, path]));
    }

    /// Of counters found by five.
    pub fn find_by_five(&self, times: u64) {
        #[inline(never)]
        fn inc(table: &FlatTable<5>, values: [&str; 5]) {
            table.count(values).into_iter().for_each(add_to_owned);
        }
        let (table, labels) = black_box((&self.by_five, &self.label_values));
        in_rotation(times, labels, |labels| inc(table, five(labels)));
    }

    /// What a reader of them reads.
    pub fn read(&self) {
        black_box((self.shared.load(Relaxed), self.bare.sum.load(Relaxed)));
        black_box(self.bare.counts.iter().map(|count| count.load(Relaxed)).sum::<u64>());
        let series = self.by_two.0.iter().flatten();
        black_box(series.map(|series| series.count.load(Relaxed)).sum::<u64>());
    }
}

#[inline(never)]
fn nothing(_: &AtomicU64) {
    // A call without any effect would be left out.
    black_box(());
}

/// Counters with two labels at their lightest, as many as are told: the labels' text and a cell each.
#[must_use]
pub fn counters(series: usize) -> Box<dyn Any> {
    let counter =
        |n| (format!("{}/api/v1/resource/{}", ["GET", "POST"][n % 2], n / 2).into_boxed_str(), AtomicU64::new(1));
    Box::new((0..series).map(counter).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_do_what_handles_do() {
        let floors = Floors::default();
        let times = 3 * ROTATION as u64;
        floors.owned_add(times);
        floors.owned_add_inlined(times);
        assert_eq!(floors.owned.load(Relaxed), 2 * times);
        floors.owned_adds_inlined(times);
        assert!(floors.in_turn.iter().all(|cell| cell.load(Relaxed) == 3));
        floors.bare_histogram(times);
        floors.bare_histogram_inlined(times);
        let observed = |bare: &BareHistogram| bare.counts.iter().map(|count| count.load(Relaxed)).sum::<u64>();
        assert_eq!(observed(&floors.bare), 2 * times);
        floors.bare_histograms_inlined(times);
        assert!(floors.bare_in_turn.iter().all(|(bare, _)| observed(bare) == 3));
        floors.find_by_two(times);
        floors.find_by_two_shared(times);
        floors.find_by_five(times);
        let counts = |table: &[Option<FlatSeries<2>>]| -> Vec<u64> {
            table.iter().flatten().map(|series| series.count.load(Relaxed)).collect()
        };
        assert_eq!(counts(&floors.by_two.0), [6; ROTATION]);
        let by_five: Vec<u64> = floors.by_five.0.iter().flatten().map(|series| series.count.load(Relaxed)).collect();
        assert_eq!(by_five, [3; ROTATION]);
        floors.store(1);
        assert_eq!(floors.owned.load(Relaxed), floors.values[0].to_bits());
    }
}
