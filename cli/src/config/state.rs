//! Where the server keeps its own small facts, as a file says it.

use std::path::PathBuf;

use kymo_core::config::ConfigDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the server keeps its own small facts.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StateSection {
    /// `embedded` is a file below the data directory, `redis` a server of its own. Default `embedded`.
    pub backend: StateBackend,
    /// The Redis, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisSection>,
}

/// What keeps the facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum StateBackend {
    #[default]
    Embedded,
    Redis,
}

/// Where a Redis is, and how it is asked.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisSection {
    /// `redis://[user@]host[:port][/database]`; without TLS.
    pub url: String,
    /// File with the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// The longest an operation takes, connecting included. Default `1s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<ConfigDuration>,
    /// What every key begins with. Default `kymo:`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_prefix: Option<String>,
}

impl StateSection {
    /// What cannot be acted on.
    pub(super) fn fault(&self) -> Option<String> {
        match (self.backend, &self.redis) {
            (StateBackend::Redis, None) => {
                Some("kymo.state: the backend is redis, and there is no redis.url".to_owned())
            }
            (StateBackend::Embedded, Some(_)) => {
                Some("kymo.state: a redis is given, and the backend is embedded: say backend: redis".to_owned())
            }
            (StateBackend::Redis, Some(redis)) if !redis.url.starts_with("redis://") => {
                Some("kymo.state.redis.url: expected redis://host:port/database".to_owned())
            }
            // A password in the URL would be shown with the settings.
            (StateBackend::Redis, Some(redis)) if has_password(&redis.url) => Some(
                "kymo.state.redis.url holds a password: put it into a file, and name that as password_file".to_owned(),
            ),
            _ => None,
        }
    }
}

fn has_password(url: &str) -> bool {
    let authority = url.trim_start_matches("redis://").split('/').next().unwrap_or_default();
    authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}
