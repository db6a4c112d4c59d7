//! The figures of services as series, and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use kymo_core::health::{Counts, HealthFigures, Latency, Outcome, ServiceHealth, WINDOWS_MS};
use kymo_core::histogram::NativeHistogram;
use kymo_core::storage::ColumnValue;
use kymo_core::{Columns, FamilyType, METRIC_NAME, Matcher, MetricStorage, QueryContext, SelectError, Selector};

use crate::collect::{Gathered, Source};

const REQUESTS: &str = "kymo_service_requests_total";
const ERRORS: &str = "kymo_service_errors_total";
const DURATION: &str = "kymo_service_duration_seconds";
/// Of [`DURATION`], in the order of [`HealthFigures::latencies`].
const OUTCOMES: [(&str, Outcome); 3] =
    [("ok", Outcome::Ok), ("error", Outcome::Failed), ("latency_only", Outcome::LatencyOnly)];
const WINDOWS: [&str; 4] = ["1m", "5m", "15m", "1h"];
/// What is older is in no window.
const HOUR_MS: i64 = 3_600_000;

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
        let edges = self.health.edges();
        let calls = "kymo_service_edge_requests_total";
        let mut requests = out.family(FamilyType::Counter, calls, "Calls of one service to another.");
        for edge in &edges {
            requests.push([("caller", edge.caller.as_str()), ("callee", edge.callee.as_str())], edge.requests as f64);
        }
        let failed = "kymo_service_edge_errors_total";
        let mut errors = out.family(FamilyType::Counter, failed, "Calls of one service to another that failed.");
        for edge in &edges {
            errors.push([("caller", edge.caller.as_str()), ("callee", edge.callee.as_str())], edge.errors as f64);
        }
    }
}

/// What was stored of a service at one moment.
#[derive(Default)]
struct Moment {
    requests: Option<f64>,
    errors: Option<f64>,
    latencies: [Option<NativeHistogram>; 3],
}

/// Counts what was stored in the last hour before `now_ms`, and what there was before in totals. Of services that are known
/// already, by their metrics, only the totals.
pub(super) fn restore(
    storage: &dyn MetricStorage,
    ctx: &QueryContext,
    health: &ServiceHealth,
    now_ms: i64,
) -> Result<(), SelectError> {
    let mut services: BTreeMap<String, BTreeMap<i64, Moment>> = BTreeMap::new();
    let mut columns = Columns::default();
    for name in [REQUESTS, ERRORS, DURATION] {
        let from_ms = now_ms - HOUR_MS - WINDOWS_MS[1];
        let set = storage.select(&Selector::new(vec![Matcher::equal(METRIC_NAME, name)], from_ms, now_ms), ctx)?;
        for i in 0..set.len() {
            let labels = set.labels(i);
            let Some(service) = labels.get("service") else { continue };
            let moments = services.entry(service.to_owned()).or_default();
            let outcome = labels.get("outcome").and_then(|told| OUTCOMES.iter().position(|(name, _)| *name == told));
            set.read(i, &mut columns)?;
            for (time_ms, value) in columns.iter() {
                let moment = moments.entry(time_ms).or_default();
                match (value, outcome) {
                    (ColumnValue::Float(value), _) if name == REQUESTS => moment.requests = Some(value),
                    (ColumnValue::Float(value), _) => moment.errors = Some(value),
                    (ColumnValue::Histogram(value), Some(at)) => moment.latencies[at] = Some(value.clone()),
                    _ => {}
                }
            }
        }
    }
    for (service, moments) in services {
        // What was counted before the first moment is in no window: it is told as of long ago.
        let long_ago_ms = now_ms - 2 * HOUR_MS;
        if health.get(&service).is_some() {
            if let Some((_, newest)) = moments.last_key_value() {
                health.restore_totals(&service, &gained(&Moment::default(), newest), long_ago_ms);
            }
            continue;
        }
        let mut before = Moment::default();
        let mut is_first = true;
        for (time_ms, moment) in moments {
            health.restore(&service, &gained(&before, &moment), if is_first { long_ago_ms } else { time_ms });
            (before, is_first) = (moment, false);
        }
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
