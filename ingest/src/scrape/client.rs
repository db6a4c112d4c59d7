//! How targets are asked over HTTP.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kymo_core::config::HttpClientConfig;
use kymo_core::{Budget, Reservation};
use reqwest::header::{HeaderName, HeaderValue};

use super::error::ScrapeError;

/// What went wrong outside of this crate.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// An answer's head, once it is there.
type Answering = Pin<Box<dyn Future<Output = Result<reqwest::Response, BoxError>> + Send>>;

/// The HTTP client of one job.
#[derive(Clone)]
pub struct ScrapeClient {
    send: Arc<dyn Fn(reqwest::Request) -> Answering + Send + Sync>,
}

/// Makes the client of a job from its settings; called once for each job and each `http_sd_configs` of it.
pub type ClientFactory = Arc<dyn Fn(&HttpClientConfig) -> Result<ScrapeClient, BoxError> + Send + Sync>;

impl From<reqwest::Client> for ScrapeClient {
    fn from(http: reqwest::Client) -> ScrapeClient {
        ScrapeClient::new(move |request| {
            let answering = http.execute(request);
            // The URL is said by whoever shows the error.
            async { answering.await.map_err(|error| error.without_url().into()) }
        })
    }
}

impl ScrapeClient {
    /// A client that sends by `send`, which adds credentials and whatever else the job's settings ask for.
    #[must_use]
    pub fn new<F>(send: impl Fn(reqwest::Request) -> F + Send + Sync + 'static) -> ScrapeClient
    where
        F: Future<Output = Result<reqwest::Response, BoxError>> + Send + 'static,
    {
        ScrapeClient { send: Arc::new(move |request| Box::pin(send(request))) }
    }

    pub(super) async fn get(&self, url: &str, headers: &[(&str, &str)]) -> Result<reqwest::Response, BoxError> {
        let mut request = reqwest::Request::new(reqwest::Method::GET, url.parse()?);
        for (name, value) in headers {
            request.headers_mut().append(HeaderName::try_from(*name)?, HeaderValue::try_from(*value)?);
        }
        (self.send)(request).await
    }
}

impl std::fmt::Debug for ScrapeClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScrapeClient").finish_non_exhaustive()
    }
}

/// How one target is asked.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) url: String,
    pub(super) accept: String,
    pub(super) compression: bool,
    pub(super) timeout: Duration,
    /// Largest body after decompression; 0 for any.
    pub(super) body_bytes_max: u64,
    /// Length of the last whole body, so that the next one is given room at once.
    pub(super) last_bytes: AtomicUsize,
}

/// Bodies are reserved in steps of this size.
const STEP_BYTES: usize = 64 << 10;
/// Offsets into a body are 32 bits wide.
const BODY_BYTES_CAP: u64 = u32::MAX as u64;
const USER_AGENT: &str = concat!("Kymo/", env!("CARGO_PKG_VERSION"));

/// A body with its memory.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    pub(super) content_type: String,
    _memory: Reservation,
}

impl Request {
    /// Fetches a target's answer, decompressed, or says why there is none.
    pub(super) async fn fetch(&self, client: &ScrapeClient, budget: &Budget) -> Result<Body, ScrapeError> {
        match tokio::time::timeout(self.timeout, self.fetch_slowly(client, budget)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(ScrapeError::Timeout { url: self.url.clone() }),
        }
    }

    async fn fetch_slowly(&self, client: &ScrapeClient, budget: &Budget) -> Result<Body, ScrapeError> {
        let failed = |source: BoxError| ScrapeError::Request { url: self.url.clone(), source };
        let seconds = self.timeout.as_secs_f64().to_string();
        let headers = [
            ("Accept", self.accept.as_str()),
            ("Accept-Encoding", if self.compression { "gzip" } else { "identity" }),
            ("User-Agent", USER_AGENT),
            ("X-Prometheus-Scrape-Timeout-Seconds", seconds.as_str()),
        ];
        let mut answer = client.get(&self.url, &headers).await.map_err(failed)?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(ScrapeError::Status { status: answer.status() });
        }
        let header = |name: &str| {
            let value = answer.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        // The client takes gzip off, and its header with it.
        let encoding = header("content-encoding");
        if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity") {
            return Err(ScrapeError::Encoding { encoding });
        }
        let content_type = header("content-type");
        let expected = self.last_bytes.load(Ordering::Relaxed).next_multiple_of(STEP_BYTES);
        let mut memory = budget.try_reserve(expected as u64)?;
        let mut bytes = Vec::with_capacity(expected);
        while let Some(chunk) = answer.chunk().await.map_err(|error| failed(error.without_url().into()))? {
            let len = bytes.len() + chunk.len();
            // Prometheus refuses a body of exactly the limit, too.
            if self.body_bytes_max > 0 && len as u64 >= self.body_bytes_max || len as u64 > BODY_BYTES_CAP {
                return Err(ScrapeError::BodyLimit);
            }
            if len as u64 > memory.bytes() {
                let capacity = len.max(2 * bytes.capacity()).next_multiple_of(STEP_BYTES);
                memory.grow(capacity as u64 - memory.bytes())?;
                bytes.reserve_exact(capacity - bytes.len());
            }
            bytes.extend_from_slice(&chunk);
        }
        if !bytes.is_empty() {
            // Relaxed: a hint, and only this target's scrapes touch it.
            self.last_bytes.store(bytes.len(), Ordering::Relaxed);
        }
        Ok(Body { bytes, content_type, _memory: memory })
    }
}
