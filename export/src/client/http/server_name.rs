//! Servers that are asked for, and verified, under another name than the URL's.
//!
//! The name goes into the URL, so that the TLS handshake asks for it and the certificate must carry it; where it leads
//! is the true host's address, and `Host` is the true host's, too. Connections to different hosts must never be
//! taken for each other, so each host has a client of its own.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use kymo_core::config::HttpClientConfig;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{AUTHORIZATION, HOST, LOCATION};
use reqwest::{Client, Method, Request, Response, StatusCode, Url};

use super::error::{HttpBuildError, HttpSendError};
use super::{builder, finish, header_value};

/// As many redirects as Go's client follows.
const REDIRECTS_MAX: usize = 10;
/// Beyond so many hosts, as where they come and go, all clients are made anew.
const HOSTS_MAX: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(super) struct NamedServers {
    name: String,
    config: HttpClientConfig,
    by_host: Mutex<HashMap<String, Client>>,
}

impl NamedServers {
    /// For settings with a name of the server.
    pub(super) fn new(config: &HttpClientConfig) -> Result<Option<NamedServers>, HttpBuildError> {
        let name = config.tls_config.as_ref().map_or("", |tls| tls.server_name.as_str());
        if name.is_empty() {
            return Ok(None);
        }
        if name.parse::<IpAddr>().is_ok() {
            return Err(HttpBuildError::Unsupported { field: "tls_config server_name that is an IP address" });
        }
        if config.proxy.proxy_url.is_some() || config.proxy.proxy_from_environment {
            return Err(HttpBuildError::Unsupported { field: "tls_config server_name through a proxy" });
        }
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let is_host = Url::parse(&format!("https://{name}/")).is_ok_and(|url| url.host_str() == Some(name.as_str()));
        if !is_host {
            return Err(HttpBuildError::Unsupported { field: "tls_config server_name that is no name of a host" });
        }
        Ok(Some(NamedServers { name, config: config.clone(), by_host: Mutex::default() }))
    }

    /// Sends a signed request, and follows where it is pointed to if that is wanted.
    pub(super) async fn send(&self, plain: &Client, mut request: Request) -> Result<Response, HttpSendError> {
        for _ in 0..=REDIRECTS_MAX {
            let url = request.url().clone();
            let next = self.next(&request);
            let answer = match url.scheme() {
                "https" => self.client(&url)?.execute(self.renamed(request)?).await?,
                _ => plain.execute(request).await?,
            };
            match next.filter(|_| self.config.follow_redirects).and_then(|next| next.after(&url, &answer)) {
                Some(next) => request = next,
                None => return Ok(answer),
            }
        }
        Err(HttpSendError::Redirects { limit: REDIRECTS_MAX })
    }

    fn client(&self, url: &Url) -> Result<Client, HttpBuildError> {
        let host = url.host_str().unwrap_or_default();
        let mut by_host = self.by_host.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = by_host.get(host) {
            return Ok(client.clone());
        }
        let leads_to = Leads(host.trim_matches(['[', ']']).into());
        let built = finish(&self.config, |config| {
            let builder = builder(config)?.redirect(reqwest::redirect::Policy::none());
            Ok(builder.dns_resolver(leads_to.clone()))
        })?;
        if by_host.len() >= HOSTS_MAX {
            by_host.clear();
        }
        by_host.insert(host.to_owned(), built.clone());
        Ok(built)
    }

    fn renamed(&self, mut request: Request) -> Result<Request, HttpBuildError> {
        let url = request.url();
        let host = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        if !request.headers().contains_key(HOST) {
            request.headers_mut().insert(HOST, header_value(HOST.as_str(), &host, false)?);
        }
        // Cannot fail: it was tried with such a URL.
        let _ = request.url_mut().set_host(Some(&self.name));
        Ok(request)
    }

    /// What a redirect would be made of; `None` for a body that can be sent only once.
    fn next(&self, request: &Request) -> Option<Next> {
        request.try_clone().map(|mut request| {
            request.headers_mut().remove(HOST);
            Next { request }
        })
    }
}

struct Next {
    request: Request,
}

impl Next {
    fn after(mut self, url: &Url, answer: &Response) -> Option<Request> {
        let status = answer.status();
        let keeps_method = matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
        let moved = matches!(status, StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER);
        if !keeps_method && !moved {
            return None;
        }
        let to = url.join(answer.headers().get(LOCATION)?.to_str().ok()?).ok()?;
        if !matches!(to.scheme(), "http" | "https") {
            return None;
        }
        if moved && *self.request.method() != Method::HEAD {
            *self.request.method_mut() = Method::GET;
            *self.request.body_mut() = None;
        }
        if to.host_str() != url.host_str() || to.port_or_known_default() != url.port_or_known_default() {
            // Credentials are for the host they were meant for.
            self.request.headers_mut().remove(AUTHORIZATION);
        }
        *self.request.url_mut() = to;
        Some(self.request)
    }
}

/// Every name leads to this host.
#[derive(Debug, Clone)]
struct Leads(std::sync::Arc<str>);

impl Resolve for Leads {
    fn resolve(&self, _: Name) -> Resolving {
        let host = self.0.clone();
        Box::pin(async move {
            // The port is the URL's.
            let found: Vec<SocketAddr> = tokio::net::lookup_host((&*host, 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
