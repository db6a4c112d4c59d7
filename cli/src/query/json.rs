//! Answers as JSON: the `data` of the API, byte for byte.
//!
//! There is one writer of that JSON, the API's own. So the answer is put behind the API's route and fetched from there,
//! in this process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, to_bytes};
use axum::http::Request;
use kymo_core::batch::Metadata;
use kymo_core::pool::{BlockingPool, Job, PoolFull};
use kymo_core::query::{CatalogRequest, Listed, QueryError, QueryRequest, QueryResult};
use kymo_core::{Budget, ErrorKind, Labels, LossLedger, QueryBackend, QueryContext, SystemClock};
use kymo_export::api::{self, ApiOptions, ApiState};
use serde_json::value::RawValue;
use tokio::runtime::Handle;
use tower::ServiceExt;

pub(super) fn render(runtime: &Handle, result: QueryResult) -> Result<String, QueryError> {
    let backend = Arc::new(Answered(Mutex::new(Some(result))));
    let (ledger, clock) = (Arc::new(LossLedger::default()), Arc::new(SystemClock::new()));
    let mut state = ApiState::new(backend, Arc::new(OnThisThread), ledger, clock, Budget::unlimited());
    state.options = Arc::new(ApiOptions { query_memory_max: u64::MAX, ..ApiOptions::default() });
    runtime.block_on(async {
        let request = Request::get("/api/v1/query?query=answered").body(Body::empty()).map_err(fault)?;
        let response = match api::routes(state).oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let body = to_bytes(response.into_body(), usize::MAX).await.map_err(fault)?;
        let envelope: BTreeMap<&str, &RawValue> = serde_json::from_slice(&body).map_err(fault)?;
        let data = envelope.get("data").ok_or_else(|| fault("the envelope holds no data"))?;
        Ok(format!("{}\n", data.get()))
    })
}

fn fault(error: impl std::fmt::Display) -> QueryError {
    QueryError::execute(ErrorKind::Internal, format!("the answer cannot be written as JSON: {error}"))
}

/// Has one answer, to whatever is asked first.
struct Answered(Mutex<Option<QueryResult>>);

impl Answered {
    fn nothing<T>() -> Result<T, QueryError> {
        Err(QueryError::execute(ErrorKind::NotFound, "only the answer of one query is here"))
    }
}

impl QueryBackend for Answered {
    fn query(&self, _: &QueryRequest, _: &QueryContext) -> Result<QueryResult, QueryError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().map_or_else(Answered::nothing, Ok)
    }

    fn series(&self, _: &CatalogRequest, _: &QueryContext) -> Result<Listed<Labels>, QueryError> {
        Answered::nothing()
    }

    fn label_names(&self, _: &CatalogRequest, _: &QueryContext) -> Result<Listed<String>, QueryError> {
        Answered::nothing()
    }

    fn label_values(&self, _: &str, _: &CatalogRequest, _: &QueryContext) -> Result<Listed<String>, QueryError> {
        Answered::nothing()
    }

    fn metadata(&self, _: Option<&str>, _: &QueryContext) -> Result<Vec<(String, Vec<Metadata>)>, QueryError> {
        Answered::nothing()
    }
}

/// Runs jobs at once: nothing else waits for this thread.
struct OnThisThread;

impl BlockingPool for OnThisThread {
    fn try_execute(&self, job: Job) -> Result<(), PoolFull> {
        job();
        Ok(())
    }
}
