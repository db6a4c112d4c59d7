//! A backend for tests: queries answer what the test says, the catalogue is a [`MemoryStorage`]'s.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::{Method, Request, header};
use kymo_core::histogram::{BucketCounts, BucketSpan, HistogramCounts, ResetHint};
use kymo_core::pool::ThreadPool;
use kymo_core::query::{Annotations, CatalogRequest, Listed, PointTimes, QueryError, QueryResult, ResultSeries};
use kymo_core::{
    Budget, FamilyType, Labels, LossLedger, ManualClock, MemoryStorage, Metadata, MetricStorage, NativeHistogram,
    QueryBackend, QueryContext, QueryRequest, SampleBatch, Selector,
};
use tower::ServiceExt;

use super::ApiState;

type Answer = dyn Fn(&QueryRequest, &QueryContext) -> Result<QueryResult, QueryError> + Send + Sync;

/// See the module.
pub(crate) struct FakeBackend {
    answer: Box<Answer>,
    pub(crate) storage: MemoryStorage,
    /// Every request seen.
    pub(crate) asked: Mutex<Vec<QueryRequest>>,
}

impl FakeBackend {
    pub(crate) fn new(
        answer: impl Fn(&QueryRequest, &QueryContext) -> Result<QueryResult, QueryError> + Send + Sync + 'static,
    ) -> Arc<FakeBackend> {
        let clock = Arc::new(ManualClock::at(NOW_MS));
        let options = kymo_core::memory::MemoryOptions { clock, ..Default::default() };
        Arc::new(FakeBackend {
            answer: Box::new(answer),
            storage: MemoryStorage::new(options),
            asked: Mutex::default(),
        })
    }

    fn list<T: Ord>(
        &self,
        what: &CatalogRequest,
        ask: impl Fn(&Selector) -> Result<Vec<T>, kymo_core::SelectError>,
    ) -> Result<Listed<T>, QueryError> {
        let (start, end) = (what.start_ms.unwrap_or(i64::MIN), what.end_ms.unwrap_or(i64::MAX));
        let mut items = Vec::new();
        let all = [Vec::new()];
        for matchers in if what.matchers.is_empty() { &all[..] } else { &what.matchers } {
            items.extend(ask(&Selector::new(matchers.clone(), start.saturating_sub(1), end))?);
        }
        items.sort_unstable();
        items.dedup();
        let mut annotations = Annotations::default();
        if what.limit > 0 && items.len() > what.limit {
            items.truncate(what.limit);
            annotations.warn("results truncated due to limit");
        }
        Ok(Listed { items, annotations })
    }
}

impl QueryBackend for FakeBackend {
    fn query(&self, request: &QueryRequest, ctx: &QueryContext) -> Result<QueryResult, QueryError> {
        self.asked.lock().unwrap().push(request.clone());
        (self.answer)(request, ctx)
    }

    fn series(&self, what: &CatalogRequest, ctx: &QueryContext) -> Result<Listed<Labels>, QueryError> {
        self.list(what, |selector| self.storage.series(selector, ctx))
    }

    fn label_names(&self, what: &CatalogRequest, ctx: &QueryContext) -> Result<Listed<String>, QueryError> {
        self.list(what, |selector| self.storage.label_names(selector, ctx))
    }

    fn label_values(
        &self,
        name: &str,
        what: &CatalogRequest,
        ctx: &QueryContext,
    ) -> Result<Listed<String>, QueryError> {
        self.list(what, |selector| self.storage.label_values(name, selector, ctx))
    }

    fn metadata(&self, family: Option<&str>, ctx: &QueryContext) -> Result<Vec<(String, Vec<Metadata>)>, QueryError> {
        Ok(self.storage.metadata(family, ctx)?)
    }
}

/// Three series of two families with their metadata.
pub(crate) fn fill(storage: &MemoryStorage) {
    let mut batch = SampleBatch::new();
    for (name, job, pod, time) in [("up", "a", "x", 1_000), ("up", "b", "", 5_000), ("down", "a", "", 9_000)] {
        batch.push_float(&Labels::from_pairs([("__name__", name), ("job", job), ("k8s.pod", pod)]), time, 1.0);
    }
    let metadata = |help: &str| Metadata { family_type: FamilyType::Gauge, unit: "s".into(), help: help.into() };
    batch.push_metadata("up", metadata("old"));
    batch.push_metadata("up", metadata("is it \"up\"?"));
    batch.push_metadata("down", Metadata::default());
    storage.append(&batch).unwrap();
}

/// Exponential buckets on both sides of zero, some of them empty.
pub(crate) fn histogram() -> NativeHistogram {
    NativeHistogram {
        schema: 1,
        hint: ResetHint::Unknown,
        zero_threshold: 0.001,
        counts: HistogramCounts::Integer(BucketCounts {
            zero: 1,
            count: 9,
            positive: vec![2, 0, 3],
            negative: vec![1, 2],
        }),
        sum: 12.5,
        positive_spans: vec![BucketSpan { offset: -2, len: 2 }, BucketSpan { offset: 3, len: 1 }],
        negative_spans: vec![BucketSpan { offset: 1, len: 2 }],
        custom_values: Arc::from([]),
    }
}

/// Custom bounds.
pub(crate) fn custom_histogram() -> NativeHistogram {
    NativeHistogram {
        schema: -53,
        hint: ResetHint::Unknown,
        zero_threshold: 0.0,
        counts: HistogramCounts::Float(BucketCounts {
            zero: 0.0,
            count: 4.5,
            positive: vec![1.0, 1.5, 2.0],
            negative: vec![],
        }),
        sum: 3.0,
        positive_spans: vec![BucketSpan { offset: 0, len: 3 }],
        negative_spans: vec![],
        custom_values: Arc::from([0.5, 1.0]),
    }
}

/// What the clock of every test reads: a Tuesday in November 2023.
pub(crate) const NOW_MS: i64 = 1_700_000_000_123;

/// A state over `backend` with a pool of one thread and room for eight in its queue.
pub(crate) fn state(backend: Arc<dyn QueryBackend>) -> ApiState {
    let pool = ThreadPool::start("queries", 1, 8).unwrap();
    let clock = Arc::new(ManualClock::at(NOW_MS));
    ApiState::new(backend, Arc::new(pool), Arc::new(LossLedger::default()), clock, Budget::unlimited())
}

/// Points of one series at times of their own.
pub(crate) fn series<const N: usize>(labels: [(&str, &str); N], points: &[(i64, f64)]) -> ResultSeries {
    ResultSeries {
        labels: Labels::from_pairs(labels),
        times: PointTimes::Own(points.iter().map(|p| p.0).collect()),
        floats: points.iter().map(|p| p.1).collect(),
        histograms: Vec::new(),
    }
}

/// Status and body of `GET path`.
pub(crate) async fn get(router: &Router, path: &str) -> (u16, String) {
    send(router, Request::get(path).body(Body::empty()).unwrap()).await
}

/// Status and body of a form sent to `path`.
pub(crate) async fn post(router: &Router, path: &str, form: &str) -> (u16, String) {
    let request = Request::builder().method(Method::POST).uri(path);
    let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    send(router, request.body(Body::from(form.to_owned())).unwrap()).await
}

pub(crate) async fn send(router: &Router, request: Request<Body>) -> (u16, String) {
    text(router.clone().oneshot(request).await.unwrap()).await
}

pub(crate) async fn text(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}
