//! Which bytes of a file have room on the disk.

use std::ops::Range;

/// Byte ranges, sorted, disjoint and with a gap between any two.
#[derive(Clone, Debug, Default)]
pub(super) struct Extents(Vec<Range<u64>>);

impl Extents {
    /// The ranges of one file that is whole: every byte below `len` has room.
    pub(super) fn whole(len: u64) -> Self {
        let mut extents = Self::default();
        extents.insert(0..len);
        extents
    }

    /// Bytes that have room.
    pub(super) fn total(&self) -> u64 {
        self.0.iter().map(|e| e.end - e.start).sum()
    }

    /// Bytes of `range` that have no room yet.
    pub(super) fn missing(&self, range: &Range<u64>) -> u64 {
        self.gaps(range).map(|gap| gap.end - gap.start).sum()
    }

    /// Where the longest start of `range` ends that takes no more than `room` new bytes.
    pub(super) fn fitting_end(&self, range: &Range<u64>, mut room: u64) -> u64 {
        for gap in self.gaps(range) {
            if gap.end - gap.start > room {
                return gap.start + room;
            }
            room -= gap.end - gap.start;
        }
        range.end
    }

    pub(super) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|e| e.end < range.start);
        let past = self.0.partition_point(|e| e.start <= range.end);
        let mut merged = range;
        if let Some(touched) = self.0.get(first..past).filter(|t| !t.is_empty()) {
            merged.start = merged.start.min(touched[0].start);
            merged.end = merged.end.max(touched[touched.len() - 1].end);
        }
        self.0.splice(first..past, [merged]);
    }

    pub(super) fn insert_all(&mut self, other: &Self) {
        for extent in &other.0 {
            self.insert(extent.clone());
        }
    }

    /// Gives back what lies at `end` and above.
    pub(super) fn truncate(&mut self, end: u64) {
        self.0.retain(|e| e.start < end);
        if let Some(last) = self.0.last_mut() {
            last.end = last.end.min(end);
        }
    }

    fn gaps(&self, range: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let (start, end) = (range.start, range.end);
        let first = self.0.partition_point(|e| e.end <= start);
        let inside = self.0[first..].iter().take_while(move |e| e.start < end);
        let mut at = start;
        inside.cloned().chain(std::iter::once(end..end)).filter_map(move |extent| {
            let gap = at..extent.start.min(end);
            at = at.max(extent.end);
            (!gap.is_empty()).then_some(gap)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_become_one() {
        let mut extents = Extents::default();
        for range in [10..20, 30..40, 50..60, 20..30] {
            extents.insert(range);
        }
        assert_eq!(extents.0, [10..40, 50..60]);
        extents.insert(5..55);
        extents.insert(7..7);
        assert_eq!((extents.0.len(), extents.total()), (1, 55));
    }

    #[test]
    fn room_is_taken_only_for_the_gaps() {
        let mut extents = Extents::default();
        extents.insert(10..20);
        extents.insert(30..40);
        assert_eq!(extents.missing(&(0..50)), 30);
        assert_eq!(extents.missing(&(12..18)), 0);
        assert_eq!(extents.missing(&(15..35)), 10);
        for (room, end) in [(0, 0), (4, 4), (10, 20), (15, 25), (20, 40), (29, 49), (30, 50)] {
            assert_eq!(extents.fitting_end(&(0..50), room), end, "room for {room}");
        }
    }

    #[test]
    fn truncation_gives_back_the_end() {
        let mut extents = Extents::whole(20);
        extents.insert(30..40);
        extents.truncate(35);
        assert_eq!(extents.0, [0..20, 30..35]);
        extents.truncate(20);
        assert_eq!((extents.0.len(), extents.total()), (1, 20));
        extents.truncate(0);
        assert_eq!(extents.total(), 0);
    }
}
