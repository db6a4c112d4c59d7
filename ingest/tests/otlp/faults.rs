//! Faults of an earlier attempt at this, each of which would be seen here.

use std::sync::Arc;

use kymo_core::health::{HealthOptions, ServiceHealth};
use kymo_core::{ManualClock, MemoryStorage};
use kymo_ingest::otlp::{Coding, Encoding, OtlpConfig, OtlpLimits, Receiver};
use kymo_ingest::remote_write::ReceiverParts;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use crate::support::{Door, NOW_MS, NOW_NS, attributes, request};
use crate::traces::{CLIENT, SERVER, of_service, request as spans_of, span, with};

fn stored(metric: &str) -> Vec<String> {
    let door = Door::open();
    let resource = attributes(&[("service.name", "shop"), ("host.name", "web-1")]);
    let outcome = door.export(Encoding::Json, request(&resource, "{}", metric)).unwrap();
    assert_eq!(outcome.rejected(), 0, "{outcome:?}");
    door.stored()
}

/// A point at the clock's time that has counted for a second.
fn point(more: &str) -> String {
    format!(r#"{{"startTimeUnixNano":"{}","timeUnixNano":"{NOW_NS}",{more}}}"#, NOW_NS - 1_000_000_000)
}

/// A hundred spans of a quarter of a second, as service health tells of them.
fn health_of(change: impl Fn(Span) -> Span) -> Arc<kymo_core::health::ServiceHealthMetrics> {
    let clock = Arc::new(ManualClock::at(NOW_MS));
    let health = Arc::new(ServiceHealth::new(HealthOptions::default(), clock.clone()));
    let parts = ReceiverParts { clock, ..ReceiverParts::around(Arc::new(MemoryStorage::default())) };
    let receiver = Receiver::new(OtlpConfig::default(), OtlpLimits::default(), parts).unwrap();
    let receiver = receiver.with_health(health.clone());
    let spans = (1..=100).map(|id| change(span(id, 0, SERVER, "GET"))).collect();
    let body = spans_of(vec![of_service("shop", spans)]).encode_to_vec();
    assert_eq!(receiver.export_spans(Encoding::Protobuf, Coding::Identity, body.into()).unwrap().counted, 100);
    health.aggregate_health();
    health.get("shop").unwrap()
}

#[test]
fn the_sum_of_a_histogram_is_no_latency() {
    // Their durations add up to 25 seconds.
    let shop = health_of(|span| span);
    for quantile in [shop.p50, shop.p95, shop.p99] {
        assert!(quantile.is_some_and(|seconds| (0.2..0.3).contains(&seconds)), "{shop:?}");
    }
}

#[test]
fn errors_are_not_guessed_from_values_or_names() {
    let shop = health_of(|one| {
        let slow = Span { start_time_unix_nano: 1, name: "error 500 failed".into(), ..one };
        with(
            slow,
            &[
                ("http.response.status_code", "404"),
                ("exception.message", "failed"),
                ("error", "yes"),
                ("value", "500"),
            ],
        )
    });
    assert_eq!((shop.requests, shop.errors), (100, 0), "{shop:?}");
    let failed = health_of(|one| with(one, &[("http.response.status_code", "500")]));
    assert_eq!((failed.requests, failed.errors), (100, 100));
    let door = Door::open();
    let call = with(span(1, 0, CLIENT, "GET"), &[("http.response.status_code", "404")]);
    door.spans(&spans_of(vec![of_service("shop", vec![call])])).unwrap();
    assert!(door.counted().contains(&r#"errors_total{kind="client", operation="GET", service="shop"} 1"#.to_owned()));
}

#[test]
fn exponential_histograms_are_not_ignored() {
    let point = point(
        r#""count":"7","sum":30,"scale":1,"zeroCount":"1","positive":{"offset":2,"bucketCounts":["1","2"]},"negative":{"offset":0,"bucketCounts":[3]}"#,
    );
    for temporality in [1, 2] {
        let metric = format!(
            r#"{{"name":"size","exponentialHistogram":{{"aggregationTemporality":{temporality},"dataPoints":[{point}]}}}}"#
        );
        let found = stored(&metric);
        let expected =
            "size{job=\"shop\"} histogram schema 1 zero 1≤1e-128 count 7 sum 30 +[3:2][1, 2] -[1:1][3] bounds []";
        assert!(
            found.iter().any(|line| line.starts_with(&expected.replace("1e-128", &1e-128f64.to_string()))),
            "{found:#?}"
        );
    }
}

#[test]
fn delta_temporality_is_not_ignored() {
    let door = Door::open();
    let resource = attributes(&[("service.name", "shop")]);
    for second in 0..3u64 {
        let (start, end) = (NOW_NS - (9 - second) * 1_000_000_000, NOW_NS - (8 - second) * 1_000_000_000);
        let point = format!(r#"{{"startTimeUnixNano":"{start}","timeUnixNano":"{end}","asInt":"5"}}"#);
        let metric =
            format!(r#"{{"name":"n","sum":{{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[{point}]}}}}"#);
        door.export(Encoding::Json, request(&resource, "{}", &metric)).unwrap();
    }
    let totals = [5, 10, 15].map(|total| format!(r#"n_total{{job="shop"}} {total} "#));
    let found = door.stored();
    for total in totals {
        assert!(found.iter().any(|line| line.starts_with(&total)), "no {total} in {found:?}");
    }
}

#[test]
fn no_attribute_is_dropped() {
    let attributes = r#"{"key":"text","value":{"stringValue":"a"}},{"key":"yes","value":{"boolValue":true}},
        {"key":"int","value":{"intValue":"-7"}},{"key":"double","value":{"doubleValue":0.5}},
        {"key":"bytes","value":{"bytesValue":"AP8="}},{"key":"list","value":{"arrayValue":{"values":[{"intValue":1}]}}},
        {"key":"map","value":{"kvlistValue":{"values":[{"key":"k","value":{"intValue":1}}]}}},{"key":"a.b","value":{"stringValue":"1"}},
        {"key":"a_b","value":{"stringValue":"2"}}"#;
    let point = point(&format!(r#""asInt":"1","attributes":[{attributes}]"#));
    let found = stored(&format!(r#"{{"name":"g","gauge":{{"dataPoints":[{point}]}}}}"#));
    let expected = r#"g{a_b="1;2", bytes="AP8=", double="0.5", int="-7", job="shop", list="[1]", map="{\"k\":1}", text="a", yes="true"} 1"#;
    assert!(found.iter().any(|line| line.starts_with(expected)), "{found:#?}");
    // Those of the resource are in `target_info`.
    assert!(found.iter().any(|line| line.starts_with(r#"target_info{host_name="web-1", job="shop"} 1"#)), "{found:#?}");
}
