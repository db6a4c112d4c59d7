//! What an HTTP client is told: authentication, TLS, proxy. Data only; clients are built elsewhere.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::secret::Secret;

/// Settings of an HTTP client, as Prometheus' `http_config`.
///
/// Prometheus writes these fields inline in its sections (a scrape job has `basic_auth` beside
/// `job_name`), so this struct is made to be flattened and refuses no unknown field by itself; its
/// inner structs do. Call [`validate`](Self::validate) after reading.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct HttpClientConfig {
    /// User name and password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    /// The `Authorization` header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
    /// OAuth 2.0 client credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2>,
    /// A bearer token: the older way to write `authorization`.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub bearer_token: Secret,
    /// A file with a bearer token, read again for each request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer_token_file: Option<PathBuf>,
    /// How the server is verified and which certificate is shown to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_config: Option<TlsConfig>,
    /// Whether redirects are followed. Default `true`.
    pub follow_redirects: bool,
    /// Whether HTTP/2 may be negotiated. Default `true`.
    pub enable_http2: bool,
    /// Through which proxy.
    #[serde(flatten)]
    pub proxy: ProxyConfig,
    /// Headers added to each request, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub http_headers: BTreeMap<String, HeaderValues>,
}

impl Default for HttpClientConfig {
    fn default() -> Self {
        Self {
            basic_auth: None,
            authorization: None,
            oauth2: None,
            bearer_token: Secret::default(),
            bearer_token_file: None,
            tls_config: None,
            follow_redirects: true,
            enable_http2: true,
            proxy: ProxyConfig::default(),
            http_headers: BTreeMap::new(),
        }
    }
}

/// User name and password, each as text or in a file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct BasicAuth {
    /// The user.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// A file with the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username_file: Option<PathBuf>,
    /// The password.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub password: Secret,
    /// A file with the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
}

/// The `Authorization` header: a scheme and credentials, as text or in a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Authorization {
    /// The scheme. Default `Bearer`.
    #[serde(rename = "type")]
    pub scheme: String,
    /// What follows the scheme.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub credentials: Secret,
    /// A file with what follows the scheme.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
}

impl Default for Authorization {
    fn default() -> Self {
        Self { scheme: "Bearer".to_owned(), credentials: Secret::default(), credentials_file: None }
    }
}

/// OAuth 2.0 client credentials.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct OAuth2 {
    /// The client's id.
    pub client_id: String,
    /// The client's secret.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub client_secret: Secret,
    /// A file with the client's secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret_file: Option<PathBuf>,
    /// Scopes of the token.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Where tokens are fetched.
    pub token_url: String,
    /// Parameters added to the token's URL.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoint_params: BTreeMap<String, String>,
    /// TLS towards the token's server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_config: Option<TlsConfig>,
    /// Proxy towards the token's server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_url: Option<String>,
}

/// Certificates and what is accepted of the server. Each of `ca`, `cert`, `key` is PEM text or a file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// Certificates that sign the server's, as PEM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ca: String,
    /// A file with certificates that sign the server's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The certificate shown to the server, as PEM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cert: String,
    /// A file with the certificate shown to the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// The key of that certificate, as PEM.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub key: Secret,
    /// A file with the key of that certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// The name the server is asked for and its certificate must carry, if it is not the URL's: a host's name, and not
    /// together with a proxy.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub server_name: String,
    /// Accepts any certificate.
    pub insecure_skip_verify: bool,
    /// Oldest version accepted; below `TLS12` nothing is spoken. Default `TLS12`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_version: Option<TlsVersion>,
    /// Newest version offered. Default `TLS13`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_version: Option<TlsVersion>,
}

/// A version of TLS. The two oldest are read, because files name them, but no client here speaks them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
pub enum TlsVersion {
    /// 1.0
    #[serde(rename = "TLS10")]
    Tls10,
    /// 1.1
    #[serde(rename = "TLS11")]
    Tls11,
    /// 1.2
    #[serde(rename = "TLS12")]
    Tls12,
    /// 1.3
    #[serde(rename = "TLS13")]
    Tls13,
}

/// Through which proxy requests go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ProxyConfig {
    /// The proxy's URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_url: Option<String>,
    /// Hosts that are reached directly, comma-separated; only with a URL.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub no_proxy: String,
    /// Takes the proxies from `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` instead; the machine itself is reached directly.
    pub proxy_from_environment: bool,
    /// Headers sent to the proxy when connecting.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub proxy_connect_header: BTreeMap<String, Vec<Secret>>,
}

/// Values of one added header, from three places.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct HeaderValues {
    /// Values that may be shown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// Values that may not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Secret>,
    /// Files with values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PathBuf>,
}

/// Settings that contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpClientError {
    /// More than one of a group is given.
    #[error("at most one of {fields} must be configured")]
    AtMostOne {
        /// The fields of the group.
        fields: &'static str,
    },
    /// A field is given that needs another one.
    #[error("{field} needs {needed}")]
    Needs {
        /// The field given.
        field: &'static str,
        /// The field missing.
        needed: &'static str,
    },
    /// A value that the field cannot have.
    #[error("{field} cannot be {value}")]
    Value {
        /// The field.
        field: &'static str,
        /// What it says.
        value: &'static str,
    },
}

impl HttpClientConfig {
    /// Finds contradictions; file contents and URLs are the client builder's to check.
    ///
    /// # Errors
    /// [`HttpClientError`], the first found.
    pub fn validate(&self) -> Result<(), HttpClientError> {
        let bearer = !self.bearer_token.is_empty() || self.bearer_token_file.is_some();
        at_most_one(
            &[!self.bearer_token.is_empty(), self.bearer_token_file.is_some()],
            "bearer_token and bearer_token_file",
        )?;
        let ways = [self.basic_auth.is_some(), self.authorization.is_some(), self.oauth2.is_some(), bearer];
        at_most_one(&ways, "basic_auth, authorization, oauth2, bearer_token and bearer_token_file")?;
        if let Some(basic) = &self.basic_auth {
            at_most_one(
                &[!basic.username.is_empty(), basic.username_file.is_some()],
                "basic_auth username and username_file",
            )?;
            at_most_one(
                &[!basic.password.is_empty(), basic.password_file.is_some()],
                "basic_auth password and password_file",
            )?;
        }
        if let Some(authorization) = &self.authorization {
            at_most_one(
                &[!authorization.credentials.is_empty(), authorization.credentials_file.is_some()],
                "authorization credentials and credentials_file",
            )?;
            if authorization.scheme.trim().eq_ignore_ascii_case("basic") {
                let (field, value) = ("authorization type", "\"basic\": use basic_auth");
                return Err(HttpClientError::Value { field, value });
            }
        }
        if let Some(oauth2) = &self.oauth2 {
            at_most_one(
                &[!oauth2.client_secret.is_empty(), oauth2.client_secret_file.is_some()],
                "oauth2 client_secret and client_secret_file",
            )?;
            needs(true, !oauth2.client_id.is_empty(), "oauth2", "client_id")?;
            needs(true, !oauth2.token_url.is_empty(), "oauth2", "token_url")?;
            oauth2.tls_config.as_ref().map_or(Ok(()), TlsConfig::validate)?;
        }
        self.tls_config.as_ref().map_or(Ok(()), TlsConfig::validate)?;
        self.proxy.validate()
    }
}

impl TlsConfig {
    fn validate(&self) -> Result<(), HttpClientError> {
        at_most_one(&[!self.ca.is_empty(), self.ca_file.is_some()], "ca and ca_file")?;
        at_most_one(&[!self.cert.is_empty(), self.cert_file.is_some()], "cert and cert_file")?;
        at_most_one(&[!self.key.is_empty(), self.key_file.is_some()], "key and key_file")?;
        let cert = !self.cert.is_empty() || self.cert_file.is_some();
        let key = !self.key.is_empty() || self.key_file.is_some();
        needs(cert, key, "tls_config cert", "key")?;
        needs(key, cert, "tls_config key", "cert")
    }
}

impl ProxyConfig {
    fn validate(&self) -> Result<(), HttpClientError> {
        at_most_one(&[self.proxy_url.is_some(), self.proxy_from_environment], "proxy_url and proxy_from_environment")?;
        needs(!self.no_proxy.is_empty(), self.proxy_url.is_some(), "no_proxy", "proxy_url")?;
        let proxied = self.proxy_url.is_some() || self.proxy_from_environment;
        needs(!self.proxy_connect_header.is_empty(), proxied, "proxy_connect_header", "proxy_url")
    }
}

fn at_most_one(given: &[bool], fields: &'static str) -> Result<(), HttpClientError> {
    match given.iter().filter(|given| **given).count() {
        0 | 1 => Ok(()),
        _ => Err(HttpClientError::AtMostOne { fields }),
    }
}

fn needs(given: bool, there: bool, field: &'static str, needed: &'static str) -> Result<(), HttpClientError> {
    if given && !there { Err(HttpClientError::Needs { field, needed }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> HttpClientConfig {
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
    }

    #[test]
    fn defaults_are_those_of_prometheus() {
        let config = read("{}");
        assert_eq!(config, HttpClientConfig::default());
        assert!(config.follow_redirects && config.enable_http2);
        assert_eq!(read(r#"{"authorization":{"credentials":"x"}}"#).authorization.unwrap().scheme, "Bearer");
    }

    #[test]
    fn secrets_are_masked_and_fields_are_read_flat() {
        let config = read(
            r#"{"basic_auth":{"username":"u","password":"p"},"proxy_url":"http://proxy","no_proxy":"a,b",
                "tls_config":{"min_version":"TLS12"},"http_headers":{"X-A":{"secrets":["s"]}}}"#,
        );
        assert_eq!(config.proxy.proxy_url.as_deref(), Some("http://proxy"));
        assert_eq!(config.validate(), Ok(()));
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains(r#""password":"<secret>""#) && text.contains(r#""secrets":["<secret>"]"#), "{text}");
        assert!(serde_json::from_str::<HttpClientConfig>(r#"{"basic_auth":{"user":"u"}}"#).is_err());
    }

    #[test]
    fn contradictions_are_found() {
        let rows = [
            (
                r#"{"bearer_token":"x","bearer_token_file":"f"}"#,
                "at most one of bearer_token and bearer_token_file must be configured",
            ),
            (
                r#"{"basic_auth":{},"authorization":{}}"#,
                "at most one of basic_auth, authorization, oauth2, bearer_token and bearer_token_file must be configured",
            ),
            (r#"{"authorization":{"type":"Basic"}}"#, "authorization type cannot be \"basic\": use basic_auth"),
            (r#"{"oauth2":{"client_id":"c"}}"#, "oauth2 needs token_url"),
            (r#"{"tls_config":{"cert":"c"}}"#, "tls_config cert needs key"),
            (r#"{"tls_config":{"ca":"c","ca_file":"f"}}"#, "at most one of ca and ca_file must be configured"),
            (r#"{"no_proxy":"a"}"#, "no_proxy needs proxy_url"),
            (
                r#"{"proxy_url":"p","proxy_from_environment":true}"#,
                "at most one of proxy_url and proxy_from_environment must be configured",
            ),
        ];
        for (json, message) in rows {
            assert_eq!(read(json).validate().unwrap_err().to_string(), message, "{json}");
        }
    }
}
