//! What changed since a version: a bounded log of the time ranges that appends touched.

use std::collections::VecDeque;

use kymo_core::storage::Changes;

/// Appends remembered. A dashboard asks about the last seconds; at 1,000 appends/s this is eight of them.
const ENTRIES_MAX: usize = 8_192;

/// The engine's version and its recent history.
#[derive(Debug)]
pub(crate) struct ChangeLog {
    version: u64,
    /// (version, first and last time touched), versions rising.
    entries: VecDeque<(u64, i64, i64)>,
    /// Changes up to this version are no longer in `entries`.
    forgotten: u64,
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

    /// Notes a change in this range, both ends inclusive.
    pub(crate) fn touched(&mut self, first_ms: i64, last_ms: i64) {
        self.version += 1;
        if self.entries.len() == ENTRIES_MAX {
            self.forgotten = self.entries.pop_front().map_or(self.forgotten, |entry| entry.0);
        }
        self.entries.push_back((self.version, first_ms, last_ms));
    }

    /// Ranges touched after `since`; `retired_ms` is the newest time that may have gone by age.
    pub(crate) fn since(&self, since: u64, retired_ms: Option<i64>) -> Changes {
        if since < self.forgotten || since > self.version {
            return Changes::Unknown;
        }
        let first = self.entries.partition_point(|entry| entry.0 <= since);
        let mut ranges: Vec<(i64, i64)> = self.entries.range(first..).map(|e| (e.1, e.2)).collect();
        ranges.extend(retired_ms.map(|until| (i64::MIN, until)));
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
        log.touched(10, 20);
        log.touched(15, 30);
        log.touched(50, 50);
        assert_eq!(log.since(0, None), Changes::Ranges(vec![(10, 30), (50, 50)]));
        assert_eq!(log.since(1, None), Changes::Ranges(vec![(15, 30), (50, 50)]));
        assert_eq!(log.since(3, None), Changes::Ranges(vec![]));
        assert_eq!(log.since(3, Some(4)), Changes::Ranges(vec![(i64::MIN, 4)]));
        assert_eq!(log.since(4, None), Changes::Unknown);
        for n in 0..ENTRIES_MAX as i64 {
            log.touched(n, n);
        }
        assert_eq!(log.since(2, None), Changes::Unknown);
        assert_eq!(log.since(3, None), Changes::Ranges(vec![(0, ENTRIES_MAX as i64 - 1)]));
    }
}
