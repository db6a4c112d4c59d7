//! The API over the real engine and an in-memory store: what needs more of a backend than a fake has.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use kymo_core::pool::ThreadPool;
use kymo_core::status::{LabelMap, StatusError, StatusSource};
use kymo_core::{
    Budget, Clock, Exemplar, Labels, LossLedger, ManualClock, MemoryStorage, MetricStorage, QueryBackend, QueryContext,
    SampleBatch,
};
use kymo_export::api::{ApiState, routes};
use kymo_export::client::{ClientOptions, PrometheusClient};
use tower::ServiceExt;

const NOW_MS: i64 = 1_700_000_000_000;

fn state() -> ApiState {
    let clock = Arc::new(ManualClock::at(NOW_MS));
    let storage = Arc::new(MemoryStorage::default());
    let labels = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied());
    let bucket = labels(&[("__name__", "h_bucket"), ("le", "1")]);
    let mut batch = SampleBatch::new();
    batch.push_float(&bucket, NOW_MS - 1_000, 3.0);
    batch.push_float(&labels(&[("__name__", "up"), ("job", "b\"\n\\")]), NOW_MS - 2_500, 1e6);
    batch.push_float(&labels(&[("__name__", "up"), ("job", "a")]), NOW_MS - 2_000, f64::NAN);
    batch.push_float(&labels(&[("__name__", "up"), ("job", "a")]), NOW_MS - 1_000, 0.5);
    // Gone: a marker is its newest sample.
    batch.push_float(&labels(&[("__name__", "up"), ("job", "gone")]), NOW_MS - 2_000, 1.0);
    batch.push_stale(&labels(&[("__name__", "up"), ("job", "gone")]), NOW_MS - 1_000);
    batch.push_float(&labels(&[("__name__", "up"), ("job", "old")]), NOW_MS - 400_000, 1.0);
    for (time_ms, trace) in [(NOW_MS - 9_750, "x"), (NOW_MS - 5_000, "y\"")] {
        let exemplar = Exemplar { labels: labels(&[("trace_id", trace)]), value: 0.25, time_ms };
        batch.push_exemplar(&bucket, exemplar);
    }
    assert_eq!(storage.append(&batch).unwrap().rejected, []);
    let backend = Arc::new(kymo_query::Engine::new(storage));
    let pool = Arc::new(ThreadPool::start("queries", 2, 16).unwrap());
    ApiState::new(backend, pool, Arc::new(LossLedger::default()), clock as Arc<dyn Clock>, Budget::unlimited())
        .with_sources(Arc::new(External))
}

async fn get(path: &str) -> (StatusCode, String, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = routes(state()).oneshot(request).await.unwrap();
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    let (status, body) = (response.status(), response.into_body().collect().await.unwrap().to_bytes());
    (status, kind, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn exemplars_of_every_selector_of_an_expression_are_listed() {
    let query = "query=histogram_quantile(0.9,%20sum%20by%20(le)%20(rate(h_bucket%5B5m%5D)))%20%2B%20up";
    let (status, _, body) = get(&format!("/api/v1/query_exemplars?{query}&start=1699999990.25&end=1700000000")).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(
        body,
        concat!(
            r#"{"status":"success","data":[{"seriesLabels":{"__name__":"h_bucket","le":"1"},"exemplars":["#,
            r#"{"labels":{"trace_id":"x"},"value":"0.25","timestamp":1699999990.250},"#,
            r#"{"labels":{"trace_id":"y\""},"value":"0.25","timestamp":1699999995}]}]}"#,
        )
    );
    let (_, _, body) = get("/api/v1/query_exemplars?query=h_bucket&start=1699999991&end=1699999994").await;
    assert_eq!(body, r#"{"status":"success","data":[]}"#);
    let (status, _, body) = get("/api/v1/query_exemplars?query=h_bucket&start=2&end=1").await;
    assert_eq!(status, 400);
    assert!(body.contains("end timestamp must not be before start timestamp"), "{body}");
    let (status, _, body) = get("/api/v1/query_exemplars?query=sum(").await;
    assert_eq!(status, 400);
    assert!(body.contains(r#""errorType":"bad_data","error":"1:5: parse error: unclosed left parenthesis""#), "{body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_reads_the_exemplars_that_the_api_writes() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let state = state();
    let direct = state.backend.clone();
    let server = tokio::spawn(async move { axum::serve(listener, routes(state)).await });
    let client = PrometheusClient::new(ClientOptions::new(&url), tokio::runtime::Handle::current()).unwrap();
    let ask = move |backend: &dyn QueryBackend| {
        backend.exemplars("h_bucket", i64::MIN, NOW_MS, &QueryContext::unlimited()).unwrap()
    };
    let (over_http, here) = tokio::task::spawn_blocking(move || (ask(&client), ask(&*direct))).await.unwrap();
    assert_eq!(over_http, here);
    assert_eq!(over_http[0].1.len(), 2);
    server.abort();
}

/// Knows the external labels of the server.
struct External;

impl StatusSource for External {
    fn external_labels(&self) -> Result<Option<LabelMap>, StatusError> {
        let labels = [("region", "eu"), ("job", "outer")];
        Ok(Some(labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()))
    }
}

#[tokio::test]
async fn federation_shows_the_newest_live_samples_with_their_times() {
    let (status, kind, body) = get("/federate?match[]=up&match[]={__name__=~%22h.*%22}&match[]=up{job=%22a%22}").await;
    assert_eq!((status, kind.as_str()), (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(
        body,
        concat!(
            "# TYPE h_bucket untyped\n",
            "h_bucket{le=\"1\",instance=\"\",job=\"outer\",region=\"eu\"} 3 1699999999000\n",
            "# TYPE up untyped\n",
            "up{job=\"a\",instance=\"\",region=\"eu\"} 0.5 1699999999000\n",
            "up{job=\"b\\\"\\n\\\\\",instance=\"\",region=\"eu\"} 1e+06 1699999997500\n",
        )
    );
    assert_eq!(get("/federate").await.2, "");
    let (status, _, body) = get("/federate?match[]=up{").await;
    assert_eq!(status, 400, "{body}");
}
