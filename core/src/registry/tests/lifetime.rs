//! How series end: by a dropped handle, after a time without use, and what their values are worth meanwhile.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::clock::ManualClock;
use crate::labels::Labels;
use crate::metric::MetricType;
use crate::registry::{NativeOptions, Overflow, Registry};

fn clocked() -> (Registry, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(1_700_000_000_123));
    (Registry::with_clock(clock.clone()), clock)
}

fn shown(registry: &Registry) -> Vec<String> {
    let series = registry.snapshot().into_iter().flat_map(|family| family.series);
    series.map(|series| series.labels.iter().map(|(_, value)| value.as_str()).collect()).collect()
}

#[test]
fn a_series_goes_with_its_last_scoped_handle() {
    let registry = Registry::new();
    let open = registry.up_down_counter("open").labels(["peer"]).family().unwrap();
    let first = open.scoped(["a"]);
    let second = open.scoped(["a"]);
    open.with(["b"]).inc();
    first.inc();
    drop(first);
    assert_eq!((shown(&registry), second.value()), (vec!["a".to_owned(), "b".to_owned()], 1));
    drop(second);
    assert_eq!(shown(&registry), ["b"]);
    // Not the old series with its old value.
    assert_eq!(open.scoped(["a"]).value(), 0);
}

#[test]
fn a_scoped_handle_beyond_the_limit_leaves_the_overflow_series() {
    let registry = Registry::new();
    let open = registry.counter("open").series_max(1).labels(["peer"]).family().unwrap();
    open.with(["a"]).inc();
    open.scoped(["b"]).inc();
    assert_eq!(shown(&registry), ["peer", "a"]);
}

#[test]
fn series_without_use_go_after_their_time_to_live() {
    let (registry, clock) = clocked();
    let family = registry.gauge("level").ttl(Duration::from_secs(60)).labels(["n"]).family().unwrap();
    let held = family.with(["held"]);
    family.at(["idle"]).set(1.0);
    family.at(["used"]).set(1.0);
    assert_eq!(shown(&registry), ["held", "idle", "used"]);
    clock.advance(Duration::from_secs(59));
    // The same level again is a use all the same.
    family.at(["used"]).set(1.0);
    assert_eq!(shown(&registry), ["held", "idle", "used"]);
    clock.advance(Duration::from_secs(1));
    assert_eq!(shown(&registry), ["held", "used"]);
    drop(held);
    clock.advance(Duration::from_secs(60));
    assert!(shown(&registry).is_empty());
}

#[test]
fn a_full_family_makes_room_of_idle_series_without_being_read() {
    let (registry, clock) = clocked();
    let family = registry.counter("c").ttl(Duration::from_secs(1)).series_max(2).labels(["n"]).family().unwrap();
    family.at(["a"]).inc();
    family.at(["b"]).inc();
    // Seen in use, then seen idle for as long as it may be.
    family.at(["c"]).inc();
    clock.advance(Duration::from_secs(1));
    family.at(["d"]).inc();
    assert_eq!(shown(&registry), ["n", "d"]);
}

#[test]
fn the_first_overflow_of_a_family_is_told_once() {
    let registry = Registry::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&told);
    let again = registry.clone();
    registry.on_overflow(move |overflow| {
        // No lock is held: the registry may be used.
        again.counter("overflows_total").register().unwrap().inc();
        seen.lock().unwrap().push(overflow.clone());
    });
    let family = registry.counter("hits_total").series_max(2).labels(["code", "user"]).family().unwrap();
    for user in 0..10 {
        family.at(["200", &user.to_string()]).inc();
    }
    let wanted = Overflow { family: "hits_total".to_owned(), label: "user".to_owned(), series_max: 2 };
    assert_eq!(*told.lock().unwrap(), std::slice::from_ref(&wanted));
    assert!(wanted.to_string().contains("label \"user\""), "{wanted}");
    assert_eq!(registry.counter("overflows_total").register().unwrap().value(), 1.0);
}

#[test]
fn a_series_says_when_it_was_made() {
    let (registry, clock) = clocked();
    let family = registry.counter("c").labels(["n"]).family().unwrap();
    family.at(["a"]).inc();
    clock.advance(Duration::from_millis(877));
    family.at(["b"]).inc();
    let created: Vec<Option<i64>> = registry.snapshot()[0].series.iter().map(|series| series.created_ms).collect();
    assert_eq!(created, [Some(1_700_000_000_123), Some(1_700_000_001_000)]);
}

#[test]
fn quantiles_of_a_summary_slide_and_its_count_does_not() {
    let (registry, clock) = clocked();
    let summary = registry.summary("s").window(Duration::from_secs(60)).register().unwrap();
    summary.record(1_000.0);
    clock.advance(Duration::from_secs(50));
    summary.record(10.0);
    assert!((summary.quantile(1.0) / 1_000.0 - 1.0).abs() < 0.011, "{}", summary.quantile(1.0));
    clock.advance(Duration::from_secs(10));
    assert!((summary.quantile(1.0) / 10.0 - 1.0).abs() < 0.011, "{}", summary.quantile(1.0));
    clock.advance(Duration::from_secs(3_600));
    assert!(summary.quantile(0.5).is_nan());
    assert_eq!((summary.count(), summary.sum()), (2, 1_010.0));
}

#[test]
fn exemplars_are_kept_on_request_the_newest_of_each_bucket() {
    let registry = Registry::new();
    let histogram = registry.histogram("h").buckets(&[1.0, 2.0]).register().unwrap();
    let counter = registry.counter("c").register().unwrap();
    let trace = |id: &str| Labels::from_pairs([("trace_id", id)]);
    histogram.record(0.5);
    histogram.record_with_exemplar(0.5, trace("old"), 1);
    histogram.record_with_exemplar(0.6, trace("new"), 3);
    histogram.record_with_exemplar(9.0, trace("slow"), 2);
    counter.add_with_exemplar(4, trace("c"), 5);
    let snapshot = registry.snapshot();
    let ids = |value: &MetricType| match value {
        MetricType::Counter { exemplars, .. } | MetricType::Histogram { exemplars, .. } => exemplars
            .iter()
            .flatten()
            .map(|e| (e.labels.get("trace_id").unwrap_or_default().to_owned(), e.value))
            .collect(),
        _ => Vec::new(),
    };
    assert_eq!(ids(&snapshot[0].series[0].value), [("c".to_owned(), 4.0)]);
    assert_eq!(ids(&snapshot[1].series[0].value), [("slow".to_owned(), 9.0), ("new".to_owned(), 0.6)]);
    assert_eq!((histogram.count(), counter.value()), (4, 4.0));
}

#[test]
fn a_native_histogram_shows_its_buckets() {
    let registry = Registry::new();
    let histogram = registry.histogram("h").native(NativeOptions::default()).register().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (1..=1_000).for_each(|n| histogram.record(f64::from(n))));
        }
    });
    assert_eq!((histogram.count(), histogram.sum()), (4_000, 4.0 * 500_500.0));
    let native = histogram.native().unwrap();
    let (median, _) = native.quantile(0.5);
    assert!((median / 500.0 - 1.0).abs() < 0.091, "{median}");
    let shown = registry.snapshot()[0].series[0].value.clone();
    assert_eq!(shown, MetricType::NativeHistogram { histogram: Box::new(native), exemplars: None });
    let narrow = registry.histogram("n").native(NativeOptions { buckets_max: 20, ..NativeOptions::default() });
    assert!(narrow.register().unwrap_err().to_string().contains("160 buckets"));
}
