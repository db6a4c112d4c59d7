//! Start timestamps: since when a counter counts, as a sample says (3.14's rules).
//!
//! One of 0 says nothing. One of a sample's own time is how OpenTelemetry says that it does not know.

/// Whether a counter began anew between two samples, by their start timestamps.
///
/// A start at the sample before is that of a delta, if the start of the sample before is known; else it is a counter
/// whose start is not.
pub(crate) fn is_reset(earlier: Started, later: Started) -> bool {
    if later.start_ms == 0 || later.start_ms >= later.at_ms || later.start_ms < earlier.at_ms {
        return false;
    }
    later.start_ms > earlier.at_ms || (earlier.start_ms != 0 && earlier.start_ms < earlier.at_ms)
}

/// Whether a sample says that it counts from before the sample before it, and not since when that one does.
pub(crate) fn overlap(earlier: Started, later: Started) -> bool {
    later.start_ms != 0 && later.start_ms < earlier.at_ms && later.start_ms != earlier.start_ms
}

/// When a sample was taken, and since when it counts; in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Started {
    pub(crate) at_ms: i64,
    pub(crate) start_ms: i64,
}

/// Samples with their start timestamps; none of them has one if `starts` is empty.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Starts<'a> {
    pub(crate) times: &'a [i64],
    pub(crate) starts: &'a [i64],
}

impl Starts<'_> {
    /// Sample `idx`.
    pub(crate) fn at(self, idx: usize) -> Started {
        Started { at_ms: self.times[idx], start_ms: self.starts.get(idx).copied().unwrap_or_default() }
    }

    /// Whether sample `idx`, which is not the first, began anew.
    pub(crate) fn is_reset(self, idx: usize) -> bool {
        !self.starts.is_empty() && is_reset(self.at(idx - 1), self.at(idx))
    }

    /// Whether any neighbours' spans overlap.
    pub(crate) fn any_overlap(self) -> bool {
        !self.starts.is_empty() && (1..self.times.len()).any(|idx| overlap(self.at(idx - 1), self.at(idx)))
    }

    /// When the first sample began, if that is behind `after_ms` and before the sample: there it was zero.
    pub(crate) fn zero_ms(self, after_ms: i64) -> Option<i64> {
        let (&first_ms, &start_ms) = (self.times.first()?, self.starts.first()?);
        (start_ms != 0 && start_ms > after_ms && start_ms < first_ms).then_some(start_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_behind_the_sample_before_is_a_reset_and_one_at_it_is_that_of_a_delta() {
        let at = |at_ms, start_ms| Started { at_ms, start_ms };
        let rows = [
            ("nothing is said", at(100, 50), at(200, 0), false),
            ("since before", at(100, 50), at(200, 50), false),
            ("since between", at(100, 50), at(200, 150), true),
            ("since between, before unknown", at(100, 0), at(200, 150), true),
            ("since never", at(100, 50), at(200, 201), false),
            ("unknown, as OpenTelemetry says it", at(100, 50), at(200, 200), false),
            ("a delta", at(100, 50), at(200, 100), true),
            ("since the first sample, 0", at(100, 0), at(200, 100), false),
            ("since the first sample, its time", at(100, 100), at(200, 100), false),
            ("since the first sample, which began later", at(100, 101), at(200, 100), false),
        ];
        for (name, earlier, later, wanted) in rows {
            assert_eq!(is_reset(earlier, later), wanted, "{name}");
        }
    }

    #[test]
    fn spans_overlap_unless_they_begin_together() {
        let overlaps = |starts: &[i64]| Starts { times: &[100, 200, 300], starts }.any_overlap();
        assert!(!overlaps(&[]) && !overlaps(&[50, 50, 50]) && !overlaps(&[0, 100, 200]) && !overlaps(&[0, 0, 0]));
        assert!(overlaps(&[50, 60, 60]) && overlaps(&[0, 0, 150]));
    }

    #[test]
    fn the_first_start_counts_inside_the_window_only() {
        let zero = |start: i64| Starts { times: &[100], starts: &[start] }.zero_ms(50);
        assert_eq!([0, 49, 50, 51, 99, 100, 101].map(zero), [None, None, None, Some(51), Some(99), None, None]);
    }
}
