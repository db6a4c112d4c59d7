//! `GET /api/v1/status/cardinality`: which metrics, labels, values and jobs the series are of, and how many are new and gone.
//!
//! Series go by one after another, each once with the hours it was there in. What is counted per metric, job, and pair of
//! label and value is kept for the largest ones ([`Top`]); how many values a label has is estimated ([`Distinct`]): so a million
//! series cost one pass over their labels, and memory that does not depend on them beside what the storage needs to show them.
//!
//! What limits refused is told by metric and label, the worst first, as the engine counted it since the start.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use foldhash::HashMap;
use kymo_core::registry::FamilySnapshot;
use kymo_core::{Distinct, LabelsRef, METRIC_NAME, MetricStorage, QueryContext};
use serde_json::{Value, json};

use super::params::{Params, parse_go_int};
use super::tsdb_status::limit;
use super::{Shared, run};
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
pub(super) async fn cardinality(State(state): Shared, request: Request) -> Result<Response, ApiError> {
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

/// What one hour had, and what of it the hour before did not.
#[derive(Debug, Clone, Copy, Default)]
struct Hour {
    series: u64,
    born: u64,
    gone: u64,
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
    // The newest first. One more than is told: the last has nothing to be compared with.
    let windows: Vec<(i64, i64)> = (0..=hours as i64)
        .map(|ago| (now_ms - (ago + 1) * HOUR_MS, if ago == 0 { i64::MAX } else { now_ms - ago * HOUR_MS }))
        .collect();
    let mut each_hour = vec![Hour::default(); hours];
    let (mut parts, mut growth) = (Parts::new(limit), Growth::new(limit));
    let visited = storage.visit_series(matchers, &windows, ctx, &mut |labels, present| {
        let is_there = |ago: usize| present >> ago & 1 == 1;
        for (ago, hour) in each_hour.iter_mut().enumerate() {
            let (before, now) = (is_there(ago + 1), is_there(ago));
            hour.series += u64::from(now);
            hour.born += u64::from(now && !before);
            hour.gone += u64::from(before && !now);
        }
        if is_there(0) != is_there(1) {
            growth.add(labels.metric_name().unwrap_or_default(), if is_there(0) { 1 } else { -1 });
        }
        if is_there(0) {
            parts.add(labels);
        }
    });
    visited.map_err(refused)?;
    let told: Vec<Value> = (0..hours)
        .rev()
        .map(|ago| {
            let Hour { series, born, gone } = each_hour[ago];
            json!({
                "end": (now_ms - ago as i64 * HOUR_MS) as f64 / 1000.0,
                "series": series,
                "born": born,
                "gone": gone,
                "growth": born as i64 - gone as i64,
            })
        })
        .collect();
    Ok(json!({
        "series": each_hour.first().map_or(0, |hour| hour.series),
        "activeSeries": storage.statistics().active_series,
        "seriesCountByMetricName": parts.metrics.show(limit),
        "seriesCountByJob": parts.jobs.show(limit),
        "seriesCountByLabelValuePair": parts.pairs.show(limit),
        "labelValueCountByLabelName": parts.label_values(limit),
        "growthByMetricName": growth.show(limit),
        "hours": told,
    }))
}

/// How many more series metrics have than an hour before.
struct Growth {
    metrics_max: usize,
    metrics: HashMap<String, i64>,
}

impl Growth {
    fn new(limit: usize) -> Growth {
        Growth { metrics_max: kept(limit), metrics: HashMap::default() }
    }

    fn add(&mut self, metric: &str, more: i64) {
        if let Some(growth) = self.metrics.get_mut(metric) {
            *growth += more;
        } else if self.metrics.len() < self.metrics_max {
            self.metrics.insert(metric.to_owned(), more);
        }
    }

    /// Those that grew most.
    fn show(&self, limit: usize) -> Value {
        let mut grown: Vec<(&str, i64)> = self.metrics.iter().map(|(name, growth)| (name.as_str(), *growth)).collect();
        grown.retain(|(_, growth)| *growth > 0);
        grown.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        grown.truncate(limit);
        grown.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
    }
}

/// Texts counted so that this many of them can be shown.
fn kept(limit: usize) -> usize {
    KEPT_MIN.max(limit * KEPT_PER_SHOWN)
}

/// What series are counted by.
struct Parts {
    metrics: Top,
    jobs: Top,
    pairs: Top,
    labels: Vec<Label>,
    /// Where a label stands among those, by its name.
    numbers: HashMap<String, usize>,
    /// The same by its place in the labels of the series before, which is mostly the next one's.
    places: Vec<usize>,
}

struct Label {
    name: String,
    hash: u64,
    values: Distinct,
}

impl Parts {
    fn new(limit: usize) -> Parts {
        let top = || Top::new(kept(limit));
        Parts {
            metrics: top(),
            jobs: top(),
            pairs: top(),
            labels: Vec::new(),
            numbers: HashMap::default(),
            places: Vec::new(),
        }
    }

    fn add(&mut self, labels: LabelsRef<'_>) {
        for (place, (name, value)) in labels.iter().enumerate() {
            let hash = Distinct::hash(value);
            match name {
                METRIC_NAME => self.metrics.add(hash, || value.into()),
                "job" => self.jobs.add(hash, || value.into()),
                _ => {}
            }
            let of_name = match self.number(place, name) {
                Some(number) => {
                    let label = &mut self.labels[number];
                    label.values.add_hash(hash);
                    label.hash
                }
                None => Distinct::hash(name),
            };
            self.pairs.add(hash.rotate_left(1) ^ of_name, || format!("{name}={value}").into());
        }
    }

    /// Where the values of a label are counted, if they are.
    fn number(&mut self, place: usize, name: &str) -> Option<usize> {
        if let Some(&number) = self.places.get(place).filter(|number| self.labels[**number].name == name) {
            return Some(number);
        }
        let number = match self.numbers.get(name) {
            Some(&number) => number,
            None if self.labels.len() < LABELS_MAX => {
                let number = self.labels.len();
                let (hash, values) = (Distinct::hash(name), Distinct::default());
                self.labels.push(Label { name: name.to_owned(), hash, values });
                self.numbers.insert(name.to_owned(), number);
                number
            }
            None => return None,
        };
        self.places.truncate(place);
        self.places.push(number);
        Some(number)
    }

    fn label_values(&self, limit: usize) -> Value {
        let mut names: Vec<(&str, u64)> =
            self.labels.iter().map(|label| (label.name.as_str(), label.values.count())).collect();
        names.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        names.truncate(limit);
        names.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
    }
}

/// The most frequent of many texts, in memory for `kept` of them: when there is no room, the least frequent half goes, and
/// what comes later is counted with what it may have had by then (lossy counting). A count is too high by `error` at most.
///
/// Texts are told apart by 64 bits of hash: of a million, two are taken for one in a report of some ten million.
struct Top {
    kept: usize,
    counts: HashMap<u64, Counted>,
    floor: u64,
}

struct Counted {
    text: Box<str>,
    count: u64,
    error: u64,
}

impl Top {
    fn new(kept: usize) -> Top {
        Top { kept, counts: HashMap::default(), floor: 0 }
    }

    fn add(&mut self, hash: u64, text: impl FnOnce() -> Box<str>) {
        if let Some(counted) = self.counts.get_mut(&hash) {
            counted.count += 1;
            return;
        }
        if self.counts.len() >= 2 * self.kept {
            let mut counts: Vec<u64> = self.counts.values().map(|counted| counted.count).collect();
            let (_, floor, _) = counts.select_nth_unstable_by(self.kept, |a, b| b.cmp(a));
            self.floor = *floor;
            let floor = self.floor;
            self.counts.retain(|_, counted| counted.count > floor);
        }
        self.counts.insert(hash, Counted { text: text(), count: self.floor + 1, error: self.floor });
    }

    fn show(&self, limit: usize) -> Value {
        let mut all: Vec<&Counted> = self.counts.values().collect();
        all.sort_by(|a, b| b.count.cmp(&a.count).then(a.text.cmp(&b.text)));
        all.truncate(limit);
        let show = |Counted { text, count, error }: &Counted| match error {
            0 => json!({"name": text, "value": count}),
            error => json!({"name": text, "value": count, "error": error}),
        };
        all.into_iter().map(show).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{FakeBackend, NOW_MS, get, state};
    use super::super::{ApiState, routes};
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
        assert_eq!([&hour["growth"], &hour["born"], &hour["gone"]], [&json!(187), &json!(207), &json!(20)], "{data}");
        for (bad, text) in [("hours=0", "hours must be"), ("limit=0", "limit must be"), ("match[]={}", "match[]")] {
            let (status, body) = get(&router, &format!("/api/v1/status/cardinality?{bad}")).await;
            assert!(status == 400 && body.contains(text), "{body}");
        }
    }

    #[test]
    fn the_most_frequent_are_found_in_little_memory() {
        let mut top = Top::new(50);
        for n in 0..100_000u32 {
            let mut add = |text: &str| top.add(Distinct::hash(text), || text.into());
            add(&format!("rare-{n}"));
            if n % 10 == 0 {
                add("frequent");
            }
            assert!(top.counts.len() <= 100);
        }
        let shown = top.show(1);
        let (value, error) = (shown[0]["value"].as_u64().unwrap(), shown[0]["error"].as_u64().unwrap_or(0));
        assert!(shown[0]["name"] == "frequent" && value >= 10_000 && value - error <= 10_000, "{shown}");
    }
}
