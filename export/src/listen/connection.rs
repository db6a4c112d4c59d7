//! From listeners to served connections, and back to none.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Drained;
use super::stream::Written;

/// Pause after the system refused a connection (out of file descriptors): trying again at once cannot help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What answers requests.
pub(crate) trait Answer: Clone + Send + Sync + 'static {
    /// The body of an answer.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static;

    /// The making of an answer.
    type Future: Future<Output = Result<Response<Self::Body>, Infallible>> + Send + 'static;

    /// Answers one request of the client at `peer`.
    fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Self::Future;
}

/// What a connection may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    /// For a request's head, the wait for it on an idle connection included.
    pub(crate) head_timeout: Duration,
    /// For a client that takes nothing of its answer.
    pub(crate) stall_timeout: Duration,
    /// For requests in flight when the server stops.
    pub(crate) grace: Duration,
    /// Most connections at once, over all listeners.
    pub(crate) connections_max: usize,
}

/// Serves until `stop`, then drains.
pub(crate) async fn serve<A: Answer>(
    listeners: Vec<TcpListener>,
    service: A,
    allowance: Allowance,
    stop: CancellationToken,
) -> Drained {
    let permits = Arc::new(Semaphore::new(allowance.connections_max));
    let mut accepting = JoinSet::new();
    for listener in listeners {
        let served = Served { service: service.clone(), allowance, permits: permits.clone(), stop: stop.clone() };
        accepting.spawn(served.accept(listener));
    }
    let mut drained = Drained::default();
    while let Some(joined) = accepting.join_next().await {
        // An accept loop does not panic; if it did, its connections died with it.
        let one = joined.unwrap_or_default();
        drained.finished += one.finished;
        drained.cut_off += one.cut_off;
    }
    drained
}

/// What each accept loop shares.
struct Served<A> {
    service: A,
    allowance: Allowance,
    permits: Arc<Semaphore>,
    stop: CancellationToken,
}

impl<A: Answer> Served<A> {
    async fn accept(self, listener: TcpListener) -> Drained {
        let mut connections = JoinSet::new();
        loop {
            // The permit comes first: at the limit nothing is accepted.
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                accepted = accept_one(&listener, &self.permits) => accepted,
            };
            match accepted {
                Ok((stream, peer, permit)) => {
                    connections.spawn(self.connection(stream, peer, permit));
                }
                // The client gave up before it was its turn; there may be others.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
        drop(listener);
        drain(connections, self.allowance.grace).await
    }

    fn connection(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        permit: OwnedSemaphorePermit,
    ) -> impl Future<Output = ()> + Send + 'static {
        let service = self.service.clone();
        let service = hyper::service::service_fn(move |request| service.answer(request, peer));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.allowance.head_timeout)
            .serve_connection(TokioIo::new(Written::new(stream, self.allowance.stall_timeout)), service);
        let stop = self.stop.clone();
        async move {
            let _permit = permit;
            let mut connection = std::pin::pin!(connection);
            let outcome = tokio::select! {
                outcome = connection.as_mut() => outcome,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = outcome {
                tracing::debug!(%peer, %error, "a connection ended early");
            }
        }
    }
}

async fn accept_one(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    // Answers are written in one piece; waiting to fill a packet only delays them. A connection that
    // is gone already cannot be set, which its first read will tell.
    let _ = stream.set_nodelay(true);
    Ok((stream, peer, permit))
}

async fn drain(mut connections: JoinSet<()>, grace: Duration) -> Drained {
    let mut drained = Drained::default();
    let finish = async {
        while connections.join_next().await.is_some() {
            drained.finished += 1;
        }
    };
    if tokio::time::timeout(grace, finish).await.is_err() {
        drained.cut_off = connections.len();
        connections.shutdown().await;
    }
    drained
}
