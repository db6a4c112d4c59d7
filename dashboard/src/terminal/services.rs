//! Services and how they do: as the server judges them, and where it does not, by PromQL over RED-shaped metrics.
//!
//! A server that keeps service health tells figures, status and reason ([`Ask::Services`]); what was an hour ago, and the lines
//! of the last ten minutes, are asked by PromQL in any case. Once all services are known to be judged, PromQL is asked no more
//! for what the server tells, but for their names, now and then.
//!
//! Families are found by name: latency histograms `*_request_duration_seconds` (classic or native) and counters
//! `*_requests_total`; of clients' own (`_client_`), of disks (`node_`) and of Kymo itself (`kymo_`) none. A service is a value of the label
//! `job`. Where a service is in several families, the first that has it counts, histograms before counters.
//!
//! Everything that knows how services are found and judged is in this module: views see only [`ServiceTable`] and
//! [`Family`]'s texts.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use kymo_core::health::{EdgeHealth, HealthStatus, ServiceHealthMetrics};
use kymo_core::query::{Grid, QueryError, QueryRequest};

use super::ask::{Answer, Ask};
use super::promql::quoted;
use super::result;
use super::text::{Unit, figure};
use super::view::{Cx, Slot};

/// The label whose values are services.
pub(super) const SERVICE_LABEL: &str = "job";
/// Families that are asked at most: each costs a look at its series.
const FAMILIES_MAX: usize = 8;
/// Labels that may say how a request ended, and how a failure looks in them.
const OUTCOMES: [(&str, &str); 5] = [
    ("http_response_status_code", "5.."),
    ("status_code", "5.."),
    ("code", "5.."),
    ("status", "5.."),
    ("rpc_grpc_status_code", "[^0].*"),
];
/// Share of errors above which a service is degraded, and unhealthy.
const ERRORS_LIMITS: (f64, f64) = (0.01, 0.05);
/// How many times slower than before a service is degraded, and unhealthy; below the floor nobody minds.
const SLOWER_LIMITS: (f64, f64, f64) = (2.0, 5.0, 0.05);
/// Share of its former rate below which a service has lost its callers.
const QUIET_LIMIT: f64 = 0.1;
/// With when figures are compared.
pub(super) const BEFORE: &str = "1h";

/// How a family counts requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Classic,
    Native,
    Counter,
}

/// Metrics of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// Its name, without suffixes of a histogram.
    pub name: String,
    shape: Shape,
}

/// The families among the names of metrics.
pub(super) fn families(names: &[String]) -> Vec<Family> {
    let is_foreign = |name: &str| name.contains("_client_") || name.starts_with("kymo_") || name.starts_with("node_");
    let shape = |name: &String| {
        if is_foreign(name) {
            return None;
        }
        let (base, shape) = match name.strip_suffix("_bucket") {
            Some(base) => (base, Shape::Classic),
            None if name.ends_with("_requests_total") => (&**name, Shape::Counter),
            None => (&**name, Shape::Native),
        };
        let is_red = shape == Shape::Counter
            || base.ends_with("request_duration_seconds")
            || base.ends_with("rpc_server_duration_seconds")
            || base.ends_with("rpc_server_call_duration_seconds");
        is_red.then(|| Family { name: base.to_owned(), shape })
    };
    let mut found: Vec<Family> = names.iter().filter_map(shape).collect();
    found.sort_by_key(|family| family.shape as u8);
    // A counter beside a histogram of the same requests would only repeat it.
    let mut kept: Vec<Family> = Vec::new();
    for family in found {
        let stem = family.name.trim_end_matches("_duration_seconds").trim_end_matches("s_total");
        let is_twin = kept.iter().any(|other| {
            family.name == other.name
                || (family.shape == Shape::Counter && other.name.trim_end_matches("_duration_seconds") == stem)
        });
        if !is_twin {
            kept.push(family);
        }
    }
    kept.truncate(FAMILIES_MAX);
    kept
}

/// Which figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Figure {
    /// Requests each second.
    Rate,
    /// Failed requests each second.
    Errors,
    /// A quantile of latency, seconds.
    Quantile(f64),
}

impl Family {
    /// The expression of a figure by labels, of series that match `matchers` (`job="a"`, or empty).
    ///
    /// `None` of a quantile of a counter.
    pub fn expression(&self, figure: Figure, by: &str, matchers: &str, window: &str, offset: &str) -> Option<String> {
        let name = &self.name;
        let offset = if offset.is_empty() { String::new() } else { format!(" offset {offset}") };
        let braces = |extra: &str| match (matchers, extra) {
            ("", "") => String::new(),
            ("", one) | (one, "") => format!("{{{one}}}"),
            (one, other) => format!("{{{one}, {other}}}"),
        };
        let counted = |extra: &str| match self.shape {
            Shape::Classic => format!("rate({name}_count{}[{window}]{offset})", braces(extra)),
            Shape::Native => format!("histogram_count(rate({name}{}[{window}]{offset}))", braces(extra)),
            Shape::Counter => format!("rate({name}{}[{window}]{offset})", braces(extra)),
        };
        match figure {
            Figure::Rate => Some(format!("sum by ({by}) ({})", counted(""))),
            Figure::Errors => {
                let failed: Vec<String> =
                    OUTCOMES.iter().map(|(label, pattern)| counted(&format!("{label}=~\"{pattern}\""))).collect();
                Some(format!("sum by ({by}) ({})", failed.join(" or ")))
            }
            Figure::Quantile(q) => match self.shape {
                Shape::Classic => Some(format!(
                    "histogram_quantile({q}, sum by ({by}, le) (rate({name}_bucket{}[{window}]{offset})))",
                    braces("")
                )),
                Shape::Native => Some(format!(
                    "histogram_quantile({q}, sum by ({by}) (rate({name}{}[{window}]{offset})))",
                    braces("")
                )),
                Shape::Counter => None,
            },
        }
    }

    /// The expression of the distribution of latency; `None` of a counter.
    pub fn distribution(&self, matchers: &str, window: &str) -> Option<String> {
        let name = &self.name;
        match self.shape {
            Shape::Classic => Some(format!("sum by (le) (rate({name}_bucket{{{matchers}}}[{window}]))")),
            Shape::Native => Some(format!("sum(rate({name}{{{matchers}}}[{window}]))")),
            Shape::Counter => None,
        }
    }

    /// The selector whose series carry exemplars.
    pub fn selector(&self, matchers: &str) -> String {
        let suffix = if self.shape == Shape::Classic { "_bucket" } else { "" };
        format!("{}{suffix}{{{matchers}}}", self.name)
    }
}

/// One figure of all families; the first that has a service counts. `None` without any.
pub(super) fn of_all(
    families: &[Family],
    figure: Figure,
    by: &str,
    matchers: &str,
    window: &str,
    offset: &str,
) -> Option<String> {
    let parts: Vec<String> =
        families.iter().filter_map(|family| family.expression(figure, by, matchers, window, offset)).collect();
    (!parts.is_empty()).then(|| parts.join(" or "))
}

/// The matcher of one service.
pub(super) fn matcher(service: &str) -> String {
    format!("{SERVICE_LABEL}={}", quoted(service))
}

/// A service with its figures now and before.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Service {
    /// Its name.
    pub name: String,
    /// Now, judged.
    pub health: ServiceHealthMetrics,
    /// Requests each second an hour ago.
    pub rate_before: Option<f64>,
    /// Share of errors an hour ago.
    pub errors_before: Option<f64>,
    /// 95th percentile of latency an hour ago, seconds.
    pub p95_before: Option<f64>,
    /// Requests each second lately, for a sparkline; only of those that are shown.
    pub spark: Vec<Option<f64>>,
}

impl Service {
    /// What changed since before, most telling first; empty if nothing did.
    pub(super) fn change(&self) -> Option<String> {
        let Service { health, .. } = self;
        if let (Some(now), Some(before)) = (health.p95, self.p95_before)
            && now > before * 1.5
            && now - before > 0.005
        {
            let (before, now) = (figure(before, Unit::Seconds), figure(now, Unit::Seconds));
            return Some(format!("p95 {before} → {now}"));
        }
        if let Some(before) = self.errors_before
            && (health.error_ratio - before).abs() > 0.005
        {
            let (before, now) = (figure(before, Unit::Ratio), figure(health.error_ratio, Unit::Ratio));
            return Some(format!("errors {before} → {now}"));
        }
        match self.rate_before {
            Some(before) if before > 0.0 && !(0.5..=2.0).contains(&(health.rate / before)) => {
                let (before, now) = (figure(before, Unit::PerSecond), figure(health.rate, Unit::PerSecond));
                Some(format!("rate {before} → {now}"))
            }
            None if health.rate > 0.0 && self.p95_before.is_none() => Some("not there an hour ago".to_owned()),
            _ => None,
        }
    }
}

/// The judgement of a service and its reason.
fn judge(service: &Service) -> (HealthStatus, String) {
    let health = &service.health;
    let over =
        |limit: f64| format!("errors {} ≥ {}", figure(health.error_ratio, Unit::Ratio), figure(limit, Unit::Ratio));
    if health.error_ratio >= ERRORS_LIMITS.1 {
        return (HealthStatus::Unhealthy, over(ERRORS_LIMITS.1));
    }
    let slower = match (health.p95, service.p95_before) {
        (Some(now), Some(before)) if now >= SLOWER_LIMITS.2 && before > 0.0 => now / before,
        _ => 0.0,
    };
    let slow = |factor: f64| {
        let now = figure(health.p95.unwrap_or_default(), Unit::Seconds);
        format!("p95 {now} ≥ {factor}× an hour ago ({})", figure(service.p95_before.unwrap_or_default(), Unit::Seconds))
    };
    if slower >= SLOWER_LIMITS.1 {
        return (HealthStatus::Unhealthy, slow(SLOWER_LIMITS.1));
    }
    if health.error_ratio >= ERRORS_LIMITS.0 {
        return (HealthStatus::Degraded, over(ERRORS_LIMITS.0));
    }
    if slower >= SLOWER_LIMITS.0 {
        return (HealthStatus::Degraded, slow(SLOWER_LIMITS.0));
    }
    match service.rate_before {
        Some(before) if before > 0.1 && health.rate < before * QUIET_LIMIT => {
            let (now, before) = (figure(health.rate, Unit::PerSecond), figure(before, Unit::PerSecond));
            (HealthStatus::Degraded, format!("rate {now}, an hour ago {before}"))
        }
        _ if health.rate > 0.0 => (HealthStatus::Healthy, String::new()),
        _ => (HealthStatus::Unknown, "no requests".to_owned()),
    }
}

const RATE: Slot = 0;
const ERRORS: Slot = 1;
const P50: Slot = 2;
const P95: Slot = 3;
const P99: Slot = 4;
const RATE_BEFORE: Slot = 5;
const ERRORS_BEFORE: Slot = 6;
const P95_BEFORE: Slot = 7;
const SPARKS: Slot = 8;
const HEALTH: Slot = 9;
const EDGES: Slot = 10;
/// Slots from here on are free for a view that holds a table.
pub(super) const SLOTS: Slot = 11;

/// Points of a sparkline.
pub(super) const SPARK_POINTS: i64 = 20;
/// How old figures of an hour ago may become: they change no faster than a window of rates slides.
const BEFORE_AGE_MS: i64 = 15_000;

/// All services with their figures; sorted by name.
#[derive(Debug, Default)]
pub(super) struct ServiceTable {
    /// The one service it is about; empty for all.
    only: String,
    columns: [BTreeMap<String, f64>; 8],
    sparks: BTreeMap<String, Vec<Option<f64>>>,
    /// As the server judges.
    judged: BTreeMap<String, ServiceHealthMetrics>,
    /// Who calls whom, as the server knows.
    edges: Vec<EdgeHealth>,
    /// Made of the above by the first who looks: answers come in bursts.
    services: OnceCell<Vec<Service>>,
    /// Why the newest figures are missing.
    pub error: Option<String>,
    /// Whether there was an answer.
    pub is_known: bool,
}

impl ServiceTable {
    /// A table of one service.
    pub(super) fn of(name: &str) -> ServiceTable {
        ServiceTable { only: name.to_owned(), ..ServiceTable::default() }
    }

    /// The services, sorted by name.
    pub(super) fn list(&self) -> &[Service] {
        self.services.get_or_init(|| self.joined())
    }

    /// What to ask for the figures.
    pub(super) fn asks(&self, cx: &Cx<'_>) -> Vec<(Slot, Ask)> {
        let families = &cx.catalog.families;
        let grid = Grid::Instant { at_ms: cx.now_ms };
        let matchers = if self.only.is_empty() { String::new() } else { matcher(&self.only) };
        let figures = [
            (RATE, Figure::Rate, ""),
            (ERRORS, Figure::Errors, ""),
            (P50, Figure::Quantile(0.5), ""),
            (P95, Figure::Quantile(0.95), ""),
            (P99, Figure::Quantile(0.99), ""),
            (RATE_BEFORE, Figure::Rate, BEFORE),
            (ERRORS_BEFORE, Figure::Errors, BEFORE),
            (P95_BEFORE, Figure::Quantile(0.95), BEFORE),
        ];
        let is_told = self.all_are_judged();
        let figures = figures.into_iter().filter(|(slot, _, _)| !is_told || !(ERRORS..=P99).contains(slot));
        let figures = figures.filter_map(|(slot, figure, offset)| {
            let text = of_all(families, figure, SERVICE_LABEL, &matchers, cx.window, offset)?;
            Some((slot, Ask::Query(QueryRequest::new(text, grid))))
        });
        let told = match self.only.is_empty() {
            true => vec![(HEALTH, Ask::Services)],
            false => vec![
                (HEALTH, Ask::Service { name: self.only.clone() }),
                (EDGES, Ask::ServiceEdges { name: self.only.clone() }),
            ],
        };
        figures.chain(told).collect()
    }

    /// How old the answer to one of [`asks`](Self::asks) may become, ms.
    pub(super) fn age_ms(&self, slot: Slot) -> i64 {
        match slot {
            RATE_BEFORE | ERRORS_BEFORE | P95_BEFORE => BEFORE_AGE_MS,
            // Only whether there are services that the server does not judge.
            RATE if self.all_are_judged() => BEFORE_AGE_MS,
            _ => 0,
        }
    }

    fn all_are_judged(&self) -> bool {
        !self.judged.is_empty() && self.columns[RATE as usize].keys().all(|name| self.judged.contains_key(name))
    }

    /// Calls each second by who calls `service`, and by whom it calls, as the server knows them.
    pub(super) fn neighbours(&self, service: &str) -> (BTreeMap<String, f64>, BTreeMap<String, f64>) {
        let rate = |edge: &EdgeHealth| edge.windows.first().map_or(0.0, |window| window.rate);
        let callers = self.edges.iter().filter(|edge| edge.callee == service);
        let callees = self.edges.iter().filter(|edge| edge.caller == service);
        (
            callers.map(|edge| (edge.caller.clone(), rate(edge))).collect(),
            callees.map(|edge| (edge.callee.clone(), rate(edge))).collect(),
        )
    }

    /// What to ask for the sparklines of some services.
    pub(super) fn ask_sparks(&self, shown: &[&str], cx: &Cx<'_>) -> Option<(Slot, Ask)> {
        let pattern: Vec<String> = shown.iter().map(|name| regex_literal(name)).collect();
        let matcher = format!("{SERVICE_LABEL}=~{}", quoted(&pattern.join("|")));
        let text = of_all(&cx.catalog.families, Figure::Rate, SERVICE_LABEL, &matcher, cx.window, "")?;
        let grid = spark_grid(cx.now_ms);
        (!shown.is_empty()).then(|| (SPARKS, Ask::Query(QueryRequest::new(text, grid))))
    }

    /// Takes an answer to one of [`asks`](Self::asks) and [`ask_sparks`](Self::ask_sparks).
    pub(super) fn answer(&mut self, slot: Slot, answer: Result<Answer, QueryError>) {
        match answer {
            Ok(Answer::Query(answered)) if slot == SPARKS => {
                let grid = answered_grid(&answered);
                for one in result::series_of(&answered) {
                    let name = one.labels.get(SERVICE_LABEL).unwrap_or_default().to_owned();
                    let (start, end) = grid;
                    self.sparks.insert(name, result::on_grid(one, start, end, SPARK_STEP_MS));
                }
            }
            Ok(Answer::Query(answered)) => {
                self.columns[slot as usize] = result::by_label(&answered, SERVICE_LABEL);
                self.is_known = true;
                self.error = None;
            }
            Ok(Answer::Services(Some(told))) => {
                self.judged = told.services.into_iter().map(|service| (service.name, service.health)).collect();
                self.edges = told.edges;
                self.is_known = true;
            }
            Ok(Answer::Service(told)) => {
                self.judged = told.into_iter().map(|service| (service.name, service.health)).collect();
                self.is_known = true;
            }
            Ok(Answer::ServiceEdges(told)) => self.edges = told,
            Ok(_) => {}
            // A server that is no Kymo has no such fact.
            Err(_) if slot == HEALTH || slot == EDGES => {}
            Err(error) => self.error = Some(error.message),
        }
        self.services.take();
    }

    fn joined(&self) -> Vec<Service> {
        let [rate, errors, p50, p95, p99, rate_before, errors_before, p95_before] = &self.columns;
        let names = rate.keys().chain(rate_before.keys()).chain(self.judged.keys());
        let names: BTreeSet<&String> = names.collect();
        let services = names.into_iter().map(|name| {
            let real = |column: &BTreeMap<String, f64>| column.get(name).copied().filter(|value| value.is_finite());
            let rate_now = real(rate).unwrap_or_default();
            let share = |failed: Option<f64>, all: f64| if all > 0.0 { failed.unwrap_or_default() / all } else { 0.0 };
            let health = ServiceHealthMetrics {
                rate: rate_now,
                error_ratio: share(real(errors), rate_now),
                p50: real(p50),
                p95: real(p95),
                p99: real(p99),
                ..ServiceHealthMetrics::default()
            };
            let before = real(rate_before);
            let mut service = Service {
                name: name.clone(),
                health,
                rate_before: before,
                errors_before: before.map(|before| share(real(errors_before), before)),
                p95_before: real(p95_before),
                spark: self.sparks.get(name).cloned().unwrap_or_default(),
            };
            match self.judged.get(name) {
                Some(judged) => service.health = judged.clone(),
                None => (service.health.status, service.health.reason) = judge(&service),
            }
            service
        });
        services.collect()
    }
}

const SPARK_STEP_MS: i64 = 30_000;

/// The last ten minutes.
fn spark_grid(now_ms: i64) -> Grid {
    let end_ms = now_ms.div_euclid(SPARK_STEP_MS) * SPARK_STEP_MS;
    Grid::Range { start_ms: end_ms - (SPARK_POINTS - 1) * SPARK_STEP_MS, end_ms, step_ms: SPARK_STEP_MS }
}

/// The grid that an answer lies on: its newest point is the end.
fn answered_grid(answered: &kymo_core::query::QueryResult) -> (i64, i64) {
    let newest = |one: &kymo_core::query::ResultSeries| one.points().last().map(|(time, _)| time);
    let end = result::series_of(answered).iter().filter_map(newest).max().unwrap_or_default();
    (end - (SPARK_POINTS - 1) * SPARK_STEP_MS, end)
}

/// A pattern that matches this text alone.
pub(super) fn regex_literal(text: &str) -> String {
    let mut pattern = String::new();
    for char in text.chars() {
        if "\\.+*?()|[]{}^$".contains(char) {
            pattern.push('\\');
        }
        pattern.push(char);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn families_are_found_by_name_once_and_clients_are_left_out() {
        let found = families(&names(&[
            "http_client_request_duration_seconds_bucket",
            "http_requests_total",
            "http_request_duration_seconds_bucket",
            "http_request_duration_seconds_count",
            "http_server_request_duration_seconds",
            "kymo_otlp_requests_total",
            "orders_requests_total",
            "up",
        ]));
        let shown: Vec<(&str, Shape)> = found.iter().map(|family| (family.name.as_str(), family.shape)).collect();
        assert_eq!(
            shown,
            [
                ("http_request_duration_seconds", Shape::Classic),
                ("http_server_request_duration_seconds", Shape::Native),
                ("orders_requests_total", Shape::Counter),
            ]
        );
        assert_eq!(
            found[0].expression(Figure::Quantile(0.9), "job", "job=\"a\"", "2m", "1h").as_deref(),
            Some(
                "histogram_quantile(0.9, sum by (job, le) \
                 (rate(http_request_duration_seconds_bucket{job=\"a\"}[2m] offset 1h)))"
            )
        );
        assert_eq!(found[2].expression(Figure::Quantile(0.9), "job", "", "2m", ""), None);
    }

    #[test]
    fn a_service_is_judged_by_errors_then_latency_then_silence() {
        let service = |rate: f64, errors: f64, p95: f64, rate_before: f64, p95_before: f64| {
            let health = ServiceHealthMetrics { rate, error_ratio: errors, p95: Some(p95), ..Default::default() };
            let before = Some(rate_before);
            Service { health, rate_before: before, p95_before: Some(p95_before), ..Service::default() }
        };
        for (service, status, reason) in [
            (service(10.0, 0.0, 0.1, 10.0, 0.1), HealthStatus::Healthy, ""),
            (service(10.0, 0.07, 0.1, 10.0, 0.1), HealthStatus::Unhealthy, "errors 7% ≥ 5%"),
            (service(10.0, 0.02, 0.1, 10.0, 0.1), HealthStatus::Degraded, "errors 2% ≥ 1%"),
            (service(10.0, 0.0, 0.25, 10.0, 0.1), HealthStatus::Degraded, "p95 250ms ≥ 2× an hour ago (100ms)"),
            (service(10.0, 0.0, 0.9, 10.0, 0.1), HealthStatus::Unhealthy, "p95 900ms ≥ 5× an hour ago (100ms)"),
            (service(10.0, 0.0, 0.004, 10.0, 0.001), HealthStatus::Healthy, ""),
            (service(0.5, 0.0, 0.1, 10.0, 0.1), HealthStatus::Degraded, "rate 0.5/s, an hour ago 10/s"),
            (service(0.0, 0.0, 0.1, 0.0, 0.1), HealthStatus::Unknown, "no requests"),
        ] {
            assert_eq!(judge(&service), (status, reason.to_owned()));
        }
        assert_eq!(service(10.0, 0.0, 0.25, 10.0, 0.1).change().as_deref(), Some("p95 100ms → 250ms"));
        assert_eq!(service(50.0, 0.0, 0.1, 10.0, 0.1).change().as_deref(), Some("rate 10/s → 50/s"));
        assert_eq!(service(10.0, 0.0, 0.1, 10.0, 0.1).change(), None);
    }
}
