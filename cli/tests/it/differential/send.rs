//! The data as remote write 1.0, encoded by a library of its own and sent in slices of time.

use prost::Message;

use super::data::{Histogram as Made, LENGTH_MS, Point, STALE, START_MS, Series};
use crate::http;

/// Time in one request: Prometheus takes nothing that is an hour older than the newest sample.
const SLICE_MS: i64 = 5 * 60_000;

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    count_int: Option<u64>,
    #[prost(double, optional, tag = "2")]
    count_float: Option<f64>,
    #[prost(double, tag = "3")]
    sum: f64,
    #[prost(sint32, tag = "4")]
    schema: i32,
    #[prost(double, tag = "5")]
    zero_threshold: f64,
    #[prost(uint64, optional, tag = "6")]
    zero_count_int: Option<u64>,
    #[prost(double, optional, tag = "7")]
    zero_count_float: Option<f64>,
    #[prost(message, repeated, tag = "8")]
    negative_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "9")]
    negative_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "10")]
    negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    positive_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "12")]
    positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    positive_counts: Vec<f64>,
    /// 0 unknown, 3 gauge.
    #[prost(int32, tag = "14")]
    reset_hint: i32,
    #[prost(int64, tag = "15")]
    timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    custom_values: Vec<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct BucketSpan {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

/// Writes everything to a server, oldest first. Returns the number of samples.
///
/// The reference reads series in the order in which it met them, and that decides between equals. So every series
/// is announced in the order of labels, by a staleness marker before its data.
pub(super) fn send(port: u16, series: &[Series]) -> usize {
    let marker = |series: &Series| TimeSeries {
        labels: labels(series),
        samples: vec![Sample { value: f64::from_bits(STALE), timestamp: START_MS - 1 }],
        histograms: Vec::new(),
    };
    write(port, series.iter().map(marker).collect());
    let mut sent = 0;
    let mut start = START_MS;
    while start <= START_MS + LENGTH_MS {
        let end = start + SLICE_MS;
        // Of a request the reference takes all floats of a series before its histograms, so that a series which turns
        // from one to the other goes on in the next request.
        let mut rest: Vec<_> = series.iter().map(|series| time_series(series, start, end).into_iter()).collect();
        loop {
            let next: Vec<TimeSeries> = rest.iter_mut().filter_map(Iterator::next).collect();
            if next.is_empty() {
                break;
            }
            sent += write(port, next);
        }
        start = end;
    }
    sent
}

/// Sends one request; the number of samples in it.
fn write(port: u16, timeseries: Vec<TimeSeries>) -> usize {
    let request = WriteRequest { timeseries };
    let body = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).unwrap();
    let headers = [
        ("Content-Type", "application/x-protobuf"),
        ("Content-Encoding", "snappy"),
        ("X-Prometheus-Remote-Write-Version", "0.1.0"),
    ];
    let answer = http::send(port, "POST", "/api/v1/write", &headers, &body).unwrap();
    assert!(answer.status / 100 == 2, "port {port}: {answer:?}");
    request.timeseries.iter().map(|one| one.samples.len() + one.histograms.len()).sum()
}

fn labels(series: &Series) -> Vec<Label> {
    series.labels.iter().map(|(name, value)| Label { name: name.clone(), value: value.clone() }).collect()
}

/// One entry per run of floats or histograms.
fn time_series(series: &Series, start: i64, end: i64) -> Vec<TimeSeries> {
    let mut out: Vec<TimeSeries> = Vec::new();
    for &(timestamp, ref point) in series.points.iter().filter(|(time, _)| (start..end).contains(time)) {
        let float = matches!(point, Point::Float(_));
        if out.last().is_none_or(|entry| entry.samples.is_empty() == float) {
            out.push(TimeSeries { labels: labels(series), samples: Vec::new(), histograms: Vec::new() });
        }
        let Some(entry) = out.last_mut() else { continue };
        match point {
            Point::Float(value) => entry.samples.push(Sample { value: *value, timestamp }),
            Point::Histogram(made) => entry.histograms.push(histogram(made, timestamp)),
        }
    }
    out
}

fn histogram(made: &Made, timestamp: i64) -> Histogram {
    let (positive_spans, positive) = buckets(made.positive.iter());
    let (negative_spans, negative) = buckets(made.negative.iter());
    let mut out = Histogram {
        sum: made.sum,
        schema: made.schema,
        zero_threshold: made.zero_threshold,
        positive_spans,
        negative_spans,
        reset_hint: if made.gauge { 3 } else { 0 },
        timestamp,
        custom_values: made.bounds.clone(),
        ..Histogram::default()
    };
    if made.float {
        // Halves: no integer histogram has them.
        let half = |count: &u64| *count as f64 / 2.0;
        out.count_float = Some(half(&made.count()));
        out.zero_count_float = Some(half(&made.zero));
        out.positive_counts = positive.iter().map(half).collect();
        out.negative_counts = negative.iter().map(half).collect();
    } else {
        out.count_int = Some(made.count());
        out.zero_count_int = Some(made.zero);
        out.positive_deltas = deltas(&positive);
        out.negative_deltas = deltas(&negative);
    }
    out
}

/// Runs of neighbours, and the counts in them.
fn buckets<'a>(buckets: impl Iterator<Item = (&'a i32, &'a u64)>) -> (Vec<BucketSpan>, Vec<u64>) {
    let (mut spans, mut counts): (Vec<BucketSpan>, Vec<u64>) = (Vec::new(), Vec::new());
    let mut next = 0;
    for (&index, &count) in buckets {
        match spans.last_mut() {
            Some(span) if index == next => span.length += 1,
            _ => spans.push(BucketSpan { offset: index - next, length: 1 }),
        }
        next = index + 1;
        counts.push(count);
    }
    (spans, counts)
}

fn deltas(counts: &[u64]) -> Vec<i64> {
    let mut before = 0;
    counts.iter().map(|&count| (count as i64) - std::mem::replace(&mut before, count as i64)).collect()
}
