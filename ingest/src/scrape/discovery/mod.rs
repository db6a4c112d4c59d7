//! Where targets come from.
//!
//! Every source gives groups: lists of targets with labels of their own and labels in common. A source that fails keeps
//! what it gave last, because a target that cannot be discovered for a moment is still to be watched.

mod dns;
mod file;
mod http;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kymo_core::BlockingPool;
use kymo_core::config::ConfigDuration;
use kymo_core::status::LabelMap;
use serde::{Deserialize, Serialize};

use super::blocking::blocking;
use super::client::ScrapeClient;
use super::config::{ScrapeConfig, is_default, null_is_default, with_http_client};

pub use dns::DnsSdConfig;
pub use file::FileSdConfig;
pub use http::HttpSdConfig;

/// Targets with labels in common, as `static_configs`, files and HTTP endpoints list them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct TargetGroup {
    /// Addresses, each a host and a port.
    #[serde(deserialize_with = "null_is_default")]
    pub targets: Vec<String>,
    /// Labels that all of them get.
    #[serde(deserialize_with = "labels", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A label without a value is an absent one.
fn labels<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let labels: BTreeMap<String, Option<String>> = null_is_default(deserializer)?;
    Ok(labels.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
}

/// Discovered targets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Group {
    pub(super) targets: Vec<LabelMap>,
    pub(super) labels: LabelMap,
}

impl Group {
    /// A listed group with what discovery knows of where it came from.
    fn of(listed: &TargetGroup, meta: &[(&str, &str)]) -> Group {
        let address = |target: &String| LabelMap::from([("__address__".to_owned(), target.clone())]);
        let mut labels = listed.labels.clone();
        labels.extend(meta.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Group { targets: listed.targets.iter().map(address).collect(), labels }
    }
}

/// One source of targets.
#[derive(Debug, Clone, PartialEq)]
pub enum DiscoveryConfig {
    /// All of `static_configs`.
    Static(Vec<TargetGroup>),
    /// One of `file_sd_configs`.
    Files(FileSdConfig),
    /// One of `http_sd_configs`.
    Http(Box<HttpSdConfig>),
    /// One of `dns_sd_configs`.
    Dns(DnsSdConfig),
}

impl DiscoveryConfig {
    /// The sources of a job; else the field that is wrong and what it says.
    pub(super) fn of(config: &ScrapeConfig) -> Result<Vec<DiscoveryConfig>, (&'static str, String)> {
        let mut sources = Vec::new();
        for target in config.static_configs.iter().flat_map(|group| &group.targets) {
            if target.contains('/') {
                return Err(("static_configs target", target.clone()));
            }
        }
        if !config.static_configs.is_empty() {
            sources.push(DiscoveryConfig::Static(config.static_configs.clone()));
        }
        for files in &config.file_sd_configs {
            if let Some(bad) = files.files.iter().find(|pattern| !file::is_pattern(pattern)) {
                return Err(("file_sd_configs path name", bad.clone()));
            }
            if files.files.is_empty() {
                return Err(("file_sd_configs files", "[]".to_owned()));
            }
            sources.push(DiscoveryConfig::Files(files.clone()));
        }
        for endpoint in &config.http_sd_configs {
            let url = reqwest::Url::parse(&endpoint.url).ok();
            if !url.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some()) {
                return Err(("http_sd_configs url", endpoint.url.clone()));
            }
            sources.push(DiscoveryConfig::Http(Box::new(endpoint.clone())));
        }
        for names in &config.dns_sd_configs {
            names.check()?;
            sources.push(DiscoveryConfig::Dns(names.clone()));
        }
        Ok(sources)
    }
}

/// Why a source gives nothing new.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiscoveryError {
    #[error("{}: cannot read targets", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: {reason}", path.display())]
    Content { path: PathBuf, reason: String },
    #[error("{url}: cannot fetch targets")]
    Fetch { url: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{url}: {reason}")]
    Answer { url: String, reason: String },
    #[error("{name}: cannot resolve")]
    Resolve { name: String, source: std::io::Error },
    #[error("{name}: cannot look up {record_type} records")]
    Records { name: String, record_type: dns::RecordType, source: dns::LookupError },
    #[error(transparent)]
    Pool(#[from] super::error::StoreError),
}

/// Resolves a host to its addresses. Blocking. A parameter, so that tests need no name server.
pub(super) type Resolve = Arc<dyn Fn(&str) -> std::io::Result<Vec<SocketAddr>> + Send + Sync>;

/// The system's resolver.
pub(super) fn system_resolver() -> Resolve {
    Arc::new(|name| std::net::ToSocketAddrs::to_socket_addrs(&(name, 0)).map(Iterator::collect))
}

/// A source at work.
pub(super) struct Discovery {
    source: Source,
    pool: Arc<dyn BlockingPool>,
}

enum Source {
    Static(Vec<Group>),
    Files(Arc<std::sync::Mutex<file::Files>>),
    Http(Box<http::Endpoint>),
    Dns(dns::Names),
}

impl Discovery {
    pub(super) fn new(
        config: &DiscoveryConfig,
        client: Option<ScrapeClient>,
        pool: Arc<dyn BlockingPool>,
        resolve: &Resolve,
    ) -> Discovery {
        let source = match (config, client) {
            (DiscoveryConfig::Static(listed), _) => {
                Source::Static(listed.iter().map(|listed| Group::of(listed, &[])).collect())
            }
            (DiscoveryConfig::Files(config), _) => Source::Files(Arc::new(file::Files::new(config.clone()).into())),
            (DiscoveryConfig::Dns(config), _) => Source::Dns(dns::Names::new(config.clone(), Arc::clone(resolve))),
            (DiscoveryConfig::Http(config), Some(client)) => {
                Source::Http(Box::new(http::Endpoint::new((**config).clone(), client)))
            }
            // A job is only made when its clients are.
            (DiscoveryConfig::Http(_), None) => Source::Static(Vec::new()),
        };
        Discovery { source, pool }
    }

    /// Looks for targets; `None` if they are as they were.
    pub(super) async fn refresh(&mut self) -> Result<Option<Vec<Group>>, DiscoveryError> {
        match &mut self.source {
            Source::Static(groups) => Ok(Some(groups.clone())),
            Source::Files(files) => {
                let files = Arc::clone(files);
                blocking(&*self.pool, move || files.lock().unwrap_or_else(std::sync::PoisonError::into_inner).refresh())
                    .await?
            }
            Source::Http(endpoint) => endpoint.refresh().await.map(Some),
            Source::Dns(names) => names.refresh(&*self.pool).await.map(Some),
        }
    }

    /// When to look again; `None` for never.
    pub(super) fn interval(&self) -> Option<Duration> {
        match &self.source {
            Source::Static(_) => None,
            Source::Files(_) => Some(file::POLL),
            Source::Http(endpoint) => Some(endpoint.interval()),
            Source::Dns(names) => Some(names.interval()),
        }
    }
}

fn interval_or(given: Option<ConfigDuration>, default: Duration) -> Duration {
    given.map(ConfigDuration::as_duration).filter(|interval| !interval.is_zero()).unwrap_or(default)
}

#[cfg(test)]
mod tests;
