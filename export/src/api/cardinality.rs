//! `GET /api/v1/status/cardinality`: which metrics, labels, values and jobs the series are of, and how many are new and gone.
//!
//! Series go by one after another. What is counted per metric, job, and pair of label and value is kept for the largest
//! ones ([`Top`]); how many values a label has, and which series were there the hour before, is estimated ([`Distinct`]): so a
//! million series cost a pass over their labels, and memory that does not depend on them.
//!
//! What limits refused is told by metric and label, the worst first, as the engine counted it since the start.

use std::collections::HashMap;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use kymo_core::registry::FamilySnapshot;
use kymo_core::{Distinct, METRIC_NAME, MetricStorage, QueryContext, Selector};
use serde_json::{Value, json};

use super::params::{Params, parse_go_int};
use super::tsdb_status::limit;
use super::{ApiState, run};
use crate::status::ApiError;

const HOUR_MS: i64 = 60 * 60 * 1000;
/// Hours whose growth and churn are told unless asked otherwise.
const HOURS: usize = 3;
const HOURS_MAX: usize = 24;
/// Counters kept for each that is shown: what is shown is right as long as no more than these are about as frequent.
const KEPT_PER_SHOWN: usize = 20;
const KEPT_MIN: usize = 2_000;
/// Label names whose values are counted; there are far fewer.
const LABELS_MAX: usize = 10_000;
/// What the engine counts of samples that a limit of series or labels refused, and that limit of series.
const OVERFLOW: &str = "kymo_overflow_samples_total";
const SERIES_LIMIT: &str = "kymo_storage_series_limit";

/// `GET /api/v1/status/cardinality?limit=…&hours=…&match[]=…`
pub(super) async fn cardinality(State(state): State<ApiState>, request: Request) -> Result<Response, ApiError> {
    let params = Params::read(request, state.options.form_bytes_max).await?;
    let limit = limit(params.first("limit"))?;
    let hours = hours(params.first("hours"))?;
    let matchers = match params.has("match[]") {
        true => params.matchers().map_err(|reason| ApiError::invalid_parameter("match[]", reason))?.swap_remove(0),
        false => Vec::new(),
    };
    let storage = state.storage()?;
    let families = (state.families)();
    let reported = run(&state, state.options.timeout_max, move |ctx| report(&*storage, &matchers, limit, hours, ctx));
    let mut data = reported.await?;
    data["seriesLimit"] = series_limit(&families);
    data["refusedSamples"] = refused(&families, limit);
    Ok(axum::Json(json!({"status": "success", "data": data})).into_response())
}

fn series_limit(families: &[FamilySnapshot]) -> Value {
    let limit = families.iter().find(|family| family.name == SERIES_LIMIT).and_then(|family| family.series.first());
    limit.map_or(Value::Null, |series| json!(series.value.value() as u64))
}

/// Metrics and labels that limits refused most samples of.
fn refused(families: &[FamilySnapshot], limit: usize) -> Value {
    let mut all: Vec<(&str, &str, u64)> = Vec::new();
    for series in families.iter().filter(|family| family.name == OVERFLOW).flat_map(|family| &family.series) {
        let of = |label: &str| series.labels.iter().find(|(name, _)| *name == label).map_or("", |(_, value)| &**value);
        all.push((of("metric"), of("label"), series.value.value() as u64));
    }
    all.sort_by(|a, b| b.2.cmp(&a.2).then(a.cmp(b)));
    all.truncate(limit);
    all.into_iter().map(|(metric, label, count)| json!({"metric": metric, "label": label, "samples": count})).collect()
}

fn hours(text: &str) -> Result<usize, ApiError> {
    if text.is_empty() {
        return Ok(HOURS);
    }
    let hours = parse_go_int(text).ok().and_then(|hours| usize::try_from(hours).ok());
    let hours = hours.filter(|hours| (1..=HOURS_MAX).contains(hours));
    hours.ok_or_else(|| ApiError::bad_data(format!("hours must be a number from 1 to {HOURS_MAX}")))
}

/// What one hour had.
#[derive(Default)]
struct Hour {
    series: u64,
    distinct: Distinct,
    metrics: HashMap<String, u64>,
}

fn report(
    storage: &dyn MetricStorage,
    matchers: &[kymo_core::Matcher],
    limit: usize,
    hours: usize,
    ctx: &QueryContext,
) -> Result<Value, ApiError> {
    let refused = |error: kymo_core::SelectError| ApiError::of_kind(error.kind(), error.to_string());
    let now_ms = ctx.clock.now_ms();
    let mut parts = Parts::new(limit);
    let mut each_hour = Vec::new();
    // One more than is told: the first has nothing to be compared with.
    for ago in (0..=hours as i64).rev() {
        let (start_ms, end_ms) =
            (now_ms - (ago + 1) * HOUR_MS, if ago == 0 { i64::MAX } else { now_ms - ago * HOUR_MS });
        let set = storage.select(&Selector::new(matchers.to_vec(), start_ms, end_ms), ctx).map_err(refused)?;
        let mut hour = Hour { series: set.len() as u64, ..Hour::default() };
        for index in 0..set.len() {
            if index % 1024 == 0 {
                ctx.check().map_err(refused)?;
            }
            let labels = set.labels(index);
            hour.distinct.add(labels.as_ref().packed());
            if ago <= 1 {
                let name = labels.metric_name().unwrap_or_default();
                let is_room = hour.metrics.len() < KEPT_MIN.max(limit * KEPT_PER_SHOWN);
                match hour.metrics.get_mut(name) {
                    Some(count) => *count += 1,
                    None if is_room => {
                        hour.metrics.insert(name.to_owned(), 1);
                    }
                    None => {}
                }
            }
            if ago == 0 {
                parts.add(labels.iter());
            }
        }
        each_hour.push((end_ms.min(now_ms), hour));
    }
    let mut told = Vec::new();
    for pair in each_hour.windows(2) {
        let ((_, before), (end_ms, hour)) = (&pair[0], &pair[1]);
        let mut both = before.distinct.clone();
        both.merge(&hour.distinct);
        let all = both.count().max(before.series).max(hour.series);
        told.push(json!({
            "end": *end_ms as f64 / 1000.0,
            "series": hour.series,
            "born": all - before.series,
            "gone": all - hour.series,
            "growth": hour.series as i64 - before.series as i64,
        }));
    }
    let growth = match &each_hour[..] {
        [.., (_, before), (_, now)] => grown(&before.metrics, &now.metrics, limit),
        _ => json!([]),
    };
    let series = each_hour.last().map_or(0, |(_, hour)| hour.series);
    Ok(json!({
        "series": series,
        "activeSeries": storage.statistics().active_series,
        "seriesCountByMetricName": parts.metrics.show(limit),
        "seriesCountByJob": parts.jobs.show(limit),
        "seriesCountByLabelValuePair": parts.pairs.show(limit),
        "labelValueCountByLabelName": parts.label_values(limit),
        "growthByMetricName": growth,
        "hours": told,
    }))
}

/// The metrics with the most series more than an hour before.
fn grown(before: &HashMap<String, u64>, now: &HashMap<String, u64>, limit: usize) -> Value {
    let mut grown: Vec<(&str, i64)> = Vec::new();
    let mut names: Vec<&String> = now.keys().collect();
    names.sort_unstable();
    for name in names {
        let growth = now[name] as i64 - before.get(name).copied().unwrap_or(0) as i64;
        if growth > 0 {
            grown.push((name, growth));
        }
    }
    grown.sort_by_key(|(_, growth)| std::cmp::Reverse(*growth));
    grown.truncate(limit);
    grown.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
}

/// What series are counted by.
struct Parts {
    metrics: Top,
    jobs: Top,
    pairs: Top,
    values: HashMap<String, Distinct>,
    /// Buffer of a pair.
    pair: String,
}

impl Parts {
    fn new(limit: usize) -> Parts {
        let top = || Top::new(KEPT_MIN.max(limit * KEPT_PER_SHOWN));
        Parts { metrics: top(), jobs: top(), pairs: top(), values: HashMap::new(), pair: String::new() }
    }

    fn add<'a>(&mut self, labels: impl Iterator<Item = (&'a str, &'a str)>) {
        for (name, value) in labels {
            match name {
                METRIC_NAME => self.metrics.add(value),
                "job" => self.jobs.add(value),
                _ => {}
            }
            let is_room = self.values.len() < LABELS_MAX;
            match self.values.get_mut(name) {
                Some(seen) => seen.add(value),
                None if is_room => {
                    let mut seen = Distinct::default();
                    seen.add(value);
                    self.values.insert(name.to_owned(), seen);
                }
                None => {}
            }
            self.pair.clear();
            self.pair.push_str(name);
            self.pair.push('=');
            self.pair.push_str(value);
            self.pairs.add(&self.pair);
        }
    }

    fn label_values(&self, limit: usize) -> Value {
        let mut names: Vec<(&str, u64)> =
            self.values.iter().map(|(name, seen)| (name.as_str(), seen.count())).collect();
        names.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        names.truncate(limit);
        names.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
    }
}

/// The most frequent of many texts, in memory for `kept` of them: when there is no room, the least frequent half goes, and
/// what comes later is counted with what it may have had by then (lossy counting). A count is too high by `error` at most.
struct Top {
    kept: usize,
    counts: HashMap<String, (u64, u64)>,
    floor: u64,
}

impl Top {
    fn new(kept: usize) -> Top {
        Top { kept, counts: HashMap::new(), floor: 0 }
    }

    fn add(&mut self, text: &str) {
        if let Some((count, _)) = self.counts.get_mut(text) {
            *count += 1;
            return;
        }
        if self.counts.len() >= 2 * self.kept {
            let mut counts: Vec<u64> = self.counts.values().map(|(count, _)| *count).collect();
            counts.sort_unstable_by(|a, b| b.cmp(a));
            self.floor = counts[self.kept];
            let floor = self.floor;
            self.counts.retain(|_, (count, _)| *count > floor);
        }
        self.counts.insert(text.to_owned(), (self.floor + 1, self.floor));
    }

    fn show(&self, limit: usize) -> Value {
        let mut all: Vec<(&str, u64, u64)> =
            self.counts.iter().map(|(text, (n, error))| (text.as_str(), *n, *error)).collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        all.truncate(limit);
        let show = |(name, value, error)| match error {
            0 => json!({"name": name, "value": value}),
            error => json!({"name": name, "value": value, "error": error}),
        };
        all.into_iter().map(show).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{FakeBackend, NOW_MS, get, state};
    use super::super::routes;
    use super::*;

    #[tokio::test]
    async fn series_are_told_by_metric_label_value_and_job_and_what_came_and_went() {
        let storage = std::sync::Arc::new(kymo_core::MemoryStorage::default());
        let mut batch = kymo_core::SampleBatch::new();
        for (name, job, pods, hours_ago) in
            [("up", "a", 300, 1), ("up", "a", 500, 0), ("down", "b", 7, 0), ("old", "b", 20, 1)]
        {
            for pod in 0..pods {
                let labels = [("__name__", name.to_owned()), ("job", job.to_owned()), ("pod", pod.to_string())];
                let labels = kymo_core::Labels::from_pairs(labels);
                batch.push_float(&labels, NOW_MS - hours_ago * HOUR_MS - 1_000, 1.0);
            }
        }
        assert!(storage.append(&batch).unwrap().rejected.is_empty());
        let state = ApiState { storage: Some(storage), ..state(FakeBackend::new(|_, _| Ok(Default::default()))) };
        let registry = kymo_core::Registry::new();
        let overflow = registry.counter(OVERFLOW).labels(["metric", "label"]).family().unwrap();
        overflow.with(["up", "pod"]).add(40);
        overflow.with(["down", "path"]).add(2);
        registry.gauge(SERIES_LIMIT).register().unwrap().set(600.0);
        let router = routes(state.with_families(move || registry.snapshot()));
        let (status, body) = get(&router, "/api/v1/status/cardinality?limit=1&hours=1").await;
        assert_eq!(status, 200, "{body}");
        let data = &serde_json::from_str::<Value>(&body).unwrap()["data"];
        assert_eq!(data["series"], 507);
        assert_eq!(data["seriesLimit"], 600);
        assert_eq!(data["refusedSamples"], json!([{"metric": "up", "label": "pod", "samples": 40}]));
        assert_eq!(data["seriesCountByMetricName"], json!([{"name": "up", "value": 500}]));
        assert_eq!(data["seriesCountByJob"], json!([{"name": "a", "value": 500}]));
        assert_eq!(data["seriesCountByLabelValuePair"], json!([{"name": "__name__=up", "value": 500}]));
        assert_eq!(data["growthByMetricName"], json!([{"name": "up", "value": 200}]));
        let near = |value: &Value, wanted: f64| (value.as_f64().unwrap() - wanted).abs() <= 0.1 * 527.0;
        let pods = &data["labelValueCountByLabelName"][0];
        assert!(pods["name"] == "pod" && near(&pods["value"], 500.0), "{data}");
        let hour = &data["hours"][0];
        assert!(hour["growth"] == 187 && near(&hour["born"], 207.0) && near(&hour["gone"], 20.0), "{data}");
        for (bad, text) in [("hours=0", "hours must be"), ("limit=0", "limit must be"), ("match[]={}", "match[]")] {
            let (status, body) = get(&router, &format!("/api/v1/status/cardinality?{bad}")).await;
            assert!(status == 400 && body.contains(text), "{body}");
        }
    }

    #[test]
    fn the_most_frequent_are_found_in_little_memory() {
        let mut top = Top::new(50);
        for n in 0..100_000u32 {
            top.add(&format!("rare-{n}"));
            if n % 10 == 0 {
                top.add("frequent");
            }
            assert!(top.counts.len() <= 100);
        }
        let shown = top.show(1);
        let (value, error) = (shown[0]["value"].as_u64().unwrap(), shown[0]["error"].as_u64().unwrap_or(0));
        assert!(shown[0]["name"] == "frequent" && value >= 10_000 && value - error <= 10_000, "{shown}");
    }
}
