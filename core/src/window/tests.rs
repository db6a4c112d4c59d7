use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{Clock, ManualClock};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Every span's count must hold what happened within its length, and nothing older than that and one bucket.
fn check(events: &[(Duration, u64)], now: Duration, counts: WindowCounts) -> Result<(), TestCaseError> {
    for span in Span::ALL {
        let younger_than = |age: Option<Duration>| -> u64 {
            let is_in = |at: Duration| age.is_none_or(|age| now.saturating_sub(at) < age);
            events.iter().filter(|(at, _)| is_in(*at)).map(|(_, by)| by).sum()
        };
        let least = younger_than(span.length());
        let most = younger_than(span.length().map(|length| length + span.error_bound()));
        let count = counts.get(span);
        prop_assert!((least..=most).contains(&count), "{span:?} at {now:?}: {count}, not {least} to {most}");
    }
    Ok(())
}

fn steps() -> impl Strategy<Value = Vec<(Duration, u64)>> {
    let pause = prop_oneof![
        4 => 0_u64..200,
        4 => 200_u64..3_000,
        2 => 3_000_u64..200_000,
        1 => 200_000_u64..8_000_000,
        1 => 8_000_000_u64..200_000_000,
    ];
    prop::collection::vec((pause.prop_map(ms), 0_u64..5), 1..80)
}

proptest! {
    #[test]
    fn every_window_holds_its_length_and_at_most_a_bucket_more(origin in 0_u64..10_000_000, steps in steps()) {
        let counter = WindowCounter::new();
        let mut now = ms(origin);
        let mut events = Vec::new();
        for (pause, by) in steps {
            now += pause;
            check(&events, now, counter.read(now))?;
            counter.add(by, now);
            events.push((now, by));
            check(&events, now, counter.read(now))?;
        }
    }

    #[test]
    fn absorbed_counts_are_those_of_one_counter(steps in steps(), sides in prop::collection::vec(any::<bool>(), 80)) {
        let (both, one, other) = (WindowCounter::new(), WindowCounter::new(), WindowCounter::new());
        let mut now = Duration::ZERO;
        for ((pause, by), is_one) in steps.into_iter().zip(sides) {
            now += pause;
            both.add(by, now);
            if is_one { one.add(by, now) } else { other.add(by, now) }
            let mut sum = one.read(now);
            sum += other.read(now);
            prop_assert_eq!(sum, both.read(now));
        }
        one.absorb(other);
        for later in [0, 49, 50, 900, 1_000, 59_000, 61_000, 3_600_000, 90_000_000] {
            prop_assert_eq!(one.read(now + ms(later)), both.read(now + ms(later)));
        }
    }
}

#[test]
fn windows_slide_instead_of_starting_over() {
    let counter = WindowCounter::new();
    for second in 0..600 {
        counter.add(1, ms(second * 1_000));
        let expected = (second + 1).min(61);
        assert_eq!(counter.read(ms(second * 1_000)).last_minute, expected, "after {second} s");
    }
}

#[test]
fn a_silent_counter_empties_window_by_window() {
    let counter = WindowCounter::new();
    counter.add(7, ms(0));
    let at = |ms: u64| Span::ALL.map(|span| counter.read(Duration::from_millis(ms)).get(span));
    assert_eq!(at(0), [7, 7, 7, 7, 7]);
    assert_eq!(at(1_050), [0, 7, 7, 7, 7]);
    assert_eq!(at(61_000), [0, 0, 7, 7, 7]);
    assert_eq!(at(61 * 60_000), [0, 0, 0, 7, 7]);
    assert_eq!(at(25 * 3_600_000), [0, 0, 0, 0, 7]);
}

#[test]
fn jumps_of_the_wall_clock_change_nothing() {
    let clock = ManualClock::at(1_700_000_000_000);
    let counter = WindowCounter::new();
    counter.add(2, clock.monotonic());
    clock.advance(ms(10_000));
    for wall_ms in [0, i64::MAX, 1_600_000_000_000] {
        clock.set_wall_ms(wall_ms);
        counter.add(1, clock.monotonic());
    }
    let counts = counter.read(clock.monotonic());
    assert_eq!((counts.last_second, counts.last_minute, counts.since_start), (3, 5, 5));
}

#[test]
fn a_time_before_the_newest_counts_as_the_newest() {
    let counter = WindowCounter::new();
    counter.add(1, ms(100_000));
    counter.add(1, ms(5));
    assert_eq!(counter.read(ms(5)).last_second, 2);
}

#[test]
fn the_furthest_times_do_not_overflow() {
    let counter = WindowCounter::new();
    counter.add(1, Duration::MAX);
    counter.add(1, Duration::MAX);
    assert_eq!(counter.read(Duration::MAX).last_second, 2);
}

#[test]
fn a_trend_needs_more_than_chance() {
    for (before, now, expected) in [
        (0, 0, Trend::Flat),
        (0, 4, Trend::Flat),
        (0, 5, Trend::Up),
        (40, 45, Trend::Flat),
        (40, 80, Trend::Up),
        (80, 40, Trend::Down),
        (1_000_000, 1_050_000, Trend::Flat),
        (1_000_000, 1_110_000, Trend::Up),
    ] {
        assert_eq!(Trend::between(before, now), expected, "{before} to {now}");
    }
    let counter = WindowCounter::new();
    (0..60).for_each(|second| counter.add(1, ms(second * 1_000)));
    (60..120).for_each(|second| counter.add(9, ms(second * 1_000)));
    let counts = counter.read(ms(120_000));
    assert_eq!((counts.minute_before, counts.newest_whole_minute, counts.trend()), (60, 540, Trend::Up));
}

#[test]
fn threads_lose_nothing_while_a_reader_reads() {
    const EACH: u64 = 20_000;
    let counter = WindowCounter::new();
    let clock = ManualClock::at(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..EACH {
                    counter.add(1, clock.monotonic());
                    if n % 64 == 0 {
                        clock.advance(ms(10));
                    }
                }
            });
        }
        let mut seen = 0;
        while seen < 4 * EACH {
            let counts = counter.read(clock.monotonic());
            assert!(counts.since_start >= seen, "a total fell");
            let rising = Span::ALL.map(|span| counts.get(span));
            assert!(rising.is_sorted(), "a shorter window holds more: {rising:?}");
            seen = counts.since_start;
        }
    });
    assert_eq!(counter.read(clock.monotonic()).since_start, 4 * EACH);
}

#[test]
fn names_are_read_back() {
    for span in Span::ALL {
        assert_eq!(Span::parse(span.as_str()), Some(span));
    }
    assert_eq!(Span::parse("last_week"), None);
}
