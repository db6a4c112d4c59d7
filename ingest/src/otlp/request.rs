//! What HTTP and gRPC have in common: reading a body, and exporting on the pool.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use kymo_core::pool::{BlockingPool, PoolFull};
use kymo_core::{ErrorKind, Reservation};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{Coding, Encoding, ExportError, Receiver, SOURCE, TRACES_SOURCE};

/// How much of a claimed length is allocated before the bytes are there.
const TRUSTED_LENGTH_BYTES: usize = 256 << 10;
/// How long a client may take for the next piece of a body, of which memory is held meanwhile.
const STALL_MAX: Duration = Duration::from_secs(30);

/// How often calls are looked for whose other side did not come.
const SETTLE_EVERY: Duration = Duration::from_secs(5);

/// What a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Metrics,
    Traces,
}

impl Signal {
    /// Where the loss ledger books it.
    pub(super) fn source(self) -> &'static str {
        match self {
            Signal::Metrics => SOURCE,
            Signal::Traces => TRACES_SOURCE,
        }
    }
}

/// What a client is told of a request that was accepted.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Vec<u8>,
    /// What is missing, in a line; empty if nothing is.
    pub(super) told: String,
    pub(super) rejected: u64,
}

/// What the routes and the service need.
#[derive(Clone)]
pub struct OtlpState {
    /// Takes the bodies.
    pub receiver: Arc<Receiver>,
    /// Where decoding and appending run; full means unavailable.
    pub pool: Arc<dyn BlockingPool>,
}

/// Why a request has no outcome.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error(transparent)]
    PoolFull(#[from] PoolFull),
    #[error("the body ended early")]
    Body(#[source] axum::Error),
    #[error("nothing more of the body came for {} seconds", STALL_MAX.as_secs())]
    Stalled,
    #[error("the request was given up because of a fault in the server")]
    Lost,
}

impl RequestError {
    pub(super) fn kind(&self) -> ErrorKind {
        match self {
            RequestError::Export(error) => error.kind(),
            RequestError::PoolFull(error) => error.kind(),
            RequestError::Body(_) => ErrorKind::Invalid,
            RequestError::Stalled => ErrorKind::Timeout,
            RequestError::Lost => ErrorKind::Internal,
        }
    }
}

impl OtlpState {
    /// Counts calls whose other side did not come, every few seconds until `stop`.
    pub async fn settle(self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(SETTLE_EVERY)).await.is_some() {
            let receiver = self.receiver.clone();
            let job = move || {
                if let Err(error) = receiver.settle_calls() {
                    tracing::debug!(%error, "calls that nobody answered are counted later");
                }
            };
            // A pool that is full has requests, and those of spans settle too.
            let _ = self.pool.try_execute(Box::new(job));
        }
    }

    /// Reads a body of at most `body_bytes_max` and `framing` bytes more, reserving them before they are kept.
    pub(super) async fn read(
        &self,
        signal: Signal,
        body: Body,
        claimed: Option<u64>,
        framing: usize,
    ) -> Result<(Bytes, Reservation), RequestError> {
        let read = self
            .read_up_to(body, claimed.unwrap_or(0), self.receiver.limits().body_bytes_max.saturating_add(framing))
            .await;
        read.inspect_err(|error| {
            if let RequestError::Export(error) = error {
                self.receiver.book_failure(signal, error);
            }
        })
    }

    async fn read_up_to(&self, mut body: Body, claimed: u64, max: usize) -> Result<(Bytes, Reservation), RequestError> {
        let check = |found: u64| match found > max as u64 {
            true => Err(ExportError::TooLarge { limit: "body_bytes_max", max: max as u64, found }),
            false => Ok(()),
        };
        check(claimed)?;
        let trusted = usize::try_from(claimed).unwrap_or(max).min(TRUSTED_LENGTH_BYTES);
        let mut held = self.receiver.budget().try_reserve(trusted as u64).map_err(ExportError::from)?;
        let mut bytes = Vec::with_capacity(trusted);
        let next = async |body: &mut Body| match tokio::time::timeout(STALL_MAX, body.frame()).await {
            Ok(frame) => Ok(frame),
            Err(_) => Err(RequestError::Stalled),
        };
        while let Some(frame) = next(&mut body).await? {
            let Ok(data) = frame.map_err(RequestError::Body)?.into_data() else { continue };
            let len = bytes.len() + data.len();
            check(len as u64)?;
            if len as u64 > held.bytes() {
                // As much as the vector will grow to, so that it grows in few steps.
                let grown = len.max(2 * bytes.capacity()).min(max);
                held.grow(grown as u64 - held.bytes()).map_err(ExportError::from)?;
                bytes.reserve_exact(grown - bytes.len());
            }
            bytes.extend_from_slice(&data);
        }
        Ok((Bytes::from(bytes), held))
    }

    /// Exports a body on the pool; `held` is given back when the job is done.
    pub(super) async fn export(
        &self,
        signal: Signal,
        (encoding, coding): (Encoding, Coding),
        body: Bytes,
        held: Reservation,
    ) -> Result<Answer, RequestError> {
        let (reply, answer) = oneshot::channel();
        let receiver = self.receiver.clone();
        self.pool.try_execute(Box::new(move || {
            let result = match signal {
                Signal::Metrics => receiver.export(encoding, coding, body).map(|outcome| Answer {
                    response: outcome.response(encoding),
                    told: if outcome.is_complete() { String::new() } else { outcome.message() },
                    rejected: outcome.rejected(),
                }),
                Signal::Traces => receiver.export_spans(encoding, coding, body).map(|outcome| Answer {
                    response: outcome.response(encoding),
                    told: if outcome.is_complete() { String::new() } else { outcome.message() },
                    rejected: outcome.rejected(),
                }),
            };
            // Before the answer, so that a client that waits for it meets the memory free.
            drop(held);
            // Nobody listens any more if the client has gone; what it sent is stored all the same.
            let _ = reply.send(result);
        }))?;
        // The job drops its end without an answer only when it panics.
        Ok(answer.await.map_err(|_| RequestError::Lost)??)
    }
}
