//! HTTP clients from configuration values.
//!
//! ```text
//! request ─ credentials (files read anew, tokens renewed) ─▶ client of the job, or of the host if the server goes by
//!                                                            another name ─▶ redirects ─▶ answer
//! ```

mod credentials;
mod error;
mod oauth2;
mod server_name;

use std::path::Path;
use std::sync::{Arc, Once};
use std::time::Duration;

use kymo_core::config::{HttpClientConfig, TlsConfig, TlsVersion};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, ClientBuilder, Identity, Method, NoProxy, Proxy, Request, Response, Url, redirect, tls};

use credentials::Credentials;
pub use error::{HttpBuildError, HttpSendError};
use server_name::NamedServers;

/// Time to connect: long enough for one lost packet to be sent again twice.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that adds its credentials to each request. Cloning shares its connections.
#[derive(Debug, Clone)]
pub struct HttpClient {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: reqwest::Client,
    named: Option<NamedServers>,
    credentials: Credentials,
}

/// Builds a client; ring is installed as the process's cryptography unless another one is already.
///
/// # Errors
/// [`HttpBuildError`]
pub fn http_client(config: &HttpClientConfig) -> Result<HttpClient, HttpBuildError> {
    config.validate()?;
    let credentials = Credentials::new(config)?;
    let named = NamedServers::new(config)?;
    Ok(HttpClient { shared: Arc::new(Shared { client: client(config)?, named, credentials }) })
}

fn client(config: &HttpClientConfig) -> Result<reqwest::Client, HttpBuildError> {
    finish(config, builder)
}

fn finish(
    config: &HttpClientConfig,
    builder: impl Fn(&HttpClientConfig) -> Result<ClientBuilder, HttpBuildError>,
) -> Result<reqwest::Client, HttpBuildError> {
    static RING: Once = Once::new();
    // An error says that the program chose another provider before, which is its right.
    RING.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let client = match builder(config)?.build() {
        // A machine without certificates of its own can still speak plain HTTP; HTTPS then fails on its own.
        Err(_) if !names_certificates(config) => builder(config)?.tls_certs_only([]).build(),
        built => built,
    };
    client.map_err(|source| HttpBuildError::Client { what: "settings", source })
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
    // Adding one takes the environment's away for good.
    builder = builder.no_proxy();
    if let Some(url) = &config.proxy.proxy_url {
        builder = builder.proxy(proxy(config, Proxy::all(url))?.no_proxy(NoProxy::from_string(&config.proxy.no_proxy)));
    }
    if config.proxy.proxy_from_environment {
        if let Some(url) = environment(["HTTP_PROXY", "http_proxy"]) {
            builder = builder.proxy(proxy(config, Proxy::http(url))?.no_proxy(reached_directly()));
        }
        if let Some(url) = environment(["HTTPS_PROXY", "https_proxy"]) {
            builder = builder.proxy(proxy(config, Proxy::https(url))?.no_proxy(reached_directly()));
        }
    }
    match &config.tls_config {
        Some(tls) => with_tls(builder, tls),
        None => Ok(builder),
    }
}

/// The first of two variables that says something.
fn environment(names: [&str; 2]) -> Option<String> {
    names.into_iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

/// What the environment exempts, and the machine itself, as Go's clients have it.
fn reached_directly() -> Option<NoProxy> {
    let named = environment(["NO_PROXY", "no_proxy"]).unwrap_or_default();
    NoProxy::from_string(&format!("{named},localhost,127.0.0.0/8,::1"))
}

fn proxy(config: &HttpClientConfig, built: reqwest::Result<Proxy>) -> Result<Proxy, HttpBuildError> {
    let mut headers = HeaderMap::new();
    for (name, values) in &config.proxy.proxy_connect_header {
        let key = header_name(name)?;
        for value in values {
            headers.append(&key, header_value(name, value.expose(), true)?);
        }
    }
    let built = built.map_err(|source| HttpBuildError::Client { what: "proxy URL", source })?;
    Ok(if headers.is_empty() { built } else { built.headers(headers) })
}

impl HttpClient {
    /// Fetches a URL with the client's credentials, and waits for the head of the answer.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn get(&self, url: Url) -> Result<Response, HttpSendError> {
        self.send(Request::new(Method::GET, url)).await
    }

    /// Posts a body of this type with the client's credentials, and waits for the head of the answer.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Panics
    /// On a type that is no header's value.
    pub async fn post(&self, url: Url, content_type: &'static str, body: Vec<u8>) -> Result<Response, HttpSendError> {
        let mut request = Request::new(Method::POST, url);
        let content_type = HeaderValue::from_static(content_type);
        request.headers_mut().insert(CONTENT_TYPE, content_type);
        *request.body_mut() = Some(body.into());
        self.send(request).await
    }

    /// Sends a request with the client's credentials, and waits for the head of the answer.
    ///
    /// # Errors
    /// [`HttpSendError`]; an answer with an error status is none.
    pub async fn send(&self, mut request: Request) -> Result<Response, HttpSendError> {
        let Shared { client, named, credentials } = &*self.shared;
        credentials.sign(&mut request).await?;
        match named {
            Some(named) => named.send(client, request).await,
            None => Ok(client.execute(request).await?),
        }
    }
}

fn headers(config: &HttpClientConfig) -> Result<HeaderMap, HttpBuildError> {
    let mut headers = HeaderMap::new();
    for (name, values) in &config.http_headers {
        let key = header_name(name)?;
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

fn header_name(name: &str) -> Result<HeaderName, HttpBuildError> {
    HeaderName::try_from(name).map_err(|_| HttpBuildError::Header { name: name.to_owned() })
}

fn header_value(name: &str, text: &str, sensitive: bool) -> Result<HeaderValue, HttpBuildError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| HttpBuildError::Header { name: name.to_owned() })?;
    value.set_sensitive(sensitive);
    Ok(value)
}

fn with_tls(mut builder: ClientBuilder, config: &TlsConfig) -> Result<ClientBuilder, HttpBuildError> {
    let bad = |what| move |source| HttpBuildError::Client { what, source };
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

#[cfg(test)]
mod tests;
