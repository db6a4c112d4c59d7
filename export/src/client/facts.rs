//! What a server says of itself, asked over its API.
//!
//! Paths that a server does not have (Prometheus knows no `status/drops`) are facts that are absent.

use std::collections::BTreeMap;

use kymo_core::ErrorKind;
use kymo_core::QueryContext;
use kymo_core::health::{EdgeHealth, HealthStatus, HealthWindow, ServiceHealthMetrics};
use kymo_core::ledger::{Loss, Received};
use kymo_core::query::QueryError;
use kymo_core::status::{
    BuildInfo, CardinalityStatus, DoorStatus, FlagStatus, LabelMap, QueriesStatus, QueryStatus, RuntimeInfo,
    ServiceStatus, ServicesStatus, StatusError, StatusSource, TargetHealth, TargetStatus,
};
use kymo_core::text::{parse_duration_ms, parse_rfc3339_ms};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{PrometheusClient, Way, decode};

/// Entries of each list of `status/tsdb`.
const CARDINALITY_ENTRIES: usize = 50;
/// What Prometheus says for a moment that never was.
const NEVER_MS: i64 = -62_135_596_800_000;

impl PrometheusClient {
    /// Any document of the API, of a path below `/api/v1`; `None` where the server has no such path.
    ///
    /// # Errors
    /// Where the server cannot be asked, or its document is another.
    pub fn fact<T: DeserializeOwned>(
        &self,
        path: &[&str],
        params: &[(&str, String)],
    ) -> Result<Option<T>, StatusError> {
        let asked = self.ask(path, params, Way::Get, &QueryContext::unlimited());
        match asked.and_then(|answered| decode::data(&answered.body)) {
            Ok(data) => Ok(Some(data)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: QueryError) -> StatusError {
        StatusError { part: self.base.to_string(), source: Box::new(error) }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireTargets {
    #[serde(default)]
    active_targets: Vec<WireTarget>,
    #[serde(default)]
    dropped_targets: Vec<WireTarget>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireTarget {
    discovered_labels: LabelMap,
    labels: LabelMap,
    scrape_pool: String,
    scrape_url: String,
    last_error: String,
    last_scrape: String,
    last_scrape_duration: f64,
    health: String,
    scrape_interval: String,
    scrape_timeout: String,
}

impl WireTarget {
    fn fact(self, dropped: bool) -> TargetStatus {
        let health = match &*self.health {
            _ if dropped => TargetHealth::Dropped,
            "up" => TargetHealth::Up,
            "down" => TargetHealth::Down,
            _ => TargetHealth::Unknown,
        };
        TargetStatus {
            pool: self.scrape_pool,
            url: self.scrape_url,
            labels: self.labels,
            discovered_labels: self.discovered_labels,
            health,
            last_error: self.last_error,
            last_scrape_ms: parse_rfc3339_ms(&self.last_scrape).ok().filter(|ms| *ms > NEVER_MS),
            last_scrape_seconds: self.last_scrape_duration,
            interval_ms: parse_duration_ms(&self.scrape_interval).unwrap_or_default(),
            timeout_ms: parse_duration_ms(&self.scrape_timeout).unwrap_or_default(),
        }
    }
}

#[derive(Deserialize)]
struct WireDrops {
    #[serde(default)]
    received: BTreeMap<String, Received>,
    #[serde(default)]
    losses: Vec<Loss>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireCardinality {
    head_stats: WireHead,
    #[serde(default)]
    series_count_by_metric_name: Vec<WireCount>,
    #[serde(default)]
    label_value_count_by_label_name: Vec<WireCount>,
    #[serde(default)]
    memory_in_bytes_by_label_name: Vec<WireCount>,
    #[serde(default)]
    series_count_by_label_value_pair: Vec<WireCount>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireHead {
    num_series: u64,
    num_label_pairs: u64,
}

#[derive(Deserialize)]
struct WireCount {
    name: String,
    value: u64,
}

#[derive(Deserialize)]
struct WireQueries {
    running: Vec<WireQuery>,
    slowest: Vec<WireQuery>,
    concurrency: WirePlaces,
    queue: WirePlaces,
    memory: WirePlaces,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WirePlaces {
    waiting: u64,
    bytes: u64,
    limit: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireQuery {
    id: u64,
    query: String,
    client: String,
    state: String,
    seconds: f64,
    step: f64,
    cost: WireCost,
    error: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireCost {
    samples: u64,
    memory_bytes: u64,
}

impl From<WireQuery> for QueryStatus {
    fn from(wire: WireQuery) -> QueryStatus {
        QueryStatus {
            id: wire.id,
            text: wire.query,
            client: wire.client,
            is_running: wire.state == "running",
            seconds: wire.seconds,
            step_seconds: wire.step,
            samples: wire.cost.samples,
            memory_bytes: wire.cost.memory_bytes,
            error: wire.error,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireBuild {
    version: String,
    revision: String,
    branch: String,
    #[serde(rename = "goVersion")]
    compiler: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireRuntime {
    #[serde(rename = "startTime")]
    start_time: String,
    #[serde(rename = "CWD")]
    folder: String,
    hostname: String,
    #[serde(rename = "corruptionCount")]
    corruptions: u64,
    #[serde(rename = "GOMAXPROCS")]
    processors: u64,
    #[serde(rename = "GOMEMLIMIT")]
    memory_limit_bytes: i64,
    #[serde(rename = "storageRetention")]
    retention: String,
}

#[derive(Deserialize)]
struct WireServices {
    services: Vec<WireService>,
    #[serde(default)]
    edges: Vec<EdgeHealth>,
}

/// A [`ServiceStatus`] without operations. Its fields stand here one by one, since those of a flattened struct are put
/// aside as values first, which takes most of the time that reading them takes.
#[derive(Deserialize, Default)]
#[serde(default)]
struct WireService {
    name: String,
    requests: u64,
    errors: u64,
    rate: f64,
    error_ratio: f64,
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
    windows: Vec<HealthWindow>,
    usual_p99: Option<f64>,
    last_seen_ms: i64,
    status: HealthStatus,
    status_since_ms: i64,
    reason: String,
}

impl From<WireService> for ServiceStatus {
    fn from(wire: WireService) -> ServiceStatus {
        let health = ServiceHealthMetrics {
            requests: wire.requests,
            errors: wire.errors,
            rate: wire.rate,
            error_ratio: wire.error_ratio,
            p50: wire.p50,
            p95: wire.p95,
            p99: wire.p99,
            windows: wire.windows,
            usual_p99: wire.usual_p99,
            last_seen_ms: wire.last_seen_ms,
            status: wire.status,
            status_since_ms: wire.status_since_ms,
            reason: wire.reason,
        };
        ServiceStatus { name: wire.name, health, operations: Vec::new() }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireEdges {
    called_by: Vec<EdgeHealth>,
    calls: Vec<EdgeHealth>,
}

impl StatusSource for PrometheusClient {
    fn targets(&self) -> Result<Vec<TargetStatus>, StatusError> {
        let Some(wire) = self.fact::<WireTargets>(&["targets"], &[])? else { return Ok(Vec::new()) };
        let active = wire.active_targets.into_iter().map(|target| target.fact(false));
        Ok(active.chain(wire.dropped_targets.into_iter().map(|target| target.fact(true))).collect())
    }

    fn drops(&self) -> Result<Vec<Loss>, StatusError> {
        Ok(self.fact::<WireDrops>(&["status", "drops"], &[])?.map(|wire| wire.losses).unwrap_or_default())
    }

    fn received(&self) -> Result<Vec<DoorStatus>, StatusError> {
        let Some(wire) = self.fact::<WireDrops>(&["status", "drops"], &[])? else { return Ok(Vec::new()) };
        Ok(wire.received.into_iter().map(|(source, received)| DoorStatus { source, received }).collect())
    }

    fn cardinality(&self) -> Result<Option<CardinalityStatus>, StatusError> {
        let params = [("limit", CARDINALITY_ENTRIES.to_string())];
        let Some(wire) = self.fact::<WireCardinality>(&["status", "tsdb"], &params)? else { return Ok(None) };
        let list = |list: Vec<WireCount>| list.into_iter().map(|count| (count.name, count.value)).collect();
        Ok(Some(CardinalityStatus {
            series: wire.head_stats.num_series,
            label_pairs: wire.head_stats.num_label_pairs,
            series_by_metric: list(wire.series_count_by_metric_name),
            values_by_label: list(wire.label_value_count_by_label_name),
            bytes_by_label: list(wire.memory_in_bytes_by_label_name),
            series_by_pair: list(wire.series_count_by_label_value_pair),
        }))
    }

    /// With the shortest window of each only: of a thousand services the rest is most of a megabyte.
    fn services(&self) -> Result<Option<ServicesStatus>, StatusError> {
        let wire = self.fact::<WireServices>(&["services"], &[("windows", "1".to_owned())])?;
        Ok(wire.map(|WireServices { services, edges }| {
            let services = services.into_iter().map(ServiceStatus::from).collect();
            ServicesStatus { services, edges }
        }))
    }

    fn service(&self, name: &str) -> Result<Option<ServiceStatus>, StatusError> {
        self.fact(&["services", name], &[])
    }

    fn service_edges(&self, name: &str) -> Result<Vec<EdgeHealth>, StatusError> {
        let wire = self.fact::<WireEdges>(&["services", name, "edges"], &[])?.unwrap_or_default();
        Ok(wire.called_by.into_iter().chain(wire.calls).collect())
    }

    fn queries(&self) -> Result<Option<QueriesStatus>, StatusError> {
        let Some(wire) = self.fact::<WireQueries>(&["status", "queries"], &[])? else { return Ok(None) };
        let list = |list: Vec<WireQuery>| list.into_iter().map(QueryStatus::from).collect();
        Ok(Some(QueriesStatus {
            running: list(wire.running),
            slowest: list(wire.slowest),
            running_max: wire.concurrency.limit.unwrap_or_default(),
            waiting: wire.queue.waiting,
            memory_bytes: wire.memory.bytes,
            memory_limit_bytes: wire.memory.limit.unwrap_or_default(),
        }))
    }

    fn flags(&self) -> Result<Vec<FlagStatus>, StatusError> {
        let flags = self.fact::<BTreeMap<String, String>>(&["status", "flags"], &[])?.unwrap_or_default();
        Ok(flags.into_iter().map(|(name, value)| FlagStatus { name, value }).collect())
    }

    fn build_info(&self) -> Result<Option<BuildInfo>, StatusError> {
        let wire = self.fact::<WireBuild>(&["status", "buildinfo"], &[])?;
        Ok(wire.map(|WireBuild { version, revision, branch, compiler }| BuildInfo {
            version,
            revision,
            branch,
            compiler,
        }))
    }

    fn runtime_info(&self) -> Result<Option<RuntimeInfo>, StatusError> {
        let wire = self.fact::<WireRuntime>(&["status", "runtimeinfo"], &[])?;
        Ok(wire.map(|wire| RuntimeInfo {
            started_ms: parse_rfc3339_ms(&wire.start_time).unwrap_or_default(),
            hostname: wire.hostname,
            working_directory: wire.folder,
            data_directory: String::new(),
            retention_ms: parse_duration_ms(&wire.retention).unwrap_or_default(),
            processors: wire.processors,
            memory_limit_bytes: u64::try_from(wire.memory_limit_bytes).unwrap_or_default(),
            corruptions: wire.corruptions,
        }))
    }
}
