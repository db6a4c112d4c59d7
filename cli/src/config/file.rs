//! A configuration file as it is written.
//!
//! Every key that Prometheus knows is here, so that its files are accepted; [`ConfigFile::unserved`] names those that
//! are read and not acted on.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use kymo_core::config::{ByteSize, ConfigDuration};
use kymo_export::MetricsEndpoint;
use kymo_ingest::otlp::OtlpConfig;
use kymo_ingest::scrape::{NameEscaping, NameValidation, ScrapeConfig, ScrapeDefaults, ScrapeProtocol};
use kymo_ingest::services::ServiceHealthConfig;
use kymo_storage::SyncPolicy;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_saphyr::Spanned;

use super::retention::{DiskShare, RetentionEntry, RetentionSection, RetentionTiers};
use super::state::StateSection;
use super::value::{Address, AddressOrOff, BlockBytes, Collect, MemoryBytes};

/// A configuration file of Kymo, which an existing Prometheus file is too.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ConfigFile {
    /// What holds for all jobs.
    #[serde(deserialize_with = "null_is_default")]
    pub(super) global: Global,
    /// Jobs, each with its targets.
    #[serde(deserialize_with = "null_is_default")]
    #[schemars(with = "Vec<ScrapeConfig>")]
    pub(super) scrape_configs: Vec<Spanned<ScrapeConfig>>,
    /// How OpenTelemetry's model becomes Prometheus'.
    #[schemars(with = "OtlpConfig")]
    pub(super) otlp: Option<Spanned<OtlpConfig>>,
    /// What is known of services, and when one is well.
    #[schemars(with = "ServiceHealthConfig")]
    pub(super) service_health: Option<Spanned<ServiceHealthConfig>>,
    /// A listener of its own for the server's metrics. There is none unless this section is there; the metrics are at
    /// `/metrics` of the server in any case.
    pub(super) metrics: Option<MetricsEndpoint>,
    /// Settings of Kymo itself.
    #[serde(deserialize_with = "null_is_default")]
    pub(super) kymo: KymoSection,
    runtime: Unserved,
    rule_files: Unserved,
    scrape_config_files: Unserved,
    alerting: Unserved,
    remote_write: Unserved,
    remote_read: Unserved,
    storage: Unserved,
    tracing: Unserved,
}

impl ConfigFile {
    /// What is said and not acted on.
    pub(super) fn unserved(&self) -> Vec<String> {
        let global = &self.global;
        let there = [
            ("rule_files: rules are not evaluated", self.rule_files.is_given()),
            ("scrape_config_files: jobs are read from this file alone", self.scrape_config_files.is_given()),
            ("alerting: there are no alerts", self.alerting.is_given()),
            ("remote_write: nothing is sent on", self.remote_write.is_given()),
            ("remote_read: other servers are not asked", self.remote_read.is_given()),
            ("storage: settings of Prometheus' own engine", self.storage.is_given()),
            ("tracing: no traces are sent", self.tracing.is_given()),
            ("runtime: settings of Go's runtime", self.runtime.is_given()),
            (
                "global.scrape_failure_log_file: there is no log of failed scrapes",
                global.scrape_failure_log_file.is_given(),
            ),
            (
                "global.convert_classic_histograms_to_nhcb: classic histograms are kept as they are",
                global.convert_classic_histograms_to_nhcb.is_given(),
            ),
        ];
        there.into_iter().filter(|(_, is_given)| *is_given).map(|(what, _)| what.to_owned()).collect()
    }
}

/// A value that is read, whatever it is, and forgotten but for its being there. An empty one says nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
struct Unserved(Option<IgnoredAny>);

impl JsonSchema for Unserved {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Unserved".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "x-not-acted-on": true })
    }
}

impl Unserved {
    fn is_given(&self) -> bool {
        self.0.is_some()
    }
}

/// What holds for all jobs.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Global {
    /// How often targets are asked. Default `1m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scrape_interval: Option<ConfigDuration>,
    /// How long an answer may take; no longer than the interval. Default `10s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scrape_timeout: Option<ConfigDuration>,
    /// Formats that targets are asked for, best first. Default in the order above.
    #[serde(skip_serializing_if = "Option::is_none")]
    scrape_protocols: Option<Vec<ScrapeProtocol>>,
    /// How often rules are evaluated, of which there are none yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    evaluation_interval: Option<ConfigDuration>,
    /// How far behind the clock rules are evaluated, of which there are none yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_query_offset: Option<ConfigDuration>,
    /// Labels that series get where they leave this server: when they are federated, and read remotely. A label that a
    /// series has itself stays.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) external_labels: BTreeMap<String, String>,
    /// File that gets a line of JSON for every query, with what it cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) query_log_file: Option<PathBuf>,
    /// Largest answer after decompression; 0 for any. Default `0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_size_limit: Option<ByteSize>,
    /// Most samples of a scrape after relabelling; 0 for any number. Default `0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    sample_limit: Option<u64>,
    /// Most targets of a job; 0 for any number. Default `0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    target_limit: Option<u64>,
    /// Most labels of a series; 0 for any number. Default `0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    label_limit: Option<u64>,
    /// Longest label name in bytes; 0 for any. Default `0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    label_name_length_limit: Option<u64>,
    /// Longest label value in bytes; 0 for any. Default `0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    label_value_length_limit: Option<u64>,
    /// Most targets dropped by relabelling that are remembered; 0 for any number. Default `0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_dropped_targets: Option<u64>,
    /// Whether native histograms are taken. Default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    scrape_native_histograms: Option<bool>,
    /// Whether classic buckets are taken of histograms that have native ones too. Default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    always_scrape_classic_histograms: Option<bool>,
    /// Whether `scrape_timeout_seconds`, `scrape_sample_limit` and `scrape_body_size_bytes` are stored.
    /// Default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_scrape_metrics: Option<bool>,
    /// Which names are accepted. Default `utf8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    metric_name_validation_scheme: Option<NameValidation>,
    /// How targets are asked to write names that are not legacy ones. Default by the validation scheme.
    #[serde(skip_serializing_if = "Option::is_none")]
    metric_name_escaping_scheme: Option<NameEscaping>,
    #[serde(skip_serializing)]
    scrape_failure_log_file: Unserved,
    #[serde(skip_serializing)]
    convert_classic_histograms_to_nhcb: Unserved,
}

impl Global {
    /// What jobs get that do not say it themselves. As in Prometheus, a timeout that is not given is no longer than the
    /// interval.
    pub(super) fn defaults(&self) -> ScrapeDefaults {
        let own = ScrapeDefaults::default();
        let interval = self.scrape_interval.filter(|own| own.as_ms() > 0).unwrap_or(own.scrape_interval);
        ScrapeDefaults {
            scrape_interval: interval,
            scrape_timeout: self
                .scrape_timeout
                .filter(|own| own.as_ms() > 0)
                .unwrap_or_else(|| own.scrape_timeout.min(interval)),
            scrape_protocols: self.scrape_protocols.clone(),
            scrape_native_histograms: self.scrape_native_histograms.unwrap_or(own.scrape_native_histograms),
            always_scrape_classic_histograms: self
                .always_scrape_classic_histograms
                .unwrap_or(own.always_scrape_classic_histograms),
            extra_scrape_metrics: self.extra_scrape_metrics.unwrap_or(own.extra_scrape_metrics),
            body_size_limit: self.body_size_limit.unwrap_or(own.body_size_limit),
            sample_limit: self.sample_limit.unwrap_or(own.sample_limit),
            label_limit: self.label_limit.unwrap_or(own.label_limit),
            label_name_length_limit: self.label_name_length_limit.unwrap_or(own.label_name_length_limit),
            label_value_length_limit: self.label_value_length_limit.unwrap_or(own.label_value_length_limit),
            target_limit: self.target_limit.unwrap_or(own.target_limit),
            keep_dropped_targets: self.keep_dropped_targets.unwrap_or(own.keep_dropped_targets),
            metric_name_validation_scheme: self
                .metric_name_validation_scheme
                .unwrap_or(own.metric_name_validation_scheme),
            metric_name_escaping_scheme: self.metric_name_escaping_scheme,
        }
    }
}

/// Settings of Kymo itself. A flag of the same name wins over each.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KymoSection {
    /// Where the data lives; created when missing. Default `./kymo-data`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Address of the HTTP listener. Default `127.0.0.1:9911`.
    #[serde(deserialize_with = "text", serialize_with = "as_text", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Address")]
    pub listen: Option<Address>,
    /// Where OTLP is listened for.
    #[serde(deserialize_with = "null_is_default")]
    pub otlp: OtlpListeners,
    /// What is watched without being told where. Without a file it is both. Default `[]`.
    #[serde(deserialize_with = "collect", serialize_with = "collected", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<Watched>")]
    pub collect: Option<Collect>,
    /// How long samples are kept, `0` for ever: one duration, or one for samples and for rollups each, as in
    /// `{raw: 30d, 5m: 1y, 1h: 5y}`, or a list of which the first entry that matches a series holds, as in
    /// `[{match: '{job="debug"}', keep: 3d}, {raw: 30d, 5m: 1y}]`. In force at once after a reload. Default `30d`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DurationOrList")]
    pub retention: Option<RetentionSection>,
    /// Most bytes of blocks on disk, `0` for any number; beyond it the oldest go first, and samples before their rollups.
    /// Default `0`.
    #[serde(deserialize_with = "text", serialize_with = "as_text", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ByteSize")]
    pub retention_size: Option<BlockBytes>,
    /// The same as a percentage of the size of the file system, like `80%`; of both the lower holds. Without it there is
    /// no such limit.
    #[serde(deserialize_with = "text", serialize_with = "as_text", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub retention_disk_share: Option<DiskShare>,
    /// Memory for everything together. Default 60 % of what the process may have.
    #[serde(deserialize_with = "text", serialize_with = "as_text", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ByteSize")]
    pub memory_limit: Option<MemoryBytes>,
    /// Series that take samples at once; samples of new ones beyond are rejected and counted by metric and label. Default
    /// `10000000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series_limit: Option<u32>,
    /// When the log is synced against power loss. Default `interval`.
    #[serde(deserialize_with = "text", serialize_with = "as_text", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Sync")]
    pub sync: Option<SyncPolicy>,
    /// Where the server keeps its own small facts.
    #[serde(deserialize_with = "null_is_default")]
    pub state: StateSection,
    /// File with bearer tokens, one a line, of which every request must carry one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_token_file: Option<PathBuf>,
    /// Whether `POST /-/reload` and `POST /-/quit` are answered. Default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_lifecycle: Option<bool>,
    /// Whether the paths under `/api/v1/admin` are answered. Default `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_admin_api: Option<bool>,
}

/// Where OTLP is listened for.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpListeners {
    /// Where OTLP is listened for over gRPC. Default `127.0.0.1:4317`.
    #[serde(deserialize_with = "text", serialize_with = "as_text", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "AddressOrOff")]
    pub grpc: Option<AddressOrOff>,
    /// Where OTLP is listened for over HTTP. Default `127.0.0.1:4318`.
    #[serde(deserialize_with = "text", serialize_with = "as_text", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "AddressOrOff")]
    pub http: Option<AddressOrOff>,
}

/// What a schema says of [`Collect`]: names that a list may hold.
#[derive(JsonSchema)]
#[schemars(inline, rename_all = "lowercase")]
#[expect(dead_code, reason = "only its schema is wanted")]
enum Watched {
    Host,
    #[schemars(rename = "self")]
    Itself,
}

/// What a schema says of [`RetentionSection`].
#[derive(JsonSchema)]
#[schemars(inline, untagged)]
#[expect(dead_code, reason = "only its schema is wanted")]
enum DurationOrList {
    Duration(ConfigDuration),
    Tiers(RetentionTiers),
    List(Vec<RetentionEntry>),
}

/// What a schema says of [`SyncPolicy`].
#[derive(JsonSchema)]
#[schemars(inline, rename_all = "lowercase")]
#[expect(dead_code, reason = "only its schema is wanted")]
enum Sync {
    Always,
    Interval,
    Never,
}

fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A value that is written as the flag's.
fn text<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
}

/// A list of names, or what the flag takes.
fn collect<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Collect>, D::Error> {
    struct Names;

    impl<'de> Visitor<'de> for Names {
        type Value = Option<Collect>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of host and self, or none")
        }

        fn visit_unit<E: Error>(self) -> Result<Option<Collect>, E> {
            Ok(None)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Option<Collect>, E> {
            text.parse().map(Some).map_err(E::custom)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Option<Collect>, A::Error> {
            let mut collect = Collect::default();
            while let Some(name) = names.next_element::<String>()? {
                let Collect { host, itself } = name.parse().map_err(A::Error::custom)?;
                collect = Collect { host: collect.host || host, itself: collect.itself || itself };
            }
            Ok(Some(collect))
        }
    }

    deserializer.deserialize_any(Names)
}

fn as_text<S: Serializer, T: fmt::Display>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

fn collected<S: Serializer>(value: &Option<Collect>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(value.iter().flat_map(|collect| collect.names()))
}
