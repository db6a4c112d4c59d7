//! `dns_sd_configs`: targets by name.
//!
//! Types A and AAAA ask the system's resolver. SRV, MX and NS need answers that it does not give; sections of these types
//! are read, named as not acted on, and find no targets.

use std::collections::BTreeSet;
use std::time::Duration;

use kymo_core::config::ConfigDuration;
use kymo_core::status::LabelMap;
use serde::{Deserialize, Serialize};

use super::{DiscoveryError, Group, Resolve, interval_or};

const INTERVAL: Duration = Duration::from_secs(30);

/// One of `dns_sd_configs`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DnsSdConfig {
    /// Names to look up.
    pub names: Vec<String>,
    /// Which records: `SRV` unless given.
    #[serde(rename = "type")]
    pub record_type: String,
    /// The targets' port; needed for A and AAAA.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How often names are looked up; thirty seconds unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_interval: Option<ConfigDuration>,
}

impl Default for DnsSdConfig {
    fn default() -> DnsSdConfig {
        DnsSdConfig { names: Vec::new(), record_type: "SRV".to_owned(), port: None, refresh_interval: None }
    }
}

impl DnsSdConfig {
    fn is(&self, record_type: &str) -> bool {
        self.record_type.eq_ignore_ascii_case(record_type)
    }

    /// Whether names of this type are looked up.
    #[must_use]
    pub fn is_acted_on(&self) -> bool {
        self.is("A") || self.is("AAAA")
    }

    /// The field that is wrong and what it says.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.names.is_empty() {
            return Err(("dns_sd_configs names", "[]".to_owned()));
        }
        if !self.is_acted_on() && !["SRV", "MX", "NS"].into_iter().any(|known| self.is(known)) {
            return Err(("dns_sd_configs type", self.record_type.clone()));
        }
        if self.port.is_none() && !self.is("SRV") {
            return Err(("dns_sd_configs port", "none".to_owned()));
        }
        Ok(())
    }
}

#[derive(Clone)]
pub(super) struct Names {
    config: DnsSdConfig,
    resolve: Resolve,
}

impl Names {
    pub(super) fn new(config: DnsSdConfig, resolve: Resolve) -> Names {
        Names { config, resolve }
    }

    pub(super) fn interval(&self) -> Duration {
        interval_or(self.config.refresh_interval, INTERVAL)
    }

    /// Looks all names up; fails if one cannot be, so that its targets stay.
    pub(super) fn refresh(&self) -> Result<Vec<Group>, DiscoveryError> {
        let (v6, port) = (self.config.is("AAAA"), self.config.port.unwrap_or_default());
        let mut groups = Vec::with_capacity(self.config.names.len());
        for name in &self.config.names {
            let found =
                (self.resolve)(name).map_err(|source| DiscoveryError::Resolve { name: name.clone(), source })?;
            let addresses: BTreeSet<_> =
                found.iter().map(std::net::SocketAddr::ip).filter(|ip| ip.is_ipv6() == v6).collect();
            let target = |ip| {
                let address = std::net::SocketAddr::new(ip, port).to_string();
                LabelMap::from([
                    ("__address__".to_owned(), address),
                    ("__meta_dns_name".to_owned(), name.clone()),
                    ("__meta_dns_srv_record_target".to_owned(), String::new()),
                    ("__meta_dns_srv_record_port".to_owned(), String::new()),
                ])
            };
            groups.push(Group { targets: addresses.into_iter().map(target).collect(), labels: LabelMap::new() });
        }
        Ok(groups)
    }
}
