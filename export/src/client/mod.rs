//! Any Prometheus API as a [`QueryBackend`], so that whole expressions are pushed down to it.
//!
//! ```text
//! pool thread ─ handle.block_on ─▶ POST form (GET where that is refused) ─▶ bounded body ─▶ columns
//! ```
//!
//! Requests run on the async runtime whose handle is given; the calling thread waits. So it must be a
//! thread of a pool, never a worker of that runtime, and the runtime must have threads of its own.
//!
//! Outgoing HTTP clients of every kind are built here, by [`http_client`], from configuration values.

mod decode;
mod facts;
mod histogram;
mod http;
mod plan;
mod request;
#[cfg(test)]
#[cfg(all(feature = "api", feature = "server"))]
mod tests;
mod write;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kymo_core::config::HttpClientConfig;
use kymo_core::query::{CatalogRequest, Listed, QueryError, QueryRequest, QueryResult};
use kymo_core::{
    BudgetExceeded, ErrorKind, Exemplar, Labels, Metadata, QueryBackend, QueryContext, Reservation, SelectError,
};
use reqwest::{Method, StatusCode, Url, header};
use tokio::runtime::Handle;

pub use http::{HttpBuildError, HttpClient, HttpSendError, http_client};
pub use write::Written;

/// How often a waiting caller looks whether it was cancelled or its deadline passed.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// Bytes of a foreign error page that are passed on.
const FOREIGN_TEXT_MAX: usize = 200;

/// Which server, and what is allowed of it.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Where the API is, without `/api/v1`: `http://127.0.0.1:9090` or `https://host/prometheus`.
    pub base_url: String,
    /// Credentials, TLS, proxy.
    pub http: HttpClientConfig,
    /// Longest time for one request, also for callers without a deadline.
    pub timeout: Duration,
    /// Largest answer after decompression, in bytes.
    pub answer_bytes_max: usize,
}

impl ClientOptions {
    /// A server without credentials, and default limits.
    #[must_use]
    pub fn new(base_url: impl Into<String>) -> ClientOptions {
        ClientOptions {
            base_url: base_url.into(),
            http: HttpClientConfig::default(),
            // A little more than servers' own two minutes, so that their answer says what happened.
            timeout: Duration::from_secs(125),
            answer_bytes_max: 256 << 20,
        }
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Not an `http` or `https` URL.
    #[error("{url:?} is not an http or https URL")]
    Url {
        /// The text given.
        url: String,
    },
    /// The settings make no HTTP client.
    #[error(transparent)]
    Http(#[from] HttpBuildError),
}

/// See the module.
#[derive(Debug)]
pub struct PrometheusClient {
    http: HttpClient,
    base: Url,
    runtime: Handle,
    options: ClientOptions,
    /// The server answered a POST with 405 before; relaxed, as being late costs one request.
    get_only: AtomicBool,
}

impl PrometheusClient {
    /// A client that runs its requests on `runtime`, which must be multi-threaded. Connects to nothing yet.
    ///
    /// # Errors
    /// [`ClientError`] for a bad URL or settings.
    pub fn new(options: ClientOptions, runtime: Handle) -> Result<PrometheusClient, ClientError> {
        let bad_url = || ClientError::Url { url: options.base_url.clone() };
        let base = Url::parse(&options.base_url).map_err(|_| bad_url())?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(bad_url());
        }
        let http = http_client(&options.http)?;
        Ok(PrometheusClient { http, base, runtime, options, get_only: AtomicBool::new(false) })
    }

    /// Has the server move everything into blocks and merge them, and waits until it has.
    ///
    /// # Errors
    /// The server's, which has such a path only if it is Kymo and was told to; or that it cannot be reached.
    pub fn compact(&self, ctx: &QueryContext) -> Result<(), QueryError> {
        self.ask(&["admin", "tsdb", "compact"], &[("wait", "true".to_owned())], Way::Post, ctx).map(drop)
    }

    /// Has the server take a snapshot below its data directory, of blocks only if `skip_head`; gives its name.
    ///
    /// # Errors
    /// The server's, or that it cannot be reached.
    pub fn snapshot(&self, skip_head: bool, ctx: &QueryContext) -> Result<String, QueryError> {
        let params = [("skip_head", skip_head.to_string())];
        decode::snapshot(&self.ask(&["admin", "tsdb", "snapshot"], &params, Way::Post, ctx)?.body)
    }

    /// Has the server do something to its data, by the name of the path under `admin/tsdb`, and gives its figures.
    ///
    /// # Errors
    /// As [`compact`](Self::compact); also when the answer has not the form of `T`.
    pub fn administer<T: serde::de::DeserializeOwned>(
        &self,
        what: &str,
        params: &[(&str, String)],
        ctx: &QueryContext,
    ) -> Result<T, QueryError> {
        decode::data(&self.ask(&["admin", "tsdb", what], params, Way::Post, ctx)?.body)
    }

    /// The same for the small facts that the server keeps, by the name of the path under `admin/state`.
    ///
    /// # Errors
    /// As [`administer`](Self::administer).
    pub fn administer_state<T: serde::de::DeserializeOwned>(
        &self,
        what: &str,
        params: &[(&str, String)],
        ctx: &QueryContext,
    ) -> Result<T, QueryError> {
        decode::data(&self.ask(&["admin", "state", what], params, Way::Post, ctx)?.body)
    }

    /// What the server's series are of, as `status/cardinality` tells it.
    ///
    /// # Errors
    /// The server's, which has such a path only if it is Kymo; or that it cannot be reached.
    pub fn cardinality(&self, params: &[(&str, String)], ctx: &QueryContext) -> Result<serde_json::Value, QueryError> {
        decode::data(&self.ask(&["status", "cardinality"], params, Way::Get, ctx)?.body)
    }

    /// Asks and waits for the whole answer.
    fn ask(
        &self,
        path: &[&str],
        params: &[(&str, String)],
        way: Way,
        ctx: &QueryContext,
    ) -> Result<Answered, QueryError> {
        ctx.check()?;
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                answered = self.exchange(&url, params, way, ctx) => answered,
                stopped = stopped(ctx) => Err(stopped),
            }
        })
    }

    async fn exchange(
        &self,
        url: &Url,
        params: &[(&str, String)],
        way: Way,
        ctx: &QueryContext,
    ) -> Result<Answered, QueryError> {
        if way == Way::Post && !self.get_only.load(Ordering::Relaxed) {
            let response = self.send(Method::POST, url, params).await?;
            if response.status() != StatusCode::METHOD_NOT_ALLOWED {
                return self.read(response, ctx).await;
            }
            self.get_only.store(true, Ordering::Relaxed);
        }
        let response = self.send(Method::GET, url, params).await?;
        self.read(response, ctx).await
    }

    async fn send(
        &self,
        method: Method,
        url: &Url,
        params: &[(&str, String)],
    ) -> Result<reqwest::Response, QueryError> {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
        let mut url = url.clone();
        let post = method == Method::POST;
        if !post && !form.is_empty() {
            url.set_query(Some(&form));
        }
        let mut request = reqwest::Request::new(method, url);
        *request.timeout_mut() = Some(self.options.timeout);
        if post {
            let form_type = header::HeaderValue::from_static("application/x-www-form-urlencoded");
            request.headers_mut().insert(header::CONTENT_TYPE, form_type);
            *request.body_mut() = Some(form.into());
        }
        self.http.send(request).await.map_err(|error| self.unsent(&error))
    }

    fn unsent(&self, error: &HttpSendError) -> QueryError {
        let kind = match error {
            HttpSendError::Settings(_) => ErrorKind::Invalid,
            _ if error.is_timeout() => ErrorKind::Timeout,
            _ => ErrorKind::unavailable(),
        };
        QueryError::execute(kind, format!("cannot ask {}: {}", self.base, with_causes(error)))
    }

    async fn read(&self, mut response: reqwest::Response, ctx: &QueryContext) -> Result<Answered, QueryError> {
        let status = response.status();
        let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
        let mut reservation = ctx.budget.try_reserve(0).map_err(over_budget)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if body.len() + chunk.len() > self.options.answer_bytes_max {
                let limit = self.options.answer_bytes_max;
                let text = format!("the answer of {} is longer than the limit of {limit} bytes", self.base);
                return Err(QueryError::execute(ErrorKind::Limit, text));
            }
            reservation.grow(chunk.len() as u64).map_err(over_budget)?;
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok(Answered { body, _reservation: reservation });
        }
        let retry_after = Duration::from_secs(retry_after.unwrap_or(1));
        Err(decode::refusal(&body, retry_after).unwrap_or_else(|| self.foreign(status, &body, retry_after)))
    }

    /// An error status without the API's envelope: a proxy in between, or another kind of server.
    fn foreign(&self, status: StatusCode, body: &[u8], retry_after: Duration) -> QueryError {
        let kind = match status.as_u16() {
            404 => ErrorKind::NotFound,
            413 => ErrorKind::TooLarge,
            429 | 502 | 503 | 504 => ErrorKind::Unavailable { retry_after },
            400..500 => ErrorKind::Invalid,
            _ => ErrorKind::Internal,
        };
        let text = String::from_utf8_lossy(&body[..body.len().min(FOREIGN_TEXT_MAX)]);
        QueryError::execute(kind, format!("{} answered {status}: {}", self.base, text.trim()))
    }

    fn unreachable(&self, error: &reqwest::Error) -> QueryError {
        let kind = if error.is_timeout() { ErrorKind::Timeout } else { ErrorKind::unavailable() };
        QueryError::execute(kind, format!("cannot ask {}: {}", self.base, with_causes(error)))
    }

    fn list<T>(
        &self,
        path: &[&str],
        what: &CatalogRequest,
        way: Way,
        ctx: &QueryContext,
        decode: impl FnOnce(&[u8]) -> Result<Listed<T>, QueryError>,
    ) -> Result<Listed<T>, QueryError> {
        decode(&self.ask(path, &request::catalog(what), way, ctx)?.body)
    }
}

impl QueryBackend for PrometheusClient {
    fn query(&self, request: &QueryRequest, ctx: &QueryContext) -> Result<QueryResult, QueryError> {
        if request.options.is_some() {
            let text = "switches of the language cannot be sent to a Prometheus API";
            return Err(QueryError::execute(ErrorKind::Invalid, text));
        }
        let (path, params) = request::query(request, ctx);
        decode::query(&self.ask(&[path], &params, Way::Post, ctx)?.body)
    }

    fn series(&self, what: &CatalogRequest, ctx: &QueryContext) -> Result<Listed<Labels>, QueryError> {
        self.list(&["series"], what, Way::Post, ctx, decode::series)
    }

    fn label_names(&self, what: &CatalogRequest, ctx: &QueryContext) -> Result<Listed<String>, QueryError> {
        self.list(&["labels"], what, Way::Post, ctx, decode::texts)
    }

    fn label_values(
        &self,
        name: &str,
        what: &CatalogRequest,
        ctx: &QueryContext,
    ) -> Result<Listed<String>, QueryError> {
        let name = crate::label_name::escape(name);
        self.list(&["label", &name, "values"], what, Way::Get, ctx, decode::texts)
    }

    fn metadata(&self, family: Option<&str>, ctx: &QueryContext) -> Result<Vec<(String, Vec<Metadata>)>, QueryError> {
        let params: Vec<_> = family.iter().map(|name| ("metric", (*name).to_owned())).collect();
        decode::metadata(&self.ask(&["metadata"], &params, Way::Get, ctx)?.body)
    }

    fn exemplars(
        &self,
        text: &str,
        start_ms: i64,
        end_ms: i64,
        ctx: &QueryContext,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, QueryError> {
        let params = request::exemplars(text, start_ms, end_ms);
        decode::exemplars(&self.ask(&["query_exemplars"], &params, Way::Post, ctx)?.body)
    }
}

/// How a question is put first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// As a form; as a query string where the server refuses that.
    Post,
    /// As a query string: these questions have no other form.
    Get,
}

/// A successful answer, its memory reserved.
#[derive(Debug)]
struct Answered {
    body: Vec<u8>,
    _reservation: Reservation,
}

fn over_budget(error: BudgetExceeded) -> QueryError {
    SelectError::from(error).into()
}

/// Ends when the caller's context says so. A flag cannot wake, so it is looked at now and then.
async fn stopped(ctx: &QueryContext) -> QueryError {
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        if let Err(error) = ctx.check() {
            return error.into();
        }
    }
}

/// An error's text with those of its causes, which clients otherwise never see.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(at) = cause {
        text.push_str(": ");
        text.push_str(&at.to_string());
        cause = at.source();
    }
    text
}
