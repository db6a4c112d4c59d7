//! One entry of `scrape_configs`, as an existing Prometheus file has it.
//!
//! [`ScrapeConfig`] is what stands in the file; [`ScrapeConfig::resolve`] checks it, fills in what the file's `global` section
//! or Prometheus' defaults give, and makes the [`JobConfig`] that is acted on. What is known but not acted on is read,
//! and named by [`JobConfig::not_acted_on`].

use std::collections::BTreeMap;
use std::path::Path;

use kymo_core::config::{
    Authorization, BasicAuth, ByteSize, ConfigDuration, HeaderValues, HttpClientConfig, OAuth2, ProxyConfig,
    RelabelRule, Secret, TlsConfig,
};
use serde::{Deserialize, Serialize};

use super::discovery::{DiscoveryConfig, DnsSdConfig, FileSdConfig, HttpSdConfig, TargetGroup};
use super::negotiate::{NameEscaping, NameValidation, ScrapeProtocol};

/// The settings of an HTTP client beside those of a section. Prometheus writes them inline; they are spelled out here
/// and not flattened, so that unknown fields are refused and errors keep their place in the file.
macro_rules! with_http_client {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
            /// User name and password.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub basic_auth: Option<BasicAuth>,
            /// The `Authorization` header.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub authorization: Option<Authorization>,
            /// OAuth 2.0 client credentials. A job with them is named and left out.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub oauth2: Option<OAuth2>,
            /// A bearer token: the older way to write `authorization`.
            #[serde(skip_serializing_if = "Secret::is_empty")]
            pub bearer_token: Secret,
            /// A file with a bearer token.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub bearer_token_file: Option<std::path::PathBuf>,
            /// How the server is verified and which certificate is shown to it.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub tls_config: Option<TlsConfig>,
            /// Whether redirects are followed. Default `true`.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub follow_redirects: Option<bool>,
            /// Whether HTTP/2 may be negotiated. Default `true`.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub enable_http2: Option<bool>,
            /// The proxy's URL.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub proxy_url: Option<String>,
            /// Hosts that are reached directly, comma-separated.
            #[serde(skip_serializing_if = "String::is_empty")]
            pub no_proxy: String,
            /// Takes the proxy from the environment.
            #[serde(skip_serializing_if = "is_default")]
            pub proxy_from_environment: bool,
            /// Headers sent to the proxy when connecting.
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            pub proxy_connect_header: BTreeMap<String, Vec<Secret>>,
            /// Headers added to each request.
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            pub http_headers: BTreeMap<String, HeaderValues>,
        }

        impl $name {
            /// Takes relative paths of the client's files as relative to `directory`.
            pub(in crate::scrape) fn set_client_directory(&mut self, directory: &std::path::Path) {
                let basic = self.basic_auth.iter_mut().flat_map(|auth| [&mut auth.username_file, &mut auth.password_file]);
                let authorization = self.authorization.iter_mut().map(|auth| &mut auth.credentials_file);
                let (mut secrets, mut certificates) = (Vec::new(), Vec::new());
                if let Some(oauth2) = &mut self.oauth2 {
                    secrets.push(&mut oauth2.client_secret_file);
                    certificates.extend(&mut oauth2.tls_config);
                }
                certificates.extend(&mut self.tls_config);
                let tls = certificates.into_iter().flat_map(|tls| [&mut tls.ca_file, &mut tls.cert_file, &mut tls.key_file]);
                let all = basic.chain(authorization).chain(secrets).chain(tls).chain([&mut self.bearer_token_file]);
                let headers = self.http_headers.values_mut().flat_map(|header| &mut header.files);
                for path in all.flatten().chain(headers).filter(|path| path.is_relative()) {
                    *path = directory.join(&*path);
                }
            }

            /// The settings of the HTTP client in one piece.
            #[must_use]
            pub fn http_client(&self) -> HttpClientConfig {
                HttpClientConfig {
                    basic_auth: self.basic_auth.clone(),
                    authorization: self.authorization.clone(),
                    oauth2: self.oauth2.clone(),
                    bearer_token: self.bearer_token.clone(),
                    bearer_token_file: self.bearer_token_file.clone(),
                    tls_config: self.tls_config.clone(),
                    follow_redirects: self.follow_redirects.unwrap_or(true),
                    enable_http2: self.enable_http2.unwrap_or(true),
                    proxy: ProxyConfig {
                        proxy_url: self.proxy_url.clone(),
                        no_proxy: self.no_proxy.clone(),
                        proxy_from_environment: self.proxy_from_environment,
                        proxy_connect_header: self.proxy_connect_header.clone(),
                    },
                    http_headers: self.http_headers.clone(),
                }
            }
        }
    };
}
pub(super) use with_http_client;

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A list or map whose key stands there without a value is empty, as in Go.
pub(super) fn null_is_default<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A section that Prometheus has and Kymo does not act on. It is read, whatever it holds, and forgotten but for its
/// being there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NotActedOn(bool);

impl<'de> Deserialize<'de> for NotActedOn {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<NotActedOn, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| NotActedOn(true))
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for NotActedOn {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NotActedOn".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "x-not-acted-on": true })
    }
}

impl Serialize for NotActedOn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("not acted on")
    }
}

/// Makes a struct of sections that are not acted on, to be put beside others, and the list of their names.
macro_rules! scrape_config {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)* }
     not acted on { $($ignored:ident,)* }) => {
        with_http_client! {
            $(#[$meta])*
            pub struct $name {
                $($(#[$field_meta])* pub $field: $type,)*
                $(
                    /// Known, and not acted on.
                    #[serde(skip_serializing_if = "is_default")]
                    pub $ignored: NotActedOn,
                )*
            }
        }

        impl $name {
            fn ignored(&self) -> Vec<&'static str> {
                [$((stringify!($ignored), self.$ignored)),*].into_iter().filter(|(_, there)| there.0).map(|(name, _)| name).collect()
            }
        }
    };
}

scrape_config! {
    /// One entry of `scrape_configs`.
    #[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
    #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
    #[serde(default, deny_unknown_fields)]
    pub struct ScrapeConfig {
        /// Name of the job, required: its series carry it as label `job`.
        pub job_name: String,
        /// How often targets are asked. Default `1m`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub scrape_interval: Option<ConfigDuration>,
        /// How long an answer may take; no longer than the interval. Default `10s`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub scrape_timeout: Option<ConfigDuration>,
        /// Formats that targets are asked for, best first. Default as in `global`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub scrape_protocols: Option<Vec<ScrapeProtocol>>,
        /// The format of an answer without a content type that is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub fallback_scrape_protocol: Option<ScrapeProtocol>,
        /// Path of the metrics. Default `/metrics`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub metrics_path: Option<String>,
        /// How targets are spoken to: `http` or `https`. Default `http`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub scheme: Option<String>,
        /// Parameters of the URL.
        #[serde(deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
        pub params: BTreeMap<String, Vec<String>>,
        /// Whether a target's own labels win over those that the scraper adds.
        pub honor_labels: bool,
        /// Whether timestamps of targets are used. Default `true`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub honor_timestamps: Option<bool>,
        /// Whether series with timestamps of their own go stale when they vanish.
        pub track_timestamps_staleness: bool,
        /// Whether answers may be compressed. Default `true`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub enable_compression: Option<bool>,
        /// Whether native histograms are taken. Default `false`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub scrape_native_histograms: Option<bool>,
        /// Whether classic buckets are taken of histograms that have native ones too. Older files call it
        /// `scrape_classic_histograms`. Default `false`.
        #[serde(alias = "scrape_classic_histograms", skip_serializing_if = "Option::is_none")]
        pub always_scrape_classic_histograms: Option<bool>,
        /// Whether `scrape_timeout_seconds`, `scrape_sample_limit` and `scrape_body_size_bytes` are stored.
        /// Default `false`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub extra_scrape_metrics: Option<bool>,
        /// Which names are accepted. Default `utf8`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub metric_name_validation_scheme: Option<NameValidation>,
        /// How targets are asked to write names that are not legacy ones. Default by the validation scheme.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub metric_name_escaping_scheme: Option<NameEscaping>,
        /// Largest answer after decompression; 0 for any. Default `0`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub body_size_limit: Option<ByteSize>,
        /// Most samples of a scrape after relabelling; 0 for any number. Default `0`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub sample_limit: Option<u64>,
        /// Most labels of a series; 0 for any number. Default `0`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub label_limit: Option<u64>,
        /// Longest label name in bytes; 0 for any. Default `0`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub label_name_length_limit: Option<u64>,
        /// Longest label value in bytes; 0 for any. Default `0`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub label_value_length_limit: Option<u64>,
        /// Most targets of the job; 0 for any number. Default `0`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub target_limit: Option<u64>,
        /// Most targets dropped by relabelling that are remembered; 0 for any number. Default `0`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub keep_dropped_targets: Option<u64>,
        /// Most buckets of a native histogram; finer ones are merged until they fit. 0 for any number.
        #[serde(skip_serializing_if = "is_default")]
        pub native_histogram_bucket_limit: u64,
        /// Smallest growth from one bucket of a native histogram to the next; finer ones are merged. 0 for any.
        #[serde(skip_serializing_if = "is_default")]
        pub native_histogram_min_bucket_factor: f64,
        /// Targets as listed.
        #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
        pub static_configs: Vec<TargetGroup>,
        /// Targets from files.
        #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
        pub file_sd_configs: Vec<FileSdConfig>,
        /// Targets from HTTP endpoints.
        #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
        pub http_sd_configs: Vec<HttpSdConfig>,
        /// Targets from DNS.
        #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
        pub dns_sd_configs: Vec<DnsSdConfig>,
        /// Rules over the labels of targets.
        #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
        pub relabel_configs: Vec<RelabelRule>,
        /// Rules over the labels of samples.
        #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
        pub metric_relabel_configs: Vec<RelabelRule>,
    }
    not acted on {
        convert_classic_histograms_to_nhcb,
        scrape_failure_log_file,
        aws_sd_configs,
        azure_sd_configs,
        consul_sd_configs,
        digitalocean_sd_configs,
        docker_sd_configs,
        dockerswarm_sd_configs,
        ec2_sd_configs,
        eureka_sd_configs,
        gce_sd_configs,
        hetzner_sd_configs,
        ionos_sd_configs,
        kubernetes_sd_configs,
        kuma_sd_configs,
        lightsail_sd_configs,
        linode_sd_configs,
        marathon_sd_configs,
        nerve_sd_configs,
        nomad_sd_configs,
        openstack_sd_configs,
        ovhcloud_sd_configs,
        puppetdb_sd_configs,
        scaleway_sd_configs,
        serverset_sd_configs,
        stackit_sd_configs,
        triton_sd_configs,
        uyuni_sd_configs,
        vultr_sd_configs,
    }
}

/// What the `global` section gives to jobs that do not say it themselves.
#[derive(Debug, Clone, PartialEq)]
pub struct ScrapeDefaults {
    /// How often targets are asked: a minute.
    pub scrape_interval: ConfigDuration,
    /// How long an answer may take: ten seconds.
    pub scrape_timeout: ConfigDuration,
    /// Formats that targets are asked for.
    pub scrape_protocols: Option<Vec<ScrapeProtocol>>,
    /// Whether native histograms are taken.
    pub scrape_native_histograms: bool,
    /// Whether classic buckets are taken of histograms that have native ones too.
    pub always_scrape_classic_histograms: bool,
    /// Whether more is stored about each scrape.
    pub extra_scrape_metrics: bool,
    /// Which names are accepted.
    pub metric_name_validation_scheme: NameValidation,
    /// How targets are asked to write names.
    pub metric_name_escaping_scheme: Option<NameEscaping>,
    /// Largest answer after decompression; 0 for any.
    pub body_size_limit: ByteSize,
    /// Most samples of a scrape; 0 for any number.
    pub sample_limit: u64,
    /// Most labels of a series; 0 for any number.
    pub label_limit: u64,
    /// Longest label name in bytes; 0 for any.
    pub label_name_length_limit: u64,
    /// Longest label value in bytes; 0 for any.
    pub label_value_length_limit: u64,
    /// Most targets of a job; 0 for any number.
    pub target_limit: u64,
    /// Most dropped targets remembered; 0 for any number.
    pub keep_dropped_targets: u64,
}

impl Default for ScrapeDefaults {
    fn default() -> ScrapeDefaults {
        ScrapeDefaults {
            scrape_interval: ConfigDuration::from_secs(60),
            scrape_timeout: ConfigDuration::from_secs(10),
            scrape_protocols: None,
            scrape_native_histograms: false,
            always_scrape_classic_histograms: false,
            extra_scrape_metrics: false,
            metric_name_validation_scheme: NameValidation::Utf8,
            metric_name_escaping_scheme: None,
            body_size_limit: ByteSize(0),
            sample_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            target_limit: 0,
            keep_dropped_targets: 0,
        }
    }
}

/// A job, checked and complete. Equal jobs are scraped alike, so one that did not change is left alone by a reload.
#[derive(Debug, Clone, PartialEq)]
pub struct JobConfig {
    /// Its name.
    pub name: String,
    /// How often targets are asked.
    pub interval: ConfigDuration,
    /// How long an answer may take.
    pub timeout: ConfigDuration,
    /// Formats that targets are asked for, best first.
    pub protocols: Vec<ScrapeProtocol>,
    /// The format of an answer without a known content type.
    pub fallback: Option<ScrapeProtocol>,
    /// Path of the metrics.
    pub metrics_path: String,
    /// `http` or `https`.
    pub scheme: String,
    /// Parameters of the URL.
    pub params: BTreeMap<String, Vec<String>>,
    /// Whether a target's own labels win.
    pub honor_labels: bool,
    /// Whether timestamps of targets are used.
    pub honor_timestamps: bool,
    /// Whether series with timestamps of their own go stale.
    pub track_timestamps_staleness: bool,
    /// Whether answers may be compressed.
    pub compression: bool,
    /// What of native histograms is taken.
    pub histograms: crate::exposition::HistogramParts,
    /// Whether more is stored about each scrape.
    pub extra_metrics: bool,
    /// Which names are accepted.
    pub names: NameValidation,
    /// How targets are asked to write names.
    pub escaping: NameEscaping,
    /// The limits.
    pub limits: Limits,
    /// Rules over the labels of targets.
    pub relabel: Vec<RelabelRule>,
    /// Rules over the labels of samples.
    pub metric_relabel: Vec<RelabelRule>,
    /// How targets are asked.
    pub http: HttpClientConfig,
    /// Where targets come from, in the order of the file.
    pub discovery: Vec<DiscoveryConfig>,
    ignored: Vec<String>,
}

/// Limits of a job. 0 means none; at a limit the whole scrape fails.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// Largest answer after decompression, in bytes.
    pub body_bytes: u64,
    /// Most samples after relabelling.
    pub samples: u64,
    /// Most labels of a series.
    pub labels: u64,
    /// Longest label name in bytes.
    pub label_name_bytes: u64,
    /// Longest label value in bytes.
    pub label_value_bytes: u64,
    /// Most targets of the job.
    pub targets: u64,
    /// Most dropped targets remembered.
    pub dropped_targets: u64,
    /// Most buckets of a native histogram.
    pub buckets: u64,
    /// Smallest growth from one native bucket to the next.
    pub bucket_factor: f64,
}

/// Why an entry of `scrape_configs` makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScrapeConfigError {
    /// A job without a name.
    #[error("job_name is empty")]
    NoName,
    /// Two jobs of one name.
    #[error("found multiple scrape configs with job name {job:?}")]
    NameTwice {
        /// The name.
        job: String,
    },
    /// The timeout is longer than the interval.
    #[error("scrape timeout greater than scrape interval for scrape config with job name {job:?}")]
    Timeout {
        /// The job.
        job: String,
    },
    /// A value that the field cannot have.
    #[error("invalid {field} {value:?} for scrape config with job name {job:?}")]
    Value {
        /// The job.
        job: String,
        /// The field.
        field: &'static str,
        /// What it says.
        value: String,
    },
    /// Settings of the HTTP client that contradict each other.
    #[error("scrape config with job name {job:?}: {source}")]
    Http {
        /// The job.
        job: String,
        /// What contradicts what.
        source: kymo_core::config::HttpClientError,
    },
}

impl ScrapeConfig {
    /// Checks the entry and fills in what it leaves open.
    ///
    /// # Errors
    /// [`ScrapeConfigError`], the first found.
    pub fn resolve(&self, defaults: &ScrapeDefaults) -> Result<JobConfig, ScrapeConfigError> {
        use crate::exposition::HistogramParts;

        if self.job_name.is_empty() {
            return Err(ScrapeConfigError::NoName);
        }
        let job = || self.job_name.clone();
        let bad = |field, value: &dyn std::fmt::Display| ScrapeConfigError::Value {
            job: job(),
            field,
            value: value.to_string(),
        };
        let (interval, timeout) = self.times(defaults)?;
        let native = self.scrape_native_histograms.unwrap_or(defaults.scrape_native_histograms);
        let classic = self.always_scrape_classic_histograms.unwrap_or(defaults.always_scrape_classic_histograms);
        let scheme = self.scheme.clone().unwrap_or_else(|| "http".to_owned());
        if !matches!(scheme.as_str(), "http" | "https") {
            return Err(bad("scheme", &scheme));
        }
        let protocols = self.scrape_protocols.as_ref().or(defaults.scrape_protocols.as_ref());
        let protocols = protocols.cloned().unwrap_or_else(|| ScrapeProtocol::defaults(native));
        if protocols.is_empty() {
            return Err(bad("scrape_protocols", &"[]"));
        }
        if let Some(twice) = protocols.iter().enumerate().find(|(at, one)| protocols[..*at].contains(one)) {
            return Err(bad("scrape_protocols", &format_args!("{} twice", twice.1.as_str())));
        }
        let names = self.metric_name_validation_scheme.unwrap_or(defaults.metric_name_validation_scheme);
        let escaping = self.metric_name_escaping_scheme.or(defaults.metric_name_escaping_scheme);
        let escaping = escaping.unwrap_or_else(|| NameEscaping::default_of(names));
        if names == NameValidation::Legacy && escaping == NameEscaping::AllowUtf8 {
            return Err(bad("metric_name_escaping_scheme", &escaping.as_str()));
        }
        let http = self.http_client();
        http.validate().map_err(|source| ScrapeConfigError::Http { job: job(), source })?;
        for sd in &self.http_sd_configs {
            sd.http_client().validate().map_err(|source| ScrapeConfigError::Http { job: job(), source })?;
        }
        let discovery = DiscoveryConfig::of(self).map_err(|(field, value)| ScrapeConfigError::Value {
            job: job(),
            field,
            value,
        })?;
        let ignored: Vec<String> = self.ignored().into_iter().map(str::to_owned).collect();
        let limit = |own: Option<u64>, default| own.unwrap_or(default);
        Ok(JobConfig {
            name: job(),
            interval,
            timeout,
            protocols,
            fallback: self.fallback_scrape_protocol,
            metrics_path: self.metrics_path.clone().unwrap_or_else(|| "/metrics".to_owned()),
            scheme,
            params: self.params.clone(),
            honor_labels: self.honor_labels,
            honor_timestamps: self.honor_timestamps.unwrap_or(true),
            track_timestamps_staleness: self.track_timestamps_staleness,
            compression: self.enable_compression.unwrap_or(true),
            histograms: match (native, classic) {
                (false, _) => HistogramParts::Classic,
                (true, false) => HistogramParts::Native,
                (true, true) => HistogramParts::NativeAndClassic,
            },
            extra_metrics: self.extra_scrape_metrics.unwrap_or(defaults.extra_scrape_metrics),
            names,
            escaping,
            limits: Limits {
                body_bytes: self.body_size_limit.unwrap_or(defaults.body_size_limit).0,
                samples: limit(self.sample_limit, defaults.sample_limit),
                labels: limit(self.label_limit, defaults.label_limit),
                label_name_bytes: limit(self.label_name_length_limit, defaults.label_name_length_limit),
                label_value_bytes: limit(self.label_value_length_limit, defaults.label_value_length_limit),
                targets: limit(self.target_limit, defaults.target_limit),
                dropped_targets: limit(self.keep_dropped_targets, defaults.keep_dropped_targets),
                buckets: self.native_histogram_bucket_limit,
                bucket_factor: self.native_histogram_min_bucket_factor,
            },
            relabel: self.relabel_configs.clone(),
            metric_relabel: self.metric_relabel_configs.clone(),
            http,
            discovery,
            ignored,
        })
    }

    /// Takes relative paths as relative to `directory`, that of the file the entry stands in, as Prometheus does.
    pub fn set_directory(&mut self, directory: &Path) {
        for files in &mut self.file_sd_configs {
            for file in &mut files.files {
                if !file.is_empty() && Path::new(file).is_relative() {
                    *file = directory.join(&*file).to_string_lossy().into_owned();
                }
            }
        }
        self.set_client_directory(directory);
        for endpoint in &mut self.http_sd_configs {
            endpoint.set_client_directory(directory);
        }
    }

    /// Interval and timeout: a timeout of the defaults gives way to a shorter interval of the job's own.
    fn times(&self, defaults: &ScrapeDefaults) -> Result<(ConfigDuration, ConfigDuration), ScrapeConfigError> {
        let given = |own: Option<ConfigDuration>| own.filter(|own| own.as_ms() > 0);
        let interval = given(self.scrape_interval).unwrap_or(defaults.scrape_interval);
        let timeout = match given(self.scrape_timeout) {
            Some(timeout) if timeout > interval => {
                return Err(ScrapeConfigError::Timeout { job: self.job_name.clone() });
            }
            Some(timeout) => timeout,
            None => defaults.scrape_timeout.min(interval),
        };
        Ok((interval, timeout))
    }
}

impl JobConfig {
    /// What the entry says that is known and not acted on, by name; to be told to whoever wrote it.
    #[must_use]
    pub fn not_acted_on(&self) -> &[String] {
        &self.ignored
    }
}

/// Resolves a whole `scrape_configs` section.
///
/// # Errors
/// [`ScrapeConfigError`], the first found.
pub fn resolve_all(defaults: &ScrapeDefaults, configs: &[ScrapeConfig]) -> Result<Vec<JobConfig>, ScrapeConfigError> {
    let mut jobs: Vec<JobConfig> = Vec::with_capacity(configs.len());
    for config in configs {
        let job = config.resolve(defaults)?;
        if jobs.iter().any(|known| known.name == job.name) {
            return Err(ScrapeConfigError::NameTwice { job: job.name });
        }
        jobs.push(job);
    }
    Ok(jobs)
}
