use std::sync::Arc;
use std::time::Duration;

use kymo_core::batch::{AddedValue, Increment};
use kymo_core::health::{HealthOptions, HealthStatus, OperationKind, Request, ServiceHealth, ServiceHealthMetrics};
use kymo_core::histogram::{BucketCounts, BucketSpan, HistogramCounts, NativeHistogram, exponential_index};
use kymo_core::memory::MemoryOptions;
use kymo_core::{Clock, Labels, ManualClock, MemoryStorage, MetricStorage, QueryContext, SampleBatch};

use super::reader::{MetricReader, Reading, compiled};
use super::stored::{self, Figures};
use super::*;
use crate::collect::{Gathered, Source};

const START_MS: i64 = 1_700_000_000_000;

struct World {
    clock: Arc<ManualClock>,
    storage: Arc<MemoryStorage>,
    health: Arc<ServiceHealth>,
    reader: MetricReader,
}

impl World {
    fn new() -> World {
        World::of(&ServiceHealthConfig::default())
    }

    fn of(config: &ServiceHealthConfig) -> World {
        let clock = Arc::new(ManualClock::at(START_MS));
        let health = Arc::new(ServiceHealth::new(config.options(), clock.clone()));
        let options = MemoryOptions { clock: clock.clone(), health: Some(health.clone()), ..MemoryOptions::default() };
        let reader = MetricReader::new(compiled(&config.metrics), START_MS - 1);
        World { clock, storage: Arc::new(MemoryStorage::new(options)), health, reader }
    }

    /// Stores floats of this moment.
    fn floats(&self, series: &[(&[(&str, &str)], f64)]) {
        let mut batch = SampleBatch::new();
        for (labels, value) in series {
            batch.push_float(&Labels::from_pairs(labels.iter().copied()), self.clock.now_ms(), *value);
        }
        let report = self.storage.append(&batch).expect("the storage takes it");
        assert_eq!(report.rejected, []);
    }

    fn native(&self, labels: &[(&str, &str)], histogram: &NativeHistogram) {
        let mut batch = SampleBatch::new();
        batch.push_histogram(&Labels::from_pairs(labels.iter().copied()), self.clock.now_ms(), histogram.clone());
        let report = self.storage.append(&batch).expect("the storage takes it");
        assert_eq!(report.rejected, []);
    }

    /// Goes on by some seconds, and reads what was stored.
    fn read(&mut self) {
        let now_ms = self.clock.now_ms();
        self.reader.read(&*self.storage, &QueryContext::unlimited(), &self.health, &[now_ms]).expect("it is all there");
        self.health.aggregate_health();
        self.clock.advance(Duration::from_secs(10));
    }

    fn get(&self, service: &str) -> Option<ServiceHealthMetrics> {
        self.storage.get_service_health(&service.into())
    }
}

/// Observations at 10 ms and at 2 s.
fn histogram(quick: u64, slow: u64) -> NativeHistogram {
    let (first, second) = (exponential_index(0.010, 5), exponential_index(2.0, 5));
    NativeHistogram {
        schema: 5,
        sum: 1e6,
        counts: HistogramCounts::Integer(BucketCounts {
            count: quick + slow,
            positive: vec![quick, slow],
            ..BucketCounts::default()
        }),
        positive_spans: vec![BucketSpan { offset: first, len: 1 }, BucketSpan { offset: second - first - 1, len: 1 }],
        ..NativeHistogram::default()
    }
}

#[test]
fn classic_histogram_gives_requests_errors_and_latencies() {
    let mut world = World::new();
    let name = ("__name__", "http_request_duration_seconds_bucket");
    let store = |world: &World, ok: [f64; 3], failed: [f64; 3]| {
        for (status, counts) in [("200", ok), ("503", failed)] {
            for (le, count) in ["0.1", "0.5", "+Inf"].into_iter().zip(counts) {
                let labels = [name, ("job", "shop"), ("handler", "/buy"), ("status_code", status), ("le", le)];
                world.floats(&[(&labels, count)]);
            }
        }
        // A sum is there, and is no latency.
        world.floats(&[(&[("__name__", "http_request_duration_seconds_sum"), ("job", "shop")], 1e9)]);
    };
    store(&world, [100.0; 3], [3.0; 3]);
    world.read();
    assert_eq!(world.get("shop"), None, "what a series counted before it was first seen is not known to be new");
    store(&world, [190.0, 198.0, 198.0], [3.0, 3.0, 5.0]);
    world.read();
    let found = world.get("shop").unwrap();
    assert_eq!((found.requests, found.errors), (100, 2));
    let p95 = found.p95.unwrap();
    assert!((0.1..0.5).contains(&p95), "{found:?}");
    assert_eq!(found.p99.map(|p99| (p99 - 0.5).abs() < 0.5 * 0.022), Some(true), "above the last bound: {found:?}");
    let operations = world.health.operations("shop");
    assert_eq!((operations[0].operation.as_str(), operations[0].requests), ("/buy", 100));
    // A reset: all of it is new.
    store(&world, [7.0; 3], [0.0; 3]);
    world.read();
    assert_eq!(world.get("shop").unwrap().requests, 107);
}

#[test]
fn native_histogram_of_an_exponential_one_is_read() {
    let mut world = World::new();
    let labels = |status| {
        [
            ("__name__", "http_server_request_duration_seconds"),
            ("job", "shop"),
            ("http_route", "/buy"),
            ("http_request_method", "POST"),
            ("http_response_status_code", status),
        ]
    };
    world.native(&labels("200"), &histogram(100, 0));
    world.native(&labels("500"), &histogram(0, 0));
    world.read();
    world.native(&labels("200"), &histogram(290, 5));
    world.native(&labels("500"), &histogram(0, 5));
    world.read();
    let found = world.get("shop").unwrap();
    assert_eq!((found.requests, found.errors), (200, 5));
    let (p50, p99) = (found.p50.unwrap(), found.p99.unwrap());
    assert!((0.0095..0.0105).contains(&p50) && (1.9..2.1).contains(&p99), "{found:?}");
    assert_eq!(world.health.operations("shop")[0].operation, "POST /buy");
}

/// A total that is told as increments counts from its start on: the first one is no lost beginning.
#[test]
fn series_that_began_since_counts_from_its_start() {
    let mut world = World::new();
    world.clock.advance(Duration::from_secs(30));
    let labels = Labels::from_pairs([
        ("__name__", "rpc_server_duration_milliseconds"),
        ("service_name", "ledger"),
        ("rpc_service", "Ledger"),
        ("rpc_method", "Book"),
        ("rpc_grpc_status_code", "14"),
    ]);
    let mut batch = SampleBatch::new();
    let mut millis = histogram(0, 0);
    millis.counts = HistogramCounts::Integer(BucketCounts { count: 40, positive: vec![40], ..BucketCounts::default() });
    millis.positive_spans = vec![BucketSpan { offset: exponential_index(250.0, 5), len: 1 }];
    batch.push_histogram(&labels, world.clock.now_ms(), millis);
    batch.set_start(world.clock.now_ms() - 10_000);
    world.storage.append(&batch).unwrap();
    world.read();
    let found = world.get("ledger").unwrap();
    assert_eq!((found.requests, found.errors), (40, 40), "UNAVAILABLE is the server's fault");
    assert!((0.24..0.26).contains(&found.p50.unwrap()), "milliseconds: {found:?}");
}

#[test]
fn counter_gives_requests_and_errors_and_no_latency() {
    let mut world = World::new();
    let series = |code| [("__name__", "shop_http_requests_total"), ("job", "shop"), ("code", code)];
    world.floats(&[(&series("200"), 50.0), (&series("500"), 0.0)]);
    // Without a label of how it ended, a counter is none of requests; nor is one of clients.
    world.floats(&[(&[("__name__", "cache_requests_total"), ("job", "cache")], 0.0)]);
    world.floats(&[(&[("__name__", "http_client_requests_total"), ("job", "cache"), ("code", "500")], 0.0)]);
    world.read();
    world.floats(&[(&series("200"), 140.0), (&series("500"), 10.0)]);
    world.floats(&[(&[("__name__", "cache_requests_total"), ("job", "cache")], 9.0)]);
    world.floats(&[(&[("__name__", "http_client_requests_total"), ("job", "cache"), ("code", "500")], 9.0)]);
    world.read();
    let found = world.get("shop").unwrap();
    assert_eq!((found.requests, found.errors, found.p50), (100, 10, None));
    assert_eq!(found.status, HealthStatus::Unhealthy);
    assert_eq!(world.get("cache"), None);
}

/// Latencies from the histogram, errors from the counter that knows them; and no request twice.
#[test]
fn histogram_without_outcomes_and_a_counter_with_them_are_one() {
    let mut world = World::new();
    let counter = |code| [("__name__", "http_requests_total"), ("job", "shop"), ("code", code)];
    let bucket = |le| [("__name__", "http_request_duration_seconds_bucket"), ("job", "shop"), ("le", le)];
    world.floats(&[(&counter("200"), 0.0), (&counter("500"), 0.0), (&bucket("0.2"), 0.0), (&bucket("+Inf"), 0.0)]);
    world.read();
    world.floats(&[(&counter("200"), 48.0), (&counter("500"), 2.0), (&bucket("0.2"), 50.0), (&bucket("+Inf"), 50.0)]);
    world.read();
    let found = world.get("shop").unwrap();
    assert_eq!((found.requests, found.errors), (50, 2));
    assert!((0.09..0.11).contains(&found.p50.unwrap()), "{found:?}");
}

#[test]
fn metrics_of_a_traced_service_are_left_alone() {
    let mut world = World::new();
    let counter = [("__name__", "http_requests_total"), ("job", "shop"), ("code", "200")];
    let end_ms = world.clock.now_ms();
    world.health.record(&Request {
        service: "shop",
        operation: "GET /",
        kind: OperationKind::Server,
        duration_seconds: 0.1,
        is_error: false,
        end_ms,
        weight: 1,
    });
    world.floats(&[(&counter, 0.0)]);
    world.read();
    world.floats(&[(&counter, 70.0)]);
    world.read();
    assert_eq!(world.get("shop").unwrap().requests, 1);
}

#[test]
fn late_samples_count_and_no_sample_twice() {
    let mut world = World::new();
    let counter = Labels::from_pairs([("__name__", "http_requests_total"), ("job", "shop"), ("code", "200")]);
    let store = |world: &World, time_ms: i64, value: f64| {
        let mut batch = SampleBatch::new();
        batch.push_float(&counter, time_ms, value);
        world.storage.append(&batch).unwrap();
    };
    store(&world, START_MS, 0.0);
    world.read();
    world.read();
    // Two that were on their way for a while, and came after a reading of later times.
    store(&world, START_MS + 5_000, 10.0);
    store(&world, START_MS + 9_000, 30.0);
    world.read();
    world.read();
    assert_eq!(world.get("shop").unwrap().requests, 30);
}

/// Two processes of one series count in the same interval: their total grows at one time, which may have been read between them.
#[test]
fn what_is_told_anew_of_a_time_that_was_read_counts_too() {
    let mut world = World::new();
    world.read();
    let counter = Labels::from_pairs([("__name__", "http_requests_total"), ("job", "shop"), ("code", "200")]);
    let latencies = Labels::from_pairs([("__name__", "http_server_request_duration_seconds"), ("job", "till")]);
    for (writer, told) in [(1, 10_u32), (2, 20), (2, 20)] {
        let mut batch = SampleBatch::new();
        let increment = |value| Increment { writer, start_ms: START_MS, end_ms: START_MS + 5_000, value };
        batch.push_increment(&counter, increment(AddedValue::Float(f64::from(told))));
        batch.push_increment(&latencies, increment(AddedValue::Histogram(histogram(told.into(), 0))));
        assert_eq!(world.storage.append(&batch).unwrap().rejected, []);
        world.read();
    }
    assert_eq!(world.get("shop").unwrap().requests, 30);
    assert_eq!(world.get("till").unwrap().requests, 30);
    // A smaller value of a time that was read puts it right, and is no beginning.
    let plain = Labels::from_pairs([("__name__", "http_requests_total"), ("job", "plain"), ("code", "200")]);
    for (time_ms, value) in
        [(START_MS, 0.0), (START_MS + 9_000, 30.0), (START_MS + 9_000, 25.0), (START_MS + 9_500, 26.0)]
    {
        let mut batch = SampleBatch::new();
        batch.push_float(&plain, time_ms, value);
        world.storage.append(&batch).unwrap();
        world.read();
    }
    assert_eq!(world.get("plain").unwrap().requests, 31);
}

/// As a program does that sends what it counted while nobody listened.
#[test]
fn history_that_comes_at_once_counts_at_its_time() {
    let world = World::new();
    let (storage, since_ms) = (world.storage.clone(), START_MS - 3_600_000);
    let mut reading = Reading {
        reader: MetricReader::new(compiled(&ServiceHealthConfig::default().metrics), since_ms),
        read_ms: since_ms,
        version: storage.version(),
        went_back_ms: 0,
        storage,
    };
    let ctx = QueryContext::unlimited();
    reading.catch_up(&ctx, &world.health, START_MS).unwrap();
    let labels = Labels::from_pairs([("__name__", "http_requests_total"), ("job", "shop"), ("code", "200")]);
    let mut batch = SampleBatch::new();
    for minute in 0..=90 {
        batch.push_float(&labels, START_MS - (90 - minute) * 60_000, 10.0 * minute as f64);
    }
    world.storage.append(&batch).unwrap();
    world.clock.advance(Duration::from_secs(20));
    reading.catch_up(&ctx, &world.health, world.clock.now_ms()).unwrap();
    world.health.aggregate_health();
    let counts = |world: &World| {
        let found = world.get("shop").unwrap();
        found.windows.iter().map(|window| window.requests).collect::<Vec<_>>()
    };
    let first = counts(&world);
    assert!((10..=20).contains(&first[0]) && (50..=60).contains(&first[1]), "{first:?}");
    assert!((150..=160).contains(&first[2]) && (550..=600).contains(&first[3]), "{first:?}");
    reading.catch_up(&ctx, &world.health, world.clock.now_ms()).unwrap();
    world.health.aggregate_health();
    assert_eq!(counts(&world), first);
}

/// An hour of every kind of series, with a pause and a beginning anew, read in so many steps at once.
fn told_of_an_hour(steps_at_once: usize) -> String {
    let mut world = World::new();
    world.reader = MetricReader::new(compiled(&ServiceHealthConfig::default().metrics), START_MS - 3_600_001);
    let mut batch = SampleBatch::new();
    let bucket = ("__name__", "http_request_duration_seconds_bucket");
    for scrape in (0..=240u32).filter(|scrape| !(80..120).contains(scrape)) {
        let time_ms = START_MS - i64::from(240 - scrape) * 15_000;
        // A second process takes the first one's place.
        let n = f64::from(if scrape < 150 { scrape } else { scrape - 150 });
        for (le, share) in [("0.1", 5.0), ("0.5", 7.0), ("+Inf", 9.0)] {
            let status = if scrape % 7 < 5 { "200" } else { "500" };
            let labels = [bucket, ("job", "shop"), ("handler", "/buy"), ("status_code", status), ("le", le)];
            batch.push_float(&Labels::from_pairs(labels), time_ms, share * n);
        }
        let labels = [("__name__", "http_requests_total"), ("job", "till"), ("code", "200")];
        batch.push_float(&Labels::from_pairs(labels), time_ms, 3.0 * n);
        let labels = [("__name__", "http_server_request_duration_seconds"), ("job", "queue")];
        batch.push_histogram(&Labels::from_pairs(labels), time_ms, histogram(4 * n as u64, n as u64));
    }
    let report = world.storage.append(&batch).unwrap();
    assert_eq!(report.rejected, []);
    let steps: Vec<i64> = (1..=60).map(|minute| START_MS - (60 - minute) * 60_000).collect();
    for steps in steps.chunks(steps_at_once) {
        world.reader.read(&*world.storage, &QueryContext::unlimited(), &world.health, steps).unwrap();
    }
    world.health.aggregate_health();
    let told = ["shop", "till", "queue"].map(|service| world.get(service).unwrap());
    assert!(told.iter().all(|told| told.requests > 100), "{told:?}");
    format!("{told:?} {:?} {:?}", world.health.operations("shop"), world.health.totals())
}

#[test]
fn many_steps_read_at_once_count_as_each_alone() {
    let alone = told_of_an_hour(1);
    assert_eq!(told_of_an_hour(7), alone);
    assert_eq!(told_of_an_hour(60), alone);
}

#[test]
fn rules_of_the_configuration_replace_the_others() {
    let text = r#"{"metrics": [{"name": "calls_seconds", "type": "histogram", "service": ["app"], "operation": ["what"],
        "outcome": ["result"], "errors": "failed|lost", "kind": "consumer"}], "thresholds": {"errors_unhealthy": 0.5}}"#;
    let config: ServiceHealthConfig = serde_json::from_str(text).unwrap();
    config.validate().unwrap();
    assert_eq!(config.options().thresholds.errors_unhealthy, 0.5);
    let mut world = World::of(&config);
    let series = |result| [("__name__", "calls_seconds"), ("app", "queue"), ("what", "mail"), ("result", result)];
    let other = [("__name__", "http_requests_total"), ("job", "shop"), ("code", "200")];
    for (count, other_count) in [(0, 0.0), (30, 30.0)] {
        world.native(&series("ok"), &histogram(count, 0));
        world.native(&series("lost"), &histogram(0, count / 10));
        world.floats(&[(&other, other_count)]);
        world.read();
    }
    let found = world.get("queue").unwrap();
    assert_eq!((found.requests, found.errors, found.status), (33, 3, HealthStatus::Degraded));
    assert_eq!(world.health.operations("queue")[0].kind, OperationKind::Consumer);
    assert_eq!(world.get("shop"), None);
}

#[test]
fn configuration_that_cannot_hold_is_refused() {
    let refused = |text: &str| {
        let config: ServiceHealthConfig = serde_json::from_str(text).unwrap();
        config.validate().expect_err("it cannot hold").to_string()
    };
    assert_eq!(
        refused(r#"{"thresholds": {"errors_degraded": 0.2}}"#),
        "service_health.thresholds: errors_unhealthy must not be below errors_degraded"
    );
    assert_eq!(refused(r#"{"thresholds": {"leave": 1.5}}"#), "service_health.thresholds: leave must be from 0 to 1");
    assert_eq!(refused(r#"{"services_max": 0}"#), "service_health: services_max must be at least 1");
    assert_eq!(
        refused(r#"{"metrics": [{"name": "(", "type": "counter"}]}"#),
        "the pattern \"(\" of service_health.metrics cannot be used"
    );
    ServiceHealthConfig::default().validate().unwrap();
}

/// An hour of a service, stored every 15 seconds as a server does; then another health, as after a start.
#[test]
fn health_is_rebuilt_from_what_was_stored() {
    let world = World::new();
    let mut figures = Figures { health: world.health.clone() };
    for round in 0..260 {
        for n in 0..30 {
            let (operation, kind) = ("GET /", OperationKind::Server);
            let duration_seconds = if round < 220 { 0.1 } else { 0.4 };
            let (is_error, end_ms) = (n == 0 && round % 10 == 0, world.clock.now_ms());
            world.health.record(&Request {
                service: "a",
                operation,
                kind,
                duration_seconds,
                is_error,
                end_ms,
                weight: 1,
            });
        }
        world.health.aggregate_health();
        let mut gathered = Gathered::default();
        figures.gather(&mut gathered);
        gathered.store_all(&*world.storage, world.clock.now_ms());
        world.clock.advance(Duration::from_secs(15));
    }
    world.health.aggregate_health();
    let before = world.get("a").unwrap();
    let again = ServiceHealth::new(HealthOptions::default(), world.clock.clone());
    let now_ms = world.clock.now_ms();
    stored::restore(&*world.storage, &QueryContext::unlimited(), &again, now_ms).unwrap();
    again.aggregate_health();
    // Known already, as by metrics: no request counts twice.
    stored::restore(&*world.storage, &QueryContext::unlimited(), &again, now_ms).unwrap();
    again.aggregate_health();
    let after = ServiceHealthMetrics::clone(&again.get("a").unwrap());
    assert_eq!((after.requests, after.errors), (before.requests, before.errors));
    assert_eq!((after.status, &after.reason), (before.status, &before.reason));
    assert_eq!(after.status, HealthStatus::Unhealthy, "{after:?}");
    for (before, after) in before.windows.iter().zip(&after.windows) {
        assert_eq!((before.p50, before.p99), (after.p50, after.p99));
        // A window may differ by the requests of one slot at its edge.
        let slot = before.requests / 12 + 30;
        assert!(before.requests.abs_diff(after.requests) <= slot, "{before:?}, {after:?}");
    }
    assert_eq!(again.totals(), world.health.totals(), "what is stored next goes on where it ended");
}

/// Stored once before the end, and once more after a while away: what was new each time counts when it was.
#[test]
fn what_was_stored_once_is_in_the_windows_and_no_request_counts_later_than_it_was() {
    let world = World::new();
    let store = |health: &Arc<ServiceHealth>, requests: u32| {
        for _ in 0..requests {
            health.record(&Request {
                service: "a",
                operation: "GET /",
                kind: OperationKind::Server,
                duration_seconds: 0.1,
                is_error: false,
                end_ms: world.clock.now_ms(),
                weight: 1,
            });
        }
        health.aggregate_health();
        let mut gathered = Gathered::default();
        Figures { health: health.clone() }.gather(&mut gathered);
        gathered.store_all(&*world.storage, world.clock.now_ms());
    };
    let started = || {
        let health = Arc::new(ServiceHealth::new(HealthOptions::default(), world.clock.clone()));
        stored::restore(&*world.storage, &QueryContext::unlimited(), &health, world.clock.now_ms()).unwrap();
        health.aggregate_health();
        health
    };
    let told = |health: &Arc<ServiceHealth>| {
        let found = health.get("a").unwrap();
        (found.requests, found.windows.iter().map(|window| window.requests).collect::<Vec<_>>())
    };
    store(&world.health, 40);
    world.clock.advance(Duration::from_secs(5));
    let second = started();
    assert_eq!(told(&second), (40, vec![40; 4]));
    // Fifty minutes away, then ten requests and the end.
    world.clock.advance(Duration::from_secs(50 * 60));
    let third = started();
    store(&third, 10);
    world.clock.advance(Duration::from_secs(20 * 60));
    assert_eq!(told(&started()), (50, vec![0, 0, 0, 10]), "the others ended more than an hour ago");
    // Away for longer than anybody remembers.
    world.clock.advance(Duration::from_secs(50 * 60));
    assert!(started().get("a").is_none());
}
