//! Remote write 1.0, encoded by a library of its own.

use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

use crate::http::{self, Answer};

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub(crate) labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) exemplars: Vec<Exemplar>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Label {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Sample {
    #[prost(double, tag = "1")]
    pub(crate) value: f64,
    #[prost(int64, tag = "2")]
    pub(crate) timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    pub(crate) labels: Vec<Label>,
    #[prost(double, tag = "2")]
    pub(crate) value: f64,
    #[prost(int64, tag = "3")]
    pub(crate) timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    pub(crate) count_int: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub(crate) count_float: Option<f64>,
    #[prost(double, tag = "3")]
    pub(crate) sum: f64,
    #[prost(sint32, tag = "4")]
    pub(crate) schema: i32,
    #[prost(double, tag = "5")]
    pub(crate) zero_threshold: f64,
    #[prost(uint64, optional, tag = "6")]
    pub(crate) zero_count_int: Option<u64>,
    #[prost(double, optional, tag = "7")]
    pub(crate) zero_count_float: Option<f64>,
    #[prost(message, repeated, tag = "8")]
    pub(crate) negative_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "9")]
    pub(crate) negative_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "10")]
    pub(crate) negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) positive_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "12")]
    pub(crate) positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    pub(crate) positive_counts: Vec<f64>,
    /// 0 unknown, 3 gauge.
    #[prost(int32, tag = "14")]
    pub(crate) reset_hint: i32,
    #[prost(int64, tag = "15")]
    pub(crate) timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    pub(crate) custom_values: Vec<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BucketSpan {
    #[prost(sint32, tag = "1")]
    pub(crate) offset: i32,
    #[prost(uint32, tag = "2")]
    pub(crate) length: u32,
}

pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// A request under construction.
#[derive(Default)]
pub(crate) struct Request(WriteRequest);

fn labels(pairs: &[(&str, &str)]) -> Vec<Label> {
    pairs.iter().map(|(name, value)| Label { name: (*name).to_owned(), value: (*value).to_owned() }).collect()
}

impl Request {
    /// Of series made elsewhere.
    pub(crate) fn of(timeseries: Vec<TimeSeries>) -> Request {
        Request(WriteRequest { timeseries })
    }

    /// `pairs` sorted by name; samples as time in milliseconds and value.
    pub(crate) fn floats(mut self, pairs: &[(&str, &str)], samples: &[(i64, f64)]) -> Request {
        let samples = samples.iter().map(|&(timestamp, value)| Sample { value, timestamp }).collect();
        self.0.timeseries.push(TimeSeries { labels: labels(pairs), samples, ..TimeSeries::default() });
        self
    }

    /// A native histogram of schema 0 with `counts` observations in the buckets from (1, 2] on.
    pub(crate) fn histogram(mut self, pairs: &[(&str, &str)], timestamp: i64, sum: f64, counts: &[i64]) -> Request {
        let mut before = 0;
        let positive_deltas = counts.iter().map(|&count| count - std::mem::replace(&mut before, count)).collect();
        let histogram = Histogram {
            count_int: Some(counts.iter().sum::<i64>().cast_unsigned()),
            sum,
            schema: 0,
            zero_threshold: 0.001,
            positive_spans: vec![BucketSpan { offset: 1, length: counts.len() as u32 }],
            positive_deltas,
            timestamp,
            ..Histogram::default()
        };
        self.0.timeseries.push(TimeSeries {
            labels: labels(pairs),
            histograms: vec![histogram],
            ..TimeSeries::default()
        });
        self
    }

    /// Gives the series added last a traced observation.
    pub(crate) fn exemplar(mut self, trace: &str, timestamp: i64, value: f64) -> Request {
        let series = self.0.timeseries.last_mut().unwrap();
        series.exemplars.push(Exemplar { labels: labels(&[("trace_id", trace)]), value, timestamp });
        self
    }

    pub(crate) fn send(&self, port: u16) -> Answer {
        self.send_with(port, &[])
    }

    pub(crate) fn send_with(&self, port: u16, more: &[(&str, &str)]) -> Answer {
        let body = snap::raw::Encoder::new().compress_vec(&self.0.encode_to_vec()).unwrap();
        let mut headers = vec![
            ("Content-Type", "application/x-protobuf"),
            ("Content-Encoding", "snappy"),
            ("X-Prometheus-Remote-Write-Version", "0.1.0"),
        ];
        headers.extend_from_slice(more);
        http::send(port, "POST", "/api/v1/write", &headers, &body).unwrap()
    }
}
