//! `http_sd_configs`: targets that an HTTP endpoint lists.

use std::collections::BTreeMap;
use std::time::Duration;

use kymo_core::config::{
    Authorization, BasicAuth, ConfigDuration, HeaderValues, HttpClientConfig, OAuth2, ProxyConfig, Secret, TlsConfig,
};

use super::{
    Deserialize, DiscoveryError, Group, ScrapeClient, Serialize, TargetGroup, interval_or, is_default, with_http_client,
};

const INTERVAL: Duration = Duration::from_secs(60);
/// An endpoint that has not answered after this long has failed.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A list of targets larger than this is refused.
const BODY_BYTES_MAX: usize = 64 << 20;

with_http_client! {
    /// One of `http_sd_configs`.
    #[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
    #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
    #[serde(default, deny_unknown_fields)]
    pub struct HttpSdConfig {
        /// The endpoint, which answers with groups of targets as JSON; required.
        pub url: String,
        /// How often it is asked. Default `1m`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub refresh_interval: Option<ConfigDuration>,
    }
}

pub(super) struct Endpoint {
    config: HttpSdConfig,
    client: ScrapeClient,
}

impl Endpoint {
    pub(super) fn new(config: HttpSdConfig, client: ScrapeClient) -> Endpoint {
        Endpoint { config, client }
    }

    pub(super) fn interval(&self) -> Duration {
        interval_or(self.config.refresh_interval, INTERVAL)
    }

    pub(super) async fn refresh(&self) -> Result<Vec<Group>, DiscoveryError> {
        let url = || self.config.url.clone();
        let bad = |reason: String| DiscoveryError::Answer { url: url(), reason };
        let listed = tokio::time::timeout(TIMEOUT, self.fetch()).await;
        let listed = listed.map_err(|_| bad("no answer in time".to_owned()))??;
        let groups: Option<Vec<TargetGroup>> =
            serde_json::from_slice(&listed).map_err(|error| bad(format!("error unmarshalling targets: {error}")))?;
        let meta = [("__meta_url", self.config.url.as_str())];
        Ok(groups.unwrap_or_default().iter().map(|group| Group::of(group, &meta)).collect())
    }

    async fn fetch(&self) -> Result<Vec<u8>, DiscoveryError> {
        let url = || self.config.url.clone();
        let failed = |source| DiscoveryError::Fetch { url: url(), source };
        let bad = |reason: String| DiscoveryError::Answer { url: url(), reason };
        let seconds = self.interval().as_secs_f64().to_string();
        let headers = [("Accept", "application/json"), ("X-Prometheus-Refresh-Interval-Seconds", seconds.as_str())];
        let mut answer = self.client.get(&self.config.url, &headers).await.map_err(failed)?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(bad(format!("server returned HTTP status {}", answer.status())));
        }
        let content_type =
            answer.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !is_json(content_type) {
            return Err(bad(format!("unsupported content type {content_type:?}")));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| failed(error.into()))? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(bad(format!("larger than {BODY_BYTES_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

fn is_json(content_type: &str) -> bool {
    let (media_type, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    let charset = parameters.trim().to_ascii_lowercase();
    media_type.trim().eq_ignore_ascii_case("application/json")
        && matches!(charset.as_str(), "" | "charset=utf-8" | "charset=\"utf-8\"")
}
