//! Answers of the API into columns. Numbers are read where they stand; only labels and texts are allocated.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use kymo_core::labels::LabelsBuilder;
use kymo_core::query::{
    Annotations, Listed, PointTimes, QueryError, QueryResult, QueryStats, QueryValue, ResultSeries,
};
use kymo_core::text::parse_float;
use kymo_core::{ErrorKind, Exemplar, FamilyType, Labels, Metadata, NativeHistogram};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{histogram, plan};

#[derive(Deserialize)]
struct Envelope<'a, T> {
    #[serde(borrow)]
    status: Cow<'a, str>,
    data: Option<T>,
    #[serde(rename = "errorType")]
    error_type: Option<String>,
    error: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(default)]
    infos: Vec<String>,
}

/// The error an envelope carries; `None` if `body` is none of ours.
pub(super) fn refusal(body: &[u8], retry_after: Duration) -> Option<QueryError> {
    let envelope: Envelope<'_, &RawValue> = serde_json::from_slice(body).ok()?;
    Some(error_of(envelope.error_type?.as_str(), envelope.error.unwrap_or_default(), retry_after))
}

fn error_of(error_type: &str, message: String, retry_after: Duration) -> QueryError {
    let kind = match error_type {
        "bad_data" => {
            // The surface that shows it names the parameter itself.
            let text = message.strip_prefix("invalid parameter \"query\": ").unwrap_or(&message);
            return QueryError::parse(text, None);
        }
        "execution" | "not_acceptable" => ErrorKind::Invalid,
        "timeout" => ErrorKind::Timeout,
        "canceled" => ErrorKind::Cancelled,
        "not_found" => ErrorKind::NotFound,
        "unavailable" => ErrorKind::Unavailable { retry_after },
        _ => ErrorKind::Internal,
    };
    QueryError::execute(kind, message)
}

fn open<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<(T, Annotations), QueryError> {
    let envelope: Envelope<'a, T> = serde_json::from_slice(body).map_err(|e| unreadable(&e))?;
    match envelope.data {
        Some(data) if envelope.status == "success" => {
            Ok((data, Annotations { warnings: envelope.warnings, infos: envelope.infos }))
        }
        _ => {
            let error_type = envelope.error_type.unwrap_or_default();
            Err(error_of(&error_type, envelope.error.unwrap_or_default(), Duration::from_secs(1)))
        }
    }
}

/// Any data.
pub(super) fn data<T: de::DeserializeOwned>(body: &[u8]) -> Result<T, QueryError> {
    let (raw, _) = open::<&RawValue>(body)?;
    read(raw)
}

fn unreadable(error: &dyn fmt::Display) -> QueryError {
    QueryError::execute(ErrorKind::Internal, format!("the server's answer is not one of a Prometheus API: {error}"))
}

#[derive(Deserialize)]
struct QueryData<'a> {
    #[serde(rename = "resultType", borrow)]
    result_type: Cow<'a, str>,
    #[serde(borrow)]
    result: &'a RawValue,
    stats: Option<Stats>,
    #[serde(borrow)]
    explain: Option<&'a RawValue>,
}

/// The answer of `query` and `query_range`.
pub(super) fn query(body: &[u8]) -> Result<QueryResult, QueryError> {
    let (data, annotations) = open::<QueryData<'_>>(body)?;
    let value = match data.result_type.as_ref() {
        "scalar" => {
            let (time, value): (Time, Number) = read(data.result)?;
            QueryValue::Scalar { time_ms: time.0, value: value.0 }
        }
        "string" => {
            let (time, value): (Time, String) = read(data.result)?;
            QueryValue::String { time_ms: time.0, value }
        }
        "vector" => QueryValue::Vector(series_list(data.result)?),
        "matrix" => QueryValue::Matrix(series_list(data.result)?),
        other => return Err(unreadable(&format_args!("result type {other:?}"))),
    };
    let plan = data.explain.map(plan::read).transpose()?;
    let stats = data.stats.map(QueryStats::from);
    Ok(QueryResult { value, annotations, stats, plan, ..QueryResult::default() })
}

pub(super) fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, QueryError> {
    serde_json::from_str(raw.get()).map_err(|e| unreadable(&e))
}

fn series_list(raw: &RawValue) -> Result<Vec<ResultSeries>, QueryError> {
    read::<Vec<WireSeries>>(raw)?.into_iter().map(WireSeries::into_columns).collect()
}

/// The answer of `admin/tsdb/snapshot`.
pub(super) fn snapshot(body: &[u8]) -> Result<String, QueryError> {
    #[derive(Deserialize)]
    struct Taken {
        name: String,
    }
    open::<Taken>(body).map(|(taken, _)| taken.name)
}

/// The answer of `series`.
pub(super) fn series(body: &[u8]) -> Result<Listed<Labels>, QueryError> {
    let (list, annotations) = open::<Vec<WireLabels>>(body)?;
    let mut items: Vec<Labels> = list.into_iter().map(|labels| labels.0).collect();
    // Servers promise no order; the seam does.
    items.sort_unstable();
    items.dedup();
    Ok(Listed { items, annotations })
}

/// The answer of `labels` and of a label's values.
pub(super) fn texts(body: &[u8]) -> Result<Listed<String>, QueryError> {
    let (mut items, annotations) = open::<Vec<String>>(body)?;
    items.sort_unstable();
    items.dedup();
    Ok(Listed { items, annotations })
}

#[derive(Deserialize)]
struct WireMetadata {
    #[serde(rename = "type", default)]
    family_type: String,
    #[serde(default)]
    unit: String,
    #[serde(default)]
    help: String,
}

/// The answer of `metadata`.
pub(super) fn metadata(body: &[u8]) -> Result<Vec<(String, Vec<Metadata>)>, QueryError> {
    let (families, _) = open::<BTreeMap<String, Vec<WireMetadata>>>(body)?;
    let read =
        |wire: WireMetadata| Metadata { family_type: family_type(&wire.family_type), unit: wire.unit, help: wire.help };
    Ok(families.into_iter().map(|(name, list)| (name, list.into_iter().map(read).collect())).collect())
}

#[derive(Deserialize)]
struct WireExemplars {
    #[serde(rename = "seriesLabels")]
    series: WireLabels,
    exemplars: Vec<WireExemplar>,
}

#[derive(Deserialize)]
struct WireExemplar {
    labels: WireLabels,
    value: Number,
    timestamp: Time,
}

pub(super) fn exemplars(body: &[u8]) -> Result<Vec<(Labels, Vec<Exemplar>)>, QueryError> {
    let (series, _) = open::<Vec<WireExemplars>>(body)?;
    let read = |wire: WireExemplar| Exemplar { labels: wire.labels.0, value: wire.value.0, time_ms: wire.timestamp.0 };
    Ok(series.into_iter().map(|wire| (wire.series.0, wire.exemplars.into_iter().map(read).collect())).collect())
}

fn family_type(name: &str) -> FamilyType {
    (0..=7).filter_map(FamilyType::from_u8).find(|t| t.as_str() == name).unwrap_or_default()
}

#[derive(Deserialize)]
struct WireSeries {
    metric: WireLabels,
    value: Option<(Time, Number)>,
    #[serde(default)]
    values: Vec<(Time, Number)>,
    histogram: Option<(Time, WireHistogram)>,
    #[serde(default)]
    histograms: Vec<(Time, WireHistogram)>,
}

impl WireSeries {
    fn into_columns(self) -> Result<ResultSeries, QueryError> {
        let floats = self.value.into_iter().chain(self.values);
        let wire: Vec<_> = self.histogram.into_iter().chain(self.histograms).collect();
        let (mut times, floats): (Vec<i64>, Vec<f64>) = floats.map(|(time, value)| (time.0, value.0)).unzip();
        let mut histograms = Vec::with_capacity(wire.len());
        for (time, histogram) in wire {
            let number = times.partition_point(|t| *t < time.0);
            times.insert(number, time.0);
            histograms.push((number, histogram.read()?));
        }
        Ok(ResultSeries { labels: self.metric.0, times: PointTimes::Own(times), floats, histograms })
    }
}

#[derive(Deserialize)]
struct WireHistogram {
    count: Number,
    sum: Number,
    #[serde(default)]
    buckets: Vec<(u8, Number, Number, Number)>,
}

impl WireHistogram {
    fn read(self) -> Result<NativeHistogram, QueryError> {
        let buckets: Vec<_> = self
            .buckets
            .iter()
            .map(|(rule, lower, upper, count)| histogram::Bucket {
                rule: *rule,
                lower: lower.0,
                upper: upper.0,
                count: count.0,
            })
            .collect();
        histogram::rebuild(self.count.0, self.sum.0, &buckets)
            .ok_or_else(|| unreadable(&"the buckets of a histogram fit no schema"))
    }
}

#[derive(Deserialize)]
struct Stats {
    timings: Timings,
    samples: Samples,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Timings {
    eval_total_time: f64,
    query_preparation_time: f64,
    exec_total_time: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Samples {
    total_queryable_samples_per_step: Vec<(Time, u64)>,
    total_queryable_samples: u64,
    peak_samples: u64,
}

impl From<Stats> for QueryStats {
    fn from(stats: Stats) -> QueryStats {
        let duration = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default();
        QueryStats {
            total_time: duration(stats.timings.exec_total_time),
            prepare_time: duration(stats.timings.query_preparation_time),
            eval_time: duration(stats.timings.eval_total_time),
            total_queryable_samples: stats.samples.total_queryable_samples,
            peak_samples: stats.samples.peak_samples,
            samples_per_step: stats
                .samples
                .total_queryable_samples_per_step
                .into_iter()
                .map(|(time, samples)| (time.0, samples))
                .collect(),
        }
    }
}

/// Seconds as a JSON number, kept as milliseconds.
struct Time(i64);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        struct Seconds;
        impl Visitor<'_> for Seconds {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("seconds since the Unix epoch")
            }

            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Time, E> {
                // Three decimals of a float below 2^43 seconds are the nearest millisecond.
                Ok(Time((seconds * 1000.0).round() as i64))
            }

            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Time, E> {
                Ok(Time(seconds.saturating_mul(1000)))
            }

            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Time, E> {
                self.visit_i64(i64::try_from(seconds).unwrap_or(i64::MAX))
            }
        }
        deserializer.deserialize_f64(Seconds)
    }
}

/// A float as a JSON string.
struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Number, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a float in a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Number, E> {
                parse_float(text).map(Number).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

struct WireLabels(Labels);

impl<'de> Deserialize<'de> for WireLabels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<WireLabels, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = WireLabels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WireLabels, A::Error> {
                let mut labels = LabelsBuilder::new();
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    labels.push(&name, &value);
                }
                let built = labels.build().map_err(de::Error::custom)?;
                Ok(WireLabels(built.to_labels()))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}
