//! The messages of OTLP metrics, written by hand after opentelemetry-proto 1.11.
//!
//! One set of structs serves both encodings: the members of a `oneof` are plain optional fields, which is the same on
//! the wire in protobuf and in JSON. Fields nothing is done with are left out and skipped as unknown.
//!
//! JSON is read into all of them, metric by metric. Of protobuf only what identifies a series not seen before, and exemplars,
//! are; the rest is walked through where it lies ([`wire`](super::wire)), and read into structs only to
//! compare the two.

#[cfg(any(test, feature = "fuzz"))]
use bytes::Bytes;
use prost::Message;
use serde::Deserialize;

use super::json::{base64, hex, number, number_or_none, numbers, objects, or_default};

/// The flag that says a point stands for the absence of a value.
pub(super) const NO_RECORDED_VALUE: u32 = 1;
/// `AGGREGATION_TEMPORALITY_DELTA`
pub(super) const DELTA: i32 = 1;
/// `AGGREGATION_TEMPORALITY_CUMULATIVE`
pub(super) const CUMULATIVE: i32 = 2;

/// `ExportMetricsServiceRequest`
#[cfg(any(test, feature = "fuzz"))]
#[derive(Clone, PartialEq, Message)]
pub(super) struct Request {
    #[prost(message, repeated, tag = "1")]
    pub(super) resource_metrics: Vec<ResourceMetrics>,
}

#[cfg(any(test, feature = "fuzz"))]
#[derive(Clone, PartialEq, Message)]
pub(super) struct ResourceMetrics {
    #[prost(message, optional, tag = "1")]
    pub(super) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(super) scope_metrics: Vec<ScopeMetrics>,
}

#[cfg(any(test, feature = "fuzz"))]
#[derive(Clone, PartialEq, Message)]
pub(super) struct ScopeMetrics {
    #[prost(message, optional, tag = "1")]
    pub(super) scope: Option<Scope>,
    /// Each an encoded [`Metric`].
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(super) metrics: Vec<Bytes>,
    #[prost(string, tag = "3")]
    pub(super) schema_url: String,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase", remote = "Self")]
pub(super) struct Resource {
    #[prost(message, repeated, tag = "1")]
    #[serde(deserialize_with = "or_default")]
    pub(super) attributes: Vec<KeyValue>,
}

/// `InstrumentationScope`
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase", remote = "Self")]
pub(super) struct Scope {
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "or_default")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    #[serde(deserialize_with = "or_default")]
    pub(super) version: String,
    #[prost(message, repeated, tag = "3")]
    #[serde(deserialize_with = "or_default")]
    pub(super) attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase", remote = "Self")]
pub(super) struct KeyValue {
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "or_default")]
    pub(super) key: String,
    #[prost(message, optional, tag = "2")]
    pub(super) value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase", remote = "Self")]
pub(super) struct AnyValue {
    #[prost(string, optional, tag = "1")]
    pub(super) string_value: Option<String>,
    #[prost(bool, optional, tag = "2")]
    pub(super) bool_value: Option<bool>,
    #[prost(int64, optional, tag = "3")]
    #[serde(deserialize_with = "number_or_none")]
    pub(super) int_value: Option<i64>,
    #[prost(double, optional, tag = "4")]
    #[serde(deserialize_with = "number_or_none")]
    pub(super) double_value: Option<f64>,
    #[prost(message, optional, tag = "5")]
    pub(super) array_value: Option<ArrayValue>,
    #[prost(message, optional, tag = "6")]
    pub(super) kvlist_value: Option<KeyValueList>,
    #[prost(bytes = "vec", optional, tag = "7")]
    #[serde(deserialize_with = "base64")]
    pub(super) bytes_value: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase", remote = "Self")]
pub(super) struct ArrayValue {
    #[prost(message, repeated, tag = "1")]
    #[serde(deserialize_with = "or_default")]
    pub(super) values: Vec<AnyValue>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase", remote = "Self")]
pub(super) struct KeyValueList {
    #[prost(message, repeated, tag = "1")]
    #[serde(deserialize_with = "or_default")]
    pub(super) values: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase", remote = "Self")]
pub(super) struct Metric {
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "or_default")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    #[serde(deserialize_with = "or_default")]
    pub(super) description: String,
    #[prost(string, tag = "3")]
    #[serde(deserialize_with = "or_default")]
    pub(super) unit: String,
    #[prost(message, optional, tag = "5")]
    pub(super) gauge: Option<Gauge>,
    #[prost(message, optional, tag = "7")]
    pub(super) sum: Option<Sum>,
    #[prost(message, optional, tag = "9")]
    pub(super) histogram: Option<Histogram>,
    #[prost(message, optional, tag = "10")]
    pub(super) exponential_histogram: Option<ExponentialHistogram>,
    #[prost(message, optional, tag = "11")]
    pub(super) summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase", remote = "Self")]
pub(super) struct Gauge {
    #[prost(message, repeated, tag = "1")]
    #[serde(deserialize_with = "or_default")]
    pub(super) data_points: Vec<NumberPoint>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase", remote = "Self")]
pub(super) struct Sum {
    #[prost(message, repeated, tag = "1")]
    #[serde(deserialize_with = "or_default")]
    pub(super) data_points: Vec<NumberPoint>,
    #[prost(int32, tag = "2")]
    #[serde(deserialize_with = "or_default")]
    pub(super) aggregation_temporality: i32,
    #[prost(bool, tag = "3")]
    #[serde(deserialize_with = "or_default")]
    pub(super) is_monotonic: bool,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase", remote = "Self")]
pub(super) struct Histogram {
    #[prost(message, repeated, tag = "1")]
    #[serde(deserialize_with = "or_default")]
    pub(super) data_points: Vec<HistogramPoint>,
    #[prost(int32, tag = "2")]
    #[serde(deserialize_with = "or_default")]
    pub(super) aggregation_temporality: i32,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase", remote = "Self")]
pub(super) struct ExponentialHistogram {
    #[prost(message, repeated, tag = "1")]
    #[serde(deserialize_with = "or_default")]
    pub(super) data_points: Vec<ExponentialPoint>,
    #[prost(int32, tag = "2")]
    #[serde(deserialize_with = "or_default")]
    pub(super) aggregation_temporality: i32,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase", remote = "Self")]
pub(super) struct Summary {
    #[prost(message, repeated, tag = "1")]
    #[serde(deserialize_with = "or_default")]
    pub(super) data_points: Vec<SummaryPoint>,
}

/// `NumberDataPoint`
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase", remote = "Self")]
pub(super) struct NumberPoint {
    #[prost(fixed64, tag = "2")]
    #[serde(deserialize_with = "number")]
    pub(super) start_time_unix_nano: u64,
    #[prost(fixed64, tag = "3")]
    #[serde(deserialize_with = "number")]
    pub(super) time_unix_nano: u64,
    #[prost(double, optional, tag = "4")]
    #[serde(deserialize_with = "number_or_none")]
    pub(super) as_double: Option<f64>,
    #[prost(message, repeated, tag = "5")]
    #[serde(deserialize_with = "or_default")]
    pub(super) exemplars: Vec<Exemplar>,
    #[prost(sfixed64, optional, tag = "6")]
    #[serde(deserialize_with = "number_or_none")]
    pub(super) as_int: Option<i64>,
    #[prost(message, repeated, tag = "7")]
    #[serde(deserialize_with = "or_default")]
    pub(super) attributes: Vec<KeyValue>,
    #[prost(uint32, tag = "8")]
    #[serde(deserialize_with = "number")]
    pub(super) flags: u32,
}

/// `HistogramDataPoint`
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase", remote = "Self")]
pub(super) struct HistogramPoint {
    #[prost(fixed64, tag = "2")]
    #[serde(deserialize_with = "number")]
    pub(super) start_time_unix_nano: u64,
    #[prost(fixed64, tag = "3")]
    #[serde(deserialize_with = "number")]
    pub(super) time_unix_nano: u64,
    #[prost(fixed64, tag = "4")]
    #[serde(deserialize_with = "number")]
    pub(super) count: u64,
    #[prost(double, optional, tag = "5")]
    #[serde(deserialize_with = "number_or_none")]
    pub(super) sum: Option<f64>,
    #[prost(fixed64, repeated, tag = "6")]
    #[serde(deserialize_with = "numbers")]
    pub(super) bucket_counts: Vec<u64>,
    #[prost(double, repeated, tag = "7")]
    #[serde(deserialize_with = "numbers")]
    pub(super) explicit_bounds: Vec<f64>,
    #[prost(message, repeated, tag = "8")]
    #[serde(deserialize_with = "or_default")]
    pub(super) exemplars: Vec<Exemplar>,
    #[prost(message, repeated, tag = "9")]
    #[serde(deserialize_with = "or_default")]
    pub(super) attributes: Vec<KeyValue>,
    #[prost(uint32, tag = "10")]
    #[serde(deserialize_with = "number")]
    pub(super) flags: u32,
    #[prost(double, optional, tag = "11")]
    #[serde(deserialize_with = "number_or_none")]
    pub(super) min: Option<f64>,
    #[prost(double, optional, tag = "12")]
    #[serde(deserialize_with = "number_or_none")]
    pub(super) max: Option<f64>,
}

/// `ExponentialHistogramDataPoint`
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase", remote = "Self")]
pub(super) struct ExponentialPoint {
    #[prost(message, repeated, tag = "1")]
    #[serde(deserialize_with = "or_default")]
    pub(super) attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "2")]
    #[serde(deserialize_with = "number")]
    pub(super) start_time_unix_nano: u64,
    #[prost(fixed64, tag = "3")]
    #[serde(deserialize_with = "number")]
    pub(super) time_unix_nano: u64,
    #[prost(fixed64, tag = "4")]
    #[serde(deserialize_with = "number")]
    pub(super) count: u64,
    #[prost(double, optional, tag = "5")]
    #[serde(deserialize_with = "number_or_none")]
    pub(super) sum: Option<f64>,
    #[prost(sint32, tag = "6")]
    #[serde(deserialize_with = "number")]
    pub(super) scale: i32,
    #[prost(fixed64, tag = "7")]
    #[serde(deserialize_with = "number")]
    pub(super) zero_count: u64,
    #[prost(message, optional, tag = "8")]
    pub(super) positive: Option<Buckets>,
    #[prost(message, optional, tag = "9")]
    pub(super) negative: Option<Buckets>,
    #[prost(uint32, tag = "10")]
    #[serde(deserialize_with = "number")]
    pub(super) flags: u32,
    #[prost(message, repeated, tag = "11")]
    #[serde(deserialize_with = "or_default")]
    pub(super) exemplars: Vec<Exemplar>,
    #[prost(double, optional, tag = "12")]
    #[serde(deserialize_with = "number_or_none")]
    pub(super) min: Option<f64>,
    #[prost(double, optional, tag = "13")]
    #[serde(deserialize_with = "number_or_none")]
    pub(super) max: Option<f64>,
    #[prost(double, tag = "14")]
    #[serde(deserialize_with = "number")]
    pub(super) zero_threshold: f64,
}

/// Neighbouring buckets of an exponential histogram; `offset` numbers the first.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase", remote = "Self")]
pub(super) struct Buckets {
    #[prost(sint32, tag = "1")]
    #[serde(deserialize_with = "number")]
    pub(super) offset: i32,
    #[prost(uint64, repeated, tag = "2")]
    #[serde(deserialize_with = "numbers")]
    pub(super) bucket_counts: Vec<u64>,
}

/// `SummaryDataPoint`
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase", remote = "Self")]
pub(super) struct SummaryPoint {
    #[prost(fixed64, tag = "2")]
    #[serde(deserialize_with = "number")]
    pub(super) start_time_unix_nano: u64,
    #[prost(fixed64, tag = "3")]
    #[serde(deserialize_with = "number")]
    pub(super) time_unix_nano: u64,
    #[prost(fixed64, tag = "4")]
    #[serde(deserialize_with = "number")]
    pub(super) count: u64,
    #[prost(double, tag = "5")]
    #[serde(deserialize_with = "number")]
    pub(super) sum: f64,
    #[prost(message, repeated, tag = "6")]
    #[serde(deserialize_with = "or_default")]
    pub(super) quantile_values: Vec<QuantileValue>,
    #[prost(message, repeated, tag = "7")]
    #[serde(deserialize_with = "or_default")]
    pub(super) attributes: Vec<KeyValue>,
    #[prost(uint32, tag = "8")]
    #[serde(deserialize_with = "number")]
    pub(super) flags: u32,
}

/// `ValueAtQuantile`
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase", remote = "Self")]
pub(super) struct QuantileValue {
    #[prost(double, tag = "1")]
    #[serde(deserialize_with = "number")]
    pub(super) quantile: f64,
    #[prost(double, tag = "2")]
    #[serde(deserialize_with = "number")]
    pub(super) value: f64,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase", remote = "Self")]
pub(super) struct Exemplar {
    #[prost(fixed64, tag = "2")]
    #[serde(deserialize_with = "number")]
    pub(super) time_unix_nano: u64,
    #[prost(double, optional, tag = "3")]
    #[serde(deserialize_with = "number_or_none")]
    pub(super) as_double: Option<f64>,
    #[prost(bytes = "vec", tag = "4")]
    #[serde(deserialize_with = "hex")]
    pub(super) span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    #[serde(deserialize_with = "hex")]
    pub(super) trace_id: Vec<u8>,
    #[prost(sfixed64, optional, tag = "6")]
    #[serde(deserialize_with = "number_or_none")]
    pub(super) as_int: Option<i64>,
    #[prost(message, repeated, tag = "7")]
    #[serde(deserialize_with = "or_default")]
    pub(super) filtered_attributes: Vec<KeyValue>,
}

objects!(
    Resource,
    Scope,
    KeyValue,
    AnyValue,
    ArrayValue,
    KeyValueList,
    Metric,
    Gauge,
    Sum,
    Histogram,
    ExponentialHistogram,
    Summary,
    NumberPoint,
    HistogramPoint,
    ExponentialPoint,
    Buckets,
    SummaryPoint,
    QuantileValue,
    Exemplar
);

/// `ExportMetricsServiceResponse`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Response {
    #[prost(message, optional, tag = "1")]
    pub(super) partial_success: Option<PartialSuccess>,
}

/// `ExportMetricsPartialSuccess`
#[derive(Clone, PartialEq, Message)]
pub(super) struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub(super) rejected_data_points: i64,
    #[prost(string, tag = "2")]
    pub(super) error_message: String,
}
