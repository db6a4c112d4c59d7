//! Delta temporality, and cumulative points of writers that share a series.

use std::sync::atomic::Ordering;

use kymo_ingest::otlp::{Encoding, OtlpConfig, Outcome};

use crate::support::{Door, NOW_NS, attributes, request};

/// Seconds around the clock of the door, as OTLP writes times.
fn at(seconds: i64) -> String {
    (NOW_NS as i64 + seconds * 1_000_000_000).to_string()
}

fn point(start: i64, end: i64, more: &str) -> String {
    format!(r#"{{"startTimeUnixNano":"{}","timeUnixNano":"{}",{more}}}"#, at(start), at(end))
}

fn sum(temporality: u32, point: &str) -> String {
    format!(
        r#"{{"name":"n","sum":{{"aggregationTemporality":{temporality},"isMonotonic":true,"dataPoints":[{point}]}}}}"#
    )
}

fn send(door: &Door, host: &str, metric: &str) -> Outcome {
    let resource = attributes(&[("service.name", "shop"), ("host.name", host)]);
    door.export(Encoding::Json, request(&resource, "{}", metric)).unwrap_or_else(|error| panic!("{error:?}: {metric}"))
}

/// What is stored of the metric.
fn series(door: &Door) -> Vec<String> {
    door.stored().into_iter().filter(|line| !line.starts_with("target_info")).collect()
}

#[test]
fn deltas_become_a_running_total_and_the_answer_says_what_was_done() {
    let door = Door::open();
    let delta = |host: &str, start, end, value: i64| {
        let outcome = send(&door, host, &sum(1, &point(start, end, &format!(r#""asInt":{value}"#))));
        (outcome.written, outcome.rejected(), outcome.told_before, outcome.gaps, outcome.message())
    };
    let told_before = "1 increments were told before and not added again (identical)".to_owned();
    let overlaps = r#"overlapping_increment: 1 data points: the increment overlaps one already added: metric "n""#;
    let fine = |gaps| (1, 0, 0, gaps, String::new());
    assert_eq!(delta("a", -60, -50, 5), fine(0));
    assert_eq!(delta("b", -60, -50, 7), fine(0));
    assert_eq!(delta("a", -50, -40, 2), fine(0));
    // A retry, whatever it says now; an interval that meets one told before; a gap; and what fills it.
    assert_eq!(delta("a", -50, -40, 2), (1, 0, 1, 0, told_before));
    assert_eq!(delta("a", -45, -35, 9), (0, 1, 0, 0, overlaps.to_owned()));
    assert_eq!(delta("a", -20, -10, 1), fine(1));
    assert_eq!(delta("a", -40, -20, 3), fine(0));
    // Without a start, the moment is all that is known.
    let timed = format!(r#"{{"timeUnixNano":"{}","asInt":4}}"#, at(-5));
    assert_eq!(send(&door, "a", &sum(1, &timed)).written, 1);
    assert_eq!(
        series(&door),
        [
            r#"n_total{job="shop"} 12 @-50000 since -60000"#,
            r#"n_total{job="shop"} 14 @-40000 since -60000"#,
            r#"n_total{job="shop"} 18 @-10000 since -60000"#,
            r#"n_total{job="shop"} 22 @-5000 since -60000"#,
        ]
    );
    let received = door.received();
    assert_eq!((received.received, received.identical, received.rejected), (8, 1, 1));
    assert_eq!(door.losses(), [("overlapping_increment".to_owned(), 1)]);
}

#[test]
fn delta_histograms_of_both_kinds_are_added_up() {
    let explicit = |start, end, counts: [u64; 2]| {
        let [low, high] = counts;
        let more = format!(
            r#""count":{},"sum":{},"bucketCounts":[{low},{high}],"explicitBounds":[1]"#,
            low + high,
            low + 3 * high
        );
        format!(
            r#"{{"name":"h","histogram":{{"aggregationTemporality":1,"dataPoints":[{}]}}}}"#,
            point(start, end, &more)
        )
    };
    let door = Door::open();
    for body in [explicit(-30, -20, [1, 2]), explicit(-20, -10, [4, 0]), explicit(-20, -10, [4, 0])] {
        assert_eq!(send(&door, "a", &body).written, 1);
    }
    assert_eq!(
        series(&door)[..],
        [
            r#"h_bucket{job="shop", le="+Inf"} 3 @-20000 since -30000"#,
            r#"h_bucket{job="shop", le="+Inf"} 7 @-10000 since -30000"#,
            r#"h_bucket{job="shop", le="1"} 1 @-20000 since -30000"#,
            r#"h_bucket{job="shop", le="1"} 5 @-10000 since -30000"#,
            r#"h_count{job="shop"} 3 @-20000 since -30000"#,
            r#"h_count{job="shop"} 7 @-10000 since -30000"#,
            r#"h_sum{job="shop"} 11 @-10000 since -30000"#,
            r#"h_sum{job="shop"} 7 @-20000 since -30000"#,
        ]
    );
    let door = Door::configured(OtlpConfig { convert_histograms_to_nhcb: true, ..OtlpConfig::default() });
    for body in [explicit(-30, -20, [1, 2]), explicit(-20, -10, [4, 0])] {
        assert_eq!(send(&door, "a", &body).written, 1);
    }
    let last = series(&door).into_iter().find(|line| line.contains("@-10000")).unwrap();
    assert!(last.contains("count 7 sum 11") && last.contains("[5, 2]"), "{last}");

    let exponential = |start, end, scale: i32, count: u64| {
        let more = format!(
            r#""count":{count},"sum":{count},"scale":{scale},"positive":{{"offset":0,"bucketCounts":[{count}]}}"#
        );
        let point = point(start, end, &more);
        format!(r#"{{"name":"e","exponentialHistogram":{{"aggregationTemporality":1,"dataPoints":[{point}]}}}}"#)
    };
    let door = Door::open();
    // A finer one is brought to the resolution of the sum.
    for body in [exponential(-30, -20, 0, 3), exponential(-20, -10, 1, 4)] {
        assert_eq!(send(&door, "a", &body).written, 1);
    }
    let last = series(&door).into_iter().find(|line| line.contains("@-10000")).unwrap();
    assert!(last.contains("schema 0") && last.contains("count 7 sum 7 +[1:1][7]"), "{last}");
}

#[test]
fn cumulative_writers_of_one_identity_never_interleave_into_resets() {
    let door = Door::open();
    let cumulative = |host: &str, start, end, value: i64| {
        send(&door, host, &sum(2, &point(start, end, &format!(r#""asInt":{value}"#)))).written
    };
    // Two hosts, then a second process on one of them, which says the same of itself but for its start.
    for (host, start, end, value) in [
        ("a", -100, -60, 1_000),
        ("b", -70, -59, 5),
        ("a", -100, -50, 1_010),
        ("b", -70, -49, 6),
        ("a", -48, -40, 3),
        ("a", -100, -39, 1_011),
        ("a", -48, -30, 4),
    ] {
        assert_eq!(cumulative(host, start, end, value), 1);
    }
    let values: Vec<String> =
        series(&door).iter().map(|line| line.split(' ').skip(1).take(2).collect::<Vec<_>>().join(" ")).collect();
    let expected = [
        "1000 @-60000",
        "1005 @-59000",
        "1015 @-50000",
        "1016 @-49000",
        "1019 @-40000",
        "1020 @-39000",
        "1021 @-30000",
    ];
    assert_eq!(values, expected);
}

#[test]
fn a_writer_with_an_instance_is_stored_as_sent() {
    let door = Door::open();
    let resource = attributes(&[("service.name", "shop"), ("service.instance.id", "1")]);
    for (start, end, value) in [(-100, -60, 1_000), (-50, -40, 5), (-100, -55, 900)] {
        let metric = sum(2, &point(start, end, &format!(r#""asInt":{value}"#)));
        assert_eq!(door.export(Encoding::Json, request(&resource, "{}", &metric)).unwrap().written, 1);
    }
    assert_eq!(
        series(&door),
        [
            r#"n_total{instance="1", job="shop"} 1000 @-60000 since -100000"#,
            r#"n_total{instance="1", job="shop"} 5 @-40000 since -50000"#,
            r#"n_total{instance="1", job="shop"} 900 @-55000 since -100000"#,
        ]
    );
}

#[test]
fn a_cumulative_point_of_one_writer_too_many_is_stored_as_sent() {
    let door = Door::open();
    door.engine.no_writers.store(true, Ordering::SeqCst);
    let outcome = send(&door, "a", &sum(2, &point(-100, -60, r#""asInt":7"#)));
    assert_eq!((outcome.written, outcome.rejected()), (1, 0), "{outcome:?}");
    assert_eq!(series(&door), [r#"n_total{job="shop"} 7 @-60000 since -100000"#]);
    // Of an increment there is nothing else to store.
    let outcome = send(&door, "a", &sum(1, &point(-50, -40, r#""asInt":7"#)));
    assert_eq!((outcome.written, outcome.rejected()), (0, 1), "{outcome:?}");
    assert_eq!(outcome.refusals[0].reason.as_str(), "writer_limit");
}
