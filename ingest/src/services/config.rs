//! The section `service_health`: limits, thresholds, and which metrics tell of requests.

use kymo_core::config::{ByteSize, ConfigDuration};
use kymo_core::health::{HealthOptions, HealthThresholds, OperationKind};
use kymo_core::matcher::{MatchOp, MatcherError};
use kymo_core::{METRIC_NAME, Matcher};
use serde::{Deserialize, Serialize};

/// The section `service_health` of the configuration: what is known of services, and when one is well.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ServiceHealthConfig {
    /// Most services; those beyond count as the service `kymo_overflow`. Default `4096`.
    pub services_max: usize,
    /// Most operations of one service; those beyond count as its operation `kymo_overflow`. Default `256`.
    pub operations_of_service_max: usize,
    /// Most operations of all services. Default `16384`.
    pub operations_max: usize,
    /// Most pairs of services that call each other. Default `16384`.
    pub edges_max: usize,
    /// Most memory of all of it; where it is used up, new names count as `kymo_overflow`. Default `256MiB`.
    pub memory_max: ByteSize,
    /// How long a service is remembered that nobody asks anything. Default `1d`.
    pub forget_after: ConfigDuration,
    /// How often metrics are read for requests; `0` for never. Default `5s`.
    pub metrics_interval: ConfigDuration,
    /// From where on a service is no longer healthy.
    pub thresholds: ThresholdsConfig,
    /// Which metrics tell of requests, best first. What is given here replaces the rules that are there otherwise. Default the rules of services.md.
    pub metrics: Vec<RequestRule>,
}

impl Default for ServiceHealthConfig {
    fn default() -> ServiceHealthConfig {
        let options = HealthOptions::default();
        ServiceHealthConfig {
            services_max: options.services_max,
            operations_of_service_max: options.operations_of_service_max,
            operations_max: options.operations_max,
            edges_max: options.edges_max,
            memory_max: ByteSize(options.bytes_max as u64),
            forget_after: ConfigDuration::from_secs(86_400),
            thresholds: ThresholdsConfig::default(),
            metrics_interval: ConfigDuration::from_secs(5),
            metrics: default_rules(),
        }
    }
}

/// From where on a service is no longer healthy. It gets worse at once, and better only after its figures stayed for
/// `recovery` below `leave` times the threshold.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ThresholdsConfig {
    /// Errors per request, from which on it is degraded. Default `0.01`.
    pub errors_degraded: f64,
    /// Errors per request, from which on it is unhealthy. Default `0.05`.
    pub errors_unhealthy: f64,
    /// How many times the p99 of its own last hour makes it degraded. Default `2.0`.
    pub slower_degraded: f64,
    /// How many times the p99 of its own last hour makes it unhealthy. Default `4.0`.
    pub slower_unhealthy: f64,
    /// A p99 below this is never slow by comparison. Default `50ms`.
    pub slower_floor: ConfigDuration,
    /// The p99 from which on it is degraded, whatever its last hour was. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_degraded: Option<ConfigDuration>,
    /// The p99 from which on it is unhealthy, whatever its last hour was. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_unhealthy: Option<ConfigDuration>,
    /// Requests it takes to judge. Default `20`.
    pub requests_min: u64,
    /// Share of a threshold below which a figure must fall to be better. Default `0.8`.
    pub leave: f64,
    /// For how long on end figures must be better. Default `1m`.
    pub recovery: ConfigDuration,
    /// A service without requests for so long is `unknown`. Default `5m`.
    pub silent: ConfigDuration,
}

impl Default for ThresholdsConfig {
    fn default() -> ThresholdsConfig {
        let own = HealthThresholds::default();
        let duration = |own: std::time::Duration| ConfigDuration::from_ms(i64::try_from(own.as_millis()).unwrap_or(0));
        ThresholdsConfig {
            errors_degraded: own.errors_degraded,
            errors_unhealthy: own.errors_unhealthy,
            slower_degraded: own.slower_degraded,
            slower_unhealthy: own.slower_unhealthy,
            slower_floor: duration(own.slower_floor),
            p99_degraded: None,
            p99_unhealthy: None,
            requests_min: own.requests_min,
            leave: own.leave,
            recovery: duration(own.recovery),
            silent: duration(own.silent),
        }
    }
}

/// What a metric counts requests with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
#[serde(rename_all = "lowercase")]
pub enum RequestMetric {
    /// A histogram of how long they took, with classic buckets or native.
    Histogram,
    /// A counter, which says nothing of how long they took.
    Counter,
}

/// In which unit a histogram's buckets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
pub enum LatencyUnit {
    /// Seconds.
    #[default]
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
}

/// A metric that tells of requests. Labels are looked for in the order given; the first that a series has counts.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RequestRule {
    /// Names of metrics, a regular expression for the whole name; of a histogram without `_bucket`.
    pub name: String,
    /// Names that are left out although `name` matches. Default none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub except: String,
    /// What it counts with.
    #[serde(rename = "type")]
    pub metric: RequestMetric,
    /// The unit of a histogram's buckets. Default `s`.
    #[serde(default)]
    pub unit: LatencyUnit,
    /// Which side tells. Default `server`.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub kind: OperationKind,
    /// Labels that name the service. Default `[service_name, service.name, job]`.
    #[serde(default = "service_labels")]
    pub service: Vec<String>,
    /// Labels that together name the operation. Default none.
    #[serde(default)]
    pub operation: Vec<String>,
    /// Labels that tell how a request ended; without one of them, a counter is no metric of requests. Default none.
    #[serde(default)]
    pub outcome: Vec<String>,
    /// Which values of that label are errors, a regular expression for the whole value. Default `5..`.
    #[serde(default = "server_errors")]
    pub errors: String,
}

fn service_labels() -> Vec<String> {
    ["service_name", "service.name", "job"].map(str::to_owned).to_vec()
}

fn server_errors() -> String {
    "5..".to_owned()
}

/// Codes of gRPC that are the server's fault, as number and as name: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL,
/// UNAVAILABLE, DATA_LOSS (OpenTelemetry's conventions for RPC).
const GRPC_ERRORS: &str = "2|4|12|13|14|15|UNKNOWN|DEADLINE_EXCEEDED|UNIMPLEMENTED|INTERNAL|UNAVAILABLE|DATA_LOSS";
/// Not requests to a service: what clients measure, what disks do, and what is here.
const FOREIGN: &str = "(kymo|node|prometheus)_.*|.*_client_.*";

/// The rules that are there when none are given.
fn default_rules() -> Vec<RequestRule> {
    let rule = |name: &str, metric, operation: &[&str], outcome: &[&str], errors: &str| RequestRule {
        name: name.to_owned(),
        except: FOREIGN.to_owned(),
        metric,
        unit: LatencyUnit::Seconds,
        kind: OperationKind::Server,
        service: service_labels(),
        operation: operation.iter().copied().map(str::to_owned).collect(),
        outcome: outcome.iter().copied().map(str::to_owned).collect(),
        errors: errors.to_owned(),
    };
    let millis = |rule: RequestRule| RequestRule { unit: LatencyUnit::Milliseconds, ..rule };
    let (histogram, counter) = (RequestMetric::Histogram, RequestMetric::Counter);
    let http = ["http_request_method", "http.request.method", "http_method", "method", "http_route", "http.route"];
    let http = [&http[..], &["route", "handler", "path", "endpoint", "uri"]].concat();
    let http_status = ["http_response_status_code", "http.response.status_code", "http_status_code", "status_code"];
    let http_status = [&http_status[..], &["code", "status"]].concat();
    let rpc = ["rpc_service", "rpc.service", "rpc_method", "rpc.method", "grpc_service", "grpc_method"];
    let rpc_status = ["rpc_response_status_code", "rpc.response.status_code", "rpc_grpc_status_code"];
    let rpc_status = [&rpc_status[..], &["rpc.grpc.status_code", "grpc_code"]].concat();
    let messaging = ["messaging_operation_name", "messaging.operation.name", "messaging_destination_name"];
    let consumed =
        rule("messaging[_.]process[_.]duration(_seconds)?", histogram, &messaging, &["error_type", "error.type"], ".+");
    vec![
        rule("http[_.]server[_.]request[_.]duration(_seconds)?", histogram, &http, &http_status, "5.."),
        millis(rule("http[_.]server[_.]duration(_milliseconds)?", histogram, &http, &http_status, "5..")),
        rule("http_server_duration_seconds", histogram, &http, &http_status, "5.."),
        rule("rpc[_.]server[_.]call[_.]duration(_seconds)?", histogram, &rpc, &rpc_status, GRPC_ERRORS),
        millis(rule("rpc[_.]server[_.]duration(_milliseconds)?", histogram, &rpc, &rpc_status, GRPC_ERRORS)),
        rule("rpc_server_duration_seconds", histogram, &rpc, &rpc_status, GRPC_ERRORS),
        RequestRule { kind: OperationKind::Consumer, ..consumed },
        rule("(.*_)?requests?_(duration|latency)_seconds", histogram, &http, &http_status, "5..|5xx"),
        millis(rule("(.*_)?requests?_(duration|latency)_milliseconds", histogram, &http, &http_status, "5..|5xx")),
        rule("(.*_)?requests_total", counter, &http, &http_status, "5..|5xx"),
    ]
}

/// Why a `service_health` section is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceHealthConfigError {
    /// A pattern that is none.
    #[error("the pattern {pattern:?} of service_health.metrics cannot be used")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why.
        source: MatcherError,
    },
    /// A threshold for worse that is below the one for bad.
    #[error("service_health.thresholds: {unhealthy} must not be below {degraded}")]
    Order {
        /// The lower one.
        degraded: &'static str,
        /// The higher one.
        unhealthy: &'static str,
    },
    /// A number outside its range.
    #[error("service_health.thresholds: {name} must be from {least} to {most}")]
    Range {
        /// Of what.
        name: &'static str,
        /// The least it may be.
        least: f64,
        /// The most it may be.
        most: f64,
    },
    /// A limit of 0.
    #[error("service_health: {name} must be at least 1")]
    Zero {
        /// Of what.
        name: &'static str,
    },
}

impl ServiceHealthConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// [`ServiceHealthConfigError`] names the first fault.
    pub fn validate(&self) -> Result<(), ServiceHealthConfigError> {
        use ServiceHealthConfigError::{Order, Range, Zero};
        let limits = [
            ("services_max", self.services_max),
            ("operations_of_service_max", self.operations_of_service_max),
            ("operations_max", self.operations_max),
            ("edges_max", self.edges_max),
            ("memory_max", usize::try_from(self.memory_max.0).unwrap_or(usize::MAX)),
        ];
        if let Some((name, _)) = limits.into_iter().find(|(_, limit)| *limit == 0) {
            return Err(Zero { name });
        }
        let by = &self.thresholds;
        let within = |name, value: f64, least, most| {
            if (least..=most).contains(&value) { Ok(()) } else { Err(Range { name, least, most }) }
        };
        within("errors_degraded", by.errors_degraded, 0.0, 1.0)?;
        within("errors_unhealthy", by.errors_unhealthy, 0.0, 1.0)?;
        within("slower_degraded", by.slower_degraded, 1.0, 1e9)?;
        within("slower_unhealthy", by.slower_unhealthy, 1.0, 1e9)?;
        within("leave", by.leave, 0.0, 1.0)?;
        let slow = |limit: Option<ConfigDuration>| limit.map_or(i64::MAX, ConfigDuration::as_ms) as f64;
        let pairs = [
            ("errors_degraded", by.errors_degraded, "errors_unhealthy", by.errors_unhealthy),
            ("slower_degraded", by.slower_degraded, "slower_unhealthy", by.slower_unhealthy),
            ("p99_degraded", slow(by.p99_degraded.or(by.p99_unhealthy)), "p99_unhealthy", slow(by.p99_unhealthy)),
        ];
        if let Some((degraded, _, unhealthy, _)) = pairs.into_iter().find(|(_, low, _, high)| low > high) {
            return Err(Order { degraded, unhealthy });
        }
        self.metrics.iter().try_for_each(|rule| rule.compile().map(drop))
    }

    /// The same in the terms of [`kymo_core::health`].
    #[must_use]
    pub fn options(&self) -> HealthOptions {
        HealthOptions {
            services_max: self.services_max,
            operations_of_service_max: self.operations_of_service_max,
            operations_max: self.operations_max,
            edges_max: self.edges_max,
            bytes_max: usize::try_from(self.memory_max.0).unwrap_or(usize::MAX),
            forget_after: self.forget_after.as_duration(),
            thresholds: self.thresholds.thresholds(),
        }
    }
}

impl ThresholdsConfig {
    /// The same in the terms of [`kymo_core::health`].
    #[must_use]
    pub fn thresholds(&self) -> HealthThresholds {
        HealthThresholds {
            errors_degraded: self.errors_degraded,
            errors_unhealthy: self.errors_unhealthy,
            slower_degraded: self.slower_degraded,
            slower_unhealthy: self.slower_unhealthy,
            slower_floor: self.slower_floor.as_duration(),
            p99_degraded: self.p99_degraded.map(ConfigDuration::as_duration),
            p99_unhealthy: self.p99_unhealthy.map(ConfigDuration::as_duration),
            requests_min: self.requests_min,
            leave: self.leave,
            recovery: self.recovery.as_duration(),
            silent: self.silent.as_duration(),
        }
    }
}

/// A rule, ready to be used.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) rule: RequestRule,
    /// Finds its series.
    pub(super) names: Vec<Matcher>,
    /// Whether the value of an outcome is an error.
    pub(super) errors: Matcher,
}

impl RequestRule {
    pub(super) fn compile(&self) -> Result<Compiled, ServiceHealthConfigError> {
        let matcher = |op, pattern: String| {
            Matcher::new(METRIC_NAME, op, pattern.clone())
                .map_err(|source| ServiceHealthConfigError::Pattern { pattern, source })
        };
        // Of a histogram both its forms: one native series, or a series for each classic bucket.
        let name = match self.metric {
            RequestMetric::Histogram => format!("(?:{})(?:_bucket)?", self.name),
            RequestMetric::Counter => self.name.clone(),
        };
        let mut names = vec![matcher(MatchOp::Regex, name)?];
        if !self.except.is_empty() {
            names.push(matcher(MatchOp::NotRegex, self.except.clone())?);
        }
        Ok(Compiled { rule: self.clone(), names, errors: matcher(MatchOp::Regex, self.errors.clone())? })
    }
}
