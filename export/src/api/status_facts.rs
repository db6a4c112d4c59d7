//! What the parts of the program say of themselves, in the shapes of Prometheus' API.
//!
//! | Path below `/api/v1` | Fact of [`StatusSource`] |
//! |---|---|
//! | `targets` | `targets` |
//! | `scrape_pools` | `scrape_pools` |
//! | `scrape_pools/config`, `targets/relabel_steps` | `scrape_pool` |
//! | `rules` | `rule_groups` |
//! | `alerts` | `alerts` |
//! | `notifications` | `configuration` |
//! | `status/config` | `configuration` |
//! | `status/flags` | `flags` |
//! | `status/runtimeinfo` | `runtime_info`, `configuration` |

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use kymo_core::Clock;
use kymo_core::status::{ConfigurationStatus, StatusError, StatusSource, TargetHealth, TargetStatus};
use kymo_core::text::{DurationText, write_rfc3339};
use serde_json::{Map, Value, json};

use super::{rules, scrape_pool};

/// What Prometheus answers for a moment that never was.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// What the routes work with. Cloning shares everything.
#[derive(Clone)]
pub struct FactsState {
    /// Whose facts are shown.
    pub sources: Arc<dyn StatusSource>,
    /// The server's time.
    pub clock: Arc<dyn Clock>,
}

/// The routes of the table above.
pub fn status_routes(state: FactsState) -> Router {
    let v1 = Router::new()
        .route("/targets", get(targets))
        .route("/scrape_pools", get(scrape_pools))
        .route("/scrape_pools/config", get(scrape_pool::config))
        .route("/targets/relabel_steps", get(scrape_pool::relabel_steps))
        .route("/rules", get(rules::rules))
        .route("/alerts", get(rules::alerts))
        .route("/alertmanagers", get(rules::alertmanagers))
        .route("/notifications", get(notifications))
        .route("/notifications/live", get(notifications_live))
        .route("/status/config", get(config))
        .route("/status/flags", get(flags))
        .route("/status/runtimeinfo", get(runtime_info));
    Router::new().nest("/api/v1", v1).with_state(state)
}

/// A fact in its envelope, or why it cannot be had.
pub(super) fn answer(fact: Result<Value, StatusError>) -> Response {
    match fact {
        // The order of keys is Prometheus'; a JSON map would sort them.
        Ok(data) => {
            ([(CONTENT_TYPE, "application/json")], format!(r#"{{"status":"success","data":{data}}}"#)).into_response()
        }
        Err(error) => {
            let body = json!({"status": "error", "errorType": "unavailable", "error": error.to_string()});
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}

pub(super) fn moment(time_ms: Option<i64>) -> String {
    let Some(time_ms) = time_ms else { return NEVER.to_owned() };
    let mut text = String::new();
    write_rfc3339(&mut text, time_ms);
    text
}

/// `GET /api/v1/targets?state=active|dropped|any&scrapePool=NAME`
async fn targets(State(state): State<FactsState>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let parameter = |name: &str| {
        let found = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
        found.map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    let (asked, pool) = (parameter("state").to_ascii_lowercase(), parameter("scrapePool"));
    // A state that is none shows no targets at all.
    let wants = |state: &str| asked == state || asked.is_empty() || asked == "any";
    let targets = state.sources.targets();
    answer(targets.map(|targets| targets_json(&targets, &pool, wants("active"), wants("dropped"))))
}

/// Either list may be left out, as an empty one. Dropped targets are counted in all pools, whichever is asked for.
fn targets_json(targets: &[TargetStatus], pool: &str, with_active: bool, with_dropped: bool) -> Value {
    let is_dropped = |target: &&TargetStatus| target.health == TargetHealth::Dropped;
    let in_pool = |target: &&TargetStatus| pool.is_empty() || target.pool == pool;
    let mut dropped_counts: BTreeMap<&str, u64> = targets.iter().map(|target| (&*target.pool, 0)).collect();
    for target in targets.iter().filter(is_dropped) {
        *dropped_counts.entry(&*target.pool).or_default() += 1;
    }
    let active: Vec<Value> =
        targets.iter().filter(in_pool).filter(|target| with_active && !is_dropped(target)).map(active_json).collect();
    let dropped = targets.iter().filter(in_pool).filter(|target| with_dropped && is_dropped(target));
    let dropped: Vec<Value> = dropped
        .map(|target| json!({"discoveredLabels": target.discovered_labels, "scrapePool": target.pool}))
        .collect();
    let counts = if with_dropped { json!(dropped_counts) } else { Value::Null };
    json!({"activeTargets": active, "droppedTargets": dropped, "droppedTargetCounts": counts})
}

fn active_json(target: &TargetStatus) -> Value {
    let health = match target.health {
        TargetHealth::Up => "up",
        TargetHealth::Down => "down",
        TargetHealth::Unknown | TargetHealth::Dropped => "unknown",
    };
    json!({
        "discoveredLabels": target.discovered_labels,
        "labels": target.labels,
        "scrapePool": target.pool,
        "scrapeUrl": target.url,
        "globalUrl": target.url,
        "lastError": target.last_error,
        "lastScrape": moment(target.last_scrape_ms),
        "lastScrapeDuration": target.last_scrape_seconds,
        "health": health,
        "scrapeInterval": DurationText(target.interval_ms).to_string(),
        "scrapeTimeout": DurationText(target.timeout_ms).to_string(),
    })
}

/// `GET /api/v1/scrape_pools`: names of the jobs, sorted.
async fn scrape_pools(State(state): State<FactsState>) -> Response {
    answer(state.sources.scrape_pools().map(|mut pools| {
        pools.sort_unstable();
        json!({"scrapePools": pools})
    }))
}

/// `GET /api/v1/notifications`: what the operator should see to.
async fn notifications(State(state): State<FactsState>) -> Response {
    answer(state.sources.configuration().map(|configuration| {
        let configuration = configuration.unwrap_or_default();
        let failed = !configuration.reload_error.is_empty();
        let notices = failed.then(|| {
            json!({
                "text": "Configuration reload has failed.",
                "date": moment(Some(configuration.loaded_ms)),
                "active": true,
            })
        });
        Value::from(notices.into_iter().collect::<Vec<_>>())
    }))
}

/// `GET /api/v1/notifications/live`: no stream is kept open, which is what Prometheus says at its limit of streams.
async fn notifications_live() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// `GET /api/v1/status/config`: the configuration in force, secrets masked.
async fn config(State(state): State<FactsState>) -> Response {
    let configuration = state.sources.configuration();
    answer(configuration.map(|found| json!({"yaml": found.map(|found| found.text).unwrap_or_default()})))
}

/// `GET /api/v1/status/flags`
async fn flags(State(state): State<FactsState>) -> Response {
    answer(state.sources.flags().map(|flags| {
        let flags = flags.into_iter().map(|flag| (flag.name, Value::from(flag.value)));
        Value::from(flags.collect::<Map<_, _>>())
    }))
}

/// `GET /api/v1/status/runtimeinfo`. What only a Go program has is 0 or empty.
async fn runtime_info(State(state): State<FactsState>) -> Response {
    answer(runtime(&state))
}

fn runtime(state: &FactsState) -> Result<Value, StatusError> {
    let info = state.sources.runtime_info()?.unwrap_or_default();
    let ConfigurationStatus { loaded_ms, reload_error, .. } = state.sources.configuration()?.unwrap_or_default();
    Ok(json!({
        "startTime": moment(Some(info.started_ms)),
        "CWD": info.working_directory,
        "hostname": info.hostname,
        "serverTime": moment(Some(state.clock.now_ms())),
        "reloadConfigSuccess": reload_error.is_empty(),
        "lastConfigTime": moment(Some(loaded_ms)),
        "corruptionCount": info.corruptions,
        "goroutineCount": 0,
        "GOMAXPROCS": info.processors,
        "GOMEMLIMIT": info.memory_limit_bytes,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": DurationText(info.retention_ms).to_string(),
    }))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt;
    use kymo_core::SystemClock;
    use kymo_core::status::{FlagStatus, LabelMap, RuntimeInfo};
    use tower::ServiceExt;

    use super::*;

    struct Facts;

    impl StatusSource for Facts {
        fn targets(&self) -> Result<Vec<TargetStatus>, StatusError> {
            let labels = |name: &str| LabelMap::from([(name.to_owned(), "a:1".to_owned())]);
            let up = TargetStatus {
                pool: "node".to_owned(),
                url: "http://a:1/metrics".to_owned(),
                labels: labels("instance"),
                discovered_labels: labels("__address__"),
                health: TargetHealth::Up,
                last_scrape_ms: Some(1_700_000_000_250),
                last_scrape_seconds: 0.5,
                interval_ms: 15_000,
                timeout_ms: 10_000,
                ..TargetStatus::default()
            };
            let unasked = TargetStatus { pool: "api".to_owned(), ..TargetStatus::default() };
            let dropped = TargetStatus {
                pool: "node".to_owned(),
                discovered_labels: labels("__address__"),
                health: TargetHealth::Dropped,
                ..TargetStatus::default()
            };
            Ok(vec![up, unasked, dropped])
        }

        fn scrape_pools(&self) -> Result<Vec<String>, StatusError> {
            Ok(vec!["node".to_owned(), "idle".to_owned(), "api".to_owned()])
        }

        fn configuration(&self) -> Result<Option<ConfigurationStatus>, StatusError> {
            let reload_error = "no such file".to_owned();
            Ok(Some(ConfigurationStatus {
                text: "global: {}\n".to_owned(),
                loaded_ms: 1_700_000_000_000,
                reload_error,
            }))
        }

        fn flags(&self) -> Result<Vec<FlagStatus>, StatusError> {
            Ok(vec![FlagStatus { name: "listen".to_owned(), value: "127.0.0.1:9911".to_owned() }])
        }

        fn runtime_info(&self) -> Result<Option<RuntimeInfo>, StatusError> {
            Ok(Some(RuntimeInfo { retention_ms: 2_592_000_000, processors: 2, ..RuntimeInfo::default() }))
        }
    }

    async fn ask(path: &str) -> Value {
        let state = FactsState { sources: Arc::new(Facts), clock: Arc::new(SystemClock::new()) };
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = status_routes(state).oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        let answer: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(answer["status"], "success");
        answer["data"].clone()
    }

    #[tokio::test]
    async fn targets_are_told_by_state_and_pool() {
        let all = ask("/api/v1/targets").await;
        let active = json!({
            "discoveredLabels": {"__address__": "a:1"}, "labels": {"instance": "a:1"}, "scrapePool": "node",
            "scrapeUrl": "http://a:1/metrics", "globalUrl": "http://a:1/metrics", "lastError": "",
            "lastScrape": "2023-11-14T22:13:20.25Z", "lastScrapeDuration": 0.5, "health": "up",
            "scrapeInterval": "15s", "scrapeTimeout": "10s",
        });
        assert_eq!(all["activeTargets"][0], active);
        assert_eq!(all["activeTargets"][1]["lastScrape"], NEVER);
        assert_eq!(all["droppedTargets"], json!([{"discoveredLabels": {"__address__": "a:1"}, "scrapePool": "node"}]));
        assert_eq!(all["droppedTargetCounts"], json!({"api": 0, "node": 1}));
        let count = |answer: &Value, list: &str| answer[list].as_array().map(Vec::len);
        let active = ask("/api/v1/targets?state=active&scrapePool=node").await;
        assert_eq!((count(&active, "activeTargets"), count(&active, "droppedTargets")), (Some(1), Some(0)));
        assert_eq!(active["droppedTargetCounts"], Value::Null);
        let elsewhere = ask("/api/v1/targets?scrapePool=none").await;
        assert_eq!(elsewhere["droppedTargetCounts"], json!({"api": 0, "node": 1}));
        let unknown = ask("/api/v1/targets?state=bogus").await;
        assert_eq!((count(&unknown, "activeTargets"), count(&unknown, "droppedTargets")), (Some(0), Some(0)));
        let dropped = ask("/api/v1/targets?state=dropped").await;
        assert_eq!((count(&dropped, "activeTargets"), count(&dropped, "droppedTargets")), (Some(0), Some(1)));
    }

    #[tokio::test]
    async fn pools_configuration_flags_and_runtime_are_told() {
        assert_eq!(ask("/api/v1/scrape_pools").await, json!({"scrapePools": ["api", "idle", "node"]}));
        assert_eq!(ask("/api/v1/status/config").await, json!({"yaml": "global: {}\n"}));
        assert_eq!(ask("/api/v1/status/flags").await, json!({"listen": "127.0.0.1:9911"}));
        let runtime = ask("/api/v1/status/runtimeinfo").await;
        assert_eq!((&runtime["storageRetention"], &runtime["reloadConfigSuccess"]), (&json!("30d"), &json!(false)));
        assert_eq!(runtime["lastConfigTime"], "2023-11-14T22:13:20Z");
    }
}
