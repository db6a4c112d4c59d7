//! Service health: what a service's requests look like now.
//!
//! Whoever turns requests into metrics writes here ([`HealthTable::update`]); answering "how is
//! service X" is then one look-up. The table holds finished figures and computes nothing: windows,
//! rates and quantiles are the writer's.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name of a service; cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    /// Names a service; any text is a name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ServiceName {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl Borrow<str> for ServiceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ServiceName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ServiceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// How a service is judged, from best to worst; unknown comes first because it says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Nothing was seen, or not enough to judge.
    #[default]
    Unknown,
    /// Within its limits.
    Healthy,
    /// Outside a soft limit; [`ServiceHealthMetrics::reason`] says which.
    Degraded,
    /// Outside a hard limit; [`ServiceHealthMetrics::reason`] says which.
    Unhealthy,
}

/// A service's requests, as last written.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ServiceHealthMetrics {
    /// Requests since the service was first seen.
    pub requests: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// Requests per second over the shortest window.
    pub rate: f64,
    /// Errors per request over the shortest window, 0 to 1; 0 without requests.
    pub error_ratio: f64,
    /// Median latency over the shortest window, seconds; `None` without requests.
    pub p50: Option<f64>,
    /// 95th percentile of latency, seconds.
    pub p95: Option<f64>,
    /// 99th percentile of latency, seconds.
    pub p99: Option<f64>,
    /// The same figures over longer spans, shortest first.
    pub windows: Vec<HealthWindow>,
    /// Time of the newest request, ms since the Unix epoch.
    pub last_seen_ms: i64,
    /// The judgement.
    pub status: HealthStatus,
    /// Why the status is not healthy, with the figure and its limit; empty when it is.
    pub reason: String,
}

/// A service's requests over one span of time.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct HealthWindow {
    /// Length of the span, milliseconds.
    pub window_ms: i64,
    /// Requests in it.
    pub requests: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// Requests per second.
    pub rate: f64,
    /// Errors per request, 0 to 1; 0 without requests.
    pub error_ratio: f64,
    /// Median latency, seconds; `None` without requests.
    pub p50: Option<f64>,
    /// 95th percentile of latency, seconds.
    pub p95: Option<f64>,
    /// 99th percentile of latency, seconds.
    pub p99: Option<f64>,
}

/// Services kept at most. Names come from outside, so they must not grow memory without end.
pub const SERVICES_MAX_DEFAULT: usize = 10_000;

/// The current health of every known service.
///
/// Readers and writers may be on any threads; a reader sees a service's figures whole, as one
/// [`update`](Self::update) wrote them.
#[derive(Debug)]
pub struct HealthTable {
    services_max: usize,
    /// Guards the map only. A service's figures are behind their own `Arc`, so nothing is computed
    /// or copied deeply while it is held.
    services: RwLock<BTreeMap<ServiceName, Arc<ServiceHealthMetrics>>>,
}

/// A service was not taken in because the table is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("health table is full: {limit} services are kept at most")]
pub struct HealthTableFull {
    /// Services the table keeps at most.
    pub limit: usize,
}

impl HealthTable {
    /// A table of at most `services_max` services.
    pub fn new(services_max: usize) -> Self {
        Self { services_max, services: RwLock::default() }
    }

    /// The figures of `service`; `None` if it was never written.
    pub fn get(&self, service: &ServiceName) -> Option<ServiceHealthMetrics> {
        let found = self.read().get(service).cloned();
        found.map(|metrics| ServiceHealthMetrics::clone(&metrics))
    }

    /// Every service with its figures, sorted by name.
    pub fn list(&self) -> Vec<(ServiceName, Arc<ServiceHealthMetrics>)> {
        self.read().iter().map(|(name, metrics)| (name.clone(), Arc::clone(metrics))).collect()
    }

    /// Replaces the figures of `service`.
    ///
    /// # Errors
    /// [`HealthTableFull`] when the service is new and the table holds its limit; known services
    /// can always be updated.
    pub fn update(&self, service: &ServiceName, metrics: ServiceHealthMetrics) -> Result<(), HealthTableFull> {
        let metrics = Arc::new(metrics);
        let mut services = self.services.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = services.get_mut(service) {
            *known = metrics;
        } else if services.len() < self.services_max {
            services.insert(service.clone(), metrics);
        } else {
            return Err(HealthTableFull { limit: self.services_max });
        }
        Ok(())
    }

    /// Forgets services last seen before `time_ms`; returns how many.
    pub fn forget_before(&self, time_ms: i64) -> usize {
        let mut services = self.services.write().unwrap_or_else(PoisonError::into_inner);
        let before = services.len();
        services.retain(|_, metrics| metrics.last_seen_ms >= time_ms);
        before - services.len()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<ServiceName, Arc<ServiceHealthMetrics>>> {
        self.services.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for HealthTable {
    fn default() -> Self {
        Self::new(SERVICES_MAX_DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(last_seen_ms: i64, requests: u64) -> ServiceHealthMetrics {
        ServiceHealthMetrics { last_seen_ms, requests, ..ServiceHealthMetrics::default() }
    }

    #[test]
    fn newest_figures_answer_and_names_are_sorted() {
        let table = HealthTable::default();
        table.update(&"b".into(), seen(1, 1)).unwrap();
        table.update(&"a".into(), seen(1, 2)).unwrap();
        table.update(&"b".into(), seen(2, 3)).unwrap();
        assert_eq!(table.get(&"b".into()), Some(seen(2, 3)));
        assert_eq!(table.get(&"c".into()), None);
        let names: Vec<_> = table.list().into_iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn full_table_refuses_new_services_only() {
        let table = HealthTable::new(1);
        table.update(&"a".into(), seen(1, 1)).unwrap();
        assert_eq!(table.update(&"b".into(), seen(1, 1)), Err(HealthTableFull { limit: 1 }));
        table.update(&"a".into(), seen(5, 2)).unwrap();
        assert_eq!(table.forget_before(5), 0);
        assert_eq!(table.forget_before(6), 1);
        table.update(&"b".into(), seen(9, 1)).unwrap();
        assert_eq!(table.list().len(), 1);
    }

    #[test]
    fn figures_survive_serialisation() {
        let metrics = ServiceHealthMetrics {
            status: HealthStatus::Degraded,
            p95: Some(0.25),
            windows: vec![HealthWindow { window_ms: 60_000, ..HealthWindow::default() }],
            ..seen(7, 9)
        };
        let text = serde_json::to_string(&metrics).unwrap();
        assert!(text.contains(r#""status":"degraded""#), "{text}");
        assert_eq!(serde_json::from_str::<ServiceHealthMetrics>(&text).unwrap(), metrics);
    }
}
