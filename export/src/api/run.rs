//! From an async handler to the pool and back, with a deadline and a way to cancel.

use std::time::Duration;

use kymo_core::storage::CancelFlag;
use kymo_core::{ErrorKind, QueryContext, SelectError};
use tokio::sync::oneshot;

use super::ApiState;
use crate::status::ApiError;

/// Cancels a query whose caller went away: the server drops the handler, and this with it.
struct CancelOnDrop(CancelFlag);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Runs `job` on the pool with a context of its own; waiting in the queue counts into `timeout`.
pub(crate) async fn run<T: Send + 'static>(
    state: &ApiState,
    timeout: Duration,
    job: impl FnOnce(&QueryContext) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let cancel = CancelFlag::default();
    let ctx = QueryContext {
        deadline: Some(state.clock.monotonic() + timeout),
        cancel: cancel.clone(),
        budget: state.budget.child("query", state.options.query_memory_max),
        clock: state.clock.clone(),
    };
    let guard = CancelOnDrop(cancel);
    let (reply, answer) = oneshot::channel();
    let queued = state.pool.try_execute(Box::new(move || {
        let outcome = match ctx.check() {
            Ok(()) => job(&ctx),
            Err(SelectError::Timeout) => Err(ApiError::of_kind(ErrorKind::Timeout, "query timed out in query queue")),
            Err(_) => Err(ApiError::of_kind(ErrorKind::Cancelled, "query was canceled in query queue")),
        };
        // Nobody waits any more when the client went away; the answer is dropped with its memory.
        drop(reply.send(outcome));
    }));
    queued.map_err(|full| ApiError::of_kind(full.kind(), full.to_string()))?;
    let outcome = answer.await;
    drop(guard);
    // The channel closes without an answer only when the job panicked.
    outcome.unwrap_or_else(|_| Err(ApiError::internal("the query failed on a fault of the server")))
}
