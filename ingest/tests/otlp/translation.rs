//! What becomes of every kind of metric, attribute and point. Requests are JSON, which reads best.

use kymo_core::Budget;
use kymo_core::memory::MemoryOptions;
use kymo_ingest::otlp::{Encoding, OtlpConfig, OtlpLimits, Outcome, TranslationStrategy};

use crate::support::{Door, attributes, metrics, request};

const T: &str = r#""timeUnixNano":"1760000000000000000""#;
const SINCE: &str = r#""startTimeUnixNano":"1759999990000000000","timeUnixNano":"1760000000000000000""#;

fn send(door: &Door, body: &str) -> Outcome {
    door.export(Encoding::Json, body).unwrap_or_else(|error| panic!("{error:?}: {body}"))
}

/// Sends metrics and expects nothing to be refused.
fn stored(config: OtlpConfig, body: &str) -> Vec<String> {
    let door = Door::configured(config);
    let outcome = send(&door, body);
    assert!(outcome.is_complete(), "{outcome:?}: {body}");
    door.stored()
}

#[test]
fn every_kind_of_metric_becomes_its_series() {
    let attribute = attributes(&[("http.method", "GET")]);
    let table: &[(&str, String, &[&str])] = &[
        (
            "gauge",
            format!(
                r#"{{"name":"room.temperature","unit":"Cel","gauge":{{"dataPoints":[{{{T},"asDouble":21.5,"attributes":[{attribute}]}}]}}}}"#
            ),
            &[r#"room_temperature_celsius{http_method="GET"} 21.5 @now"#],
        ),
        (
            "gauge of integers with unit 1",
            format!(r#"{{"name":"usage","unit":"1","gauge":{{"dataPoints":[{{{T},"asInt":"-3"}}]}}}}"#),
            &["usage_ratio -3 @now"],
        ),
        (
            "monotonic sum",
            format!(
                r#"{{"name":"requests","unit":"{{request}}","sum":{{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{{{SINCE},"asInt":7}}]}}}}"#
            ),
            &["requests_total 7 @now since -10000"],
        ),
        (
            "non-monotonic sum",
            format!(r#"{{"name":"queue","sum":{{"aggregationTemporality":2,"dataPoints":[{{{SINCE},"asInt":7}}]}}}}"#),
            &["queue 7 @now since -10000"],
        ),
        (
            "histogram",
            format!(
                r#"{{"name":"latency","unit":"s","histogram":{{"aggregationTemporality":2,"dataPoints":[
                {{{SINCE},"count":"6","sum":3.5,"min":0.1,"max":9,"bucketCounts":["1","2","3"],"explicitBounds":[0.005,10]}}]}}}}"#
            ),
            &[
                r#"latency_seconds_bucket{le="+Inf"} 6 @now since -10000"#,
                r#"latency_seconds_bucket{le="0.005"} 1 @now since -10000"#,
                r#"latency_seconds_bucket{le="10"} 3 @now since -10000"#,
                "latency_seconds_count 6 @now since -10000",
                "latency_seconds_sum 3.5 @now since -10000",
            ],
        ),
        (
            "histogram without sum and buckets, its start behind its time",
            format!(
                r#"{{"name":"m","histogram":{{"aggregationTemporality":2,"dataPoints":[
                {{{T},"startTimeUnixNano":"1760000000000000001","count":6}}]}}}}"#
            ),
            &[r#"m_bucket{le="+Inf"} 6 @now"#, "m_count 6 @now"],
        ),
        (
            "histogram with a bound of infinity",
            format!(
                r#"{{"name":"m","histogram":{{"aggregationTemporality":2,"dataPoints":[
                {{{T},"count":3,"bucketCounts":[1,2,0],"explicitBounds":[1,"Infinity"]}}]}}}}"#
            ),
            &[r#"m_bucket{le="+Inf"} 3 @now"#, r#"m_bucket{le="1"} 1 @now"#, "m_count 3 @now"],
        ),
        (
            "exponential histogram",
            format!(
                r#"{{"name":"m","unit":"By","exponentialHistogram":{{"aggregationTemporality":2,"dataPoints":[
                {{{SINCE},"count":16,"sum":-4,"scale":3,"zeroCount":1,"zeroThreshold":0.25,
                 "positive":{{"offset":-1,"bucketCounts":[1,0,0,2,0,0,0,3]}},"negative":{{"offset":4,"bucketCounts":["9"]}}}}]}}}}"#
            ),
            &[
                "m_bytes histogram schema 3 zero 1≤0.25 count 16 sum -4 +[0:4,3:1][1, 0, 0, 2, 3] -[5:1][9] bounds [] @now since -10000",
            ],
        ),
        (
            "exponential histogram finer than a native one",
            // Scale 10 to 8: four buckets become one. Indices 5..=12 fall into 1 (4..=7), 2 (8..=11) and 3 (12..=15).
            format!(
                r#"{{"name":"m","exponentialHistogram":{{"aggregationTemporality":2,"dataPoints":[
                {{{T},"count":8,"sum":1,"scale":10,"positive":{{"offset":5,"bucketCounts":[1,1,1,1,1,1,1,1]}}}}]}}}}"#
            ),
            &[&format!("m histogram schema 8 zero 0≤{} count 8 sum 1 +[2:3][3, 4, 1] -[][] bounds [] @now", 1e-128)],
        ),
        (
            "exponential histogram of the finest scale there can be",
            format!(
                r#"{{"name":"m","exponentialHistogram":{{"aggregationTemporality":2,"dataPoints":[
                {{{T},"count":3,"scale":2147483647,"positive":{{"offset":-1,"bucketCounts":[1,2]}}}}]}}}}"#
            ),
            &[&format!("m histogram schema 8 zero 0≤{} count 3 sum 0 +[0:2][1, 2] -[][] bounds [] @now", 1e-128)],
        ),
        (
            "summary",
            format!(
                r#"{{"name":"m","summary":{{"dataPoints":[{{{SINCE},"count":4,"sum":8,"quantileValues":[
                {{"quantile":0.5,"value":1}},{{"quantile":0.99,"value":"NaN"}}]}}]}}}}"#
            ),
            &[
                "m_count 4 @now since -10000",
                "m_sum 8 @now since -10000",
                r#"m{quantile="0.5"} 1 @now since -10000"#,
                r#"m{quantile="0.99"} NaN @now since -10000"#,
            ],
        ),
    ];
    for (what, metric, expected) in table {
        let lines = stored(OtlpConfig::default(), &metrics(metric));
        assert_eq!(lines, *expected, "{what}");
    }
}

#[test]
fn a_point_without_a_recorded_value_marks_its_series_stale() {
    let bounds = r#""explicitBounds":[1],"bucketCounts":[0,0]"#;
    let body = metrics(&format!(
        r#"{{"name":"g","gauge":{{"dataPoints":[{{{T},"flags":1}}]}}}},
           {{"name":"c","sum":{{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{{{T},"flags":1,"asInt":5}}]}}}},
           {{"name":"h","histogram":{{"aggregationTemporality":2,"dataPoints":[{{{T},"flags":1,{bounds}}}]}}}},
           {{"name":"e","exponentialHistogram":{{"aggregationTemporality":2,"dataPoints":[{{{T},"flags":1}}]}}}},
           {{"name":"s","summary":{{"dataPoints":[{{{T},"flags":1,"quantileValues":[{{"quantile":0.5}}]}}]}}}}"#
    ));
    let expected = [
        "c_total stale @now",
        "e stale @now",
        "g stale @now",
        r#"h_bucket{le="+Inf"} stale @now"#,
        r#"h_bucket{le="1"} stale @now"#,
        "h_count stale @now",
        "h_sum stale @now",
        "s_count stale @now",
        "s_sum stale @now",
        r#"s{quantile="0.5"} stale @now"#,
    ];
    assert_eq!(stored(OtlpConfig::default(), &body), expected);
}

fn gauge(point: &str) -> String {
    format!(r#"{{"name":"m","gauge":{{"dataPoints":[{{{T},"asInt":1{point}}}]}}}}"#)
}

fn with_attributes(attributes: &str) -> String {
    gauge(&format!(r#","attributes":[{attributes}]"#))
}

#[test]
fn attributes_of_every_type_become_labels() {
    let body = metrics(&with_attributes(
        r#"{"key":"string","value":{"stringValue":"a\"b"}},
           {"key":"empty","value":{"stringValue":""}},
           {"key":"unset","value":{}},
           {"key":"absent"},
           {"key":"bool","value":{"boolValue":true}},
           {"key":"int","value":{"intValue":"-5"}},
           {"key":"double","value":{"doubleValue":0.25}},
           {"key":"bytes","value":{"bytesValue":"AP8="}},
           {"key":"array","value":{"arrayValue":{"values":[{"intValue":1},{"stringValue":"x"}]}}},
           {"key":"kvlist","value":{"kvlistValue":{"values":[{"key":"k","value":{"boolValue":false}}]}}}"#,
    ));
    assert_eq!(
        stored(OtlpConfig::default(), &body),
        [
            r#"m{array="[1,\"x\"]", bool="true", bytes="AP8=", double="0.25", int="-5", kvlist="{\"k\":false}", string="a\"b"} 1 @now"#
        ]
    );
}

#[test]
fn keys_that_become_one_name_join_their_values_in_the_order_of_keys() {
    let body = metrics(&with_attributes(&attributes(&[
        ("a_b", "3"),
        ("a.b", "2"),
        ("a-b", "1"),
        ("0k", "digit"),
        ("_u", "under"),
        ("ä.x", "foreign"),
    ])));
    assert_eq!(
        stored(OtlpConfig::default(), &body),
        [r#"m{__x="foreign", a_b="1;2;3", key_0k="digit", key_u="under"} 1 @now"#]
    );
}

const SCOPE: &str = r#"{"name":"lib","version":"1.2","attributes":[
    {"key":"short.name","value":{"stringValue":"l"}},{"key":"version","value":{"stringValue":"ignored"}}]}"#;

fn resource() -> String {
    attributes(&[
        ("service.name", "api"),
        ("service.namespace", "shop"),
        ("service.instance.id", "i-1"),
        ("host.name", "web.1"),
        ("k8s.pod", "p"),
    ])
}

#[test]
fn a_resource_becomes_job_instance_and_target_info_and_a_scope_labels() {
    let body =
        request(&resource(), SCOPE, &with_attributes(&attributes(&[("job", "overridden"), ("host.name", "point")])));
    let info = r#"target_info{host_name="web.1", instance="i-1", job="shop/api", k8s_pod="p"} 1 @now"#;
    assert_eq!(
        stored(OtlpConfig::default(), &body),
        [
            r#"m{host_name="point", instance="i-1", job="shop/api", otel_scope_name="lib", otel_scope_short_name="l", otel_scope_version="1.2"} 1 @now"#,
            info,
        ]
    );
    let quiet = OtlpConfig { promote_scope_metadata: false, ..OtlpConfig::default() };
    assert_eq!(stored(quiet.clone(), &body), [r#"m{host_name="point", instance="i-1", job="shop/api"} 1 @now"#, info]);
    let promote = vec!["host.name".to_owned(), "k8s.pod".to_owned()];
    let promoting = OtlpConfig { promote_resource_attributes: promote, ..quiet.clone() };
    assert_eq!(
        stored(promoting, &body),
        [r#"m{host_name="point", instance="i-1", job="shop/api", k8s_pod="p"} 1 @now"#, info]
    );
    let keeping = OtlpConfig { keep_identifying_resource_attributes: true, ..quiet };
    assert_eq!(
        stored(keeping, &body)[1],
        r#"target_info{host_name="web.1", instance="i-1", job="shop/api", k8s_pod="p", service_instance_id="i-1", service_name="api", service_namespace="shop"} 1 @now"#
    );
}

#[test]
fn target_info_needs_a_target_and_something_to_tell() {
    for resource in [
        attributes(&[("service.name", "api"), ("service.instance.id", "1")]),
        attributes(&[("host.name", "h")]),
        attributes(&[("service.namespace", "n"), ("host.name", "h")]),
        String::new(),
    ] {
        let lines = stored(OtlpConfig::default(), &request(&resource, "{}", &gauge("")));
        assert_eq!(lines.len(), 1, "{resource}: {lines:?}");
    }
    let lines =
        stored(OtlpConfig::default(), &request(&attributes(&[("service.name", "a"), ("x", "y")]), "{}", &gauge("")));
    assert_eq!(lines, [r#"m{job="a"} 1 @now"#, r#"target_info{job="a", x="y"} 1 @now"#]);
}

#[test]
fn target_info_is_found_beside_every_point_and_only_as_often_as_needed() {
    // Seconds before now. Dense points need a sample every 150 s; before a gap the last one gets its own.
    let seconds = [4_000, 3_990, 3_980, 1_000, 940, 880, 820, 760, 0];
    let points = seconds
        .map(|s| format!(r#"{{"timeUnixNano":"{}","asInt":1}}"#, 1_760_000_000_000_000_000u64 - s * 1_000_000_000));
    let metric = format!(r#"{{"name":"m","gauge":{{"dataPoints":[{}]}}}}"#, points.join(","));
    let body = request(&attributes(&[("service.name", "a"), ("x", "y")]), "{}", &metric);
    let infos = |lines: Vec<String>| -> Vec<String> {
        lines.iter().filter_map(|line| Some(line.strip_prefix("target_info")?.split('@').nth(1)?.to_owned())).collect()
    };
    let door = Door::open();
    assert!(send(&door, &body).is_complete());
    let mut found = infos(door.stored());
    found.sort_by_key(|at| at.parse::<i64>().unwrap_or(0));
    assert_eq!(found, ["-4000000", "-3980000", "-1000000", "-880000", "-760000", "now"]);
}

#[test]
fn exemplars_go_to_the_series_that_counts_them() {
    let ids = r#""traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174""#;
    let exemplar = |value: &str| format!(r#"{{"timeUnixNano":"1759999999000000000","asDouble":{value},{ids}}}"#);
    let filtered = r#"{"asInt":"1","filteredAttributes":[{"key":"user.id","value":{"intValue":7}},{"key":"trace_id","value":{"stringValue":"no"}}],"traceId":"00000000000000000000000000000000"}"#;
    let long = format!(r#"{{"asInt":2,{ids},"filteredAttributes":[{}]}}"#, attributes(&[("long", &"x".repeat(100))]));
    let body = metrics(&format!(
        r#"{{"name":"c","sum":{{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{{{T},"asInt":5,"exemplars":[{filtered},{long}]}}]}}}},
           {{"name":"h","histogram":{{"aggregationTemporality":2,"dataPoints":[{{{T},"count":2,"bucketCounts":[1,1],"explicitBounds":[1],"exemplars":[{},{}]}}]}}}},
           {{"name":"e","exponentialHistogram":{{"aggregationTemporality":2,"dataPoints":[{{{T},"exemplars":[{}]}}]}}}}"#,
        exemplar("1"),
        exemplar("1.5"),
        exemplar("3"),
    ));
    let lines = stored(OtlpConfig::default(), &body);
    let found: Vec<&str> = lines.iter().map(String::as_str).filter(|line| line.contains(" # ")).collect();
    let ids = r#"{span_id="eee19b7ec3c1b174", trace_id="5b8efff798038103d269b633813fc60c"}"#;
    assert_eq!(
        found,
        [
            format!("c_total # {ids} 2 @now").as_str(),
            r#"c_total # {trace_id="no", user_id="7"} 1 @now"#,
            &format!("e # {ids} 3 @-1000"),
            &format!(r#"h_bucket{{le="+Inf"}} # {ids} 1.5 @-1000"#),
            &format!(r#"h_bucket{{le="1"}} # {ids} 1 @-1000"#),
        ]
    );
}

#[test]
fn exemplars_that_cannot_be_kept_are_a_warning_and_reject_no_point() {
    let exemplars = r#""exemplars":[{"asDouble":"NaN"},{},{"asInt":1}]"#;
    let point = format!(r#"{{{T},"count":1,"bucketCounts":[1,0],"explicitBounds":[1],{exemplars}}}"#);
    let histogram = format!(r#"{{"name":"h","histogram":{{"aggregationTemporality":2,"dataPoints":[{point}]}}}}"#);
    let outcome = send(&Door::open(), &metrics(&histogram));
    assert_eq!((outcome.written, outcome.rejected(), outcome.exemplars_refused), (1, 0, 2));

    let door = Door::open();
    let outcome =
        send(&door, &metrics(&gauge(r#","exemplars":[{"timeUnixNano":"1"},{"asInt":1,"timeUnixNano":"1"}]"#)));
    assert_eq!((outcome.written, outcome.rejected(), outcome.exemplars_refused), (1, 0, 2));
    assert_eq!(outcome.message(), "2 exemplars were left out");
}

#[test]
fn metadata_is_kept_per_family_with_units_spelled_out() {
    let door = Door::open();
    let point = format!(r#""dataPoints":[{{{T},"asInt":1}}]"#);
    send(
        &door,
        &request(
            &attributes(&[("service.name", "a"), ("x", "y")]),
            "{}",
            &format!(
                r#"{{"name":"c","unit":"By/s","description":"Traffic.","sum":{{"aggregationTemporality":2,"isMonotonic":true,{point}}}}},
                   {{"name":"n","sum":{{"aggregationTemporality":2,{point}}}}},
                   {{"name":"g","unit":"1","gauge":{{{point}}}}},
                   {{"name":"refused","description":"Never stored.","sum":{{{point}}}}},
                   {{"name":"h","unit":"ms","histogram":{{"aggregationTemporality":2,"dataPoints":[{{{T}}}]}}}},
                   {{"name":"s","unit":"{{x}}","summary":{{"dataPoints":[{{{T}}}]}}}}"#
            ),
        ),
    );
    assert_eq!(
        door.metadata(),
        [
            r#"c_bytes_per_second_total counter "bytes_per_second" "Traffic.""#,
            r#"g_ratio gauge "" """#,
            r#"h_milliseconds histogram "milliseconds" """#,
            r#"n gauge "" """#,
            r#"s summary "" """#,
            r#"target_info info "" "Target metadata""#,
        ]
    );
}

#[test]
fn strategies_of_names_apply_to_metrics_and_labels() {
    let metric = format!(
        r#"{{"name":"http.requests","unit":"By","sum":{{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[
            {{{T},"asInt":1,"attributes":[{}]}}]}}}}"#,
        attributes(&[("http.method", "GET"), ("温度", "x")])
    );
    let body = metrics(&metric);
    use TranslationStrategy as S;
    for (strategy, expected) in [
        (S::UnderscoreEscapingWithoutSuffixes, None),
        (
            S::NoUTF8EscapingWithSuffixes,
            Some(r#"{"http.requests_bytes_total", "http.method"="GET", "温度"="x"} 1 @now"#),
        ),
        (S::NoTranslation, Some(r#"{"http.requests", "http.method"="GET", "温度"="x"} 1 @now"#)),
    ] {
        let door = Door::configured(OtlpConfig { translation_strategy: strategy, ..OtlpConfig::default() });
        let outcome = send(&door, &body);
        // Nothing is left of 温度 but underscores.
        assert_eq!(outcome.rejected(), u64::from(expected.is_none()), "{strategy:?}: {outcome:?}");
        assert_eq!(door.stored(), expected.into_iter().collect::<Vec<_>>(), "{strategy:?}");
    }
}

#[test]
fn histograms_can_be_stored_as_native_ones_and_with_their_extremes() {
    let metric = format!(
        r#"{{"name":"h","histogram":{{"aggregationTemporality":2,"dataPoints":[
            {{{SINCE},"count":6,"sum":3.5,"min":0.5,"max":9,"bucketCounts":[0,2,4],"explicitBounds":[0.5,10]}},
            {{{T},"flags":1,"attributes":[{}]}}]}}}}"#,
        attributes(&[("a", "b")])
    );
    let native = OtlpConfig { convert_histograms_to_nhcb: true, ..OtlpConfig::default() };
    assert_eq!(
        stored(native, &metrics(&metric)),
        [
            "h histogram schema -53 zero 0≤0 count 6 sum 3.5 +[1:2][2, 4] -[][] bounds [0.5, 10.0] @now since -10000",
            r#"h{a="b"} stale @now"#
        ]
    );
    let extremes = OtlpConfig { keep_min_max: true, ..OtlpConfig::default() };
    let lines = stored(extremes, &metrics(&metric));
    assert!(lines.contains(&"h_min 0.5 @now".to_owned()) && lines.contains(&"h_max 9 @now".to_owned()), "{lines:?}");
}

#[test]
fn points_are_refused_one_by_one_with_a_reason() {
    let good = format!(r#"{{{T},"asInt":1}}"#);
    let histogram = |point: &str| {
        format!(r#"{{"name":"m","histogram":{{"aggregationTemporality":2,"dataPoints":[{{{T},{point}}}]}}}}"#)
    };
    let exponential = |point: &str| {
        format!(
            r#"{{"name":"m","exponentialHistogram":{{"aggregationTemporality":2,"dataPoints":[{{{T},{point}}}]}}}}"#
        )
    };
    let table = [
        (format!(r#"{{"name":"m","gauge":{{"dataPoints":[{good},{{"asInt":1}}]}}}}"#), "missing_time", 1),
        (format!(r#"{{"name":"m","gauge":{{"dataPoints":[{{{T}}},{{{T},"flags":2}}]}}}}"#), "missing_value", 2),
        (format!(r#"{{"name":"","gauge":{{"dataPoints":[{good}]}}}}"#), "invalid_name", 1),
        (format!(r#"{{"name":"温度","gauge":{{"dataPoints":[{good},{good}]}}}}"#), "invalid_name", 2),
        (with_attributes(r#"{"key":"","value":{"intValue":1}}"#), "invalid_attribute_key", 1),
        (
            format!(
                r#"{{"name":"m","sum":{{"aggregationTemporality":1,"dataPoints":[
                {{{SINCE},"asDouble":"NaN"}},{{{SINCE},"asDouble":"Infinity"}},{{{T},"startTimeUnixNano":"1760000001000000000","asInt":1}}]}}}}"#
            ),
            "invalid_increment",
            3,
        ),
        (format!(r#"{{"name":"m","sum":{{"dataPoints":[{good}]}}}}"#), "unspecified_temporality", 1),
        (
            format!(
                r#"{{"name":"m","histogram":{{"aggregationTemporality":1,"dataPoints":[{{{SINCE},"count":1}},
                {{{T},"startTimeUnixNano":"1759999991000000000","count":1}}]}}}}"#
            ),
            "overlapping_increment",
            1,
        ),
        (
            format!(r#"{{"name":"m","exponentialHistogram":{{"aggregationTemporality":9,"dataPoints":[{{{T}}}]}}}}"#),
            "unspecified_temporality",
            1,
        ),
        (histogram(r#""count":1,"bucketCounts":[1],"explicitBounds":[1]"#), "invalid_buckets", 1),
        (histogram(r#""count":1,"bucketCounts":[],"explicitBounds":[1]"#), "invalid_buckets", 1),
        (histogram(r#""count":3,"bucketCounts":[1,1,1],"explicitBounds":[2,1]"#), "invalid_buckets", 1),
        (histogram(r#""count":2,"bucketCounts":[1,1],"explicitBounds":["NaN"]"#), "invalid_buckets", 1),
        (exponential(r#""scale":-5,"count":0"#), "scale_too_low", 1),
        (exponential(r#""count":2,"positive":{"offset":2147483646,"bucketCounts":[1,1]}"#), "invalid_buckets", 1),
        (exponential(r#""count":2,"positive":{"offset":0,"bucketCounts":[1]}"#), "invalid_histogram", 1),
        (
            r#"{"name":"m","gauge":{"dataPoints":[{"timeUnixNano":"1760009999000000000","asInt":1}]}}"#.into(),
            "too_far_in_future",
            1,
        ),
        (
            r#"{"name":"m","gauge":{"dataPoints":[{"timeUnixNano":"1000000","asInt":1}]}}"#.into(),
            "outside_retention",
            1,
        ),
        (
            r#"{"name":"m","sum":{"aggregationTemporality":"CUMULATIVE","dataPoints":[{},{}]}}"#.into(),
            "invalid_metric",
            2,
        ),
        (r#"{"name":"m"}"#.into(), "unknown_data", 0),
    ];
    for (metric, reason, points) in table {
        let door = Door::open();
        // Its neighbours are stored, whatever is wrong with it.
        let other = |name| format!(r#"{{"name":{name:?},"gauge":{{"dataPoints":[{good}]}}}}"#);
        let outcome = send(&door, &metrics(&format!("{},{metric},{}", other("before"), other("after"))));
        assert_eq!((outcome.rejected(), outcome.refusals.len()), (points, 1), "{metric}: {outcome:?}");
        assert_eq!(outcome.refusals[0].reason.as_str(), reason, "{metric}");
        let lines = door.stored();
        assert!(
            ["after", "before"].iter().all(|name| lines.contains(&format!("{name} 1 @now"))),
            "{metric}: {lines:?}"
        );
        let received = door.received();
        assert_eq!((received.stored, received.rejected), (outcome.written, points), "{metric}");
        let losses = if points > 0 { vec![(reason.to_owned(), points)] } else { vec![] };
        assert_eq!(door.losses(), losses, "{metric}");
    }
}

#[test]
fn a_histogram_refused_in_part_is_one_point() {
    let options = MemoryOptions { series_max: 3, ..MemoryOptions::default() };
    let door = Door::with(OtlpConfig::default(), OtlpLimits::default(), options, Budget::unlimited());
    let point = |name: &str| {
        format!(
            r#"{{"name":"{name}","histogram":{{"aggregationTemporality":2,"dataPoints":[{{{T},"count":1,"bucketCounts":[1,0],"explicitBounds":[1]}}]}}}}"#
        )
    };
    let body = metrics(&format!("{},{}", point("first"), point("second")));
    let outcome = send(&door, &body);
    assert_eq!((outcome.written, outcome.rejected()), (1, 1));
    assert_eq!(outcome.refusals[0].reason.as_str(), "series_limit");
    assert_eq!(outcome.refusals[0].example, r#"metric "second""#);
    assert_eq!(door.received().received, 2);
}

#[test]
fn a_request_sent_again_is_identical_and_other_values_replace() {
    let door = Door::open();
    let body = |value| {
        let metric = format!(
            r#"{{"name":"h","histogram":{{"aggregationTemporality":2,"dataPoints":[{{{T},"count":{value},"sum":{value}}}]}}}}"#
        );
        request(&resource(), SCOPE, &metric)
    };
    send(&door, &body(1));
    send(&door, &body(1));
    let received = door.received();
    assert_eq!((received.received, received.stored, received.identical, received.replaced), (2, 1, 1, 0));
    send(&door, &body(2));
    assert_eq!(door.received().received, 3);
    assert_eq!(door.received().rejected, 0);
}

#[test]
fn one_target_twice_in_a_request_has_one_target_info() {
    let door = Door::open();
    let one =
        format!(r#"{{"resource":{{"attributes":[{}]}},"scopeMetrics":[{{"metrics":[{}]}}]}}"#, resource(), gauge(""));
    let other = one.replace(r#""name":"m""#, r#""name":"n""#);
    send(&door, &format!(r#"{{"resourceMetrics":[{one},{other}]}}"#));
    let received = door.received();
    assert_eq!((received.stored, received.identical), (2, 0));
}

#[test]
fn what_a_request_unfolds_to_is_limited() {
    let limits = OtlpLimits { unfolded_bytes_max: 100_000, ..OtlpLimits::default() };
    let door = Door::with(OtlpConfig::default(), limits, MemoryOptions::default(), Budget::unlimited());
    let bounds: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
    let metric = format!(
        r#"{{"name":"h","histogram":{{"aggregationTemporality":2,"dataPoints":[{{{T},"bucketCounts":[{}0],"explicitBounds":[{}],"attributes":[{}]}}]}}}}"#,
        "0,".repeat(1_000),
        bounds.join(","),
        attributes(&[("a", &"x".repeat(1_000))])
    );
    let error = door.export(Encoding::Json, metrics(&metric)).unwrap_err();
    assert_eq!(error.kind(), kymo_core::ErrorKind::TooLarge, "{error}");
    assert!(error.to_string().contains("unfolded_bytes_max"), "{error}");
    assert_eq!(door.losses(), [("too_large".to_owned(), 1)]);
    assert!(door.stored().is_empty());
    assert_eq!(door.held(), 0);
}

#[test]
fn a_preview_says_what_a_receiver_would_store() {
    let metric = format!(
        r#"{{"name":"requests","unit":"{{request}}","description":"How many.","sum":{{"aggregationTemporality":2,"isMonotonic":true,
        "dataPoints":[{{{SINCE},"asInt":7,"attributes":[{}]}},{{"asInt":1}}]}}}}"#,
        attributes(&[("http.method", "GET")])
    );
    let resource = attributes(&[("service.name", "api"), ("service.instance.id", "i-1"), ("k8s.pod", "p")]);
    let body = request(&resource, "{}", &metric);
    let config = OtlpConfig {
        promote_resource_attributes: vec!["k8s.pod".into()],
        translation_strategy: TranslationStrategy::NoTranslation,
        ..OtlpConfig::default()
    };
    for body in [body.clone().into_bytes(), crate::support::gzip(body.as_bytes())] {
        let preview = kymo_ingest::otlp::Preview::of(&config, &body).unwrap();
        let series: Vec<String> =
            preview.series.iter().map(|(labels, written)| format!("{labels} {}", written.as_str())).collect();
        let expected = [
            r#"requests{"http.method"="GET", instance="i-1", job="api", "k8s.pod"="p"} sample"#,
            r#"target_info{instance="i-1", job="api", "k8s.pod"="p"} sample"#,
        ];
        assert_eq!(series, expected);
        assert_eq!(preview.metadata[0].1.help, "How many.");
        assert_eq!((preview.outcome.rejected(), preview.outcome.refusals[0].reason.as_str()), (1, "missing_time"));
    }
    // The same as what is stored.
    let door = Door::configured(config);
    send(&door, &body);
    assert_eq!(door.stored().len(), 2);
}
