//! `dns_sd_configs`: targets by name.
//!
//! Types A and AAAA ask the system's resolver, which also knows the hosts file. SRV, MX and NS need answers that it does
//! not give, so [`Resolver`] asks the name servers itself.
//!
//! Each name is a group of its own: a name that cannot be looked up keeps the targets it had, the others' move on.

mod message;
mod resolv_conf;
mod resolver;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kymo_core::BlockingPool;
use kymo_core::config::ConfigDuration;
use kymo_core::status::LabelMap;
use serde::{Deserialize, Serialize};

use self::message::Record;
use self::resolver::Resolver;
use super::{DiscoveryError, Group, Resolve, blocking, interval_or};
use crate::scrape::error::chain;

pub(super) use self::message::RecordType;
pub(super) use self::resolver::LookupError;

const INTERVAL: Duration = Duration::from_secs(30);
/// Names of one section that are asked for at once; a long list must not flood the name server.
const LOOKUPS_AT_ONCE_MAX: usize = 16;

/// One of `dns_sd_configs`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct DnsSdConfig {
    /// Names to look up.
    pub names: Vec<String>,
    /// Which records, in any case: `A`, `AAAA`, `MX`, `NS` or `SRV`. Default `SRV`.
    #[serde(rename = "type")]
    pub record_type: String,
    /// The targets' port; needed for all types but SRV, whose records name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How often names are looked up. Default `30s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_interval: Option<ConfigDuration>,
}

impl Default for DnsSdConfig {
    fn default() -> DnsSdConfig {
        DnsSdConfig { names: Vec::new(), record_type: "SRV".to_owned(), port: None, refresh_interval: None }
    }
}

impl DnsSdConfig {
    /// The field that is wrong and what it says.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.names.is_empty() {
            return Err(("dns_sd_configs names", "[]".to_owned()));
        }
        let Some(wanted) = Wanted::of(&self.record_type) else {
            return Err(("dns_sd_configs type", self.record_type.clone()));
        };
        match self.port {
            _ if wanted == Wanted::Records(RecordType::Srv) => Ok(()),
            None => Err(("dns_sd_configs port", "none".to_owned())),
            Some(0) => Err(("dns_sd_configs port", "0".to_owned())),
            Some(_) => Ok(()),
        }
    }
}

/// What a section's names are looked up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    V4,
    V6,
    Records(RecordType),
}

impl Wanted {
    fn of(record_type: &str) -> Option<Wanted> {
        Some(match record_type.to_ascii_uppercase().as_str() {
            "A" => Wanted::V4,
            "AAAA" => Wanted::V6,
            "SRV" => Wanted::Records(RecordType::Srv),
            "MX" => Wanted::Records(RecordType::Mx),
            "NS" => Wanted::Records(RecordType::Ns),
            _ => return None,
        })
    }
}

/// The names of one section at work.
pub(super) struct Names {
    config: DnsSdConfig,
    wanted: Wanted,
    resolve: Resolve,
    resolver: Resolver,
    /// What each name gave last; a name that never answered is absent.
    known: BTreeMap<String, Group>,
}

impl Names {
    pub(super) fn new(config: DnsSdConfig, resolve: Resolve) -> Names {
        Names::with_resolver(config, resolve, Resolver::system())
    }

    fn with_resolver(config: DnsSdConfig, resolve: Resolve, resolver: Resolver) -> Names {
        // Sections are checked before they are put to work.
        let wanted = Wanted::of(&config.record_type).unwrap_or(Wanted::Records(RecordType::Srv));
        Names { config, wanted, resolve, resolver, known: BTreeMap::new() }
    }

    pub(super) fn interval(&self) -> Duration {
        interval_or(self.config.refresh_interval, INTERVAL)
    }

    /// Looks all names up; fails if none can be. Names that cannot be looked up keep their targets.
    pub(super) async fn refresh(&mut self, pool: &dyn BlockingPool) -> Result<Vec<Group>, DiscoveryError> {
        let found = match self.wanted {
            Wanted::V4 => self.addresses(SocketAddr::is_ipv4, pool).await?,
            Wanted::V6 => self.addresses(SocketAddr::is_ipv6, pool).await?,
            Wanted::Records(record_type) => self.records(record_type, pool).await?,
        };
        let mut failed = Vec::new();
        let mut answered = false;
        for (name, found) in found {
            match found {
                Ok(targets) => {
                    answered = true;
                    self.known.insert(name, Group { targets, labels: LabelMap::new() });
                }
                Err(error) => failed.push(error),
            }
        }
        if !answered && let Some(error) = failed.pop() {
            return Err(error);
        }
        for error in &failed {
            tracing::warn!(error = chain(error), "a name's targets stay as they were");
        }
        Ok(self.config.names.iter().filter_map(|name| self.known.get(name)).cloned().collect())
    }

    /// Asks the system's resolver: one name after the other, because each occupies a thread of the pool.
    async fn addresses(
        &self,
        wanted: fn(&SocketAddr) -> bool,
        pool: &dyn BlockingPool,
    ) -> Result<Vec<Found>, DiscoveryError> {
        let (names, port, resolve) = (self.config.names.clone(), self.port(), Arc::clone(&self.resolve));
        let lookup = move |name: String| {
            let found = match resolve(&name) {
                Ok(found) => found,
                Err(source) => return (name.clone(), Err(DiscoveryError::Resolve { name, source })),
            };
            let addresses: BTreeSet<_> = found.iter().filter(|address| wanted(address)).map(SocketAddr::ip).collect();
            let of = |ip| target(&name, SocketAddr::new(ip, port).to_string(), []);
            let targets = addresses.into_iter().map(of).collect();
            (name, Ok(targets))
        };
        Ok(blocking(pool, move || names.into_iter().map(lookup).collect()).await?)
    }

    /// Asks the name servers. Targets are sorted, so that a server that turns its answers around changes nothing.
    async fn records(&self, record_type: RecordType, pool: &dyn BlockingPool) -> Result<Vec<Found>, DiscoveryError> {
        let failed = |name: String, source| DiscoveryError::Records { name, record_type, source };
        let servers =
            self.resolver.servers(pool).await.map_err(|source| failed(self.config.names.join(", "), source))?;
        let (servers, port) = (Arc::new(servers), self.port());
        let mut found = Vec::with_capacity(self.config.names.len());
        for names in self.config.names.chunks(LOOKUPS_AT_ONCE_MAX) {
            let mut lookups = tokio::task::JoinSet::new();
            for name in names.iter().cloned() {
                let servers = Arc::clone(&servers);
                lookups.spawn(async move {
                    let records = servers.lookup(&name, record_type).await;
                    (name, records)
                });
            }
            found.extend(lookups.join_all().await.into_iter().map(|(name, records)| match records {
                Ok(records) => {
                    let targets: BTreeSet<_> = records.iter().map(|record| of_record(&name, record, port)).collect();
                    (name, Ok(targets.into_iter().collect()))
                }
                Err(source) => (name.clone(), Err(failed(name, source))),
            }));
        }
        Ok(found)
    }

    fn port(&self) -> u16 {
        self.config.port.unwrap_or_default()
    }
}

/// A name and its targets.
type Found = (String, Result<Vec<LabelMap>, DiscoveryError>);

fn of_record(name: &str, record: &Record, port: u16) -> LabelMap {
    match record {
        Record::Srv { target: host, port } => {
            let labels =
                [("__meta_dns_srv_record_target", host.clone()), ("__meta_dns_srv_record_port", port.to_string())];
            target(name, host_port(host, *port), labels)
        }
        Record::Mx { target: host } => {
            target(name, host_port(host, port), [("__meta_dns_mx_record_target", host.clone())])
        }
        Record::Ns { target: host } => {
            target(name, host_port(host, port), [("__meta_dns_ns_record_target", host.clone())])
        }
    }
}

/// A rooted host without its last dot and a port.
fn host_port(host: &str, port: u16) -> String {
    let host = host.trim_end_matches('.');
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A target with all labels of this source; those that its record does not give are empty, as Prometheus' are.
fn target<const N: usize>(name: &str, address: String, of_record: [(&str, String); N]) -> LabelMap {
    let of_other_records = [
        "__meta_dns_mx_record_target",
        "__meta_dns_ns_record_target",
        "__meta_dns_srv_record_port",
        "__meta_dns_srv_record_target",
    ];
    let mut labels: LabelMap = of_other_records.map(|label| (label.to_owned(), String::new())).into();
    labels.extend([("__address__".to_owned(), address), ("__meta_dns_name".to_owned(), name.to_owned())]);
    labels.extend(of_record.map(|(label, value)| (label.to_owned(), value)));
    labels
}

#[cfg(test)]
mod tests;
