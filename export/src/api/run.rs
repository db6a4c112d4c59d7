//! From an async handler to the pool and back, with a deadline and a way to cancel.

use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use kymo_core::query::{Grid, QueryCost};
use kymo_core::storage::CancelFlag;
use kymo_core::{ErrorKind, QueryContext, SelectError};
use tokio::sync::oneshot;

use super::ApiState;
use super::book::Asked;
use super::brief::{ATTEMPT_MAX, Question};
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
    let outcome = on_pool(state, CancelFlag::default(), deadline, job).await;
    outcome.map_err(|error| error.with_time_limit(timeout))
}

/// The same of a question that may be brief.
pub(crate) async fn run_known<T: Send + 'static>(
    state: &ApiState,
    timeout: Duration,
    question: Question,
    job: impl Fn(&QueryContext) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let (cancel, deadline) = (CancelFlag::default(), state.clock.monotonic() + timeout);
    let outcome = match state.at_once(question, &cancel, deadline, &job) {
        Some(outcome) => outcome,
        None => on_pool(state, cancel, deadline, state.timed(question, job)).await,
    };
    outcome.map_err(|error| error.with_time_limit(timeout))
}

/// Runs `job`, which gives a query's answer and its cost, when it is `asked`'s turn; meanwhile it has an entry in the book.
pub(crate) async fn run_query<T: Send + 'static>(
    state: &ApiState,
    timeout: Duration,
    asked: Asked,
    question: Question,
    job: impl Fn(&QueryContext) -> Result<(T, QueryCost), ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let (cancel, deadline) = (CancelFlag::default(), state.clock.monotonic() + timeout);
    let asker = Asker { client: asked.client, is_range: matches!(asked.grid, Grid::Range { .. }) };
    let entry = state.book.begin(asked, cancel.clone());
    let ran = async {
        let place = tokio::time::timeout(timeout, state.place(asker))
            .await
            .unwrap_or_else(|_| Err(ApiError::of_kind(ErrorKind::Timeout, TIMED_OUT_WAITING)))?;
        entry.started();
        if let Some(outcome) = state.at_once(question, &cancel, deadline, &job) {
            return outcome;
        }
        let job = state.timed(question, job);
        on_pool(state, cancel, deadline, move |ctx| {
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

    /// What became of a brief question; `None` for one that is not, or not any more, and that goes to the pool.
    fn at_once<T>(
        &self,
        question: Question,
        cancel: &CancelFlag,
        deadline: Duration,
        job: &impl Fn(&QueryContext) -> Result<T, ApiError>,
    ) -> Option<Result<T, ApiError>> {
        let brief = self.brief.as_ref().filter(|brief| brief.is_brief(question))?;
        let began = self.clock.monotonic();
        let given_up = began + ATTEMPT_MAX;
        if deadline < given_up {
            return None;
        }
        let ctx = self.limits(cancel.clone(), given_up);
        // As on the pool, a fault ends the query alone.
        let outcome = catch_unwind(AssertUnwindSafe(|| job(&ctx))).unwrap_or_else(|_| Err(faulty()));
        let took = self.clock.monotonic().saturating_sub(began);
        let is_done = !outcome.as_ref().is_err_and(ApiError::is_timeout);
        brief.took(question, if is_done { took } else { ATTEMPT_MAX });
        is_done.then_some(outcome)
    }

    /// `job`, with what it takes remembered.
    fn timed<T, J: Fn(&QueryContext) -> Result<T, ApiError>>(
        &self,
        question: Question,
        job: J,
    ) -> impl Fn(&QueryContext) -> Result<T, ApiError> + use<T, J> {
        let (brief, clock) = (self.brief.clone(), self.clock.clone());
        move |ctx| {
            let began = clock.monotonic();
            let outcome = job(ctx);
            if let Some(brief) = &brief {
                brief.took(question, clock.monotonic().saturating_sub(began));
            }
            outcome
        }
    }

    /// The question that these parts make, whoever asks it and for whichever time.
    pub(crate) fn question(&self, parts: impl Hash) -> Question {
        self.brief.as_ref().map_or_else(Question::default, |brief| brief.question(parts))
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

async fn on_pool<T: Send + 'static>(
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
    outcome.unwrap_or_else(|_| Err(faulty()))
}

fn faulty() -> ApiError {
    ApiError::internal("the query failed on a fault of the server")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kymo_core::pool::{Job, PoolFull, ThreadPool};
    use kymo_core::query::{QueryError, QueryResult, QueryValue};
    use kymo_core::{BlockingPool, Clock, ManualClock};

    use super::super::fake::{FakeBackend, NOW_MS, get, state};
    use super::super::routes;
    use super::*;

    struct Counted(ThreadPool, Arc<AtomicUsize>);

    impl BlockingPool for Counted {
        fn try_execute(&self, job: Job) -> Result<(), PoolFull> {
            self.1.fetch_add(1, Ordering::SeqCst);
            self.0.try_execute(job)
        }
    }

    /// Asks over and over; the backend takes so many milliseconds each time. Gives how many of them went to the pool by then.
    async fn pooled(took_ms: &'static [u64]) -> Vec<usize> {
        let clock = Arc::new(ManualClock::at(NOW_MS));
        let (asked, of_backend) = (AtomicUsize::new(0), clock.clone());
        let backend = FakeBackend::new(move |_, ctx| {
            let number = asked.fetch_add(1, Ordering::SeqCst);
            of_backend.advance(Duration::from_millis(took_ms[number]));
            ctx.check().map_err(QueryError::from)?;
            let value = QueryValue::Scalar { time_ms: 0, value: number as f64 };
            Ok(QueryResult { value, ..QueryResult::default() })
        });
        let jobs = Arc::new(AtomicUsize::new(0));
        let pool = Counted(ThreadPool::start("queries", 1, 8).unwrap(), jobs.clone());
        let clock: Arc<dyn Clock> = clock;
        let state = ApiState { pool: Arc::new(pool), clock, ..state(backend) }.answering_brief_ones_at_once();
        let router = routes(state);
        let (mut seen, mut begun) = (Vec::new(), 0);
        while begun < took_ms.len() {
            let (status, body) = get(&router, "/api/v1/query?query=up").await;
            assert_eq!(status, 200, "{body}");
            // The last that was begun is the one that answers.
            let number = body.rsplit_once("\"]").and_then(|(head, _)| head.rsplit_once('"')).unwrap().1;
            begun = number.parse::<usize>().unwrap() + 1;
            seen.push(jobs.load(Ordering::SeqCst));
        }
        seen
    }

    #[tokio::test]
    async fn what_was_brief_is_answered_where_it_came_in() {
        assert_eq!(pooled(&[0, 0, 0, 0]).await, [1, 1, 1, 1]);
        assert_eq!(pooled(&[3, 3, 3]).await, [1, 2, 3]);
        assert_eq!(pooled(&[3, 0, 0]).await, [1, 2, 2]);
    }

    #[tokio::test]
    async fn what_is_not_brief_any_more_is_begun_anew_on_the_pool() {
        // The third attempt runs out of time; what answers is the fourth, on the pool, and so is the fifth, which is brief.
        assert_eq!(pooled(&[0, 0, 9, 9, 0, 0]).await, [1, 1, 2, 3, 3]);
    }
}
