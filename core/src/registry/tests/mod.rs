//! What a registry promises, at its door.

mod lifetime;
mod lookup;

use super::*;
use crate::metric::{Bucket, MetricKind, MetricType};

fn labels_of(family: &FamilySnapshot) -> Vec<String> {
    let text = |series: &SeriesSnapshot| {
        let pairs = series.labels.iter().map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join(",")
    };
    family.series.iter().map(text).collect()
}

#[test]
fn equal_labels_share_one_value() {
    let registry = Registry::new();
    let build = || registry.counter("hits_total").help("Hits.").labels(["code"]).family().unwrap();
    build().with(["200"]).add(2);
    build().with(["200"]).add_f64(0.5);
    assert_eq!(build().with(["200"]).value(), 2.5);
    let fixed = registry.counter("hits_total").help("Hits.").label("code", "200").register();
    assert_eq!(fixed.unwrap().value(), 2.5);
}

#[test]
fn snapshot_is_sorted_and_complete() {
    let registry = Registry::new();
    let open = registry.up_down_counter("open").unit("connections").register().unwrap();
    open.add(5);
    open.dec();
    let hits = registry.counter("hits_total").labels(["method", "code"]).family().unwrap();
    hits.with(["PUT", "200"]).inc();
    hits.with(["GET", "200"]).inc();
    hits.with(["GET", ""]).inc();
    registry.gauge("empty").labels(["never"]).family().unwrap();
    let snapshot = registry.snapshot();
    let names: Vec<_> = snapshot.iter().map(|family| family.name.as_str()).collect();
    assert_eq!(names, ["empty", "hits_total", "open"]);
    assert_eq!(labels_of(&snapshot[1]), ["code=200,method=GET", "code=200,method=PUT", "method=GET"]);
    assert_eq!((snapshot[2].kind, snapshot[2].unit.as_str()), (MetricKind::Gauge, "connections"));
    assert_eq!(snapshot[2].series[0].value, MetricType::Gauge { value: 4.0 });
}

#[test]
fn series_beyond_the_limit_share_one_that_names_the_label() {
    let registry = Registry::new();
    let family =
        registry.counter("hits_total").label("zone", "a").series_max(2).labels(["code", "user"]).family().unwrap();
    for user in ["u1", "u2", "u3", "u4", "u1"] {
        family.with(["200", user]).inc();
    }
    let snapshot = registry.snapshot();
    let found = labels_of(&snapshot[0]);
    assert_eq!(found, ["code=200,user=u1,zone=a", "code=200,user=u2,zone=a", "kymo_overflow=user,zone=a"]);
    let values: Vec<f64> = snapshot[0].series.iter().map(|series| series.value.value()).collect();
    assert_eq!(values, [2.0, 1.0, 2.0]);
    assert!(family.remove(["200", "u2"]) && !family.remove(["200", "u9"]));
    family.with(["200", "u5"]).inc();
    assert!(labels_of(&registry.snapshot()[0]).contains(&"code=200,user=u5,zone=a".to_owned()));
}

#[test]
fn families_are_described_one_way() {
    let registry = Registry::new();
    registry.gauge("level").help("Level.").register().unwrap();
    let differs = |what| RegisterError::Differs { family: "level".to_owned(), what };
    assert_eq!(registry.counter("level").register().unwrap_err(), differs("type"));
    assert_eq!(registry.up_down_counter("level").register().unwrap_err(), differs("type"));
    assert_eq!(registry.gauge("level").register().unwrap_err(), differs("help text"));
    let labelled = registry.gauge("level").help("Level.").label("a", "b").register();
    assert_eq!(labelled.unwrap_err(), differs("set of labels"));
    let unit = registry.gauge("level").help("Level.").unit("bytes").register();
    assert_eq!(unit.unwrap_err(), differs("unit"));
    registry.histogram("sizes").buckets(&[1.0]).register().unwrap();
    let buckets = registry.histogram("sizes").buckets(&[2.0]).register().unwrap_err();
    assert!(buckets.to_string().ends_with("another set of buckets or quantiles"), "{buckets}");
}

#[test]
fn impossible_descriptions_are_refused() {
    let registry = Registry::new();
    let label = |label: &str| RegisterError::Label { family: "m".to_owned(), label: label.to_owned() };
    assert_eq!(registry.counter("").register().unwrap_err(), RegisterError::EmptyName);
    assert_eq!(registry.counter("m").label("", "x").register().unwrap_err(), label(""));
    assert_eq!(registry.counter("m").labels(["a", "a"]).family().unwrap_err(), label("a"));
    assert_eq!(registry.counter("m").label("__name__", "x").register().unwrap_err(), label("__name__"));
    let overflow = registry.counter("m").labels([OVERFLOW_LABEL]).family();
    assert_eq!(overflow.unwrap_err(), label(OVERFLOW_LABEL));
    assert_eq!(registry.histogram("m").label("le", "1").register().unwrap_err(), label("le"));
    let options = |what| RegisterError::Options { family: "m".to_owned(), what };
    for falling in [&[2.0, 1.0][..], &[1.0, 100.0, 2.0], &[1.0, -1.0], &[1.0, 1.0]] {
        let refused = registry.histogram("m").buckets(falling).register().unwrap_err();
        assert_eq!(refused, options("bucket bounds do not rise"), "{falling:?}");
    }
    for no_number in [[1.0, f64::NAN, 2.0], [f64::NAN, 1.0, 2.0], [1.0, 2.0, -f64::NAN], [1.0, -f64::NAN, 2.0]] {
        let refused = registry.histogram("m").buckets(&no_number).register().unwrap_err();
        assert_eq!(refused, options("a bucket bound is not a number"), "{no_number:?}");
    }
    let beyond = registry.summary("m").quantiles(&[1.5]).register();
    assert_eq!(beyond.unwrap_err(), options("a quantile is outside 0 to 1"));
    assert!(registry.snapshot().is_empty());
}

#[test]
fn table_entries_hold_kind_and_labels() {
    const DESC: MetricDesc = MetricDesc {
        name: "kymo_rows_total",
        kind: MetricKind::Counter,
        unit: "",
        help: "Rows by outcome.",
        labels: &["outcome"],
    };
    let registry = Registry::new();
    registry.counter(&DESC).labels(["outcome"]).family().unwrap().with(["stored"]).inc();
    assert_eq!(registry.snapshot()[0].help, "Rows by outcome.");
    assert!(matches!(registry.gauge(&DESC).register(), Err(RegisterError::Kind { .. })));
    assert!(matches!(registry.counter(&DESC).register(), Err(RegisterError::DescribedLabels { .. })));
}

#[test]
fn bucket_bounds_are_inclusive_and_counts_agree() {
    let registry = Registry::new();
    let histogram = registry.histogram("sizes").buckets(&[1.0, 2.0]).register().unwrap();
    for value in [0.5, 1.0, 1.5, 2.0, 3.0, f64::NAN] {
        histogram.record(value);
    }
    let bucket = |upper_bound, cumulative_count| Bucket { upper_bound, cumulative_count };
    let expected = MetricType::Histogram {
        buckets: vec![bucket(1.0, 2), bucket(2.0, 4), bucket(f64::INFINITY, 5)],
        sum: 8.0,
        count: 5,
        exemplars: None,
    };
    assert_eq!(registry.snapshot()[0].series[0].value, expected);
    assert_eq!((histogram.count(), histogram.sum()), (5, 8.0));
}

#[test]
fn summary_shows_its_quantiles() {
    let registry = Registry::new();
    let summary = registry.summary("latency").quantiles(&[0.99, 0.5]).register().unwrap();
    (1..=100).for_each(|value| summary.record(f64::from(value)));
    summary.record(f64::INFINITY);
    let MetricType::Summary { quantiles, sum, count } = registry.snapshot()[0].series[0].value.clone() else {
        panic!("not a summary");
    };
    assert_eq!((sum, count), (5050.0, 100));
    assert_eq!(quantiles.iter().map(|q| q.quantile).collect::<Vec<_>>(), [0.5, 0.99]);
    assert!((quantiles[0].value / 50.0 - 1.0).abs() <= 0.011, "{quantiles:?}");
    assert!((quantiles[1].value / 99.0 - 1.0).abs() <= 0.011, "{quantiles:?}");
}

#[test]
fn totals_only_rise() {
    let counter = Registry::new().counter("c").register().unwrap();
    counter.raise_to(5);
    counter.raise_to(3);
    counter.add_f64(-1.0);
    counter.add_f64(f64::NAN);
    assert_eq!(counter.value(), 5.0);
}

#[test]
fn nothing_recorded_by_many_threads_is_lost() {
    const THREADS: u32 = 4;
    const ROUNDS: u32 = 5_000;
    let registry = Registry::new();
    let counters = registry.counter("c").labels(["half"]).family().unwrap();
    let gauge = registry.gauge("g").register().unwrap();
    let histogram = registry.histogram("h").buckets(&[0.0]).register().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (counters, gauge, histogram) = (&counters, &gauge, &histogram);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    counters.with([if thread % 2 == 0 { "a" } else { "b" }]).inc();
                    counters.with(["f"]).add_f64(0.5);
                    gauge.add(1.0);
                    histogram.record(f64::from(round % 2));
                }
            });
        }
        for _ in 0..50 {
            let snapshot = registry.snapshot();
            let MetricType::Histogram { buckets, count, .. } = &snapshot[2].series[0].value else {
                panic!("not a histogram");
            };
            assert_eq!(buckets.last().unwrap().cumulative_count, *count);
        }
    });
    let total = f64::from(THREADS * ROUNDS);
    assert_eq!(counters.with(["a"]).value() + counters.with(["b"]).value(), total);
    assert_eq!(counters.with(["f"]).value(), total / 2.0);
    assert_eq!(gauge.value(), total);
    assert_eq!((histogram.count(), histogram.sum()), (u64::from(THREADS * ROUNDS), total / 2.0));
}

#[test]
fn the_global_registry_is_one_for_all_threads() {
    let count = || Registry::global().counter("of_the_program_total").register().unwrap().inc();
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(count))));
    let found = Registry::global().snapshot();
    let ours = found.iter().find(|family| family.name == "of_the_program_total").unwrap();
    assert_eq!(ours.series[0].value.value(), 4.0);
    assert!(Registry::new().snapshot().is_empty());
}
