//! From an async handler to the pool and back, with a deadline and a way to cancel.

use std::time::Duration;

use kymo_core::query::{Grid, QueryCost};
use kymo_core::storage::CancelFlag;
use kymo_core::{ErrorKind, QueryContext, SelectError};
use tokio::sync::oneshot;

use super::ApiState;
use super::book::Asked;
use super::queue::{Asker, Place};
use crate::status::ApiError;

/// Prometheus' words.
const TIMED_OUT_WAITING: &str = "query timed out in query queue";

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
    let deadline = state.clock.monotonic() + timeout;
    let outcome = run_cancelled_by(state, CancelFlag::default(), deadline, job).await;
    outcome.map_err(|error| error.with_time_limit(timeout))
}

/// Runs `job`, which gives a query's answer and its cost, when it is `asked`'s turn; meanwhile it has an entry in the book.
pub(crate) async fn run_query<T: Send + 'static>(
    state: &ApiState,
    timeout: Duration,
    asked: Asked,
    job: impl FnOnce(&QueryContext) -> Result<(T, QueryCost), ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let (cancel, deadline) = (CancelFlag::default(), state.clock.monotonic() + timeout);
    let asker = Asker { client: asked.client, is_range: matches!(asked.grid, Grid::Range { .. }) };
    let entry = state.book.begin(asked, cancel.clone());
    let ran = async {
        let place = tokio::time::timeout(timeout, state.place(asker))
            .await
            .unwrap_or_else(|_| Err(ApiError::of_kind(ErrorKind::Timeout, TIMED_OUT_WAITING)))?;
        entry.started();
        run_cancelled_by(state, cancel, deadline, move |ctx| {
            let outcome = job(ctx);
            // Before the answer is sent: what it took from others is free again.
            drop(place);
            outcome
        })
        .await
    };
    match ran.await {
        Ok((answer, cost)) => {
            entry.ended(cost, None);
            Ok(answer)
        }
        Err(error) => {
            let error = error.with_time_limit(timeout);
            entry.ended(QueryCost::default(), Some(error.message().to_owned()));
            Err(error)
        }
    }
}

impl ApiState {
    /// A place for a query of this asker, waited for.
    pub(crate) async fn place(&self, asker: Asker) -> Result<Place, ApiError> {
        self.queue.enter(asker).await
    }

    /// Limits for a query, and what ends it.
    pub(crate) fn context(&self, timeout: Duration) -> (QueryContext, CancelFlag) {
        let cancel = CancelFlag::default();
        (self.limits(cancel.clone(), self.clock.monotonic() + timeout), cancel)
    }

    fn limits(&self, cancel: CancelFlag, deadline: Duration) -> QueryContext {
        QueryContext {
            deadline: Some(deadline),
            cancel,
            budget: self.budget.child_set_by("query", self.options.query_memory_max, "--query-memory"),
            clock: self.clock.clone(),
        }
    }
}

async fn run_cancelled_by<T: Send + 'static>(
    state: &ApiState,
    cancel: CancelFlag,
    deadline: Duration,
    job: impl FnOnce(&QueryContext) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let ctx = state.limits(cancel.clone(), deadline);
    let guard = CancelOnDrop(cancel);
    let (reply, answer) = oneshot::channel();
    let queued = state.pool.try_execute(Box::new(move || {
        let outcome = match ctx.check() {
            Ok(()) => job(&ctx),
            Err(SelectError::Timeout) => Err(ApiError::of_kind(ErrorKind::Timeout, TIMED_OUT_WAITING)),
            Err(_) => Err(ApiError::of_kind(ErrorKind::Cancelled, "query was canceled in query queue")),
        };
        // Nobody waits any more when the client went away; the answer is dropped with its memory.
        drop(reply.send(outcome));
    }));
    queued.map_err(|full| {
        ApiError::of_kind(full.kind(), format!("{full}, which is the limit and fixed; ask again later"))
    })?;
    let outcome = answer.await;
    drop(guard);
    // The channel closes without an answer only when the job panicked.
    outcome.unwrap_or_else(|_| Err(ApiError::internal("the query failed on a fault of the server")))
}
