//! Messages as the published crate encodes them are read as what they are, and in both encodings as the same.

use kymo_ingest::otlp::Encoding;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::metrics::v1 as otlp;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use crate::support::{Door, NOW_NS, attributes, request};

pub fn key_value(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

pub fn metric(name: &str, data: Data) -> otlp::Metric {
    otlp::Metric { name: name.into(), data: Some(data), ..otlp::Metric::default() }
}

/// A request of one metric each of these kinds, without resource and scope.
pub fn request_of(metrics: Vec<otlp::Metric>) -> ExportMetricsServiceRequest {
    let scope_metrics = vec![otlp::ScopeMetrics { metrics, ..otlp::ScopeMetrics::default() }];
    ExportMetricsServiceRequest {
        resource_metrics: vec![otlp::ResourceMetrics { scope_metrics, ..otlp::ResourceMetrics::default() }],
    }
}

pub fn gauge(name: &str, value: i64) -> otlp::Metric {
    let point = otlp::NumberDataPoint {
        time_unix_nano: NOW_NS,
        value: Some(otlp::number_data_point::Value::AsInt(value)),
        ..otlp::NumberDataPoint::default()
    };
    metric(name, Data::Gauge(otlp::Gauge { data_points: vec![point] }))
}

/// One of everything.
pub fn everything() -> ExportMetricsServiceRequest {
    let exemplar = otlp::Exemplar {
        filtered_attributes: vec![key_value("user", Value::StringValue("u".into()))],
        time_unix_nano: NOW_NS - 1_000_000,
        value: Some(otlp::exemplar::Value::AsDouble(0.5)),
        span_id: vec![1; 8],
        trace_id: vec![2; 16],
    };
    let (start_time_unix_nano, time_unix_nano) = (NOW_NS - 5_000_000_000, NOW_NS);
    let array = ArrayValue { values: vec![AnyValue { value: Some(Value::IntValue(1)) }] };
    let list = KeyValueList { values: vec![key_value("k", Value::DoubleValue(1.5))] };
    let attributes = vec![
        key_value("a.string", Value::StringValue("s".into())),
        key_value("b.bool", Value::BoolValue(true)),
        key_value("c.int", Value::IntValue(-1)),
        key_value("d.double", Value::DoubleValue(0.5)),
        key_value("e.bytes", Value::BytesValue(vec![0, 255])),
        key_value("f.array", Value::ArrayValue(array)),
        key_value("g.list", Value::KvlistValue(list)),
    ];
    let double = otlp::NumberDataPoint {
        start_time_unix_nano,
        time_unix_nano,
        value: Some(otlp::number_data_point::Value::AsDouble(1.5)),
        exemplars: vec![exemplar.clone()],
        ..otlp::NumberDataPoint::default()
    };
    let integer = otlp::NumberDataPoint {
        attributes,
        time_unix_nano,
        value: Some(otlp::number_data_point::Value::AsInt(-3)),
        ..otlp::NumberDataPoint::default()
    };
    let stale = otlp::NumberDataPoint { time_unix_nano, flags: 1, ..otlp::NumberDataPoint::default() };
    let histogram = otlp::HistogramDataPoint {
        start_time_unix_nano,
        time_unix_nano,
        count: 3,
        sum: Some(2.5),
        bucket_counts: vec![1, 2],
        explicit_bounds: vec![1.0],
        exemplars: vec![exemplar.clone()],
        min: Some(0.5),
        max: Some(1.0),
        ..otlp::HistogramDataPoint::default()
    };
    let buckets =
        |offset, bucket_counts| Some(otlp::exponential_histogram_data_point::Buckets { offset, bucket_counts });
    let exponential = otlp::ExponentialHistogramDataPoint {
        start_time_unix_nano,
        time_unix_nano,
        count: 10,
        sum: Some(-1.0),
        scale: -2,
        zero_count: 1,
        positive: buckets(-3, vec![2, 300]),
        negative: buckets(7, vec![4]),
        exemplars: vec![exemplar],
        zero_threshold: 0.125,
        ..otlp::ExponentialHistogramDataPoint::default()
    };
    let exponential = otlp::ExponentialHistogramDataPoint { count: 307, ..exponential };
    let quantile = otlp::summary_data_point::ValueAtQuantile { quantile: 0.9, value: 7.0 };
    let summary = otlp::SummaryDataPoint {
        start_time_unix_nano,
        time_unix_nano,
        count: 4,
        sum: 20.0,
        quantile_values: vec![quantile],
        ..otlp::SummaryDataPoint::default()
    };
    let cumulative = otlp::AggregationTemporality::Cumulative as i32;
    let metrics = vec![
        metric("gauge", Data::Gauge(otlp::Gauge { data_points: vec![integer, stale] })),
        metric(
            "sum",
            Data::Sum(otlp::Sum { data_points: vec![double], aggregation_temporality: cumulative, is_monotonic: true }),
        ),
        metric(
            "histogram",
            Data::Histogram(otlp::Histogram { data_points: vec![histogram], aggregation_temporality: cumulative }),
        ),
        metric(
            "exponential",
            Data::ExponentialHistogram(otlp::ExponentialHistogram {
                data_points: vec![exponential],
                aggregation_temporality: cumulative,
            }),
        ),
        metric("summary", Data::Summary(otlp::Summary { data_points: vec![summary] })),
    ];
    let scope = InstrumentationScope {
        name: "lib".into(),
        version: "2".into(),
        attributes: vec![key_value("x", Value::IntValue(1))],
        ..InstrumentationScope::default()
    };
    let resource = Resource {
        attributes: vec![
            key_value("service.name", Value::StringValue("api".into())),
            key_value("host", Value::StringValue("h".into())),
        ],
        ..Resource::default()
    };
    let scope_metrics = otlp::ScopeMetrics { scope: Some(scope), metrics, schema_url: "urn:s".into() };
    ExportMetricsServiceRequest {
        resource_metrics: vec![otlp::ResourceMetrics {
            resource: Some(resource),
            scope_metrics: vec![scope_metrics],
            schema_url: "urn:r".into(),
        }],
    }
}

/// [`everything`] in JSON, written by hand.
pub fn everything_json() -> String {
    let exemplar = r#""exemplars":[{"filteredAttributes":[{"key":"user","value":{"stringValue":"u"}}],"timeUnixNano":"1759999999999000000",
        "asDouble":0.5,"spanId":"0101010101010101","traceId":"02020202020202020202020202020202"}]"#;
    let since = r#""startTimeUnixNano":"1759999995000000000","timeUnixNano":1760000000000000000"#;
    let metrics = format!(
        r#"{{"name":"gauge","gauge":{{"dataPoints":[
            {{"timeUnixNano":"1760000000000000000","asInt":"-3","attributes":[
                {{"key":"a.string","value":{{"stringValue":"s"}}}},{{"key":"b.bool","value":{{"boolValue":true}}}},
                {{"key":"c.int","value":{{"intValue":"-1"}}}},{{"key":"d.double","value":{{"doubleValue":0.5}}}},
                {{"key":"e.bytes","value":{{"bytesValue":"AP8="}}}},
                {{"key":"f.array","value":{{"arrayValue":{{"values":[{{"intValue":1}}]}}}}}},
                {{"key":"g.list","value":{{"kvlistValue":{{"values":[{{"key":"k","value":{{"doubleValue":1.5}}}}]}}}}}}]}},
            {{"timeUnixNano":"1760000000000000000","flags":1}}]}}}},
           {{"name":"sum","sum":{{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{{{since},"asDouble":1.5,{exemplar}}}]}}}},
           {{"name":"histogram","histogram":{{"aggregationTemporality":2,"dataPoints":[{{{since},"count":"3","sum":2.5,
                "bucketCounts":["1","2"],"explicitBounds":[1],"min":0.5,"max":1,{exemplar}}}]}}}},
           {{"name":"exponential","exponentialHistogram":{{"aggregationTemporality":2,"dataPoints":[{{{since},"count":"307","sum":-1,
                "scale":-2,"zeroCount":"1","zeroThreshold":0.125,"positive":{{"offset":-3,"bucketCounts":["2","300"]}},
                "negative":{{"offset":7,"bucketCounts":["4"]}},{exemplar}}}]}}}},
           {{"name":"summary","summary":{{"dataPoints":[{{{since},"count":"4","sum":20,"quantileValues":[{{"quantile":0.9,"value":7}}]}}]}}}}"#
    );
    let scope = r#"{"name":"lib","version":"2","attributes":[{"key":"x","value":{"intValue":"1"}}]}"#;
    let body = request(&attributes(&[("service.name", "api"), ("host", "h")]), scope, &metrics);
    body.replace(r#""scope":"#, r#""schemaUrl":"urn:s","scope":"#)
}

/// What is stored of [`everything`].
pub fn everything_stored() -> Vec<String> {
    let scope =
        r#"job="api", otel_scope_name="lib", otel_scope_schema_url="urn:s", otel_scope_version="2", otel_scope_x="1""#;
    let exemplar = r#"{span_id="0101010101010101", trace_id="02020202020202020202020202020202", user="u"} 0.5 @-1"#;
    let mut lines = vec![
        format!(r#"exponential{{{scope}}} # {exemplar}"#),
        format!(
            r#"exponential{{{scope}}} histogram schema -2 zero 1≤0.125 count 307 sum -1 +[-2:2][2, 300] -[8:1][4] bounds [] @now since -5000"#
        ),
        format!(
            r#"gauge{{a_string="s", b_bool="true", c_int="-1", d_double="0.5", e_bytes="AP8=", f_array="[1]", g_list="{{\"k\":1.5}}", {scope}}} -3 @now"#
        ),
        format!(r#"gauge{{{scope}}} stale @now"#),
        format!(r#"histogram_bucket{{job="api", le="+Inf", {}}} 3 @now since -5000"#, &scope[11..]),
        format!(r#"histogram_bucket{{job="api", le="1", {}}} # {exemplar}"#, &scope[11..]),
        format!(r#"histogram_bucket{{job="api", le="1", {}}} 1 @now since -5000"#, &scope[11..]),
        format!(r#"histogram_count{{{scope}}} 3 @now since -5000"#),
        format!(r#"histogram_sum{{{scope}}} 2.5 @now since -5000"#),
        format!(r#"sum_total{{{scope}}} # {exemplar}"#),
        format!(r#"sum_total{{{scope}}} 1.5 @now since -5000"#),
        format!(r#"summary_count{{{scope}}} 4 @now since -5000"#),
        format!(r#"summary_sum{{{scope}}} 20 @now since -5000"#),
        format!(r#"summary{{{scope}, quantile="0.9"}} 7 @now since -5000"#),
        r#"target_info{host="h", job="api"} 1 @now"#.to_owned(),
    ];
    lines.sort();
    lines
}

#[test]
fn one_of_everything_is_stored_alike_from_both_encodings() {
    for (encoding, body) in
        [(Encoding::Protobuf, everything().encode_to_vec()), (Encoding::Json, everything_json().into_bytes())]
    {
        let door = Door::open();
        let outcome = door.export(encoding, body).unwrap();
        assert!(outcome.is_complete(), "{encoding:?}: {outcome:?}");
        assert_eq!(outcome.written, 6, "{encoding:?}");
        assert_eq!(door.stored(), everything_stored(), "{encoding:?}");
    }
}
