//! A configuration file as it is written.
//!
//! Every key that Prometheus knows is here, so that its files are accepted; [`ConfigFile::unserved`] names those that
//! are read and not acted on.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use kymo_core::config::{ByteSize, ConfigDuration};
use kymo_ingest::otlp::OtlpConfig;
use kymo_ingest::scrape::{NameEscaping, NameValidation, ScrapeConfig, ScrapeDefaults, ScrapeProtocol};
use kymo_storage::SyncPolicy;
use serde::de::{Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_saphyr::Spanned;

use super::value::{AddressOrOff, Collect, MemoryBytes, Retention, address};

/// A whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ConfigFile {
    #[serde(deserialize_with = "null_is_default")]
    pub(super) global: Global,
    #[serde(deserialize_with = "null_is_default")]
    pub(super) scrape_configs: Vec<Spanned<ScrapeConfig>>,
    pub(super) otlp: Option<Spanned<OtlpConfig>>,
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
            ("global.external_labels: they are not added to what is federated", !global.external_labels.is_empty()),
            ("global.query_log_file: there is no query log", global.query_log_file.is_given()),
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

impl Unserved {
    fn is_given(&self) -> bool {
        self.0.is_some()
    }
}

/// What holds for all jobs.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Global {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scrape_interval: Option<ConfigDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scrape_timeout: Option<ConfigDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scrape_protocols: Option<Vec<ScrapeProtocol>>,
    /// Of rules, which are named where they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    evaluation_interval: Option<ConfigDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_query_offset: Option<ConfigDuration>,
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    external_labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_size_limit: Option<ByteSize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sample_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label_name_length_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label_value_length_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_dropped_targets: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scrape_native_histograms: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    always_scrape_classic_histograms: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_scrape_metrics: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metric_name_validation_scheme: Option<NameValidation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metric_name_escaping_scheme: Option<NameEscaping>,
    #[serde(skip_serializing)]
    query_log_file: Unserved,
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
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct KymoSection {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    #[serde(deserialize_with = "listen", skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    #[serde(deserialize_with = "null_is_default")]
    pub otlp: OtlpListeners,
    #[serde(deserialize_with = "collect", serialize_with = "collected", skip_serializing_if = "Option::is_none")]
    pub collect: Option<Collect>,
    #[serde(deserialize_with = "text", serialize_with = "as_text", skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    #[serde(deserialize_with = "text", serialize_with = "as_text", skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<MemoryBytes>,
    #[serde(deserialize_with = "text", serialize_with = "as_text", skip_serializing_if = "Option::is_none")]
    pub sync: Option<SyncPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_token_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_lifecycle: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_admin_api: Option<bool>,
}

/// Where OTLP is listened for.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpListeners {
    #[serde(deserialize_with = "text", serialize_with = "as_text", skip_serializing_if = "Option::is_none")]
    pub grpc: Option<AddressOrOff>,
    #[serde(deserialize_with = "text", serialize_with = "as_text", skip_serializing_if = "Option::is_none")]
    pub http: Option<AddressOrOff>,
}

fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A value that is written as the flag's.
fn text<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
}

fn listen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| address(&text).map_err(D::Error::custom)).transpose()
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
