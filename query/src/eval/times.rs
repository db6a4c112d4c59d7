//! What depends on the times of samples alone, found once per distinct column of times.
//!
//! All series of a target share their scrape times, and neighbours in label order come from many targets in
//! turn, so several columns are remembered. Storage names equal columns by an id; where it does not, times
//! are compared, which costs a fraction of finding windows again.

use std::collections::HashMap;

use kymo_core::query::QueryError;

use super::meter::{Hold, Meter};

/// Bytes of remembered columns and what was found of them; beyond it all are forgotten.
const BYTES_MAX: u64 = 4 << 20;

/// Answers by column of times.
#[derive(Debug)]
pub(crate) struct ByTimes<T> {
    places: HashMap<Key, usize, foldhash::fast::RandomState>,
    entries: Vec<Entry<T>>,
    last: usize,
    hold: Hold,
}

/// An id of storage, or what most columns differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Id(u64),
    Shape { len: usize, first: i64, last: i64 },
}

#[derive(Debug)]
struct Entry<T> {
    key: Key,
    /// Empty for a column with an id.
    times: Vec<i64>,
    value: T,
}

impl<T> ByTimes<T> {
    /// Bytes of an entry whose answer takes so many, its times left out.
    fn entry_bytes(answer: u64) -> u64 {
        answer + (size_of::<Entry<T>>() + size_of::<(Key, usize)>()) as u64
    }

    /// Bytes held at the most for so many columns that have ids.
    pub(super) fn bytes(columns: u64, answer: u64) -> u64 {
        columns.saturating_mul(ByTimes::<T>::entry_bytes(answer)).min(BYTES_MAX)
    }

    pub(crate) fn new(meter: &Meter<'_>) -> Result<ByTimes<T>, QueryError> {
        Ok(ByTimes { places: HashMap::default(), entries: Vec::new(), last: 0, hold: meter.hold()? })
    }

    /// What `make` says of `times`, or said of an equal column. `times_id` as in `Columns`; `bytes` is what
    /// an answer takes.
    pub(crate) fn of(
        &mut self,
        times: &[i64],
        times_id: u64,
        bytes: u64,
        make: impl FnOnce(&[i64]) -> T,
    ) -> Result<&T, QueryError> {
        let (first, last) = (times.first().copied().unwrap_or_default(), times.last().copied().unwrap_or_default());
        let key = if times_id == 0 { Key::Shape { len: times.len(), first, last } } else { Key::Id(times_id) };
        if self.entries.get(self.last).is_none_or(|entry| !entry.is_of(key, times)) {
            match self.places.get(&key) {
                Some(&at) if self.entries[at].is_of(key, times) => self.last = at,
                known => {
                    let known = known.copied();
                    self.add(known, key, times, bytes, make)?;
                }
            }
        }
        Ok(&self.entries[self.last].value)
    }

    fn add(
        &mut self,
        replaced: Option<usize>,
        key: Key,
        times: &[i64],
        bytes: u64,
        make: impl FnOnce(&[i64]) -> T,
    ) -> Result<(), QueryError> {
        let kept = if times_id_of(key) == 0 { times.to_vec() } else { Vec::new() };
        if let Some(at) = replaced {
            // Another column of the same shape: it takes the place.
            self.entries[at] = Entry { key, times: kept, value: make(times) };
            self.last = at;
            return Ok(());
        }
        let bytes = ByTimes::<T>::entry_bytes(bytes) + size_of_val(&*kept) as u64;
        // What was found can be found again.
        if self.hold.bytes() + bytes > BYTES_MAX || !self.hold.spares_bytes(bytes) {
            self.places = HashMap::default();
            self.entries = Vec::new();
            self.hold.release();
            self.hold.grow_bytes(bytes)?;
        }
        self.places.insert(key, self.entries.len());
        self.last = self.entries.len();
        self.entries.push(Entry { key, times: kept, value: make(times) });
        Ok(())
    }
}

impl<T> Entry<T> {
    fn is_of(&self, key: Key, times: &[i64]) -> bool {
        self.key == key && (times_id_of(key) != 0 || self.times == times)
    }
}

fn times_id_of(key: Key) -> u64 {
    match key {
        Key::Id(id) => id,
        Key::Shape { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use kymo_core::QueryContext;

    use super::*;

    #[test]
    fn equal_columns_are_looked_at_once_and_others_are_not_taken_for_them() {
        let ctx = QueryContext::unlimited();
        let meter = Meter::new(&ctx, u64::MAX);
        let mut sums = ByTimes::new(&meter).unwrap();
        let mut made = 0;
        let mut sum = |times: &[i64], id: u64| -> i64 {
            *sums
                .of(times, id, 8, |times| {
                    made += 1;
                    times.iter().sum::<i64>()
                })
                .unwrap()
        };
        for _ in 0..3 {
            assert_eq!((sum(&[1, 2, 3], 0), sum(&[1, 2, 4], 0), sum(&[], 0)), (6, 7, 0));
        }
        // Same length and ends, so one place: found anew, never taken for the other.
        assert_eq!((sum(&[1, 5, 9], 0), sum(&[1, 6, 9], 0), sum(&[1, 5, 9], 0)), (15, 16, 15));
        assert_eq!((sum(&[1, 2, 3], 7), sum(&[1, 2, 3], 7), sum(&[9, 9], 8)), (6, 6, 18));
        assert_eq!(made, 8);
    }

    #[test]
    fn many_columns_do_not_hold_more_than_the_limit() {
        let ctx = QueryContext::unlimited();
        let meter = Meter::new(&ctx, u64::MAX);
        let mut lengths = ByTimes::new(&meter).unwrap();
        for n in 0..10_000i64 {
            assert_eq!(*lengths.of(&[n, n + 1], 0, 4_096, <[i64]>::len).unwrap(), 2);
            assert!(ctx.budget.used() <= BYTES_MAX);
        }
    }
}
