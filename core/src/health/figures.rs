//! What is known of a service, as figures: what readers get.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

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

impl HealthStatus {
    /// `unknown`, `healthy`, `degraded`, `unhealthy`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            HealthStatus::Unknown => "unknown",
            HealthStatus::Healthy => "healthy",
            HealthStatus::Degraded => "degraded",
            HealthStatus::Unhealthy => "unhealthy",
        }
    }
}

/// Which side of a call a span, or a metric, tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperationKind {
    /// The service answers a request. Such are the service's requests.
    #[default]
    Server,
    /// The service handles a message. Such are the service's requests too.
    Consumer,
    /// The service asks another.
    Client,
    /// The service sends a message.
    Producer,
    /// Work within the service.
    Internal,
}

impl OperationKind {
    /// All of them in their order, those that are a service's requests first.
    pub const ALL: [OperationKind; 5] = [
        OperationKind::Server,
        OperationKind::Consumer,
        OperationKind::Client,
        OperationKind::Producer,
        OperationKind::Internal,
    ];

    /// Whether operations of this kind are what others ask of the service, and so make its health. What it asks of others,
    /// and how it does its work, is told by operation only: a call that was repeated and then answered is no failed request.
    #[must_use]
    pub fn is_entry(self) -> bool {
        matches!(self, OperationKind::Server | OperationKind::Consumer)
    }

    /// `server`, `consumer`, `client`, `producer`, `internal`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            OperationKind::Server => "server",
            OperationKind::Consumer => "consumer",
            OperationKind::Client => "client",
            OperationKind::Producer => "producer",
            OperationKind::Internal => "internal",
        }
    }
}

/// A service's requests, at one moment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ServiceHealthMetrics {
    /// Requests since the service was first seen, those before the program's start included where they could be restored.
    pub requests: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// Requests per second over the shortest window.
    pub rate: f64,
    /// Errors per request over the shortest window, 0 to 1; 0 without requests.
    pub error_ratio: f64,
    /// Median latency over the shortest window, seconds; `None` without requests whose latency is known.
    pub p50: Option<f64>,
    /// 95th percentile of latency, seconds.
    pub p95: Option<f64>,
    /// 99th percentile of latency, seconds.
    pub p99: Option<f64>,
    /// The same figures of 1, 5, 15 and 60 minutes, shortest first.
    pub windows: Vec<HealthWindow>,
    /// 99th percentile of latency that is usual, seconds: the median of those of every five minutes of the last hour, without
    /// the newest. `None` where nothing is known of them.
    pub usual_p99: Option<f64>,
    /// When the newest request ended, ms since the Unix epoch.
    pub last_seen_ms: i64,
    /// The judgement.
    pub status: HealthStatus,
    /// Since when the status is what it is, ms since the Unix epoch.
    pub status_since_ms: i64,
    /// Why the status is not healthy, with the figure and its limit; empty when it is.
    pub reason: String,
}

/// Requests over one span of time.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct HealthWindow {
    /// Length of the span, milliseconds. A window slides by a twelfth of its length at most, and is by so much longer at
    /// most.
    pub window_ms: i64,
    /// Requests in it.
    pub requests: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// Requests per second.
    pub rate: f64,
    /// Errors per request, 0 to 1; 0 without requests.
    pub error_ratio: f64,
    /// Median latency, seconds; `None` without requests whose latency is known. Here and below within 2.2 % of the value of
    /// a request, from 1 µs to 68 minutes, where spans tell; within a bucket of its metric otherwise.
    pub p50: Option<f64>,
    /// 95th percentile of latency, seconds.
    pub p95: Option<f64>,
    /// 99th percentile of latency, seconds.
    pub p99: Option<f64>,
}

/// An operation of a service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct OperationHealth {
    /// Its name, as `GET /orders/{id}`.
    pub operation: String,
    /// Which side of it the service is.
    pub kind: OperationKind,
    /// Requests since it was first seen.
    pub requests: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// Figures of 1, 5, 15 and 60 minutes, shortest first.
    pub windows: Vec<HealthWindow>,
}

/// Calls of one service to another.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EdgeHealth {
    /// Who asks.
    pub caller: String,
    /// Who is asked.
    pub callee: String,
    /// Calls since the edge was first seen.
    pub requests: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// Figures of 1, 5, 15 and 60 minutes, shortest first.
    pub windows: Vec<HealthWindow>,
}
