//! The HTTP server around the routers of every crate.
//!
//! ```text
//!   accept (bounded) ─▶ access log ─▶ CORS ─▶ gzip ─▶ bearer token ─▶ panic → 500 ─▶ body limits ─▶ routes
//! ```
//!
//! 1. Nothing a client sends or withholds holds a connection for ever: heads, bodies, idle
//!    connections and answers that are not read have deadlines.
//! 2. At the connection limit the server stops accepting; what waits in the kernel's queue is served later.
//! 3. A drain stops accepting, lets requests in flight finish within the grace time, and then cuts them off.
//!
//! Deliberately absent: TLS (its place is the accepted stream, before a connection is served) and
//! HTTP/2, which only gRPC needs and which has its own listener.

mod auth;
mod cors;
mod layers;
mod limit;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::response::Response;
use http::HeaderMap;
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::Service;

pub use cors::CorsOrigins;
use layers::Around;
pub use layers::{decompress, guard};

use crate::listen::{Allowance, Answer, serve};
pub use crate::listen::{BearerTokens, Drained};

/// How a [`Server`] listens and what it allows.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerOptions {
    /// Where to listen; port 0 picks one, see [`Server::addresses`].
    pub listen: Vec<SocketAddr>,
    /// Tokens of which a request must carry one; none at all leaves the server open.
    pub tokens: BearerTokens,
    /// Which pages of other origins may read answers.
    pub cors: CorsOrigins,
    /// Largest request body as sent, in bytes.
    pub body_bytes_max: usize,
    /// Time for a request's head, the wait for it on an idle connection included.
    pub head_timeout: Duration,
    /// Time for a whole request body.
    pub body_timeout: Duration,
    /// Time that a client may take nothing of its answer.
    pub stall_timeout: Duration,
    /// Most connections at once, over all listeners.
    pub connections_max: usize,
    /// How long requests in flight may take when the server stops.
    pub grace: Duration,
    /// For routes whose refusals have a form of their own: around all that refuses, limits, tokens and faults included.
    pub refusals: Option<Refusals>,
}

/// The making of a refusal's other form.
pub type Restating = Pin<Box<dyn Future<Output = Response> + Send>>;

/// Another form for what is refused on some paths.
#[derive(Debug, Clone, Copy)]
pub struct Refusals {
    /// Whether this path is one of them.
    pub concern: fn(&str) -> bool,
    /// Gives the answer to a request with these headers its form; one that refuses nothing stays as it is.
    pub restate: fn(HeaderMap, Response) -> Restating,
}

/// What answers behind a [`Server`]: an axum router, say.
pub trait Routes:
    Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<S> Routes for S where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static
{
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 9911))],
            tokens: BearerTokens::default(),
            cors: CorsOrigins::Any,
            // Twice what a remote-write request may be after decompression.
            body_bytes_max: 64 << 20,
            head_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(30),
            // Prometheus' default.
            connections_max: 512,
            // Longer than a sender's usual timeout of 10 s, shorter than a supervisor's patience of 30.
            grace: Duration::from_secs(15),
            refusals: None,
        }
    }
}

/// Why a server cannot listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address is taken, not this machine's, or not allowed.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Listeners that are bound and not yet served.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    options: ServerOptions,
}

impl Server {
    /// Binds every address, or none.
    ///
    /// # Errors
    /// [`ServerError::Listen`] for the first address that cannot be had.
    pub async fn bind(options: ServerOptions) -> Result<Server, ServerError> {
        let mut server = Server { listeners: Vec::new(), addresses: Vec::new(), options };
        for &address in &server.options.listen {
            let refused = |source| ServerError::Listen { address, source };
            let listener = TcpListener::bind(address).await.map_err(refused)?;
            server.addresses.push(listener.local_addr().map_err(refused)?);
            server.listeners.push(listener);
        }
        Ok(server)
    }

    /// The addresses listened on, in the order asked for, with the ports that were picked.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves `routes` until `stop` is cancelled and requests in flight are done or cut off.
    pub async fn run(self, routes: impl Routes, stop: CancellationToken) -> Drained {
        let ServerOptions { head_timeout, stall_timeout, grace, connections_max, .. } = self.options;
        let allowance = Allowance { head_timeout, stall_timeout, grace, connections_max };
        serve(self.listeners, Around::new(routes, self.options), allowance, stop).await
    }
}

impl<S: Routes> Answer for Around<S> {
    type Body = Body;
    type Future = <Around<S> as Service<Request>>::Future;

    fn answer(&self, mut request: http::Request<Incoming>, peer: SocketAddr) -> Self::Future {
        request.extensions_mut().insert(crate::peer::Peer(peer));
        let body = |body: Incoming| if body.is_end_stream() { Body::empty() } else { Body::new(body) };
        self.clone().call(request.map(body))
    }
}
