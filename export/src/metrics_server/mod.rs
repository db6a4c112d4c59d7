//! `/metrics` of any program: a small server of its own, for a registry and nothing else.
//!
//! ```no_run
//! use kymo_core::registry::Registry;
//! use kymo_export::{MetricsEndpoint, MetricsServer};
//!
//! let registry = Registry::new();
//! let requests = registry.counter("requests_total").help("Requests answered.").register()?;
//! let running = MetricsServer::bind(MetricsEndpoint::default(), registry)?.spawn()?;
//! requests.inc();
//! running.stop();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Programs with a runtime of their own use [`MetricsServer::run`] instead of [`MetricsServer::spawn`].
//!
//! 1. Switched off means that nothing listens, and the log says so.
//! 2. Only `GET` and `HEAD` of one path are answered; where a token is wanted, nothing is told without it.
//! 3. The log says once of each family that it has as many series as it may, switched off too, unless the program has
//!    [said](kymo_core::registry::Registry::on_overflow) who is told of that.
//! 4. A client that withholds its request or does not read its answer is let go after a while.

mod answer;
mod endpoint;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::exposition::Exposition;
use crate::listen::{Allowance, BearerTokens, Drained, serve};
use crate::process::Process;

use answer::Page;
pub use endpoint::MetricsEndpoint;

/// Scrapers are few, and a program has better uses for its file descriptors.
const CONNECTIONS_MAX: usize = 64;

const ALLOWANCE: Allowance = Allowance {
    // Longer than the usual interval between scrapes, so that a scraper's connection is kept.
    head_timeout: Duration::from_secs(120),
    stall_timeout: Duration::from_secs(30),
    grace: Duration::from_secs(5),
    connections_max: CONNECTIONS_MAX,
};

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsServerError {
    /// The address is taken, not this machine's, or not allowed.
    #[error("cannot serve metrics at {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The path does not begin with `/`, or holds what no request's path can.
    #[error("{path:?} cannot be the path of the metrics endpoint: it must begin with / and be as a URL has it")]
    Path {
        /// The path asked for.
        path: String,
    },
    /// The file with the token cannot be read, or holds none.
    #[error("cannot take the metrics endpoint's token from {}", .path.display())]
    Token {
        /// The file asked for.
        path: std::path::PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system gives no thread or no event queue.
    #[error("cannot start the metrics endpoint")]
    Start(#[source] io::Error),
}

/// A listener for scrapers, bound and not yet served; or none, if the endpoint is switched off.
#[derive(Debug)]
pub struct MetricsServer {
    bound: Option<(TcpListener, SocketAddr, Page)>,
}

impl MetricsServer {
    /// Binds the endpoint, unless it is switched off. The page shows `exposition` and the standard `process_*` metrics.
    ///
    /// # Errors
    /// [`MetricsServerError`], of which `Start` does not come from here.
    pub fn bind(
        endpoint: MetricsEndpoint,
        exposition: impl Into<Exposition>,
    ) -> Result<MetricsServer, MetricsServerError> {
        let exposition = exposition.into();
        if !endpoint.enabled {
            tracing::info!("Metrics endpoint disabled");
            return Ok(MetricsServer { bound: None });
        }
        let token = endpoint.token()?;
        let path = endpoint.checked_path()?;
        let address = SocketAddr::new(endpoint.address, endpoint.port);
        let refused = |source| MetricsServerError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        if !address.ip().is_loopback() && token.is_none() {
            tracing::warn!(%address, "metrics can be read from other machines, and no token is asked for");
        }
        tracing::info!(%address, path, "Metrics endpoint enabled");
        let process = Process::default();
        let page = Page::new(
            path,
            BearerTokens::new(token.as_ref().map(kymo_core::config::Secret::expose)),
            exposition.with(move || process.families()),
        );
        Ok(MetricsServer { bound: Some((listener, address, page)) })
    }

    /// Where it listens, with the port that was picked if 0 was asked for; `None` if it is switched off.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.bound.as_ref().map(|(_, address, _)| *address)
    }

    /// Serves on the current runtime until `stop` is cancelled and requests in flight are done or cut off. Returns at
    /// once if the endpoint is switched off.
    ///
    /// # Errors
    /// [`MetricsServerError::Start`] if the runtime cannot take the listener.
    pub async fn run(self, stop: CancellationToken) -> Result<Drained, MetricsServerError> {
        let Some((listener, _, page)) = self.bound else { return Ok(Drained::default()) };
        let listener = tokio::net::TcpListener::from_std(listener).map_err(MetricsServerError::Start)?;
        Ok(serve(vec![listener], page, ALLOWANCE, stop).await)
    }

    /// Serves on a thread of its own, for programs without a runtime, until what is returned is stopped or dropped.
    ///
    /// # Errors
    /// [`MetricsServerError::Start`].
    pub fn spawn(self) -> Result<RunningMetricsServer, MetricsServerError> {
        let address = self.address();
        let stop = CancellationToken::new();
        let thread = match address {
            None => None,
            Some(_) => {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_io()
                    .enable_time()
                    .build()
                    .map_err(MetricsServerError::Start)?;
                let stopped = stop.clone();
                let serve = move || {
                    if let Err(error) = runtime.block_on(self.run(stopped)) {
                        tracing::error!(%error, "metrics are not served");
                    }
                };
                let named = thread::Builder::new().name("kymo-metrics".to_owned());
                Some(named.spawn(serve).map_err(MetricsServerError::Start)?)
            }
        };
        Ok(RunningMetricsServer { address, stop, thread })
    }
}

/// A [`MetricsServer`] on its thread. Dropping it stops the server and waits for requests in flight, a few seconds at most.
#[derive(Debug)]
#[must_use = "dropping it stops the server"]
pub struct RunningMetricsServer {
    address: Option<SocketAddr>,
    stop: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
}

impl RunningMetricsServer {
    /// As [`MetricsServer::address`].
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Stops the server and waits for requests in flight, a few seconds at most.
    pub fn stop(self) {}
}

impl Drop for RunningMetricsServer {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // It has said what went wrong by itself.
            let _ = thread.join();
        }
    }
}
