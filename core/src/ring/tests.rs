//! Promises of the ring. Each fault known of the published attempt has a test that would find it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;
use crate::metric::{MetricKind, PointFlags};

fn point(series: u64, n: u64) -> MetricPoint {
    // Every part follows from the two numbers, so that a mixture of two points shows.
    let kind = [MetricKind::Counter, MetricKind::Gauge, MetricKind::Histogram, MetricKind::Summary][n as usize % 4];
    let flags = if n % 2 == 0 { PointFlags::INCREMENT } else { PointFlags::NONE };
    MetricPoint::new(series, kind, n as i64, (series * 1_000_003 + n) as f64).with_flags(flags)
}

#[test]
fn push_metric_gives_back_what_was_pushed() {
    let ring = HotMetricsRing::new(1 << 12, 16);
    let mut writer = ring.writer().unwrap();
    let pushed: Vec<MetricPoint> = (0..10).map(|n| point(3, n)).collect();
    pushed.iter().for_each(|point| writer.push_metric(*point));
    let odd = MetricPoint::new(u64::MAX, MetricKind::Summary, i64::MIN, f64::from_bits(0x7ff0_0000_0000_0002));
    writer.push_metric(odd);
    let mut found = Vec::new();
    assert_eq!(ring.drain(|point| found.push(point)), Drained { points: 11, overwritten: 0 });
    assert_eq!(found[..10], pushed);
    assert_eq!(found[10].value.to_bits(), odd.value.to_bits());
    assert_eq!(ring.drain(|_| ()), Drained::default());
}

#[test]
fn a_full_lane_overwrites_the_oldest_and_counts_it() {
    let ring = HotMetricsRing::new(0, 8);
    assert_eq!(ring.bytes_max(), 256);
    let mut writer = ring.writer().unwrap();
    (0..20).for_each(|n| writer.push_metric(point(1, n)));
    let mut found = Vec::new();
    let drained = ring.drain(|point| found.push(point.timestamp_ms));
    assert_eq!((drained.points, drained.overwritten, ring.overwritten()), (8, 12, 12));
    assert_eq!(found, (12..20).collect::<Vec<_>>());
}

/// How long a ring reaches back is a matter of its bytes: of four threads that push a point every 10 ms, five minutes are
/// 120,000 points, and the lanes that hold them take 4 MiB. What is older gives way, and is counted.
#[test]
fn five_minutes_of_points_are_held_in_a_bounded_number_of_bytes_and_older_ones_give_way() {
    const WRITERS: u64 = 4;
    const APART_MS: i64 = 10;
    const FIVE_MINUTES_MS: i64 = 300_000;
    let lane_points = (FIVE_MINUTES_MS / APART_MS) as usize;
    let ring = HotMetricsRing::new(4 << 20, lane_points);
    assert_eq!(ring.bytes_max(), 4 << 20);
    let mut writers: Vec<RingWriter> = (0..WRITERS).map(|_| ring.writer().unwrap()).collect();
    assert!(ring.writer().is_none(), "no more lanes than bytes");
    // A quarter of an hour that nobody drains.
    let points = 3 * lane_points as u64;
    for n in 0..points {
        for (series, writer) in writers.iter_mut().enumerate() {
            writer.push_metric(MetricPoint::new(series as u64, MetricKind::Gauge, n as i64 * APART_MS, n as f64));
        }
    }
    let end_ms = points as i64 * APART_MS;
    let mut times: [Vec<i64>; WRITERS as usize] = Default::default();
    let drained = ring.drain(|point| times[point.series as usize].push(point.timestamp_ms));
    for times in times {
        let (oldest_ms, newest_ms) = (*times.first().unwrap(), *times.last().unwrap());
        assert!(oldest_ms <= end_ms - FIVE_MINUTES_MS, "five minutes are there: {oldest_ms} of {end_ms}");
        assert!(oldest_ms > end_ms - 2 * FIVE_MINUTES_MS, "and what is far older is not: {oldest_ms} of {end_ms}");
        assert_eq!(newest_ms, end_ms - APART_MS);
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == APART_MS), "without a hole");
    }
    assert_eq!(drained.points + drained.overwritten, WRITERS * points, "{drained:?}");
    assert!(drained.points * 32 <= 4 << 20, "{drained:?}");
}

/// The published attempt let two producers claim one slot.
#[test]
fn two_producers_never_share_a_slot() {
    let ring = HotMetricsRing::new(2 * 8 * 32, 8);
    let (first, second) = (ring.writer().unwrap(), ring.writer().unwrap());
    assert!(ring.writer().is_none());
    for (series, mut writer) in [(1, first), (2, second)] {
        (0..8).for_each(|n| writer.push_metric(point(series, n)));
    }
    let mut found = Vec::new();
    assert_eq!(ring.drain(|point| found.push(point)).points, 16);
    for series in [1, 2] {
        let own: Vec<_> = found.iter().filter(|point| point.series == series).copied().collect();
        assert_eq!(own, (0..8).map(|n| point(series, n)).collect::<Vec<_>>());
    }
    // Lanes of writers that are gone are taken again, and bytes stay what they were.
    let again = [ring.writer(), ring.writer()];
    assert!(again.iter().all(Option::is_some) && ring.writer().is_none());
}

/// The published attempt copied 32 bytes while they were written.
#[test]
fn no_point_is_torn_and_all_are_given_or_counted() {
    const WRITERS: u64 = 3;
    const POINTS: u64 = 30_000;
    let ring = HotMetricsRing::new(1 << 16, 64);
    let is_over = AtomicBool::new(false);
    let (mut given, mut lost, mut newest) = (0, 0, [-1; WRITERS as usize]);
    let mut drain = || {
        let drained = ring.drain(|found| {
            assert_eq!(found, point(found.series, found.timestamp_ms as u64), "torn");
            let newest = &mut newest[found.series as usize];
            assert!(found.timestamp_ms > *newest, "given twice or out of order");
            *newest = found.timestamp_ms;
        });
        given += drained.points;
        lost += drained.overwritten;
    };
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|series| {
                let mut writer = ring.writer().unwrap();
                scope.spawn(move || (0..POINTS).for_each(|n| writer.push_metric(point(series, n))))
            })
            .collect();
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                drain();
            }
            drain();
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(given + lost, WRITERS * POINTS);
    assert_eq!(ring.overwritten(), lost);
}
