use std::collections::BTreeMap;
use std::time::Duration;

use kymo_context::{Context, ContextFacts, ContextMetrics, MetricValue, Settings};
use kymo_core::registry::Registry;
use kymo_core::status::StatusSource;

use super::{at_rest, seconds, settle};

/// Every series as `name{label="value"}` with its value.
fn series(registry: &Registry) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    for family in registry.snapshot() {
        for series in family.series {
            let labels: Vec<String> = series.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            all.insert(format!("{}{{{}}}", family.name, labels.join(",")), series.value.value());
        }
    }
    all
}

#[test]
fn the_tree_is_in_the_registry_and_words_are_labels() {
    let (root, _clock) = at_rest(Settings::default());
    let registry = Registry::new();
    let metrics = ContextMetrics::register(&registry, &root).unwrap();
    let http = root.child("http").begin();
    http.child("request").begin().persist();
    http.add_metric("commands", MetricValue::Counter(3));
    http.add_metric("load", MetricValue::Gauge(0.5));
    http.add_metric("took", MetricValue::Duration(Duration::from_millis(1_500)));
    http.add_metric("size", MetricValue::Bytes(7));
    http.add_metric("mode", MetricValue::Text("fast".into()));
    http.increment_total("hits");
    http.increment_live("open");
    metrics.refresh();
    let all = series(&registry);
    for (name, value) in [
        ("kymo_context_live{}", 2.0),
        ("kymo_context_finished_total{}", 1.0),
        (r#"kymo_context_requests_total{path="global.http"}"#, 1.0),
        (r#"kymo_context_requests_total{path="global"}"#, 1.0),
        (r#"kymo_context_requests{path="global.http",window="last_hour"}"#, 1.0),
        (r#"kymo_context_metric{metric="commands",path="global.http"}"#, 3.0),
        (r#"kymo_context_metric{metric="load",path="global.http"}"#, 0.5),
        (r#"kymo_context_metric_seconds{metric="took",path="global.http"}"#, 1.5),
        (r#"kymo_context_metric_bytes{metric="size",path="global.http"}"#, 7.0),
        (r#"kymo_context_metric_info{metric="mode",path="global.http",text="fast"}"#, 1.0),
        (r#"kymo_context_counter_total{counter="hits",path="global"}"#, 1.0),
        (r#"kymo_context_counter_live{counter="open",path="global"}"#, 1.0),
        (r#"kymo_context_findings{finding="cycle"}"#, 0.0),
    ] {
        assert_eq!(all.get(name), Some(&value), "{name} of {all:#?}");
    }

    http.add_metric("mode", MetricValue::Text("slow".into()));
    metrics.refresh();
    let all = series(&registry);
    let words: Vec<_> = all.keys().filter(|name| name.starts_with("kymo_context_metric_info")).collect();
    assert_eq!(words, [r#"kymo_context_metric_info{metric="mode",path="global.http",text="slow"}"#]);
    drop(http);
    metrics.refresh();
    let all = series(&registry);
    assert!(!all.keys().any(|name| name.starts_with("kymo_context_metric{")), "gone with its context: {all:#?}");
    assert_eq!(all[r#"kymo_context_requests_total{path="global.http"}"#], 1.0, "counts stay");
}

#[test]
fn a_total_of_a_path_that_was_folded_begins_anew() {
    let (root, clock) = at_rest(Settings { paths_max: 3, ..Settings::default() });
    let registry = Registry::new();
    let metrics = ContextMetrics::register(&registry, &root).unwrap();
    let persist = |name: &str, count: usize| {
        let parent = root.child(name).begin();
        (0..count).for_each(|_| parent.child("request").begin().persist());
        clock.advance(seconds(1));
    };
    persist("a", 5);
    persist("b", 1);
    metrics.refresh();
    persist("c", 1);
    persist("a", 2);
    metrics.refresh();
    let all = series(&registry);
    assert_eq!(all.get(r#"kymo_context_requests_total{path="global.a"}"#), Some(&2.0), "{all:#?}");
    assert_eq!(all[r#"kymo_context_requests_total{path="global"}"#], 9.0);
}

#[test]
fn series_are_bounded_and_what_is_left_out_is_counted() {
    let root = Context::new("global");
    let registry = Registry::new();
    let metrics = ContextMetrics::register(&registry, &root).unwrap();
    let contexts: Vec<_> = (0..2_000).map(|n| root.child(&n.to_string()).begin()).collect();
    contexts.iter().for_each(|context| context.add_metric("level", MetricValue::Gauge(1.0)));
    metrics.refresh();
    let all = series(&registry);
    let shown = all.keys().filter(|name| name.starts_with("kymo_context_metric{")).count();
    assert_eq!(shown, kymo_context::metrics::SERIES_MAX);
    assert_eq!(all["kymo_context_series_left_out{}"], 1_000.0);
}

#[tokio::test]
async fn waits_are_metrics_and_facts() {
    let (root, clock) = at_rest(Settings::default());
    let _task = root
        .spawn_child("request", |ctx| async move { ctx.waiting_on("db query", std::future::pending::<()>()).await });
    settle().await;
    clock.advance(seconds(3));
    let registry = Registry::new();
    let _metrics = ContextMetrics::register(&registry, &root).unwrap();
    let all = series(&registry);
    assert_eq!(all[r#"kymo_context_waiting{what="db query"}"#], 1.0);
    assert_eq!(all[r#"kymo_context_longest_wait_seconds{what="db query"}"#], 3.0);

    let facts = ContextFacts(root.clone()).contexts().unwrap();
    assert_eq!(facts[1].path, "global.request");
    assert_eq!((facts[1].waiting_for.as_str(), facts[1].tasks), ("db query", 1));
    assert_eq!(facts[1].started_ms, 1_700_000_000_000);
}
