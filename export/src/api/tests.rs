//! The routes as a client sees them: status and body, byte for byte.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use axum::body::Body;
use http::{Method, Request, header};
use kymo_core::pool::{BlockingPool, Job, PoolFull};
use kymo_core::query::{
    Annotations, Grid, GridPresence, PointTimes, QueryError, QueryResult, QueryStats, QueryValue, ResultSeries,
    StatsWanted,
};
use kymo_core::{Budget, ErrorKind, Labels, ManualClock};
use tower::ServiceExt;

use super::fake::{FakeBackend, NOW_MS, custom_histogram, fill, get, histogram, post, send, series, state, text};
use super::{ApiOptions, Readiness, routes};
use crate::page;

fn answers(value: QueryValue) -> Arc<FakeBackend> {
    FakeBackend::new(move |_, _| Ok(QueryResult { value: value.clone(), ..QueryResult::default() }))
}

#[tokio::test]
async fn a_wrong_parameter_is_refused_with_prometheus_words() {
    let router = routes(state(answers(QueryValue::default())));
    let step = "zero or negative query resolution step widths are not accepted. Try a positive integer";
    let bad_data = [
        ("query?query=up&limit=x", r#"invalid parameter "limit": strconv.Atoi: parsing "x": invalid syntax"#.to_owned()),
        ("query?query=up&limit=-1", r#"invalid parameter "limit": limit must be non-negative"#.to_owned()),
        (
            "query?query=up&limit=99999999999999999999",
            r#"invalid parameter "limit": strconv.Atoi: parsing "99999999999999999999": value out of range"#.to_owned(),
        ),
        (
            "query?query=up&time=noon",
            r#"invalid parameter "time": invalid time value for 'time': cannot parse "noon" to a valid timestamp"#.to_owned(),
        ),
        (
            "query?query=up&timeout=soon",
            r#"invalid parameter "timeout": cannot parse "soon" to a valid duration"#.to_owned(),
        ),
        (
            "query?query=up&lookback_delta=5x",
            r#"error parsing lookback delta duration: cannot parse "5x" to a valid duration"#.to_owned(),
        ),
        ("query_range?query=up&end=1&step=1", r#"invalid parameter "start": cannot parse "" to a valid timestamp"#.to_owned()),
        ("query_range?query=up&start=0&end=x&step=1", r#"invalid parameter "end": cannot parse "x" to a valid timestamp"#.to_owned()),
        (
            "query_range?query=up&start=2&end=1&step=1",
            r#"invalid parameter "end": end timestamp must not be before start time"#.to_owned(),
        ),
        ("query_range?query=up&start=0&end=1", r#"invalid parameter "step": cannot parse "" to a valid duration"#.to_owned()),
        ("query_range?query=up&start=0&end=1&step=0", format!(r#"invalid parameter "step": {step}"#)),
        ("query_range?query=up&start=0&end=1&step=-5", format!(r#"invalid parameter "step": {step}"#)),
        ("query_range?query=up&start=0&end=1&step=NaN", format!(r#"invalid parameter "step": {step}"#)),
        ("query_range?query=up&start=0&end=1&step=0.0001", format!(r#"invalid parameter "step": {step}"#)),
        (
            "query_range?query=up&start=0&end=1&step=1e30",
            r#"invalid parameter "step": cannot parse "1e30" to a valid duration. It overflows int64"#.to_owned(),
        ),
        (
            "query_range?query=up&start=0&end=11001&step=1",
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)".to_owned(),
        ),
        ("series", "no match[] parameter provided".to_owned()),
        ("series?match[]=up{", r#"invalid parameter "match[]": 1:4: parse error: unexpected end of input inside braces"#.to_owned()),
        (
            r#"series?match[]={job=~".*"}"#,
            r#"invalid parameter "match[]": match[] must contain at least one non-empty matcher"#.to_owned(),
        ),
        ("series?match[]={}", r#"invalid parameter "match[]": match[] must contain at least one non-empty matcher"#.to_owned()),
        (
            "series?match[]=up&start=x",
            r#"invalid parameter "start": invalid time value for 'start': cannot parse "x" to a valid timestamp"#.to_owned(),
        ),
        ("labels?match[]=up{", "1:4: parse error: unexpected end of input inside braces".to_owned()),
        ("labels?match[]={}", "match[] must contain at least one non-empty matcher".to_owned()),
        ("label/job/values?match[]={}", "match[] must contain at least one non-empty matcher".to_owned()),
        ("labels?limit=-1", r#"invalid parameter "limit": limit must be non-negative"#.to_owned()),
        ("metadata?limit=x", "limit must be a number".to_owned()),
        ("metadata?limit_per_metric=x", "limit_per_metric must be a number".to_owned()),
    ];
    for (request, message) in bad_data {
        let path = format!("/api/v1/{}", request.replace('"', "%22").replace('{', "%7B").replace('}', "%7D"));
        let (status, body) = get(&router, &path).await;
        let message = message.replace('"', "\\\"");
        let wanted = format!(r#"{{"status":"error","errorType":"bad_data","error":"{message}"}}"#);
        assert_eq!((status, body), (400, wanted), "{request}");
    }
}

#[tokio::test]
async fn parameters_reach_the_backend_as_they_were_meant() {
    let backend = answers(QueryValue::default());
    let router = routes(state(backend.clone()));
    let instant = |at_ms| Grid::Instant { at_ms };
    let range = |start_ms, end_ms, step_ms| Grid::Range { start_ms, end_ms, step_ms };
    let rows = [
        ("query?query=up", instant(NOW_MS)),
        ("query?query=up&time=1700000000.5", instant(1_700_000_000_500)),
        ("query?query=up&time=2023-11-14T22:13:20Z", instant(1_700_000_000_000)),
        ("query_range?query=up&start=0&end=11000&step=1", range(0, 11_000_000, 1_000)),
        ("query_range?query=up&start=1.5&end=1970-01-01T00:01:00Z&step=1m30s", range(1_500, 60_000, 90_000)),
        ("query_range?query=up&start=5&end=5&step=0.25", range(5_000, 5_000, 250)),
    ];
    for (request, grid) in rows {
        let (status, body) = get(&router, &format!("/api/v1/{request}")).await;
        assert_eq!(status, 200, "{request}: {body}");
        let asked = backend.asked.lock().unwrap().pop().unwrap();
        assert_eq!((asked.text.as_str(), asked.grid), ("up", grid), "{request}");
        assert_eq!((asked.lookback, asked.limit, asked.stats), (None, 0, StatsWanted::None));
    }
    get(&router, "/api/v1/query?query=a%2Bb&lookback_delta=90&limit=7&stats=all").await;
    get(&router, "/api/v1/query?query=up&lookback_delta=-1&limit=0&stats=true").await;
    let asked = std::mem::take(&mut *backend.asked.lock().unwrap());
    let seen = asked.iter().map(|r| (r.text.as_str(), r.lookback, r.limit, r.stats)).collect::<Vec<_>>();
    assert_eq!(
        seen,
        [("a+b", Some(Duration::from_secs(90)), 7, StatsWanted::PerStep), ("up", None, 0, StatsWanted::Totals)]
    );
}

#[tokio::test]
async fn a_form_is_read_before_the_query_string_and_other_bodies_are_not_read() {
    let backend = answers(QueryValue::default());
    let router = routes(state(backend.clone()));
    let (status, _) = post(&router, "/api/v1/query?query=from_url&time=7", "query=sum+by+%28a%29%28up%29").await;
    assert_eq!(status, 200);
    let json = Request::post("/api/v1/query?query=from_url").header(header::CONTENT_TYPE, "application/json");
    send(&router, json.body(Body::from("query=from_body")).unwrap()).await;
    let charset = Request::post("/api/v1/query");
    let charset = charset.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded; charset=UTF-8");
    send(&router, charset.body(Body::from("query=with_charset")).unwrap()).await;
    let asked = std::mem::take(&mut *backend.asked.lock().unwrap());
    let seen = asked.iter().map(|r| (r.text.as_str(), r.grid.start_ms())).collect::<Vec<_>>();
    assert_eq!(seen, [("sum by (a)(up)", 7_000), ("from_url", NOW_MS), ("with_charset", NOW_MS)]);
    let form = "start=0&end=60&step=15&query=up";
    let (status, body) = post(&router, "/api/v1/query_range", form).await;
    assert_eq!((status, body.as_str()), (200, r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#));
}

#[tokio::test]
async fn limits_on_texts_are_named() {
    let mut state = state(answers(QueryValue::default()));
    state.options = Arc::new(ApiOptions { query_bytes_max: 4, form_bytes_max: 20, ..ApiOptions::default() });
    let router = routes(state);
    let (status, body) = get(&router, "/api/v1/query?query=abcde").await;
    let wanted = r#"{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 5 bytes are more than the limit of 4, which is fixed"}"#;
    assert_eq!((status, body.as_str()), (413, wanted));
    let (status, body) = post(&router, "/api/v1/query", "query=up&nonsense=0123456789").await;
    let wanted = r#"{"status":"error","errorType":"bad_data","error":"error parsing form values: the form is longer than the limit of 20 bytes, which is fixed"}"#;
    assert_eq!((status, body.as_str()), (413, wanted));
}

#[tokio::test]
async fn every_kind_of_result_is_written_exactly() {
    let grid = Grid::Range { start_ms: 1_000, end_ms: 3_000, step_ms: 1_000 };
    let mut gap = GridPresence::empty(grid);
    gap.set(0);
    gap.set(2);
    let on_grid = |presence, floats: &[f64], histograms| ResultSeries {
        labels: Labels::from_pairs([("a", "1")]),
        times: PointTimes::Grid(presence),
        floats: floats.to_vec(),
        histograms,
    };
    let rows = [
        (QueryValue::Scalar { time_ms: 1_500, value: 2.0 }, r#"{"resultType":"scalar","result":[1.500,"2"]}"#),
        (
            QueryValue::String { time_ms: -1_001, value: "a\"<b".into() },
            r#"{"resultType":"string","result":[-1.001,"a\"\u003cb"]}"#,
        ),
        (QueryValue::Vector(vec![]), r#"{"resultType":"vector","result":[]}"#),
        (QueryValue::Matrix(vec![]), r#"{"resultType":"matrix","result":[]}"#),
        (
            QueryValue::Vector(vec![
                series([("__name__", "up"), ("job", "a\nb")], &[(1_000, f64::NAN)]),
                series([], &[(1_020, f64::INFINITY)]),
                series([("x", "温")], &[(1_003, f64::NEG_INFINITY)]),
            ]),
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a\nb"},"value":[1,"NaN"]},{"metric":{},"value":[1.020,"+Inf"]},{"metric":{"x":"温"},"value":[1.003,"-Inf"]}]}"#,
        ),
        (
            QueryValue::Matrix(vec![
                on_grid(GridPresence::full(grid), &[1e21, 1e20, 1e-7], vec![]),
                on_grid(gap.clone(), &[0.5, 0.5], vec![]),
                series([], &[(1_001, -0.0), (2_010, 1e-6), (3_100, 0.1 + 0.2)]),
            ]),
            r#"{"resultType":"matrix","result":[{"metric":{"a":"1"},"values":[[1,"1e+21"],[2,"100000000000000000000"],[3,"1e-07"]]},{"metric":{"a":"1"},"values":[[1,"0.5"],[3,"0.5"]]},{"metric":{},"values":[[1.001,"-0"],[2.010,"0.000001"],[3.100,"0.30000000000000004"]]}]}"#,
        ),
        (
            QueryValue::Matrix(vec![on_grid(
                GridPresence::full(grid),
                &[7.0],
                vec![(0, custom_histogram()), (2, custom_histogram())],
            )]),
            r#"{"resultType":"matrix","result":[{"metric":{"a":"1"},"values":[[2,"7"]],"histograms":[[1,{"count":"4.5","sum":"3","buckets":[[3,"-Inf","0.5","1"],[0,"0.5","1","1.5"],[0,"1","+Inf","2"]]}],[3,{"count":"4.5","sum":"3","buckets":[[3,"-Inf","0.5","1"],[0,"0.5","1","1.5"],[0,"1","+Inf","2"]]}]]}]}"#,
        ),
        (
            QueryValue::Vector(vec![on_grid(
                GridPresence::full(Grid::Instant { at_ms: 5 }),
                &[],
                vec![(0, histogram())],
            )]),
            r#"{"resultType":"vector","result":[{"metric":{"a":"1"},"histogram":[0.005,{"count":"9","sum":"12.5","buckets":[[1,"-2","-1.414213562373095","2"],[1,"-1.414213562373095","-1","1"],[3,"-0.001","0.001","1"],[0,"0.35355339059327373","0.5","2"],[0,"2","2.82842712474619","3"]]}]}]}"#,
        ),
    ];
    for (value, wanted) in rows {
        let (status, body) = get(&routes(state(answers(value))), "/api/v1/query?query=x").await;
        assert_eq!((status, body), (200, format!(r#"{{"status":"success","data":{wanted}}}"#)));
    }
}

#[tokio::test]
async fn remarks_and_statistics_stand_beside_the_answer() {
    let backend = FakeBackend::new(|_, _| {
        let mut annotations = Annotations::default();
        (0..12).for_each(|n| annotations.warn(format!("w{n}")));
        annotations.info("i");
        let stats = QueryStats {
            total_time: Duration::from_millis(4),
            prepare_time: Duration::from_micros(500),
            eval_time: Duration::from_millis(3),
            total_queryable_samples: 7,
            peak_samples: 3,
            samples_per_step: vec![(1_500, 3), (2_000, 4)],
        };
        Ok(QueryResult { annotations, stats: Some(stats), ..QueryResult::default() })
    });
    let (_, body) = get(&routes(state(backend)), "/api/v1/query?query=x&stats=all").await;
    assert_eq!(
        body,
        concat!(
            r#"{"status":"success","data":{"resultType":"vector","result":[],"stats":{"timings":{"#,
            r#""evalTotalTime":0.003,"resultSortTime":0,"queryPreparationTime":0.0005,"innerEvalTime":0.0025,"#,
            r#""execQueueTime":0.001,"execTotalTime":0.004},"samples":{"totalQueryableSamplesPerStep":[[1.500,3],[2,4]],"#,
            r#""totalQueryableSamples":7,"peakSamples":3}}},"#,
            r#""warnings":["w0","w1","w2","w3","w4","w5","w6","w7","w8","w9","2 more warning annotations omitted"],"#,
            r#""infos":["i"]}"#,
        )
    );
}

#[tokio::test]
async fn a_long_range_is_written_like_its_single_points() {
    let grid = Grid::Range { start_ms: 1_699_999_990_250, end_ms: 1_700_000_990_250, step_ms: 500 };
    let floats: Vec<f64> = (0..grid.steps()).map(|n| if n % 7 < 4 { 1.5 } else { n as f64 / 3.0 }).collect();
    let wanted: Vec<String> = floats
        .iter()
        .enumerate()
        .map(|(n, v)| {
            let ms = grid.time_ms(n);
            let fraction = if ms % 1000 == 0 { String::new() } else { format!(".{:03}", ms % 1000) };
            format!("[{}{fraction},\"{v}\"]", ms / 1000)
        })
        .collect();
    let one = |name: &str| ResultSeries {
        labels: Labels::from_pairs([("n", name)]),
        times: PointTimes::Grid(GridPresence::full(grid)),
        floats: floats.clone(),
        histograms: vec![],
    };
    let value = QueryValue::Matrix(vec![one("a"), one("b")]);
    let (_, body) = get(&routes(state(answers(value))), "/api/v1/query_range?query=x&start=0&end=1&step=1").await;
    let list = wanted.join(",");
    assert_eq!(
        body,
        format!(
            r#"{{"status":"success","data":{{"resultType":"matrix","result":[{{"metric":{{"n":"a"}},"values":[{list}]}},{{"metric":{{"n":"b"}},"values":[{list}]}}]}}}}"#
        )
    );
}

fn with_series() -> Arc<FakeBackend> {
    let backend = answers(QueryValue::default());
    fill(&backend.storage);
    backend
}

#[tokio::test]
async fn the_catalogue_is_listed_sorted_filtered_and_cut() {
    let router = routes(state(with_series()));
    let rows = [
        ("series?match[]=up", r#"[{"__name__":"up","job":"a","k8s.pod":"x"},{"__name__":"up","job":"b"}]"#, ""),
        ("series?match[]=up&match[]={job=\"a\"}&start=2&end=6", r#"[{"__name__":"up","job":"b"}]"#, ""),
        ("series?match[]=nothing", "[]", ""),
        (
            "series?match[]=up&limit=1",
            r#"[{"__name__":"up","job":"a","k8s.pod":"x"}]"#,
            "results truncated due to limit",
        ),
        ("labels", r#"["__name__","job","k8s.pod"]"#, ""),
        ("labels?match[]=down", r#"["__name__","job"]"#, ""),
        ("labels?limit=2", r#"["__name__","job"]"#, "results truncated due to limit"),
        ("label/__name__/values", r#"["down","up"]"#, ""),
        ("label/job/values?match[]={__name__=~\"d.*\"}", r#"["a"]"#, ""),
        ("label/U__k8s_2e_pod/values", r#"["x"]"#, ""),
        ("label/k8s.pod/values", r#"["x"]"#, ""),
        ("label/nothing/values", "[]", ""),
    ];
    for (request, data, warning) in rows {
        let path = format!("/api/v1/{}", request.replace('"', "%22").replace('{', "%7B").replace('}', "%7D"));
        let warnings = if warning.is_empty() { String::new() } else { format!(r#","warnings":["{warning}"]"#) };
        let wanted = format!(r#"{{"status":"success","data":{data}{warnings}}}"#);
        assert_eq!(get(&router, &path).await, (200, wanted), "{request}");
    }
    let (_, body) = post(&router, "/api/v1/series", "match%5B%5D=down").await;
    assert_eq!(body, r#"{"status":"success","data":[{"__name__":"down","job":"a"}]}"#);
    let (_, body) = post(&router, "/api/v1/labels", "match%5B%5D=down&limit=1").await;
    assert_eq!(body, r#"{"status":"success","data":["__name__"],"warnings":["results truncated due to limit"]}"#);
}

#[tokio::test]
async fn metadata_is_listed_by_family() {
    let router = routes(state(with_series()));
    let up = r#""up":[{"type":"gauge","unit":"s","help":"is it \"up\"?"},{"type":"gauge","unit":"s","help":"old"}]"#;
    let down = r#""down":[{"type":"unknown","unit":"","help":""}]"#;
    let rows = [
        ("metadata", format!("{down},{up}")),
        ("metadata?metric=up", up.to_owned()),
        ("metadata?metric=other", String::new()),
        ("metadata?limit=1", down.to_owned()),
        ("metadata?limit=0", String::new()),
        ("metadata?metric=up&limit_per_metric=1", format!("{}]", up.split_once(",{").unwrap().0)),
    ];
    for (request, data) in rows {
        let wanted = format!(r#"{{"status":"success","data":{{{data}}}}}"#);
        assert_eq!(get(&router, &format!("/api/v1/{request}")).await, (200, wanted), "{request}");
    }
}

#[tokio::test]
async fn errors_of_the_backend_keep_their_kind() {
    let rows = [
        (
            QueryError::parse("1:3: parse error: unexpected end of input", Some((2, 3))),
            400,
            "bad_data",
            r#"invalid parameter \"query\": 1:3: parse error: unexpected end of input"#,
        ),
        (QueryError::execute(ErrorKind::Invalid, "many-to-many"), 422, "execution", "many-to-many"),
        (
            QueryError::execute(ErrorKind::Timeout, "query timed out in expression evaluation"),
            503,
            "timeout",
            "query timed out in expression evaluation: more was needed than 120s, which is the limit \
             (the parameter timeout sets it, up to --query-timeout)",
        ),
        (QueryError::execute(ErrorKind::Cancelled, "query was canceled"), 499, "canceled", "query was canceled"),
        (QueryError::execute(ErrorKind::Internal, "bad block"), 500, "internal", "bad block"),
    ];
    for (error, status, error_type, message) in rows {
        let backend = FakeBackend::new(move |_, _| Err(error.clone()));
        let wanted = format!(r#"{{"status":"error","errorType":"{error_type}","error":"{message}"}}"#);
        assert_eq!(get(&routes(state(backend)), "/api/v1/query?query=x").await, (status, wanted));
    }
}

#[tokio::test]
async fn a_panic_of_the_backend_is_a_500_and_the_next_query_is_answered() {
    let backend = FakeBackend::new(|request, _| match request.text.as_str() {
        "bug" => panic!("a bug of the engine"),
        _ => Ok(QueryResult::default()),
    });
    let router = routes(state(backend));
    let wanted = r#"{"status":"error","errorType":"internal","error":"the query failed on a fault of the server"}"#;
    assert_eq!(get(&router, "/api/v1/query?query=bug").await, (500, wanted.to_owned()));
    assert_eq!(get(&router, "/api/v1/query?query=up").await.0, 200);
}

/// Refuses everything, or keeps the jobs without running them.
struct StuckPool(Option<mpsc::Sender<Job>>);

impl BlockingPool for StuckPool {
    fn try_execute(&self, job: Job) -> Result<(), PoolFull> {
        match &self.0 {
            Some(jobs) => jobs.send(job).map_err(|_| PoolFull { name: "gone".into(), limit: 0 }),
            None => Err(PoolFull { name: "queries".into(), limit: 8 }),
        }
    }
}

#[tokio::test]
async fn a_full_pool_is_unavailable_for_a_second() {
    let mut state = state(answers(QueryValue::default()));
    state.pool = Arc::new(StuckPool(None));
    let request = Request::get("/api/v1/query?query=x").body(Body::empty()).unwrap();
    let response = routes(state).oneshot(request).await.unwrap();
    assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    let wanted = r#"{"status":"error","errorType":"unavailable","error":"the \"queries\" pool is full: 8 jobs are waiting, which is the limit and fixed; ask again later"}"#;
    assert_eq!(text(response).await, (503, wanted.to_owned()));
}

#[tokio::test]
async fn waiting_in_the_queue_counts_into_the_timeout() {
    let clock = Arc::new(ManualClock::at(NOW_MS));
    let (jobs, queue) = mpsc::channel();
    let backend = answers(QueryValue::default());
    let mut state = state(backend.clone());
    (state.pool, state.clock) = (Arc::new(StuckPool(Some(jobs))), clock.clone());
    let router = routes(state);
    let asking = tokio::spawn(async move { get(&router, "/api/v1/query?query=x&timeout=5s").await });
    let job = loop {
        match queue.try_recv() {
            Ok(job) => break job,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    clock.advance(Duration::from_secs(6));
    job();
    let (status, body) = asking.await.unwrap();
    let wanted = r#"{"status":"error","errorType":"timeout","error":"query timed out in query queue: more was needed "#;
    assert!(status == 503 && body.starts_with(wanted) && body.contains("--query-timeout"), "{status} {body}");
    assert!(backend.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_timeout_is_capped_and_sets_the_deadline() {
    let (sender, deadlines) = mpsc::channel();
    let backend = FakeBackend::new(move |_, ctx| {
        sender.send(ctx.deadline).unwrap();
        Ok(QueryResult::default())
    });
    let router = routes(state(backend));
    for (timeout, seconds) in [("", 120), ("&timeout=5", 5), ("&timeout=1h", 120)] {
        get(&router, &format!("/api/v1/query?query=x{timeout}")).await;
        assert_eq!(deadlines.recv().unwrap(), Some(Duration::from_secs(seconds)), "{timeout}");
    }
    let (status, body) = get(&router, "/api/v1/query?query=x&timeout=0").await;
    assert_eq!((status, body.contains("query timed out in query queue")), (503, true), "{body}");
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_query() {
    let (started, on_start) = tokio::sync::oneshot::channel();
    let started = std::sync::Mutex::new(Some(started));
    let (ended, on_end) = mpsc::channel();
    let backend = FakeBackend::new(move |_, ctx| {
        started.lock().unwrap().take().unwrap().send(()).unwrap();
        while ctx.check().is_ok() {
            std::thread::yield_now();
        }
        ended.send(ctx.cancel.is_cancelled()).unwrap();
        Err(ctx.check().unwrap_err().into())
    });
    let router = routes(state(backend));
    let asking = tokio::spawn(async move { get(&router, "/api/v1/query?query=x").await });
    on_start.await.unwrap();
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    assert!(on_end.recv().unwrap());
}

#[tokio::test]
async fn a_client_that_goes_away_while_it_waits_is_never_asked_for() {
    let (started, on_start) = tokio::sync::oneshot::channel();
    let started = std::sync::Mutex::new(Some(started));
    let (release, on_release) = mpsc::channel::<()>();
    let on_release = std::sync::Mutex::new(on_release);
    let backend = FakeBackend::new(move |request, _| {
        if request.text == "first" {
            started.lock().unwrap().take().unwrap().send(()).unwrap();
            on_release.lock().unwrap().recv().unwrap();
        }
        Ok(QueryResult::default())
    });
    let options = ApiOptions { queries_max: 1, ..ApiOptions::default() };
    let state = Arc::new(state(backend.clone()).with_options(options));
    let router = routes(state.clone());
    let ask = |text: &'static str| {
        let router = router.clone();
        tokio::spawn(async move { get(&router, &format!("/api/v1/query?query={text}")).await })
    };
    let first = ask("first");
    on_start.await.unwrap();
    let waiting = ask("gone");
    while state.queue.lengths() != (1, 1) {
        tokio::task::yield_now().await;
    }
    assert_eq!(state.book.shown().0.len(), 2);
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    assert_eq!(state.book.shown().0.len(), 1);
    let next = ask("next");
    release.send(()).unwrap();
    assert_eq!((first.await.unwrap().0, next.await.unwrap().0), (200, 200));
    let asked: Vec<String> = backend.asked.lock().unwrap().iter().map(|request| request.text.clone()).collect();
    assert_eq!(asked, ["first", "next"]);
}

#[tokio::test]
async fn an_answer_beyond_the_memory_limit_is_refused_and_its_memory_given_back() {
    let points: Vec<(i64, f64)> = (0..10_000).map(|n| (n, n as f64)).collect();
    let mut state = state(answers(QueryValue::Matrix(vec![series([], &points)])));
    state.budget = Budget::root("process", 1 << 30);
    state.options = Arc::new(ApiOptions { query_memory_max: 100_000, ..ApiOptions::default() });
    let budget = state.budget.clone();
    let (status, body) = get(&routes(state), "/api/v1/query?query=x").await;
    assert_eq!(status, 422, "{body}");
    assert!(body.contains(r#"memory limit \"process/query\" of 100000 bytes reached"#), "{body}");
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn an_answer_counts_with_its_columns_and_its_text() {
    let points: Vec<(i64, f64)> = (0..10_000).map(|n| (n * 15_000, n as f64 / 7.0)).collect();
    let value = QueryValue::Matrix(vec![series([], &points)]);
    let columns = QueryResult { value: value.clone(), ..QueryResult::default() }.bytes();
    assert!(columns >= 160_000, "{columns} bytes for times and values");
    let answered_within = async |query_memory_max: u64| {
        let mut state = state(answers(value.clone()));
        state.options = Arc::new(ApiOptions { query_memory_max, ..ApiOptions::default() });
        get(&routes(state), "/api/v1/query?query=x").await
    };
    let (mut refused, mut answered) = (0, 1 << 30);
    while answered - refused > 1 {
        let middle = (refused + answered) / 2;
        let (status, body) = answered_within(middle).await;
        match status {
            200 => answered = middle,
            _ => {
                assert!(status == 422 && body.contains("--query-memory sets it"), "{middle}: {status} {body}");
                refused = middle;
            }
        }
    }
    let (_, text) = answered_within(answered).await;
    let least = columns + text.len() as u64;
    assert!(answered >= least, "{answered} bytes are enough for {least}");
    assert!(answered < 4 * least, "{answered} bytes are needed for {least}");
}

#[tokio::test]
async fn an_answers_memory_is_held_until_it_is_sent() {
    let mut state = state(answers(QueryValue::Vector(vec![series([], &[(0, 1.0)])])));
    state.budget = Budget::root("process", 1 << 30);
    let budget = state.budget.clone();
    let request = Request::get("/api/v1/query?query=x").body(Body::empty()).unwrap();
    let response = routes(state).oneshot(request).await.unwrap();
    assert!(budget.used() > 0);
    let (_, body) = text(response).await;
    assert_eq!(body, r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[0,"1"]}]}}"#);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn the_server_tells_its_build_losses_and_health() {
    let mut state = state(answers(QueryValue::default()));
    state.readiness = Readiness::starting();
    let readiness = state.readiness.clone();
    state.ledger.refuse("remote_write", "bad_snappy", 2, 77, || "byte 3".into());
    let router = routes(state);
    let (status, body) = get(&router, "/api/v1/status/buildinfo").await;
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &json["data"]["version"]), (200, &super::API_VERSION.into()));
    assert!(json["data"].get("features").is_none());
    let (_, body) = get(&router, "/api/v1/status/drops").await;
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&body).unwrap(),
        serde_json::json!({"status": "success", "data": {
            "received": {"remote_write": {"received": 2, "stored": 0, "identical": 0, "replaced": 0, "rejected": 2}},
            "losses": [{"source": "remote_write", "reason": "bad_snappy", "count": 2, "last_ms": 77, "example": "byte 3"}],
        }})
    );
    assert_eq!(get(&router, "/-/healthy").await, (200, "Kymo is Healthy.\n".to_owned()));
    assert_eq!(get(&router, "/-/ready").await, (503, "Kymo is not Ready.\n".to_owned()));
    readiness.set(true);
    for (path, method) in [("/-/ready", Method::GET), ("/-/ready", Method::HEAD), ("/-/healthy", Method::HEAD)] {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        assert_eq!(send(&router, request).await.0, 200);
    }
    let put = Request::put("/api/v1/query").body(Body::empty()).unwrap();
    assert_eq!(send(&router, put).await.0, 405);
    assert_eq!(get(&router, "/api/v1/nothing").await.0, 404);
}

#[tokio::test]
async fn the_page_answers_a_query_without_a_script_and_lets_no_text_become_markup() {
    let backend = FakeBackend::new(|request, _| match request.text.as_str() {
        "bad<" => Err(QueryError::parse("1:4: parse error: unexpected <op:<>", None)),
        _ => Ok(QueryResult {
            value: QueryValue::Vector(vec![series([("__name__", "up"), ("job", "<script>")], &[(1_500, 0.25)])]),
            ..QueryResult::default()
        }),
    });
    let router = page::routes(state(backend));
    let request = Request::get("/").header(header::HOST, "metrics.example:9911\"<b>").body(Body::empty()).unwrap();
    let (status, html) = send(&router, request).await;
    assert_eq!(status, 200);
    assert!(html.contains("url: http://metrics.example:9911&quot;&lt;b&gt;/api/v1/write"), "{html}");
    assert!(!html.contains("<table>"));
    let (status, html) = get(&router, "/?query=up%22%3E&time=2").await;
    assert_eq!(status, 200);
    assert!(html.contains(r#"value="up&quot;&gt;""#), "{html}");
    assert!(
        html.contains(
            "<td>up{job=&quot;&lt;script&gt;&quot;}</td><td>1970-01-01T00:00:01.5Z</td><td class=\"n\">0.25</td>"
        ),
        "{html}"
    );
    assert!(!html.contains("<script>"));
    let (status, html) = get(&router, "/?query=bad%3C").await;
    assert_eq!(status, 400);
    assert!(html.contains("1:4: parse error: unexpected &lt;op:&lt;&gt;"), "{html}");
}
