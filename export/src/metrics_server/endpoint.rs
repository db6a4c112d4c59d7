//! The configuration of the endpoint.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use kymo_core::config::Secret;
use serde::{Deserialize, Serialize};

use super::MetricsServerError;

/// Whether and where a program shows its own metrics, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct MetricsEndpoint {
    /// Whether there is an endpoint at all.
    pub enabled: bool,
    /// The address to listen on. Only this machine can reach the default.
    pub address: IpAddr,
    /// The port to listen on; 0 picks one.
    pub port: u16,
    /// The path of the page.
    pub path: String,
    /// A token that every request must carry as `Authorization: Bearer …`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer_token: Option<Secret>,
    /// A file with that token, read once at the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer_token_file: Option<PathBuf>,
}

impl Default for MetricsEndpoint {
    fn default() -> MetricsEndpoint {
        MetricsEndpoint {
            enabled: true,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8080,
            path: "/metrics".to_owned(),
            bearer_token: None,
            bearer_token_file: None,
        }
    }
}

impl MetricsEndpoint {
    /// The token asked for, the file's before the other.
    pub(super) fn token(&self) -> Result<Option<Secret>, MetricsServerError> {
        let Some(path) = &self.bearer_token_file else {
            return Ok(self.bearer_token.clone().filter(|token| !token.expose().trim().is_empty()));
        };
        let failed = |source| MetricsServerError::Token { path: path.clone(), source };
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let token = text.trim();
        if token.is_empty() {
            return Err(failed(std::io::Error::new(std::io::ErrorKind::InvalidData, "the file is empty")));
        }
        Ok(Some(Secret::new(token)))
    }

    pub(super) fn checked_path(&self) -> Result<String, MetricsServerError> {
        let parsed = self.path.parse::<http::uri::PathAndQuery>();
        match parsed {
            Ok(path) if self.path.starts_with('/') && path.query().is_none() && path.path() == self.path => {
                Ok(self.path.clone())
            }
            _ => Err(MetricsServerError::Path { path: self.path.clone() }),
        }
    }
}
