//! The figures of services as series, and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use kymo_core::health::{Counts, HealthFigures, Latency, OperationKind, Outcome, ServiceHealth, WINDOWS_MS};
use kymo_core::histogram::NativeHistogram;
use kymo_core::storage::ColumnValue;
use kymo_core::{
    Columns, FamilyType, Labels, METRIC_NAME, Matcher, MetricStorage, QueryContext, SelectError, Selector,
};

use crate::collect::{Gathered, Source};

// Not the names of counted spans: who adds those up must not meet the same requests again.
const REQUESTS: &str = "kymo_service_health_requests_total";
const ERRORS: &str = "kymo_service_health_errors_total";
const DURATION: &str = "kymo_service_health_duration_seconds";
/// Of [`DURATION`], in the order of [`HealthFigures::latencies`].
const OUTCOMES: [(&str, Outcome); 3] =
    [("ok", Outcome::Ok), ("error", Outcome::Failed), ("latency_only", Outcome::LatencyOnly)];
const WINDOWS: [&str; 4] = ["1m", "5m", "15m", "1h"];
/// What is older is in no window.
const HOUR_MS: i64 = 3_600_000;
/// What is older is not taken up at all: a server that was away for so long counts anew.
const REACH_MS: i64 = HOUR_MS + WINDOWS_MS[1];

/// Tells the figures of all services.
pub(super) struct Figures {
    pub(super) health: Arc<ServiceHealth>,
}

impl Source for Figures {
    fn gather(&mut self, out: &mut Gathered) {
        let totals = self.health.totals();
        let list = self.health.list();
        // Not even the families are told where there are no services.
        if totals.is_empty() && list.is_empty() {
            return;
        }
        let mut requests = out.family(FamilyType::Counter, REQUESTS, "Requests to the service.");
        for told in &totals {
            requests.push([("service", told.service.as_str())], told.requests.iter().sum::<u64>() as f64);
        }
        let mut errors = out.family(FamilyType::Counter, ERRORS, "Requests to the service that failed.");
        for told in &totals {
            errors.push([("service", told.service.as_str())], told.requests[1] as f64);
        }
        let help = "How long requests to the service took. The sum is made of the middles of buckets.";
        let mut durations = out.family_with_unit(FamilyType::Histogram, DURATION, "seconds", help);
        for told in totals {
            let HealthFigures { service, latencies, .. } = told;
            for ((outcome, _), histogram) in OUTCOMES.into_iter().zip(latencies) {
                if histogram.count() > 0.0 {
                    durations.push_histogram([("service", service.as_str()), ("outcome", outcome)], histogram, 0);
                }
            }
        }
        let mut rates = out.family(FamilyType::Gauge, "kymo_service_request_rate", "Requests per second in a window.");
        for (name, figures) in &*list {
            for (window, label) in figures.windows.iter().zip(WINDOWS) {
                rates.push([("service", name.as_str()), ("window", label)], window.rate);
            }
        }
        let help = "Failed requests per request in a window.";
        let mut ratios = out.family(FamilyType::Gauge, "kymo_service_error_ratio", help);
        for (name, figures) in &*list {
            for (window, label) in figures.windows.iter().zip(WINDOWS) {
                ratios.push([("service", name.as_str()), ("window", label)], window.error_ratio);
            }
        }
        let help = "Quantiles of how long requests in a window took.";
        let mut latencies = out.family_with_unit(FamilyType::Gauge, "kymo_service_latency_seconds", "seconds", help);
        for (name, figures) in &*list {
            for (window, label) in figures.windows.iter().zip(WINDOWS) {
                for (quantile, value) in [("0.5", window.p50), ("0.95", window.p95), ("0.99", window.p99)] {
                    if let Some(value) = value {
                        let labels = [("service", name.as_str()), ("window", label), ("quantile", quantile)];
                        latencies.push(labels, value);
                    }
                }
            }
        }
        let help = "How the service does: 0 unknown, 1 healthy, 2 degraded, 3 unhealthy.";
        let mut status = out.family(FamilyType::Gauge, "kymo_service_status", help);
        for (name, figures) in &*list {
            status.push([("service", name.as_str())], figures.status as u8 as f64);
        }
        let help = "When the newest request to the service ended.";
        let mut seen =
            out.family_with_unit(FamilyType::Gauge, "kymo_service_last_seen_timestamp_seconds", "seconds", help);
        for (name, figures) in &*list {
            if figures.last_seen_ms > 0 {
                seen.push([("service", name.as_str())], figures.last_seen_ms as f64 / 1e3);
            }
        }
    }
}

/// What was stored of a service, an operation or a call at one moment.
#[derive(Default, Clone)]
struct Moment {
    requests: Option<f64>,
    errors: Option<f64>,
    latencies: [Option<NativeHistogram>; 3],
}

impl Moment {
    /// A series that was not written with the others is what it was.
    fn carry(&mut self, before: &Moment) {
        self.requests = self.requests.or(before.requests);
        self.errors = self.errors.or(before.errors);
        for (now, before) in self.latencies.iter_mut().zip(&before.latencies) {
            if now.is_none() {
                now.clone_from(before);
            }
        }
    }
}

/// Names of series that tell of one thing together: requests, errors, durations.
type Names = [&'static str; 3];

const OF_SERVICES: Names = [REQUESTS, ERRORS, DURATION];
/// As spans are counted.
const OF_OPERATIONS: Names =
    ["kymo_service_requests_total", "kymo_service_errors_total", "kymo_service_duration_seconds"];
const OF_CALLS: Names =
    ["kymo_service_edge_requests_total", "kymo_service_edge_errors_total", "kymo_service_edge_duration_seconds"];

/// Reads series that belong together, moment by moment, of one thing after the other. `of` says by its labels what a series tells of,
/// and which place its durations have in [`Moment::latencies`]; `tell` is told of each moment with what was counted since the one
/// before. What was counted before the reach of windows is told at once, as of long ago; and what was counted by then of something
/// whose counting is known to have begun before the first moment there is. Other series are written at every round, so those that
/// are not there in twice the reach had not begun.
fn each_gain<K: Ord>(
    (storage, ctx): (&dyn MetricStorage, &QueryContext),
    now_ms: i64,
    names: Names,
    of: impl Fn(&Labels) -> Option<(K, usize)>,
    mut tell: impl FnMut(&K, &Counts, i64),
) -> Result<(), SelectError> {
    let (from_ms, since_ms) = (now_ms - 2 * REACH_MS - WINDOWS_MS[1], now_ms - REACH_MS);
    let mut sets = Vec::with_capacity(names.len());
    for name in names {
        sets.push(storage.select(&Selector::new(vec![Matcher::equal(METRIC_NAME, name)], from_ms, now_ms), ctx)?);
    }
    let mut series: BTreeMap<K, Vec<(usize, usize, usize)>> = BTreeMap::new();
    for (at, set) in sets.iter().enumerate() {
        for i in 0..set.len() {
            if let Some((key, outcome)) = of(&set.labels(i)) {
                series.entry(key).or_default().push((at, i, outcome));
            }
        }
    }
    let mut columns = Columns::default();
    for (key, series) in series {
        let mut moments: BTreeMap<i64, Moment> = BTreeMap::new();
        let mut began_ms = 0;
        for (at, i, outcome) in series {
            sets[at].read(i, &mut columns)?;
            began_ms = columns.starts.first().copied().unwrap_or(0).max(began_ms);
            for (time_ms, value) in columns.iter() {
                let moment = moments.entry(time_ms).or_default();
                match (value, at) {
                    (ColumnValue::Float(value), 0) => moment.requests = Some(value),
                    (ColumnValue::Float(value), 1) => moment.errors = Some(value),
                    (ColumnValue::Histogram(value), 2) => moment.latencies[outcome] = Some(value.clone()),
                    _ => {}
                }
            }
        }
        if moments.keys().next_back().is_none_or(|newest_ms| *newest_ms <= since_ms) {
            continue;
        }
        let mut before = Moment::default();
        let mut long_ago: Option<Counts> = None;
        let mut is_running = began_ms != 0 && began_ms <= from_ms;
        for (time_ms, mut moment) in moments {
            moment.carry(&before);
            let gained = gained(&before, &moment);
            if std::mem::take(&mut is_running) || time_ms <= since_ms {
                long_ago.get_or_insert_default().merge(&gained);
            } else {
                tell(&key, &gained, time_ms);
            }
            before = moment;
        }
        if let Some(counts) = long_ago {
            tell(&key, &counts, now_ms - 2 * HOUR_MS);
        }
    }
    Ok(())
}

/// Which services spans told of when: so that metrics do not tell of them again.
pub(super) fn restore_traced(
    storage: &dyn MetricStorage,
    ctx: &QueryContext,
    health: &ServiceHealth,
    now_ms: i64,
) -> Result<(), SelectError> {
    let what = vec![Matcher::equal(METRIC_NAME, OF_OPERATIONS[0])];
    let set = storage.select(&Selector::new(what, now_ms - HOUR_MS, now_ms), ctx)?;
    let mut columns = Columns::default();
    for i in 0..set.len() {
        let labels = set.labels(i);
        let Some(service) = labels.get("service") else { continue };
        set.read(i, &mut columns)?;
        if let Some(&newest_ms) = columns.times.last() {
            health.restore_traced(service, newest_ms);
        }
    }
    Ok(())
}

/// Counts what was stored in the last hour before `now_ms`, and what there was before in totals: services as they were stored, and
/// operations and calls as spans were counted. Of services that are known already, by their metrics, only the totals.
pub(super) fn restore(
    storage: &dyn MetricStorage,
    ctx: &QueryContext,
    health: &ServiceHealth,
    now_ms: i64,
) -> Result<(), SelectError> {
    let is_known = |service: &str| health.get(service).is_some_and(|found| found.requests > 0);
    let operation = |labels: &Labels| {
        let (service, kind) = (labels.get("service")?, labels.get("kind")?);
        let kind = OperationKind::ALL.into_iter().find(|known| known.as_str() == kind)?;
        let is_told = health.is_traced(service) || !is_known(service);
        // How long they took is not told apart by how they ended.
        is_told.then(|| ((service.to_owned(), labels.get("operation").unwrap_or_default().to_owned(), kind), 2))
    };
    each_gain((storage, ctx), now_ms, OF_OPERATIONS, operation, |(service, operation, kind), counts, at_ms| {
        health.restore_operation(service, operation, *kind, counts, at_ms);
    })?;
    let call = |labels: &Labels| Some(((labels.get("caller")?.to_owned(), labels.get("callee")?.to_owned()), 2));
    each_gain((storage, ctx), now_ms, OF_CALLS, call, |(caller, callee), counts, at_ms| {
        health.restore_edge(caller, callee, counts, at_ms);
    })?;
    let service = |labels: &Labels| {
        let service = labels.get("service")?;
        let outcome = labels.get("outcome").and_then(|told| OUTCOMES.iter().position(|(name, _)| *name == told));
        Some((service.to_owned(), outcome.unwrap_or(2)))
    };
    let mut known: BTreeMap<String, Counts> = BTreeMap::new();
    each_gain((storage, ctx), now_ms, OF_SERVICES, service, |service, counts, at_ms| {
        if is_known(service) {
            known.entry(service.clone()).or_default().merge(counts);
        } else {
            health.restore(service, counts, at_ms);
        }
    })?;
    for (service, counts) in known {
        health.restore_totals(&service, &counts, now_ms - 2 * HOUR_MS);
    }
    Ok(())
}

/// What was counted between two moments.
fn gained(before: &Moment, now: &Moment) -> Counts {
    let gain = |now: Option<f64>, before: Option<f64>| {
        let (now, before) = (now.unwrap_or_default(), before.unwrap_or_default());
        // A total that fell began anew.
        (if now >= before { now - before } else { now }) as u64
    };
    let (requests, failed) = (gain(now.requests, before.requests), gain(now.errors, before.errors));
    let mut counts = Counts::new();
    let mut timed = [0; 3];
    for (at, (_, outcome)) in OUTCOMES.into_iter().enumerate() {
        let Some(now) = &now.latencies[at] else { continue };
        let mut gain = now.to_float();
        if let Some(before) = before.latencies[at].as_ref().filter(|before| !now.detect_reset(before)) {
            // Of one schema always; were they not, all of it would count as if it began anew.
            let _ = gain.subtract(before);
        }
        timed[at] = gain.count() as u64;
        counts.add_histogram(outcome, &gain, 1.0);
    }
    counts.add(Outcome::Failed, Latency::Unknown, failed.saturating_sub(timed[1]));
    counts.add(Outcome::Ok, Latency::Unknown, requests.saturating_sub(failed).saturating_sub(timed[0]));
    counts
}
