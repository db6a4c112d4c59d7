//! `status/self_metrics`: what the server counts about itself, as JSON.
//!
//! The form is that of `io.prometheus.client.MetricFamily` in protobuf's JSON, as Prometheus 3.12 and later answer it:
//! 64-bit integers are strings, what is empty or zero by default is left out of messages that say so.

use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use kymo_core::NativeHistogram;
use kymo_core::histogram::{BucketSpan, HistogramCounts};
use kymo_core::metric::{MetricKind, MetricType};
use kymo_core::registry::{FamilySnapshot, SeriesSnapshot};
use serde_json::{Map, Value, json};

use super::status_facts::answer;
use crate::status::ApiError;

pub(super) type Families = Arc<dyn Fn() -> Vec<FamilySnapshot> + Send + Sync>;

/// The route over whatever `families` gives when it is asked.
pub fn self_metrics_routes(families: impl Fn() -> Vec<FamilySnapshot> + Send + Sync + 'static) -> Router {
    let families: Families = Arc::new(families);
    Router::new().route("/api/v1/status/self_metrics", get(self_metrics)).with_state(families)
}

/// `GET /api/v1/status/self_metrics?metric_name_pattern=REGEX`
async fn self_metrics(State(families): State<Families>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let found = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "metric_name_pattern");
    let pattern = found.map(|(_, value)| value.into_owned()).unwrap_or_default();
    let is_wanted = match kymo_core::matcher::compile_regex(&pattern) {
        Ok(regex) => move |name: &str| pattern.is_empty() || regex.is_match(name),
        Err(error) => {
            return ApiError::bad_data(format!("invalid metric_name_pattern: {error}")).into_response();
        }
    };
    let families = families();
    let wanted = families.iter().filter(|family| is_wanted(&family.name));
    answer(Ok(wanted.map(family_json).collect()))
}

fn family_json(family: &FamilySnapshot) -> Value {
    let kind = match family.kind {
        MetricKind::Counter => "COUNTER",
        MetricKind::Gauge => "GAUGE",
        MetricKind::Histogram => "HISTOGRAM",
        MetricKind::Summary => "SUMMARY",
    };
    let mut shown = Map::new();
    shown.insert("name".to_owned(), json!(family.name));
    shown.insert("help".to_owned(), json!(family.help));
    shown.insert("type".to_owned(), json!(kind));
    if !family.series.is_empty() {
        shown.insert("metric".to_owned(), family.series.iter().map(series_json).collect());
    }
    if !family.unit.is_empty() {
        shown.insert("unit".to_owned(), json!(family.unit));
    }
    Value::from(shown)
}

fn series_json(series: &SeriesSnapshot) -> Value {
    let mut shown = Map::new();
    if !series.labels.is_empty() {
        let labels = series.labels.iter().map(|(name, value)| json!({"name": name, "value": value}));
        shown.insert("label".to_owned(), labels.collect());
    }
    let (key, value) = match &series.value {
        MetricType::Counter { value, .. } => ("counter", json!({"value": number(*value)})),
        MetricType::Gauge { value } => ("gauge", json!({"value": number(*value)})),
        MetricType::Histogram { buckets, sum, count, .. } => {
            let bucket = |bucket: &kymo_core::metric::Bucket| {
                let cumulative_count = bucket.cumulative_count.to_string();
                json!({"cumulativeCount": cumulative_count, "upperBound": number(bucket.upper_bound)})
            };
            // The bucket of everything is told by the count.
            let bounded = buckets.iter().filter(|bucket| bucket.upper_bound.is_finite());
            let buckets: Vec<Value> = bounded.map(bucket).collect();
            ("histogram", json!({"sampleCount": count.to_string(), "sampleSum": number(*sum), "bucket": buckets}))
        }
        MetricType::NativeHistogram { histogram, .. } => ("histogram", native_json(histogram)),
        MetricType::Summary { quantiles, sum, count } => {
            let quantiles: Vec<Value> = quantiles
                .iter()
                .map(|quantile| json!({"quantile": number(quantile.quantile), "value": number(quantile.value)}))
                .collect();
            ("summary", json!({"sampleCount": count.to_string(), "sampleSum": number(*sum), "quantile": quantiles}))
        }
    };
    shown.insert(key.to_owned(), value);
    Value::from(shown)
}

fn native_json(histogram: &NativeHistogram) -> Value {
    let mut shown = Map::new();
    let mut set = |key: &str, value: Value| drop(shown.insert(key.to_owned(), value));
    set("sampleSum", number(histogram.sum));
    set("schema", json!(histogram.schema));
    set("zeroThreshold", number(histogram.zero_threshold));
    let spans = |spans: &[BucketSpan]| -> Value {
        spans.iter().map(|span| json!({"offset": span.offset, "length": span.len})).collect()
    };
    set("negativeSpan", spans(&histogram.negative_spans));
    set("positiveSpan", spans(&histogram.positive_spans));
    match &histogram.counts {
        HistogramCounts::Integer(counts) => {
            set("sampleCount", json!(counts.count.to_string()));
            set("zeroCount", json!(counts.zero.to_string()));
            set("negativeDelta", deltas(&counts.negative));
            set("positiveDelta", deltas(&counts.positive));
        }
        HistogramCounts::Float(counts) => {
            set("sampleCountFloat", number(counts.count));
            set("zeroCountFloat", number(counts.zero));
            set("negativeCount", counts.negative.iter().map(|count| number(*count)).collect());
            set("positiveCount", counts.positive.iter().map(|count| number(*count)).collect());
        }
    }
    Value::from(shown)
}

/// Each count less the one before.
fn deltas(counts: &[u64]) -> Value {
    let before = std::iter::once(0).chain(counts.iter().copied());
    counts.iter().zip(before).map(|(count, before)| json!((count.wrapping_sub(before) as i64).to_string())).collect()
}

/// A number; what JSON has no number for is a string, as protobuf's JSON has it.
fn number(value: f64) -> Value {
    if value.is_nan() {
        return json!("NaN");
    }
    if value.is_infinite() {
        return json!(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    // Whole numbers without a fraction, as every other JSON of the API.
    if value.fract() == 0.0 && value.abs() < 9e15 { json!(value as i64) } else { json!(value) }
}

#[cfg(test)]
mod tests {
    use kymo_core::registry::Registry;

    use super::super::fake::{self, get};
    use super::*;

    fn router() -> Router {
        let registry = Registry::new();
        registry
            .counter("asked_total")
            .help("Questions.")
            .unit("questions")
            .label("page", "a")
            .register()
            .unwrap()
            .add(3);
        registry.gauge("level").register().unwrap().set(0.5);
        registry.gauge("odd").register().unwrap().set(f64::INFINITY);
        let times = registry.histogram("took_seconds").buckets(&[0.1, 1.0]).register().unwrap();
        [0.05, 0.5, 5.0].into_iter().for_each(|value| times.record(value));
        self_metrics_routes(move || registry.snapshot())
    }

    #[tokio::test]
    async fn families_are_told_in_protobuf_s_json() {
        let (status, body) = get(&router(), "/api/v1/status/self_metrics").await;
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        let wanted = json!([
            {
                "name": "asked_total", "help": "Questions.", "type": "COUNTER", "unit": "questions",
                "metric": [{"label": [{"name": "page", "value": "a"}], "counter": {"value": 3}}],
            },
            {"name": "level", "help": "", "type": "GAUGE", "metric": [{"gauge": {"value": 0.5}}]},
            {"name": "odd", "help": "", "type": "GAUGE", "metric": [{"gauge": {"value": "Infinity"}}]},
            {
                "name": "took_seconds", "help": "", "type": "HISTOGRAM",
                "metric": [{"histogram": {"sampleCount": "3", "sampleSum": 5.55, "bucket": [
                    {"cumulativeCount": "1", "upperBound": 0.1}, {"cumulativeCount": "2", "upperBound": 1},
                ]}}],
            },
        ]);
        assert_eq!(answer["data"], wanted);
    }

    #[tokio::test]
    async fn a_pattern_chooses_whole_names_and_must_be_one() {
        let (_, body) = get(&router(), "/api/v1/status/self_metrics?metric_name_pattern=l.*l").await;
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((answer["data"].as_array().unwrap().len(), &answer["data"][0]["name"]), (1, &json!("level")));
        let (status, body) = get(&router(), "/api/v1/status/self_metrics?metric_name_pattern=(").await;
        assert!(status == 400 && body.contains("invalid metric_name_pattern: "), "{body}");
    }

    #[test]
    fn native_histograms_keep_their_spans_and_deltas() {
        let shown = native_json(&fake::histogram());
        assert_eq!(
            (&shown["sampleCount"], &shown["zeroCount"], &shown["schema"]),
            (&json!("9"), &json!("1"), &json!(1))
        );
        assert_eq!(shown["positiveDelta"], json!(["2", "-2", "3"]));
        assert_eq!(shown["positiveSpan"], json!([{"offset": -2, "length": 2}, {"offset": 3, "length": 1}]));
        let shown = native_json(&fake::custom_histogram());
        assert_eq!((&shown["sampleCountFloat"], &shown["positiveCount"]), (&json!(4.5), &json!([1, 1.5, 2])));
    }
}
