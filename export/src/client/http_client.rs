//! HTTP clients from configuration values.

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use kymo_core::config::{HttpClientConfig, HttpClientError, Secret, TlsConfig, TlsVersion};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, ClientBuilder, Identity, Method, NoProxy, Proxy, RequestBuilder, Url, redirect, tls};

/// Time to connect: long enough for one lost packet to be sent again twice.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why settings make no client, or a request no request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpBuildError {
    /// They contradict each other.
    #[error(transparent)]
    Settings(#[from] HttpClientError),
    /// They ask for something that is not built yet.
    #[error("{field} is not supported")]
    Unsupported {
        /// The field.
        field: &'static str,
    },
    /// A file with a secret or a certificate cannot be read.
    #[error("{path}: cannot read")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A header's name or value is not allowed in HTTP.
    #[error("header {name:?} has a name or value that HTTP does not allow")]
    Header {
        /// The name as given.
        name: String,
    },
    /// A certificate, key, proxy URL, or the whole.
    #[error("cannot build an HTTP client: bad {what}")]
    Client {
        /// Which part.
        what: &'static str,
        /// What the HTTP library said.
        source: reqwest::Error,
    },
}

/// A client that adds its credentials to each request. Cloning shares its connections.
#[derive(Debug, Clone)]
pub struct HttpClient {
    client: reqwest::Client,
    credentials: Credentials,
}

/// What goes into `Authorization`.
#[derive(Debug, Clone)]
enum Credentials {
    None,
    Basic { username: Text, password: Text },
    Scheme { scheme: String, credentials: Text },
}

/// A text, or the file that holds it and is read again for each request, so that it can be rotated.
#[derive(Debug, Clone)]
enum Text {
    Here(Secret),
    File(PathBuf),
}

impl Text {
    fn new(text: Secret, file: Option<&PathBuf>) -> Text {
        file.map_or(Text::Here(text), |path| Text::File(path.clone()))
    }

    fn read(&self) -> Result<String, HttpBuildError> {
        match self {
            Text::Here(secret) => Ok(secret.expose().to_owned()),
            Text::File(path) => Ok(String::from_utf8_lossy(&read_file(path)?).trim().to_owned()),
        }
    }
}

/// Builds a client; ring is installed as the process's cryptography unless another one is already.
///
/// # Errors
/// [`HttpBuildError`]
pub fn http_client(config: &HttpClientConfig) -> Result<HttpClient, HttpBuildError> {
    config.validate()?;
    for (asked, field) in [
        (config.oauth2.is_some(), "oauth2"),
        (config.proxy.proxy_from_environment, "proxy_from_environment"),
        (!config.proxy.proxy_connect_header.is_empty(), "proxy_connect_header"),
    ] {
        if asked {
            return Err(HttpBuildError::Unsupported { field });
        }
    }
    static RING: Once = Once::new();
    // An error says that the program chose another provider before, which is its right.
    RING.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let client = match builder(config)?.build() {
        // A machine without certificates of its own can still speak plain HTTP; HTTPS then fails on its own.
        Err(_) if !names_certificates(config) => builder(config)?.tls_certs_only([]).build(),
        built => built,
    };
    let client = client.map_err(|source| HttpBuildError::Client { what: "settings", source })?;
    Ok(HttpClient { client, credentials: credentials(config) })
}

fn names_certificates(config: &HttpClientConfig) -> bool {
    config.tls_config.as_ref().is_some_and(|tls| !tls.ca.is_empty() || tls.ca_file.is_some())
}

fn builder(config: &HttpClientConfig) -> Result<ClientBuilder, HttpBuildError> {
    let mut builder = ClientBuilder::new()
        .user_agent(concat!("kymo/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .default_headers(headers(config)?);
    if !config.follow_redirects {
        builder = builder.redirect(redirect::Policy::none());
    }
    if let Some(url) = &config.proxy.proxy_url {
        let proxy = Proxy::all(url).map_err(|source| HttpBuildError::Client { what: "proxy_url", source })?;
        builder = builder.proxy(proxy.no_proxy(NoProxy::from_string(&config.proxy.no_proxy)));
    } else {
        builder = builder.no_proxy();
    }
    match &config.tls_config {
        Some(tls) => with_tls(builder, tls),
        None => Ok(builder),
    }
}

impl HttpClient {
    /// A request with the client's credentials.
    ///
    /// # Errors
    /// When a file with credentials cannot be read, or they cannot stand in a header.
    pub fn request(&self, method: Method, url: Url) -> Result<RequestBuilder, HttpBuildError> {
        self.sign(self.client.request(method, url))
    }

    /// The client below, for whoever makes requests of its own; each is to be passed through [`sign`](Self::sign).
    #[must_use]
    pub fn unsigned(&self) -> &reqwest::Client {
        &self.client
    }

    /// Adds the client's credentials to a request.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn sign(&self, request: RequestBuilder) -> Result<RequestBuilder, HttpBuildError> {
        Ok(match &self.credentials {
            Credentials::None => request,
            Credentials::Basic { username, password } => request.basic_auth(username.read()?, Some(password.read()?)),
            Credentials::Scheme { scheme, credentials } => {
                let value = header_value(AUTHORIZATION.as_str(), &format!("{scheme} {}", credentials.read()?), true)?;
                request.header(AUTHORIZATION, value)
            }
        })
    }
}

fn credentials(config: &HttpClientConfig) -> Credentials {
    if let Some(basic) = &config.basic_auth {
        let username = Text::new(Secret::new(basic.username.clone()), basic.username_file.as_ref());
        let password = Text::new(basic.password.clone(), basic.password_file.as_ref());
        return Credentials::Basic { username, password };
    }
    if let Some(authorization) = &config.authorization {
        let credentials = Text::new(authorization.credentials.clone(), authorization.credentials_file.as_ref());
        return Credentials::Scheme { scheme: authorization.scheme.trim().to_owned(), credentials };
    }
    if !config.bearer_token.is_empty() || config.bearer_token_file.is_some() {
        let credentials = Text::new(config.bearer_token.clone(), config.bearer_token_file.as_ref());
        return Credentials::Scheme { scheme: "Bearer".to_owned(), credentials };
    }
    Credentials::None
}

fn headers(config: &HttpClientConfig) -> Result<HeaderMap, HttpBuildError> {
    let mut headers = HeaderMap::new();
    for (name, values) in &config.http_headers {
        let key = HeaderName::try_from(name).map_err(|_| HttpBuildError::Header { name: name.clone() })?;
        for value in &values.values {
            headers.append(&key, header_value(name, value, false)?);
        }
        for secret in &values.secrets {
            headers.append(&key, header_value(name, secret.expose(), true)?);
        }
        for path in &values.files {
            let text = String::from_utf8_lossy(&read_file(path)?).trim().to_owned();
            headers.append(&key, header_value(name, &text, true)?);
        }
    }
    Ok(headers)
}

fn header_value(name: &str, text: &str, sensitive: bool) -> Result<HeaderValue, HttpBuildError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| HttpBuildError::Header { name: name.to_owned() })?;
    value.set_sensitive(sensitive);
    Ok(value)
}

fn with_tls(mut builder: ClientBuilder, config: &TlsConfig) -> Result<ClientBuilder, HttpBuildError> {
    let bad = |what| move |source| HttpBuildError::Client { what, source };
    if !config.server_name.is_empty() {
        return Err(HttpBuildError::Unsupported { field: "tls_config server_name" });
    }
    if let Some(ca) = pem(&config.ca, config.ca_file.as_deref())? {
        builder = builder.tls_certs_only(Certificate::from_pem_bundle(&ca).map_err(bad("ca"))?);
    }
    if let Some(mut both) = pem(&config.cert, config.cert_file.as_deref())? {
        both.push(b'\n');
        both.extend(pem(config.key.expose(), config.key_file.as_deref())?.unwrap_or_default());
        builder = builder.identity(Identity::from_pem(&both).map_err(bad("cert or key"))?);
    }
    builder = builder.tls_danger_accept_invalid_certs(config.insecure_skip_verify);
    match config.min_version {
        Some(TlsVersion::Tls13) => builder = builder.tls_version_min(tls::Version::TLS_1_3),
        // Older minima are met: nothing below 1.2 is spoken.
        Some(TlsVersion::Tls12 | TlsVersion::Tls11 | TlsVersion::Tls10) | None => {}
    }
    match config.max_version {
        Some(TlsVersion::Tls12) => builder = builder.tls_version_max(tls::Version::TLS_1_2),
        Some(TlsVersion::Tls11 | TlsVersion::Tls10) => {
            return Err(HttpBuildError::Unsupported { field: "tls_config max_version below TLS12" });
        }
        Some(TlsVersion::Tls13) | None => {}
    }
    Ok(builder)
}

fn pem(text: &str, file: Option<&Path>) -> Result<Option<Vec<u8>>, HttpBuildError> {
    match file {
        Some(path) => read_file(path).map(Some),
        None => Ok(Some(text.as_bytes().to_vec()).filter(|pem| !pem.is_empty())),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, HttpBuildError> {
    std::fs::read(path).map_err(|source| HttpBuildError::File { path: path.to_owned(), source })
}
