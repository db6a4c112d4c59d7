use prost::Message;

use super::*;

/// The messages as `io.prometheus.client` declares them.
mod wire {
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct MetricFamily {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) help: String,
        #[prost(int32, tag = "3")]
        pub(super) kind: i32,
        #[prost(message, repeated, tag = "4")]
        pub(super) metric: Vec<Metric>,
        #[prost(string, tag = "5")]
        pub(super) unit: String,
    }
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Metric {
        #[prost(message, repeated, tag = "1")]
        pub(super) label: Vec<LabelPair>,
        #[prost(message, optional, tag = "2")]
        pub(super) gauge: Option<Simple>,
        #[prost(message, optional, tag = "3")]
        pub(super) counter: Option<Simple>,
        #[prost(message, optional, tag = "4")]
        pub(super) summary: Option<Summary>,
        #[prost(message, optional, tag = "5")]
        pub(super) untyped: Option<Simple>,
        #[prost(message, optional, tag = "7")]
        pub(super) histogram: Option<Histogram>,
        #[prost(int64, tag = "6")]
        pub(super) timestamp_ms: i64,
    }
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct LabelPair {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) value: String,
    }
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Simple {
        #[prost(double, tag = "1")]
        pub(super) value: f64,
        #[prost(message, optional, tag = "2")]
        pub(super) exemplar: Option<Exemplar>,
        #[prost(message, optional, tag = "3")]
        pub(super) created: Option<Timestamp>,
    }
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Summary {
        #[prost(uint64, tag = "1")]
        pub(super) count: u64,
        #[prost(double, tag = "2")]
        pub(super) sum: f64,
        #[prost(message, repeated, tag = "3")]
        pub(super) quantile: Vec<Quantile>,
    }
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Quantile {
        #[prost(double, tag = "1")]
        pub(super) quantile: f64,
        #[prost(double, tag = "2")]
        pub(super) value: f64,
    }
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Histogram {
        #[prost(uint64, tag = "1")]
        pub(super) count: u64,
        #[prost(double, tag = "4")]
        pub(super) count_float: f64,
        #[prost(double, tag = "2")]
        pub(super) sum: f64,
        #[prost(message, repeated, tag = "3")]
        pub(super) bucket: Vec<Bucket>,
        #[prost(message, optional, tag = "15")]
        pub(super) created: Option<Timestamp>,
        #[prost(sint32, tag = "5")]
        pub(super) schema: i32,
        #[prost(double, tag = "6")]
        pub(super) zero_threshold: f64,
        #[prost(uint64, tag = "7")]
        pub(super) zero_count: u64,
        #[prost(message, repeated, tag = "12")]
        pub(super) positive_span: Vec<BucketSpan>,
        #[prost(sint64, repeated, tag = "13")]
        pub(super) positive_delta: Vec<i64>,
        #[prost(double, repeated, tag = "14")]
        pub(super) positive_count: Vec<f64>,
        #[prost(message, repeated, tag = "16")]
        pub(super) exemplars: Vec<Exemplar>,
    }
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Bucket {
        #[prost(uint64, tag = "1")]
        pub(super) cumulative: u64,
        #[prost(double, tag = "2")]
        pub(super) bound: f64,
        #[prost(message, optional, tag = "3")]
        pub(super) exemplar: Option<Exemplar>,
    }
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct BucketSpan {
        #[prost(sint32, tag = "1")]
        pub(super) offset: i32,
        #[prost(uint32, tag = "2")]
        pub(super) len: u32,
    }
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Exemplar {
        #[prost(message, repeated, tag = "1")]
        pub(super) label: Vec<LabelPair>,
        #[prost(double, tag = "2")]
        pub(super) value: f64,
        #[prost(message, optional, tag = "3")]
        pub(super) timestamp: Option<Timestamp>,
    }
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Timestamp {
        #[prost(int64, tag = "1")]
        pub(super) seconds: i64,
        #[prost(int32, tag = "2")]
        pub(super) nanos: i32,
    }
}

use wire::{
    Bucket, BucketSpan, Exemplar, Histogram, LabelPair, Metric, MetricFamily, Quantile, Simple, Summary, Timestamp,
};

fn label(name: &str, value: &str) -> LabelPair {
    LabelPair { name: name.to_owned(), value: value.to_owned() }
}

fn delimited(families: &[MetricFamily]) -> Vec<u8> {
    families.iter().flat_map(Message::encode_length_delimited_to_vec).collect()
}

fn family(name: &str, kind: i32, metric: Metric) -> MetricFamily {
    MetricFamily { name: name.to_owned(), help: "h".to_owned(), kind, metric: vec![metric], unit: String::new() }
}

fn exemplar(seconds: Option<i64>) -> Exemplar {
    let timestamp = seconds.map(|seconds| Timestamp { seconds, nanos: 5_999_999 });
    Exemplar { label: vec![label("trace", "a\"b")], value: 0.5, timestamp }
}

/// A histogram with both kinds of buckets.
fn both() -> Histogram {
    Histogram {
        count: 7,
        sum: 3.5,
        bucket: vec![
            Bucket { cumulative: 2, bound: 0.5, exemplar: Some(exemplar(None)) },
            Bucket { cumulative: 7, bound: 1.0, exemplar: Some(exemplar(Some(9))) },
        ],
        created: Some(Timestamp { seconds: 3, nanos: 0 }),
        schema: 3,
        zero_threshold: 1e-128,
        zero_count: 1,
        positive_span: vec![BucketSpan { offset: -2, len: 0 }, BucketSpan { offset: 4, len: 2 }],
        positive_delta: vec![2, 2],
        ..Histogram::default()
    }
}

#[test]
fn simple_metrics_look_like_text() {
    let simple = |value| Some(Simple { value, ..Simple::default() });
    let labels = vec![label("a", "x\"\\\ny"), label("k.8", "ß")];
    let counter =
        Simple { value: 3.0, exemplar: Some(exemplar(Some(7))), created: Some(Timestamp { seconds: 2, nanos: 0 }) };
    let quantile = vec![Quantile { quantile: 0.99, value: f64::NAN }];
    let summary = Summary { count: 5, sum: 1.5, quantile };
    let mut unit = family("t_seconds_total", 0, Metric { counter: Some(counter), ..Metric::default() });
    unit.unit = "seconds".to_owned();
    let body = delimited(&[
        family("g", 1, Metric { label: labels, gauge: simple(-0.5), timestamp_ms: 77, ..Metric::default() }),
        MetricFamily { name: "empty".to_owned(), ..MetricFamily::default() },
        unit,
        family("s", 2, Metric { summary: Some(summary), ..Metric::default() }),
        family("u", 3, Metric { untyped: simple(1.0), ..Metric::default() }),
        family("unset", 1, Metric::default()),
    ]);
    assert_eq!(
        entries(Format::Protobuf, &body, HistogramParts::Classic),
        [
            r#"help g "h""#,
            "type g gauge",
            r#"__name__="g" a="x\"\\\ny" k.8="ß" -0.5 @77"#,
            r#"help t_seconds_total "h""#,
            "type t_seconds_total counter",
            r#"unit t_seconds_total "seconds""#,
            r#"__name__="t_seconds_total" 3.0 since 2000 # trace="a\"b" 0.5 Some(7005)"#,
            r#"help s "h""#,
            "type s summary",
            r#"__name__="s_count" 5.0"#,
            r#"__name__="s_sum" 1.5"#,
            r#"__name__="s" quantile="0.99" NaN"#,
            r#"help u "h""#,
            "type u unknown",
            r#"__name__="u" 1.0"#,
            r#"help unset "h""#,
            "type unset gauge",
            r#"__name__="unset" 0.0"#,
        ]
    );
}

#[test]
fn histograms_give_the_parts_that_are_wanted() {
    let body = delimited(&[family("h", 4, Metric { histogram: Some(both()), ..Metric::default() })]);
    let classic = [
        r#"__name__="h_count" 7.0 since 3000"#,
        r#"__name__="h_sum" 3.5 since 3000"#,
        r#"__name__="h_bucket" le="0.5" 2.0 since 3000 # trace="a\"b" 0.5 None"#,
        r#"__name__="h_bucket" le="1.0" 7.0 since 3000 # trace="a\"b" 0.5 Some(9005)"#,
        r#"__name__="h_bucket" le="+Inf" 7.0 since 3000"#,
    ];
    let native =
        [r#"__name__="h" histogram schema=3 count=7 sum=3.5 Unknown since 3000 # trace="a\"b" 0.5 Some(9005)"#];
    let both = [&native[..], &classic[..]].concat();
    let table = [
        (HistogramParts::Classic, &classic[..]),
        (HistogramParts::Native, &native[..]),
        (HistogramParts::NativeAndClassic, &both[..]),
    ];
    for (parts, wanted) in table {
        assert_eq!(entries(Format::Protobuf, &body, parts)[2..], *wanted, "{parts:?}");
    }
}

#[test]
fn native_buckets_keep_their_places() {
    let body = delimited(&[family("h", 5, Metric { histogram: Some(both()), ..Metric::default() })]);
    let mut parser = ProtobufParser::new(&body, HistogramParts::Native);
    let histogram = loop {
        if let Some(Entry::Sample(sample)) = parser.next_entry().unwrap() {
            let SampleValue::Histogram(histogram) = sample.value else { panic!("{sample:?}") };
            break histogram;
        }
    };
    use kymo_core::histogram::{BucketCounts, BucketSpan as KeptSpan, HistogramCounts, ResetHint};
    // The empty span's gap is part of the next one's.
    assert_eq!(histogram.positive_spans, [KeptSpan { offset: 2, len: 2 }]);
    let counts = BucketCounts { zero: 1, count: 7, positive: vec![2, 4], negative: vec![] };
    assert_eq!(histogram.counts, HistogramCounts::Integer(counts));
    assert_eq!((histogram.hint, histogram.zero_threshold), (ResetHint::Gauge, 1e-128));
}

#[test]
fn float_histograms_are_float_and_broken_ones_refused() {
    let read = |histogram: Histogram| {
        let body = delimited(&[family("h", 4, Metric { histogram: Some(histogram), ..Metric::default() })]);
        entries(Format::Protobuf, &body, HistogramParts::Native).pop().unwrap()
    };
    let float = Histogram {
        count: 0,
        count_float: 2.5,
        positive_span: vec![BucketSpan { offset: 0, len: 1 }],
        positive_count: vec![1.5],
        ..both()
    };
    let float = Histogram { zero_count: 0, positive_delta: vec![], ..float };
    assert_eq!(
        read(float.clone()),
        r#"__name__="h" histogram schema=3 count=2.5 sum=3.5 Unknown since 3000 # trace="a\"b" 0.5 Some(9005)"#
    );
    let own = read(Histogram { exemplars: vec![exemplar(Some(1)), exemplar(None), exemplar(Some(2))], ..float });
    assert!(own.ends_with(r#"# trace="a\"b" 0.5 Some(1005) # trace="a\"b" 0.5 Some(2005)"#), "{own}");
    for broken in [
        Histogram { positive_delta: vec![2, -3], ..both() },
        Histogram { positive_delta: vec![2], ..both() },
        Histogram { schema: 300, ..both() },
        Histogram { schema: 9, ..both() },
    ] {
        assert_eq!(read(broken), "error: invalid native histogram at line 1 (byte 2)");
    }
}

#[test]
fn faults_are_named_with_message_and_byte() {
    let good = delimited(&[family("g", 1, Metric::default())]);
    let with =
        |bad: &[u8]| entries(Format::Protobuf, &[&good[..], bad].concat(), HistogramParts::Classic).pop().unwrap();
    let name = |name: &str, kind| delimited(&[family(name, kind, Metric::default())]);
    let at = good.len();
    let table: &[(Vec<u8>, String)] = &[
        (
            vec![5, 0x0a],
            format!("bad protobuf message: the message ends inside the field at byte 1 at line 2 (byte {})", at + 1),
        ),
        (
            vec![2, 0x0a, 9],
            format!("bad protobuf message: the message ends inside the field at byte 2 at line 2 (byte {})", at + 2),
        ),
        (vec![0], format!("invalid metric name at line 2 (byte {at})")),
        (name("x", 9), format!("invalid metric type at line 2 (byte {at})")),
        (vec![3, 0x0a, 1, 0xff], format!("invalid UTF-8 in metric name at line 2 (byte {at})")),
    ];
    for (bad, wanted) in table {
        assert_eq!(with(bad), format!("error: {wanted}"), "{bad:x?}");
    }
    for len in 1..good.len() {
        let found = entries(Format::Protobuf, &good[..len], HistogramParts::Classic);
        assert!(found.last().unwrap().starts_with("error: "), "{len}: {found:?}");
    }
}
