//! When a target is scraped.
//!
//! Every target has its own phase within the interval, taken from its identity, so targets are spread evenly and each keeps
//! its phase over restarts and reloads. Moments lie on a grid `phase + n × interval` of wall time.

/// The longest that a scrape may be late and still get the planned time as its timestamp.
const TOLERANCE_MS: i64 = 2;

/// The grid of one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Schedule {
    interval_ms: i64,
    phase_ms: i64,
}

impl Schedule {
    /// The grid of a target with this identity. `seed` moves all targets of a process, so that two processes that watch the
    /// same targets ask at different times.
    pub(super) fn new(interval_ms: i64, identity: u64, seed: u64) -> Schedule {
        let interval_ms = interval_ms.max(1);
        let phase_ms = ((identity ^ seed) % interval_ms.unsigned_abs()) as i64;
        Schedule { interval_ms, phase_ms }
    }

    /// The first moment of the grid that is later than `now_ms`.
    pub(super) fn next_after(self, now_ms: i64) -> i64 {
        let into = now_ms.saturating_sub(self.phase_ms).rem_euclid(self.interval_ms);
        now_ms.saturating_add(self.interval_ms - into)
    }

    /// How many moments of the grid lie before `later_ms`, from `earlier_ms` on, where both are moments of it.
    pub(super) fn moments_between(self, earlier_ms: i64, later_ms: i64) -> u64 {
        u64::try_from(later_ms.saturating_sub(earlier_ms) / self.interval_ms).unwrap_or(0)
    }

    /// The timestamp of a scrape that was planned for `planned_ms` and begins at `now_ms`. Small delays are taken back, so
    /// that timestamps keep equal distances, which the storage encodes best.
    pub(super) fn timestamp(self, planned_ms: i64, now_ms: i64) -> i64 {
        let tolerance = TOLERANCE_MS.min(self.interval_ms / 100).max(1);
        let late = now_ms.saturating_sub(planned_ms);
        if (0..=tolerance).contains(&late) { planned_ms } else { now_ms }
    }

    pub(super) fn interval_ms(self) -> i64 {
        self.interval_ms
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn targets_are_spread_over_the_interval_and_keep_their_phase() {
        let first = |identity| Schedule::new(15_000, identity, 0).next_after(1_700_000_000_000);
        let offsets: Vec<i64> = [0, 1, 14_999, 15_000].into_iter().map(|id| first(id) - 1_700_000_000_000).collect();
        // 1,700,000,000,000 is five seconds past a multiple of 15 seconds.
        assert_eq!(offsets, [10_000, 10_001, 9_999, 10_000]);
        assert_eq!(Schedule::new(15_000, 7, 2), Schedule::new(15_000, 5, 0));
    }

    #[test]
    fn small_delays_are_taken_back_and_large_ones_told() {
        let schedule = Schedule::new(15_000, 0, 0);
        let times = [0, 2, 3, 20_000, -1].map(|late| schedule.timestamp(60_000, 60_000 + late));
        assert_eq!(times, [60_000, 60_000, 60_003, 80_000, 59_999]);
        assert_eq!(Schedule::new(100, 0, 0).timestamp(600, 602), 602);
    }

    #[test]
    fn a_slow_scrape_skips_moments_and_never_repeats_one() {
        let schedule = Schedule::new(1_000, 250, 0);
        assert_eq!(schedule.next_after(10_250), 11_250);
        assert_eq!(schedule.next_after(10_249), 10_250);
        assert_eq!(schedule.next_after(13_900), 14_250);
        let missed = [11_250, 12_250, 14_250, 10_250].map(|later| schedule.moments_between(11_250, later));
        assert_eq!(missed, [0, 1, 3, 0]);
    }

    proptest! {
        #[test]
        fn the_next_moment_is_on_the_grid_and_within_one_interval(
            interval in 1i64..100_000, identity: u64, seed: u64, now in -1_000_000_000_000i64..4_000_000_000_000,
        ) {
            let schedule = Schedule::new(interval, identity, seed);
            let next = schedule.next_after(now);
            prop_assert!(next > now && next - now <= interval);
            prop_assert_eq!(schedule.next_after(next), next + interval);
            prop_assert_eq!(schedule.next_after(next - 1), next);
        }
    }
}
