//! What changed since a version: a bounded log of the time ranges that appends touched.

use std::collections::VecDeque;

use kymo_core::storage::Changes;

/// Appends remembered. A dashboard asks about the last seconds; at 1,000 appends/s this is eight of them.
const ENTRIES_MAX: usize = 8_192;

/// The engine's version and its recent history.
#[derive(Debug)]
pub(crate) struct ChangeLog {
    version: u64,
    /// Versions rising.
    entries: VecDeque<Entry>,
    /// Changes up to this version are no longer in `entries`.
    forgotten: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    version: u64,
    /// First and last time touched.
    range: (i64, i64),
    /// When.
    at_ms: i64,
}

impl Default for ChangeLog {
    /// Takes all the room it will need, so that noting a change never allocates.
    fn default() -> ChangeLog {
        ChangeLog { version: 0, entries: VecDeque::with_capacity(ENTRIES_MAX), forgotten: 0 }
    }
}

impl ChangeLog {
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Notes a change in this range, both ends inclusive, at the time of the clock.
    pub(crate) fn touched(&mut self, first_ms: i64, last_ms: i64, now_ms: i64) {
        self.version += 1;
        if self.entries.len() == ENTRIES_MAX {
            self.forgotten = self.entries.pop_front().map_or(self.forgotten, |entry| entry.version);
        }
        self.entries.push_back(Entry { version: self.version, range: (first_ms, last_ms), at_ms: now_ms });
    }

    /// Ranges touched after `since`, and those that left one of the ages that something is kept for, give or take the margin;
    /// of these only what a window from `start_ms` on can see.
    pub(crate) fn since(&self, since: u64, start_ms: i64, ages_ms: &[i64], margin_ms: i64, now_ms: i64) -> Changes {
        if since < self.forgotten || since > self.version {
            return Changes::Unknown;
        }
        let first = self.entries.partition_point(|entry| entry.version <= since);
        let mut ranges: Vec<(i64, i64)> = self.entries.range(first..).map(|entry| entry.range).collect();
        // What was seen at that version was seen after its change was made.
        let before = first.checked_sub(1).map(|at| self.entries[at].at_ms.min(now_ms));
        let vanished = ages_ms.iter().map(|age| {
            let from = before.map_or(i64::MIN, |before| before.saturating_sub(*age).saturating_sub(margin_ms));
            (from, now_ms.saturating_sub(*age))
        });
        ranges.extend(vanished.filter(|range| range.1 > start_ms));
        ranges.sort_unstable();
        let mut merged: Vec<(i64, i64)> = Vec::new();
        for (start, end) in ranges {
            match merged.last_mut() {
                Some(last) if start <= last.1.saturating_add(1) => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        Changes::Ranges(merged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_merged_and_what_was_forgotten_is_unknown() {
        let mut log = ChangeLog::default();
        log.touched(10, 20, 1_000);
        log.touched(15, 30, 1_010);
        log.touched(50, 50, 1_020);
        let since = |log: &ChangeLog, version| log.since(version, i64::MIN, &[], 0, 1_030);
        assert_eq!(since(&log, 0), Changes::Ranges(vec![(10, 30), (50, 50)]));
        assert_eq!(since(&log, 1), Changes::Ranges(vec![(15, 30), (50, 50)]));
        assert_eq!(since(&log, 3), Changes::Ranges(vec![]));
        assert_eq!(since(&log, 4), Changes::Unknown);
        // What was kept when a version was taken, and is not any more.
        assert_eq!(log.since(3, 0, &[900, 1_000], 0, 1_030), Changes::Ranges(vec![(20, 30), (120, 130)]));
        assert_eq!(log.since(3, 30, &[900, 1_000], 0, 1_030), Changes::Ranges(vec![(120, 130)]));
        assert_eq!(log.since(0, 0, &[1_000], 0, 1_030), Changes::Ranges(vec![(i64::MIN, 30), (50, 50)]));
        for n in 0..ENTRIES_MAX as i64 {
            log.touched(n, n, 2_000);
        }
        assert_eq!(since(&log, 2), Changes::Unknown);
        assert_eq!(since(&log, 3), Changes::Ranges(vec![(0, ENTRIES_MAX as i64 - 1)]));
    }
}
