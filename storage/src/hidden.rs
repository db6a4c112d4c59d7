//! Times that are not shown: what was deleted, and what a series keeps no longer.

use std::sync::Arc;

use roaring::RoaringBitmap;

/// Ranges of time of one series, both ends inclusive, rising, with something between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hidden(Vec<(i64, i64)>);

impl Hidden {
    /// Ranges in any order.
    pub(crate) fn of(mut ranges: Vec<(i64, i64)>) -> Hidden {
        ranges.sort_unstable();
        let mut merged: Vec<(i64, i64)> = Vec::with_capacity(ranges.len());
        for (start, end) in ranges {
            match merged.last_mut() {
                Some(last) if start <= last.1.saturating_add(1) => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        Hidden(merged)
    }

    /// All ranges.
    pub(crate) fn ranges(&self) -> &[(i64, i64)] {
        &self.0
    }

    /// Ranges that end at this time or later.
    fn from(&self, time_ms: i64) -> &[(i64, i64)] {
        &self.0[self.0.partition_point(|range| range.1 < time_ms)..]
    }

    /// Bytes held on the heap.
    pub(crate) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<(i64, i64)>()
    }

    pub(crate) fn contains(&self, time_ms: i64) -> bool {
        self.covers(time_ms, time_ms)
    }

    /// Whether all times from `first_ms` to `last_ms` are hidden.
    pub(crate) fn covers(&self, first_ms: i64, last_ms: i64) -> bool {
        self.from(first_ms).first().is_some_and(|range| range.0 <= first_ms && last_ms <= range.1)
    }

    /// Whether any time from `first_ms` to `last_ms` is hidden.
    pub(crate) fn meets(&self, first_ms: i64, last_ms: i64) -> bool {
        self.from(first_ms).first().is_some_and(|range| range.0 <= last_ms)
    }

    /// What is left of a window, as windows that are open to the left like it, rising.
    pub(crate) fn gaps(&self, start_ms: i64, end_ms: i64) -> impl Iterator<Item = (i64, i64)> {
        let ranges = self.from(start_ms.saturating_add(1)).iter().take_while(move |range| range.0 <= end_ms);
        let before = ranges.clone().map(|range| range.0.saturating_sub(1));
        let behind = ranges.map(|range| range.1);
        let gaps = std::iter::once(start_ms).chain(behind).zip(before.chain(std::iter::once(end_ms)));
        gaps.filter(|(start, end)| start < end)
    }
}

/// What is hidden in a block: sets of series, each with a range of time.
#[derive(Debug, Default)]
pub(crate) struct Hides(Vec<(Arc<RoaringBitmap>, i64, i64)>);

impl Hides {
    /// Hides a range, both ends inclusive, of some series.
    pub(crate) fn push(&mut self, series: Arc<RoaringBitmap>, start_ms: i64, end_ms: i64) {
        if !series.is_empty() && start_ms <= end_ms {
            self.0.push((series, start_ms, end_ms));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is hidden of one series, if anything.
    pub(crate) fn of(&self, series: usize) -> Option<Hidden> {
        let of_series = self.0.iter().filter(|(all, ..)| all.contains(series as u32));
        let ranges: Vec<(i64, i64)> = of_series.map(|(_, start, end)| (*start, *end)).collect();
        (!ranges.is_empty()).then(|| Hidden::of(ranges))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_and_hidden_times_make_up_the_window() {
        let hidden = Hidden::of(vec![(20, 25), (5, 7), (26, 30), (i64::MIN, -3), (6, 6)]);
        assert_eq!(hidden.0, [(i64::MIN, -3), (5, 7), (20, 30)]);
        for (start, end) in
            [(-10, 40), (-10, -3), (4, 7), (5, 6), (7, 19), (7, 20), (29, 31), (30, 30), (i64::MIN, i64::MAX)]
        {
            let gaps: Vec<_> = hidden.gaps(start, end).collect();
            assert!(gaps.windows(2).all(|pair| pair[0].1 < pair[1].0), "{gaps:?}");
            for time in -12..=42 {
                let is_inside = start < time && time <= end;
                let is_in_gap = gaps.iter().any(|gap| gap.0 < time && time <= gap.1);
                assert_eq!(is_in_gap, is_inside && !hidden.contains(time), "{time} in ({start}, {end}]: {gaps:?}");
            }
        }
        assert!(hidden.covers(21, 30) && !hidden.covers(19, 21) && !hidden.covers(5, 20));
        assert!(hidden.meets(0, 5) && hidden.meets(30, 99) && !hidden.meets(8, 19) && !hidden.meets(31, i64::MAX));
    }
}
