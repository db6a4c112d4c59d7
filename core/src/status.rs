//! Facts that one part has and another shows: targets, rules, alerts, drops, contexts, configuration.
//!
//! A part implements the methods of [`StatusSource`] it has something to say to; the rest answer
//! "nothing". Whoever shows facts holds a [`StatusSources`] and never learns which part they came
//! from, nor whether that part runs here or behind a client.
//!
//! Values are owned copies in neutral form; the names and shapes of an API are the API's.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::RelabelRule;
use crate::error::ErrorKind;
use crate::health::{EdgeHealth, OperationHealth, ServiceHealth, ServiceHealthMetrics};
use crate::ledger::{Loss, Received};

/// Names and values, sorted by name.
pub type LabelMap = BTreeMap<String, String>;

/// The facts could not be had. Never returned for "there are none".
#[derive(Debug, thiserror::Error)]
#[error("cannot read the status of {part}")]
pub struct StatusError {
    /// Whose facts were asked for.
    pub part: String,
    /// What went wrong.
    pub source: Box<dyn Error + Send + Sync>,
}

impl StatusError {
    /// The kind, from which each surface derives its status.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::unavailable()
    }
}

/// A part that has facts to show.
///
/// Every method returns the facts of this moment, in a stable order, and does not block on the work
/// it describes. A part implements what it knows; what it does not know is an empty list.
pub trait StatusSource: Send + Sync {
    /// Scrape targets, those dropped by relabelling included.
    ///
    /// # Errors
    /// [`StatusError`], here and below, only where the facts are somewhere else.
    fn targets(&self) -> Result<Vec<TargetStatus>, StatusError> {
        Ok(Vec::new())
    }

    /// Scrape jobs in the order of the configuration, also those without targets.
    ///
    /// # Errors
    /// As [`targets`](Self::targets).
    fn scrape_pools(&self) -> Result<Vec<String>, StatusError> {
        Ok(Vec::new())
    }

    /// How the scrape job of this name is configured; `None` if there is none of it.
    ///
    /// # Errors
    /// As [`targets`](Self::targets).
    fn scrape_pool(&self, _name: &str) -> Result<Option<ScrapePoolStatus>, StatusError> {
        Ok(None)
    }

    /// Rule groups in the order in which they were loaded.
    ///
    /// # Errors
    /// As [`targets`](Self::targets).
    fn rule_groups(&self) -> Result<Vec<RuleGroupStatus>, StatusError> {
        Ok(Vec::new())
    }

    /// Alerts that are pending or firing, sorted by labels.
    ///
    /// # Errors
    /// As [`targets`](Self::targets).
    fn alerts(&self) -> Result<Vec<AlertStatus>, StatusError> {
        Ok(Vec::new())
    }

    /// What was refused, by door and reason.
    ///
    /// # Errors
    /// As [`targets`](Self::targets).
    fn drops(&self) -> Result<Vec<Loss>, StatusError> {
        Ok(Vec::new())
    }

    /// What arrived, by door.
    ///
    /// # Errors
    /// As [`targets`](Self::targets).
    fn received(&self) -> Result<Vec<DoorStatus>, StatusError> {
        Ok(Vec::new())
    }

    /// Contexts, sorted by path.
    ///
    /// # Errors
    /// As [`targets`](Self::targets).
    fn contexts(&self) -> Result<Vec<ContextStatus>, StatusError> {
        Ok(Vec::new())
    }

    /// What a person should look at in the tree of contexts: circles of locks first.
    ///
    /// # Errors
    /// As [`targets`](Self::targets).
    fn context_findings(&self) -> Result<Vec<ContextFinding>, StatusError> {
        Ok(Vec::new())
    }

    /// How many series there are, and where most of them lie.
    ///
    /// # Errors
    /// As [`targets`](Self::targets).
    fn cardinality(&self) -> Result<Option<CardinalityStatus>, StatusError> {
        Ok(None)
    }

    /// Queries that run, and those that were slow.
    ///
    /// # Errors
    /// As [`targets`](Self::targets).
    fn queries(&self) -> Result<Option<QueriesStatus>, StatusError> {
        Ok(None)
    }

    /// How the services do, and who calls whom.
    ///
    /// # Errors
    /// As [`targets`](Self::targets).
    fn services(&self) -> Result<Option<ServicesStatus>, StatusError> {
        Ok(None)
    }

    /// How one service does, with its operations; `None` if it is not known.
    ///
    /// # Errors
    /// As [`targets`](Self::targets).
    fn service(&self, _name: &str) -> Result<Option<ServiceStatus>, StatusError> {
        Ok(None)
    }

    /// Who calls a service, and whom it calls, sorted by caller and callee.
    ///
    /// # Errors
    /// As [`targets`](Self::targets).
    fn service_edges(&self, _name: &str) -> Result<Vec<EdgeHealth>, StatusError> {
        Ok(Vec::new())
    }

    /// The configuration in force.
    ///
    /// # Errors
    /// As [`targets`](Self::targets).
    fn configuration(&self) -> Result<Option<ConfigurationStatus>, StatusError> {
        Ok(None)
    }

    /// Labels that series get where they leave the server.
    ///
    /// # Errors
    /// As [`targets`](Self::targets).
    fn external_labels(&self) -> Result<Option<LabelMap>, StatusError> {
        Ok(None)
    }

    /// Flags with the values in force, sorted by name.
    ///
    /// # Errors
    /// As [`targets`](Self::targets).
    fn flags(&self) -> Result<Vec<FlagStatus>, StatusError> {
        Ok(Vec::new())
    }

    /// What was built.
    ///
    /// # Errors
    /// As [`targets`](Self::targets).
    fn build_info(&self) -> Result<Option<BuildInfo>, StatusError> {
        Ok(None)
    }

    /// How it runs.
    ///
    /// # Errors
    /// As [`targets`](Self::targets).
    fn runtime_info(&self) -> Result<Option<RuntimeInfo>, StatusError> {
        Ok(None)
    }
}

/// Several parts as one: lists are joined in the order of the parts, of single facts the first known
/// one is taken.
#[derive(Clone, Default)]
pub struct StatusSources {
    parts: Vec<Arc<dyn StatusSource>>,
}

impl StatusSources {
    /// No parts: every fact is absent.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part.
    pub fn push(&mut self, part: Arc<dyn StatusSource>) {
        self.parts.push(part);
    }

    fn join<T>(&self, ask: impl Fn(&dyn StatusSource) -> Result<Vec<T>, StatusError>) -> Result<Vec<T>, StatusError> {
        let mut all = Vec::new();
        for part in &self.parts {
            all.append(&mut ask(part.as_ref())?);
        }
        Ok(all)
    }

    fn first<T>(
        &self,
        ask: impl Fn(&dyn StatusSource) -> Result<Option<T>, StatusError>,
    ) -> Result<Option<T>, StatusError> {
        for part in &self.parts {
            if let Some(fact) = ask(part.as_ref())? {
                return Ok(Some(fact));
            }
        }
        Ok(None)
    }
}

impl StatusSource for StatusSources {
    fn targets(&self) -> Result<Vec<TargetStatus>, StatusError> {
        self.join(|part| part.targets())
    }

    fn scrape_pools(&self) -> Result<Vec<String>, StatusError> {
        self.join(|part| part.scrape_pools())
    }

    fn scrape_pool(&self, name: &str) -> Result<Option<ScrapePoolStatus>, StatusError> {
        self.first(|part| part.scrape_pool(name))
    }

    fn rule_groups(&self) -> Result<Vec<RuleGroupStatus>, StatusError> {
        self.join(|part| part.rule_groups())
    }

    fn alerts(&self) -> Result<Vec<AlertStatus>, StatusError> {
        self.join(|part| part.alerts())
    }

    fn drops(&self) -> Result<Vec<Loss>, StatusError> {
        self.join(|part| part.drops())
    }

    fn received(&self) -> Result<Vec<DoorStatus>, StatusError> {
        self.join(|part| part.received())
    }

    fn contexts(&self) -> Result<Vec<ContextStatus>, StatusError> {
        self.join(|part| part.contexts())
    }

    fn context_findings(&self) -> Result<Vec<ContextFinding>, StatusError> {
        self.join(|part| part.context_findings())
    }

    fn cardinality(&self) -> Result<Option<CardinalityStatus>, StatusError> {
        self.first(|part| part.cardinality())
    }

    fn queries(&self) -> Result<Option<QueriesStatus>, StatusError> {
        self.first(|part| part.queries())
    }

    fn services(&self) -> Result<Option<ServicesStatus>, StatusError> {
        self.first(|part| part.services())
    }

    fn service(&self, name: &str) -> Result<Option<ServiceStatus>, StatusError> {
        self.first(|part| part.service(name))
    }

    fn service_edges(&self, name: &str) -> Result<Vec<EdgeHealth>, StatusError> {
        self.join(|part| part.service_edges(name))
    }

    fn configuration(&self) -> Result<Option<ConfigurationStatus>, StatusError> {
        self.first(|part| part.configuration())
    }

    fn external_labels(&self) -> Result<Option<LabelMap>, StatusError> {
        self.first(|part| part.external_labels())
    }

    fn flags(&self) -> Result<Vec<FlagStatus>, StatusError> {
        self.join(|part| part.flags())
    }

    fn build_info(&self) -> Result<Option<BuildInfo>, StatusError> {
        self.first(|part| part.build_info())
    }

    fn runtime_info(&self) -> Result<Option<RuntimeInfo>, StatusError> {
        self.first(|part| part.runtime_info())
    }
}

/// A scrape job as it is configured.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ScrapePoolStatus {
    /// The effective values of its entry as YAML, secrets masked.
    pub text: String,
    /// The rules over the labels of its targets.
    pub relabel: Vec<RelabelRule>,
}

/// How the services do.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ServicesStatus {
    /// Sorted by name, all of one moment; without their operations.
    pub services: Vec<ServiceStatus>,
    /// Who calls whom, sorted by caller and callee.
    #[serde(default)]
    pub edges: Vec<EdgeHealth>,
}

/// How a service does.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// Its figures.
    #[serde(flatten)]
    pub health: ServiceHealthMetrics,
    /// Its operations, where they were asked for; sorted by name and kind.
    #[serde(default)]
    pub operations: Vec<OperationHealth>,
}

impl StatusSource for ServiceHealth {
    fn services(&self) -> Result<Option<ServicesStatus>, StatusError> {
        let list = self.list();
        let services = list.iter().map(|(name, health)| ServiceStatus {
            name: name.to_string(),
            health: ServiceHealthMetrics::clone(health),
            operations: Vec::new(),
        });
        Ok(Some(ServicesStatus { services: services.collect(), edges: self.edges() }))
    }

    fn service(&self, name: &str) -> Result<Option<ServiceStatus>, StatusError> {
        let Some(health) = self.get(name) else { return Ok(None) };
        let health = ServiceHealthMetrics::clone(&health);
        Ok(Some(ServiceStatus { name: name.to_owned(), health, operations: self.operations(name) }))
    }

    fn service_edges(&self, name: &str) -> Result<Vec<EdgeHealth>, StatusError> {
        let mut edges = self.edges();
        edges.retain(|edge| edge.caller == name || edge.callee == name);
        Ok(edges)
    }
}

/// How a target answered last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetHealth {
    /// Not asked yet.
    #[default]
    Unknown,
    /// With samples.
    Up,
    /// Not, or not with samples; [`TargetStatus::last_error`] says why.
    Down,
    /// Never asked: relabelling dropped it.
    Dropped,
}

/// A scrape target.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TargetStatus {
    /// The scrape job it belongs to.
    pub pool: String,
    /// What is asked.
    pub url: String,
    /// Labels of its series, after relabelling; empty for a dropped target.
    pub labels: LabelMap,
    /// Labels as discovered, before relabelling.
    pub discovered_labels: LabelMap,
    /// How it answered last.
    pub health: TargetHealth,
    /// Why it is down, empty if it is not.
    pub last_error: String,
    /// When it was last asked, ms since the Unix epoch.
    pub last_scrape_ms: Option<i64>,
    /// How long that took, seconds.
    pub last_scrape_seconds: f64,
    /// How often it is asked, milliseconds.
    pub interval_ms: i64,
    /// How long it may take, milliseconds.
    pub timeout_ms: i64,
}

/// How an evaluation went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleHealth {
    /// Not evaluated yet.
    #[default]
    Unknown,
    /// Evaluated.
    Ok,
    /// Failed; [`RuleStatus::last_error`] says why.
    Failed,
}

/// Rules that are evaluated one after the other.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RuleGroupStatus {
    /// Name of the group, unique in its file.
    pub name: String,
    /// The file it was read from.
    pub file: String,
    /// How often it is evaluated, milliseconds.
    pub interval_ms: i64,
    /// Series or alerts a rule may give; 0 for any number.
    pub limit: u64,
    /// In the order of evaluation.
    pub rules: Vec<RuleStatus>,
    /// When the group was last evaluated, ms since the Unix epoch.
    pub last_evaluation_ms: Option<i64>,
    /// How long that took, seconds.
    pub evaluation_seconds: f64,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RuleStatus {
    /// The alert's or the recorded series' name.
    pub name: String,
    /// Its expression.
    pub query: String,
    /// Labels it adds.
    pub labels: LabelMap,
    /// What only an alerting rule has; `None` for a recording rule.
    pub alerting: Option<AlertingStatus>,
    /// How its last evaluation went.
    pub health: RuleHealth,
    /// Why it failed, empty if it did not.
    pub last_error: String,
    /// When it was last evaluated, ms since the Unix epoch.
    pub last_evaluation_ms: Option<i64>,
    /// How long that took, seconds.
    pub evaluation_seconds: f64,
}

/// What only an alerting rule has.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AlertingStatus {
    /// The furthest state of its alerts.
    pub state: AlertState,
    /// How long an alert is pending before it fires, milliseconds.
    pub for_ms: i64,
    /// How long an alert goes on firing after its condition ended, milliseconds.
    pub keep_firing_for_ms: i64,
    /// Templates of its annotations.
    pub annotations: LabelMap,
    /// Its alerts that are pending or firing, sorted by labels.
    pub alerts: Vec<AlertStatus>,
}

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// Its condition does not hold.
    #[default]
    Inactive,
    /// Its condition holds, not yet for long enough.
    Pending,
    /// Its condition holds.
    Firing,
}

/// One alert.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AlertStatus {
    /// Its labels, `alertname` included.
    pub labels: LabelMap,
    /// Its annotations, expanded.
    pub annotations: LabelMap,
    /// Where it stands.
    pub state: AlertState,
    /// Since when its condition holds, ms since the Unix epoch.
    pub active_since_ms: i64,
    /// Since when it fires only because of `keep_firing_for`, ms since the Unix epoch.
    pub keep_firing_since_ms: Option<i64>,
    /// Value of its expression at the last evaluation.
    #[serde(with = "float_text")]
    pub value: f64,
}

/// What arrived at one door.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DoorStatus {
    /// The door: `remote_write`, `otlp`, `scrape`, …
    pub source: String,
    /// Its totals.
    #[serde(flatten)]
    pub received: Received,
}

/// Where a context stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContextState {
    /// Its tasks go on.
    #[default]
    Running,
    /// Nothing happened for long.
    Idle,
    /// It waits for something with a name.
    Waiting,
    /// It has waited too long.
    Stuck,
    /// It is part of a circle of locks, which none of its members will leave.
    Deadlocked,
    /// Asked to stop; tasks are still ending.
    Cancelling,
    /// Ended by itself.
    Completed,
    /// Ended with a failure.
    Failed,
    /// Ended because it was asked to.
    Cancelled,
}

/// A context of the running program.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextStatus {
    /// Dotted, from the root.
    pub path: String,
    /// Where it stands.
    pub state: ContextState,
    /// When it began, ms since the Unix epoch.
    pub started_ms: i64,
    /// What it last said of itself, empty if nothing.
    pub message: String,
    /// What it waits for, by the name of the lock or wait; empty if for nothing.
    pub waiting_for: String,
    /// Tasks that have not ended.
    pub tasks: u64,
    /// What it waits for, longest first.
    #[serde(default)]
    pub waits: Vec<ContextWait>,
    /// Locks it holds, longest first.
    #[serde(default)]
    pub holds: Vec<ContextHold>,
    /// Requests of its path and all below; `None` if there never was one.
    #[serde(default)]
    pub requests: Option<ContextRequests>,
}

/// A wait of a context.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ContextWait {
    /// The name of the wait or the lock.
    pub what: String,
    /// For how long, milliseconds.
    pub waited_ms: i64,
    /// Whether that is too long.
    pub is_stuck: bool,
    /// Paths of the contexts that hold the lock; empty for a wait that is none.
    pub held_by: Vec<String>,
}

/// A lock that a context holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ContextHold {
    /// Its name.
    pub lock: String,
    /// For how long, milliseconds.
    pub held_ms: i64,
    /// How many wait for it.
    pub waiting: u64,
}

/// Requests in sliding windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ContextRequests {
    /// Ever.
    pub since_start: u64,
    /// In the last 60 minutes.
    pub last_hour: u64,
    /// In the last 60 seconds.
    pub last_minute: u64,
    /// In the last second: the current rate.
    pub last_second: u64,
}

/// Something that a person should look at in the tree of contexts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ContextFinding {
    /// In words, with paths, locks and times.
    pub text: String,
    /// Whether it is a circle, which no member will leave.
    pub is_cycle: bool,
    /// Paths of the contexts it is about; of a circle each waits for the next, the last for the first.
    pub contexts: Vec<String>,
}

/// How many series there are, and where most of them lie. Lists are sorted, largest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CardinalityStatus {
    /// Series that are alive.
    pub series: u64,
    /// Distinct pairs of label and value.
    pub label_pairs: u64,
    /// Series by metric.
    pub series_by_metric: Vec<(String, u64)>,
    /// Distinct values by label.
    pub values_by_label: Vec<(String, u64)>,
    /// Bytes of names and values by label.
    pub bytes_by_label: Vec<(String, u64)>,
    /// Series by `label=value`.
    pub series_by_pair: Vec<(String, u64)>,
}

/// Queries that run, and those that were slow.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct QueriesStatus {
    /// In the order in which they were asked.
    pub running: Vec<QueryStatus>,
    /// Those that took longest lately, the longest first.
    pub slowest: Vec<QueryStatus>,
    /// Queries that may run at once.
    pub running_max: u64,
    /// Queries that wait for a place.
    pub waiting: u64,
    /// Bytes reserved by queries.
    pub memory_bytes: u64,
    /// Bytes that they may reserve.
    pub memory_limit_bytes: u64,
}

/// One query.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct QueryStatus {
    /// Its number, by which it can be cancelled.
    pub id: u64,
    /// The expression.
    pub text: String,
    /// Who asked.
    pub client: String,
    /// Whether it has a place.
    pub is_running: bool,
    /// Since it was asked; of one that ended, how long it took. Seconds.
    pub seconds: f64,
    /// Distance of its steps, seconds; 0 for an instant.
    pub step_seconds: f64,
    /// Samples that it read; 0 while it runs.
    pub samples: u64,
    /// Most memory that it held, in bytes; 0 while it runs.
    pub memory_bytes: u64,
    /// Why it failed, empty if it did not.
    pub error: String,
}

/// The configuration in force.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConfigurationStatus {
    /// Its text, secrets masked.
    pub text: String,
    /// When it was loaded, ms since the Unix epoch.
    pub loaded_ms: i64,
    /// Why the last reload was refused, empty if it was not.
    pub reload_error: String,
}

/// A flag with the value in force.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FlagStatus {
    /// Without dashes.
    pub name: String,
    /// As it would be written.
    pub value: String,
}

/// What was built.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BuildInfo {
    /// Version of the program.
    pub version: String,
    /// Commit, empty if unknown.
    pub revision: String,
    /// Branch, empty if unknown.
    pub branch: String,
    /// Version of the compiler.
    pub compiler: String,
}

/// How the program runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RuntimeInfo {
    /// When it began, ms since the Unix epoch.
    pub started_ms: i64,
    /// Name of the machine.
    pub hostname: String,
    /// Directory it runs in.
    pub working_directory: String,
    /// Directory of its data.
    pub data_directory: String,
    /// How long raw samples are kept, milliseconds.
    pub retention_ms: i64,
    /// Processors it may use.
    pub processors: u64,
    /// Bytes of memory it may use.
    pub memory_limit_bytes: u64,
    /// Damaged pieces of data found since it began.
    pub corruptions: u64,
}

/// Floats as text, because JSON knows neither NaN nor infinities.
mod float_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::text::{FloatText, parse_float};

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(FloatText::general(*value).as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        parse_float(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Alerts(&'static str);

    impl StatusSource for Alerts {
        fn alerts(&self) -> Result<Vec<AlertStatus>, StatusError> {
            let labels = LabelMap::from([("alertname".to_owned(), self.0.to_owned())]);
            Ok(vec![AlertStatus { labels, value: f64::INFINITY, ..AlertStatus::default() }])
        }

        fn build_info(&self) -> Result<Option<BuildInfo>, StatusError> {
            Ok(Some(BuildInfo { version: self.0.to_owned(), ..BuildInfo::default() }))
        }
    }

    struct Unreachable;

    impl StatusSource for Unreachable {
        fn targets(&self) -> Result<Vec<TargetStatus>, StatusError> {
            Err(StatusError { part: "server".to_owned(), source: "connection refused".into() })
        }
    }

    #[test]
    fn absent_facts_are_empty() {
        let none = StatusSources::new();
        assert!(none.targets().unwrap().is_empty() && none.alerts().unwrap().is_empty());
        assert!(none.rule_groups().unwrap().is_empty() && none.drops().unwrap().is_empty());
        assert!(none.contexts().unwrap().is_empty() && none.flags().unwrap().is_empty());
        assert!(none.received().unwrap().is_empty() && none.configuration().unwrap().is_none());
        assert!(none.build_info().unwrap().is_none() && none.runtime_info().unwrap().is_none());
    }

    #[test]
    fn parts_are_joined_in_order_and_failures_are_not_hidden() {
        let mut sources = StatusSources::new();
        sources.push(Arc::new(Alerts("first")));
        sources.push(Arc::new(Alerts("second")));
        sources.push(Arc::new(Unreachable));
        let names: Vec<String> =
            sources.alerts().unwrap().into_iter().map(|alert| alert.labels["alertname"].clone()).collect();
        assert_eq!(names, ["first", "second"]);
        assert_eq!(sources.build_info().unwrap().unwrap().version, "first");
        assert_eq!(sources.targets().unwrap_err().to_string(), "cannot read the status of server");
    }

    #[test]
    fn facts_survive_serialisation() {
        let alert = Alerts("a").alerts().unwrap().remove(0);
        let text = serde_json::to_string(&alert).unwrap();
        assert!(text.contains(r#""value":"+Inf""#) && text.contains(r#""state":"inactive""#), "{text}");
        assert_eq!(serde_json::from_str::<AlertStatus>(&text).unwrap(), alert);
        let received = Received { received: 3, stored: 2, rejected: 1, ..Received::default() };
        let door = DoorStatus { source: "scrape".to_owned(), received };
        let text = serde_json::to_string(&door).unwrap();
        assert_eq!(serde_json::from_str::<DoorStatus>(&text).unwrap(), door);
    }
}
