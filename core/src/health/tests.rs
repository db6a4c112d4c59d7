use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::cells::{Cells, Place, bounds, bucket_of};
use super::*;
use crate::histogram::{BucketCounts, BucketSpan, HistogramCounts, NativeHistogram, exponential_index};
use crate::{Clock, ManualClock};

const START_MS: i64 = 1_700_000_000_000;

fn health() -> (ServiceHealth, Arc<ManualClock>) {
    limited(HealthOptions::default())
}

fn limited(options: HealthOptions) -> (ServiceHealth, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(START_MS));
    (ServiceHealth::new(options, clock.clone()), clock)
}

fn request(service: &str, seconds: f64, is_error: bool, end_ms: i64) -> Request<'_> {
    let (operation, kind) = ("GET /", OperationKind::Server);
    Request { service, operation, kind, duration_seconds: seconds, is_error, end_ms, weight: 1 }
}

/// One request a second for so long, aggregated each second.
fn run(health: &ServiceHealth, clock: &ManualClock, seconds: u64, latency: f64) {
    for _ in 0..seconds {
        clock.advance(Duration::from_secs(1));
        health.record(&request("a", latency, false, clock.now_ms()));
        health.aggregate_health();
    }
}

fn get(health: &ServiceHealth, service: &str) -> ServiceHealthMetrics {
    ServiceHealthMetrics::clone(&health.get(service).expect("the service is known"))
}

#[test]
fn aggregate_health_publishes_what_was_recorded() {
    let (health, clock) = health();
    assert_eq!(health.get("a"), None);
    for n in 0..200 {
        health.record(&request("a", 0.010, n % 100 == 0, clock.now_ms()));
    }
    assert_eq!(health.get("a"), None, "nothing shows before it is aggregated");
    assert_eq!(health.aggregate_health(), 1);
    let found = get(&health, "a");
    assert_eq!((found.requests, found.errors, found.error_ratio), (200, 2, 0.01));
    assert_eq!((found.status, found.last_seen_ms), (HealthStatus::Degraded, START_MS));
    assert_eq!(found.reason, "errors 1.0 % of requests in the last minute, limit 1 %");
    let lengths: Vec<i64> = found.windows.iter().map(|window| window.window_ms).collect();
    assert_eq!(lengths, WINDOWS_MS);
    assert!(found.windows.iter().all(|window| (window.requests, window.errors) == (200, 2)), "{found:?}");
}

#[test]
fn windows_empty_by_themselves_and_one_after_the_other() {
    let (health, clock) = health();
    health.record(&request("a", 0.1, false, clock.now_ms()));
    health.aggregate_health();
    let counts = |after: u64| {
        clock.advance(Duration::from_secs(after));
        health.aggregate_health();
        get(&health, "a").windows.iter().map(|window| window.requests).collect::<Vec<_>>()
    };
    assert_eq!(counts(59), [1, 1, 1, 1]);
    assert_eq!(counts(7), [0, 1, 1, 1]);
    assert_eq!(counts(300), [0, 0, 1, 1]);
    assert_eq!(counts(600), [0, 0, 0, 1]);
    assert_eq!(counts(3_000), [0, 0, 0, 0]);
    let found = get(&health, "a");
    assert_eq!((found.requests, found.p50, found.status), (1, None, HealthStatus::Unknown));
    assert_eq!(found.reason, "no requests for 66 min");
}

#[test]
fn slow_service_turns_with_the_reason_and_comes_back_slowly() {
    let (health, clock) = health();
    run(&health, &clock, 3_000, 0.560);
    let usual = get(&health, "a");
    assert_eq!((usual.status, usual.reason.as_str()), (HealthStatus::Healthy, ""));
    run(&health, &clock, 30, 2.3);
    let slow = get(&health, "a");
    assert_eq!(slow.status, HealthStatus::Unhealthy, "{slow:?}");
    assert_eq!(slow.reason, "p99 2.3 s, 4.2 × its own last hour");
    // The minute in which it was slow must pass, and then the time for which it must be well.
    run(&health, &clock, 70, 0.560);
    let recovering = get(&health, "a");
    assert_eq!(recovering.status, HealthStatus::Unhealthy, "{recovering:?}");
    assert!(recovering.reason.starts_with("recovering"), "{recovering:?}");
    run(&health, &clock, 70, 0.560);
    let well = get(&health, "a");
    assert_eq!((well.status, well.reason.as_str()), (HealthStatus::Healthy, ""));
}

#[test]
fn trouble_that_goes_on_stays_trouble_for_half_an_hour() {
    let (health, clock) = health();
    run(&health, &clock, 3_600, 0.1);
    run(&health, &clock, 1_500, 0.45);
    let found = get(&health, "a");
    assert_eq!((found.status, found.reason.as_str()), (HealthStatus::Unhealthy, "p99 449 ms, 4.6 × its own last hour"));
    run(&health, &clock, 2_400, 0.45);
    assert_eq!(get(&health, "a").status, HealthStatus::Healthy, "by then it is usual");
}

#[test]
fn figure_between_threshold_and_margin_changes_nothing() {
    let (health, clock) = health();
    let errors = |share: u64, seconds: u64| {
        for n in 0..seconds * 100 {
            if n % 100 == 0 {
                clock.advance(Duration::from_secs(1));
                health.aggregate_health();
            }
            let is_error = (n + 1) * share / 1_000 > n * share / 1_000;
            health.record(&request("a", 0.01, is_error, clock.now_ms()));
        }
        health.aggregate_health();
        get(&health, "a").status
    };
    assert_eq!(errors(45, 180), HealthStatus::Degraded, "4.5 % is below the limit of 5 %");
    assert_eq!(errors(60, 180), HealthStatus::Unhealthy);
    assert_eq!(errors(45, 600), HealthStatus::Unhealthy, "4.5 % is not below four fifths of 5 %");
    assert_eq!(errors(30, 180), HealthStatus::Degraded);
    assert_eq!(errors(0, 180), HealthStatus::Healthy);
}

#[test]
fn few_requests_are_not_judged() {
    let (health, clock) = health();
    for _ in 0..19 {
        health.record(&request("a", 0.1, true, clock.now_ms()));
    }
    health.aggregate_health();
    let found = get(&health, "a");
    assert_eq!(
        (found.status, found.reason.as_str()),
        (HealthStatus::Unknown, "19 requests in the last hour, 20 to judge")
    );
}

#[test]
fn calls_to_others_are_operations_and_not_health() {
    let (health, clock) = health();
    let call = Request { kind: OperationKind::Client, operation: "db", ..request("a", 0.5, true, clock.now_ms()) };
    health.record(&call);
    health.record(&request("a", 0.1, false, clock.now_ms()));
    health.record_edge("a", "db", 0.5, true, clock.now_ms());
    health.aggregate_health();
    let found = get(&health, "a");
    assert_eq!((found.requests, found.errors), (1, 0));
    let operations = health.operations("a");
    let told: Vec<_> =
        operations.iter().map(|one| (one.operation.as_str(), one.kind, one.requests, one.errors)).collect();
    assert_eq!(told, [("GET /", OperationKind::Server, 1, 0), ("db", OperationKind::Client, 1, 1)]);
    let edges = health.edges();
    assert_eq!((edges[0].caller.as_str(), edges[0].callee.as_str(), edges[0].errors), ("a", "db", 1));
    assert_eq!(edges[0].windows[0].requests, 1);
}

#[test]
fn request_of_long_ago_counts_at_its_time() {
    let (health, clock) = health();
    for minutes in [2, 20, 50, 300] {
        health.record(&request("a", 0.1, false, clock.now_ms() - minutes * 60_000));
    }
    health.aggregate_health();
    let found = get(&health, "a");
    let counts: Vec<u64> = found.windows.iter().map(|window| window.requests).collect();
    assert_eq!((found.requests, counts), (4, vec![0, 1, 1, 3]));
    assert_eq!(found.last_seen_ms, START_MS - 120_000);
}

/// A sender that was held up brings a minute of requests at once: they leave the last minute one after the other all the same.
#[test]
fn requests_that_come_late_together_leave_the_last_minute_in_their_order() {
    let (health, clock) = health();
    for seconds in 0..60 {
        health.record(&request("a", 0.1, false, clock.now_ms() - seconds * 1_000));
    }
    let mut left = Vec::new();
    for _ in 0..8 {
        health.aggregate_health();
        left.push(get(&health, "a").windows[0].requests);
        clock.advance(Duration::from_secs(10));
    }
    // Ten a step, by whole slots of five seconds; what is younger than ten seconds counts as of now.
    assert!(left[0] >= 60 - 5 && left[6] <= 15 && left[7] == 0, "{left:?}");
    assert!(left.windows(2).all(|pair| pair[0] >= pair[1] && pair[0] - pair[1] <= 15), "{left:?}");
}

#[test]
fn wall_clock_that_jumps_moves_no_window() {
    let (health, clock) = health();
    run(&health, &clock, 30, 0.1);
    clock.set_wall_ms(START_MS + 86_400_000);
    run(&health, &clock, 20, 0.1);
    clock.set_wall_ms(START_MS - 86_400_000);
    run(&health, &clock, 5, 0.1);
    assert_eq!(get(&health, "a").windows[0].requests, 55);
}

#[test]
fn names_beyond_the_limits_share_one() {
    let options = HealthOptions {
        services_max: 2,
        operations_of_service_max: 3,
        operations_max: 5,
        edges_max: 1,
        ..HealthOptions::default()
    };
    let (health, clock) = limited(options);
    for n in 0..50 {
        let (service, operation) = (format!("s{}", n % 5), format!("op{n}"));
        health.record(&Request { operation: &operation, ..request(&service, 0.1, false, clock.now_ms()) });
        health.record_edge(&service, &operation, 0.1, false, clock.now_ms());
    }
    assert_eq!(health.aggregate_health(), 3);
    let services: Vec<String> = health.list().iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(services, [OVERFLOW, "s0", "s1"]);
    let requests: u64 = health.list().iter().map(|(_, found)| found.requests).sum();
    assert_eq!(requests, 50, "what is beyond a limit is counted all the same");
    assert!(services.iter().all(|name| health.operations(name).len() <= 4));
    assert_eq!(health.edges().iter().map(|edge| edge.requests).sum::<u64>(), 50);
    assert_eq!(health.edges().len(), 2);
    assert!(health.overflowed() > 50, "{}", health.overflowed());
}

#[test]
fn where_memory_is_used_up_new_names_share_one() {
    let (health, clock) = limited(HealthOptions { bytes_max: 100 << 10, ..HealthOptions::default() });
    let mut told = 0;
    for n in 0..500 {
        let operation = format!("op{n}");
        health.record(&Request { operation: &operation, ..request("a", 0.1, false, clock.now_ms()) });
        health.record_edge("a", &operation, 0.1, false, clock.now_ms());
        told += 1;
        health.aggregate_health();
    }
    assert!((10..400).contains(&health.operations("a").len()), "{}", health.operations("a").len());
    assert!(health.bytes() < 150 << 10, "{}", health.bytes());
    assert_eq!(health.operations("a").iter().map(|of| of.requests).sum::<u64>(), told);
    assert_eq!(health.edges().iter().map(|edge| edge.requests).sum::<u64>(), told);
    assert!(health.operations("a").iter().any(|of| of.operation == OVERFLOW));
}

#[test]
fn silent_services_and_operations_are_forgotten() {
    let options = HealthOptions { services_max: 1, ..HealthOptions::default() };
    let (health, clock) = limited(options);
    health.record(&request("a", 0.1, false, clock.now_ms()));
    health.aggregate_health();
    clock.advance(Duration::from_secs(2 * 3_600));
    health.aggregate_health();
    assert_eq!((health.operations("a").len(), health.list().len()), (0, 1));
    clock.advance(Duration::from_secs(24 * 3_600));
    assert_eq!(health.aggregate_health(), 0);
    health.record(&request("b", 0.1, false, clock.now_ms()));
    health.aggregate_health();
    assert_eq!(get(&health, "b").requests, 1);
}

/// A sum over a count, or a sum by itself, is no latency: a single request of 100 s among thousands of 1 ms moves neither
/// the median nor the 95th percentile, and a metric without buckets has no latency at all.
#[test]
fn sum_of_a_histogram_is_never_a_latency() {
    let (health, clock) = health();
    let mut counts = Counts::new();
    let histogram = NativeHistogram {
        schema: 3,
        sum: 1e9,
        counts: HistogramCounts::Integer(BucketCounts { count: 100, positive: vec![99, 1], ..BucketCounts::default() }),
        positive_spans: vec![
            BucketSpan { offset: exponential_index(0.001, 3), len: 1 },
            BucketSpan { offset: exponential_index(100.0, 3) - exponential_index(0.001, 3) - 1, len: 1 },
        ],
        ..NativeHistogram::default()
    };
    counts.add_histogram(Outcome::Ok, &histogram, 1.0);
    health.record_counts("a", "", OperationKind::Server, &counts, clock.now_ms());
    counts.clear();
    counts.add(Outcome::Ok, Latency::Unknown, 100);
    health.record_counts("b", "", OperationKind::Server, &counts, clock.now_ms());
    health.aggregate_health();
    let found = get(&health, "a");
    let (p50, p95) = (found.p50.unwrap(), found.p95.unwrap());
    assert!((0.0009..0.0011).contains(&p50) && (0.0009..0.0011).contains(&p95), "{found:?}");
    let untimed = get(&health, "b");
    assert_eq!((untimed.requests, untimed.p50, untimed.p99), (100, None, None));
}

/// A latency, however long, is no error; a request is one if and only if the sender says so.
#[test]
fn errors_are_never_guessed_from_values() {
    let (health, clock) = health();
    for n in 0..100 {
        health.record(&request("slow", 500.0 + f64::from(n), false, clock.now_ms()));
        health.record(&request("quick", 0.0, true, clock.now_ms()));
        health.record(&request("odd", f64::NAN, false, clock.now_ms()));
    }
    health.aggregate_health();
    let errors = ["slow", "quick", "odd"].map(|name| get(&health, name).errors);
    assert_eq!(errors, [0, 100, 0]);
    assert_eq!(get(&health, "odd").p50, None);
}

#[test]
fn latencies_counted_elsewhere_are_no_requests() {
    let (health, clock) = health();
    let mut counts = Counts::new();
    counts.add(Outcome::Ok, Latency::Unknown, 30);
    counts.add(Outcome::LatencyOnly, Latency::Between(0.1, 0.2), 30);
    counts.add(Outcome::LatencyOnly, Latency::Unknown, 30);
    assert_eq!(counts.requests(), 30);
    health.record_counts("a", "", OperationKind::Server, &counts, clock.now_ms());
    health.aggregate_health();
    let found = get(&health, "a");
    assert_eq!(found.requests, 30);
    let p50 = found.p50.unwrap();
    assert!((0.145..0.155).contains(&p50), "evenly spread over the bucket: {p50}");
}

#[test]
fn totals_stored_and_restored_give_the_same_windows() {
    let (health, clock) = health();
    for n in 0..300 {
        clock.advance(Duration::from_secs(5));
        health.record(&request("a", 0.001 * f64::from(n + 1), n % 7 == 0, clock.now_ms()));
        health.aggregate_health();
    }
    let totals = health.totals();
    let [told] = totals.as_slice() else { panic!("one service") };
    assert_eq!((told.requests, told.service.as_str()), ([257, 43], "a"));
    assert_eq!(told.latencies.each_ref().map(NativeHistogram::count), [257.0, 43.0, 0.0]);
    assert!(told.latencies.iter().all(|histogram| histogram.validate().is_ok()));
    let (again, _) = limited(HealthOptions::default());
    let mut counts = Counts::new();
    counts.add_histogram(Outcome::Ok, &told.latencies[0], 1.0);
    counts.add_histogram(Outcome::Failed, &told.latencies[1], 1.0);
    again.restore("a", &counts, START_MS);
    again.aggregate_health();
    let (before, after) = (get(&health, "a"), get(&again, "a"));
    assert_eq!((after.requests, after.errors), (before.requests, before.errors));
    assert_eq!(after.windows[3].p99, before.windows[3].p99);
    assert_eq!(again.totals(), totals);
}

#[test]
fn reader_sees_the_figures_of_one_moment_while_many_write() {
    let (health, clock) = health();
    let health = Arc::new(health);
    let is_done = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let (health, clock) = (health.clone(), clock.clone());
            std::thread::spawn(move || {
                for n in 0..20_000_u32 {
                    // Half of all requests fail, and those that fail are slow: any figure of half a request breaks a rule below.
                    let is_error = n % 2 == 0;
                    let seconds = if is_error { 1.0 } else { 0.001 };
                    let service = ["a", "b"][(writer + n as usize / 2) % 2];
                    health.record(&request(service, seconds, is_error, clock.now_ms()));
                }
            })
        })
        .collect();
    let reader = {
        let (health, is_done) = (health.clone(), is_done.clone());
        std::thread::spawn(move || {
            let mut newest = 0;
            while !is_done.load(Ordering::Acquire) {
                let Some(found) = health.get("a") else { continue };
                assert!(found.requests >= newest, "counts never fall");
                newest = found.requests;
                let [minute, .., hour] = &found.windows[..] else { panic!("four windows") };
                assert_eq!((minute.requests, minute.errors), (found.requests, found.errors));
                assert_eq!((hour.requests, hour.errors), (found.requests, found.errors));
                assert_eq!(minute.error_ratio, found.errors as f64 / found.requests as f64);
                // Failed requests are the slow ones, so one of them shows as soon as it is counted.
                let is_slow = minute.p99.is_some_and(|p99| p99 > 0.5);
                assert_eq!(is_slow, found.errors as f64 >= 0.01 * found.requests as f64, "{found:?}");
            }
        })
    };
    while writers.iter().any(|writer| !writer.is_finished()) {
        health.aggregate_health();
    }
    for writer in writers {
        writer.join().unwrap();
    }
    health.aggregate_health();
    is_done.store(true, Ordering::Release);
    reader.join().unwrap();
    let total: u64 = health.list().iter().map(|(_, found)| found.requests).sum();
    let errors: u64 = health.list().iter().map(|(_, found)| found.errors).sum();
    assert_eq!((total, errors), (60_000, 30_000), "what was recorded is what was aggregated");
}

#[test]
fn every_place_is_drained_where_it_was_counted() {
    let cells = Cells::default();
    let outcomes = [Outcome::Ok, Outcome::Failed, Outcome::LatencyOnly];
    let places: Vec<Place> = outcomes
        .into_iter()
        .flat_map(|outcome| [Some(0), Some(15), Some(16), Some(511), None].map(|bucket| Place::new(outcome, bucket)))
        .collect();
    for (count, place) in (1..).zip(&places) {
        cells.add(*place, count);
    }
    let mut drained = Vec::new();
    cells.drain(|place, count| drained.push((place, count)));
    assert_eq!(drained, places.into_iter().zip(1..).collect::<Vec<_>>());
    assert!(cells.is_empty());
}

proptest! {
    #[test]
    fn quantile_is_within_its_stated_error(latencies in prop::collection::vec(1e-6_f64..4_000.0, 1..300)) {
        let (health, clock) = health();
        for &latency in &latencies {
            health.record(&request("a", latency, false, clock.now_ms()));
        }
        health.aggregate_health();
        let found = get(&health, "a");
        let mut sorted = latencies;
        sorted.sort_by(f64::total_cmp);
        for (rank, told) in [(0.5, found.p50), (0.95, found.p95), (0.99, found.p99)] {
            let exact = sorted[((rank * sorted.len() as f64).ceil() as usize).max(1) - 1];
            let told = told.unwrap();
            prop_assert!((told / exact - 1.0).abs() <= 0.022, "p{rank}: {told}, not {exact}");
        }
    }

    #[test]
    fn latency_lies_within_its_bucket(seconds in 1e-6_f64..4_000.0) {
        let (lower, upper) = bounds(bucket_of(seconds).unwrap());
        prop_assert!(lower < seconds && seconds <= upper);
    }

    #[test]
    fn spread_requests_are_all_there(lower in 0.0_f64..10.0, width in 1e-4_f64..10.0, count in 1_u64..10_000) {
        let mut counts = Counts::new();
        counts.add(Outcome::Ok, Latency::Between(lower, lower + width), count);
        prop_assert_eq!(counts.requests(), count);
        let ends = (bucket_of(lower).unwrap(), bucket_of(lower + width).unwrap());
        prop_assert!(counts.places.iter().all(|(place, _)| (ends.0..=ends.1).contains(&place.bucket().unwrap())));
    }
}
