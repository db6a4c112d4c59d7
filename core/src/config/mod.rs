//! Configuration values that several sections share.
//!
//! Each is a serde type that reads what a Prometheus or Alertmanager file says and refuses the rest
//! with a reason; which file and line is the reader's to add. No YAML here, and no validation of
//! whole sections: those belong to the crates that own them.

mod duration;
mod http_client;
mod matcher;
mod md5;
mod relabel;
#[cfg(feature = "schema")]
mod schema;
mod secret;
mod size;

pub use duration::ConfigDuration;
pub use http_client::{
    Authorization, BasicAuth, HeaderValues, HttpClientConfig, HttpClientError, OAuth2, ProxyConfig, TlsConfig,
    TlsVersion,
};
pub use matcher::{ConfigMatcher, ConfigMatcherError};
pub use relabel::{RelabelAction, RelabelError, RelabelFields, RelabelRule, Relabelled, relabel};
pub use secret::Secret;
pub use size::ByteSize;
