//! `POST` and `PUT /api/v1/admin/tsdb/…`: what changes the stored data, off unless it was switched on.
//!
//! | Answer | When |
//! |---|---|
//! | 204, or 200 with data | done |
//! | 202 | begun, as nobody waits for the end |
//! | 400 `bad_data` | a parameter is wrong, as with everything |
//! | 501 `unavailable` | the engine cannot do this; the text says what |
//! | 503 `unavailable` | the routes were not switched on |

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::StatusCode;
use kymo_core::config::ConfigDuration;
use kymo_core::{ErrorKind, QueryContext};
use serde_json::json;

use super::params::Params;
use super::{ApiState, run};
use crate::status::ApiError;

/// Does something to the engine, as long as the context is not cancelled; `Err` says why not. Blocking.
pub type AdminAction = Arc<dyn Fn(&QueryContext) -> Result<(), String> + Send + Sync>;

/// Takes a snapshot, of blocks only if told so, and gives its name; `Err` says why there is none. Blocking.
pub type SnapshotAction = Arc<dyn Fn(bool) -> Result<String, String> + Send + Sync>;

/// What the engine can do when it is asked to; what it cannot is `None`.
#[derive(Clone, Default)]
pub struct Admin {
    /// Moves everything into blocks and merges them as far as they ever will be.
    pub compact: Option<AdminAction>,
    /// Takes a snapshot below the data directory.
    pub snapshot: Option<SnapshotAction>,
}

/// The routes; without an [`Admin`] they answer that they are switched off.
pub fn admin_routes(state: ApiState, admin: Option<Admin>) -> Router {
    let tsdb = Router::new()
        .route("/delete_series", post(delete_series).put(delete_series))
        .route("/clean_tombstones", post(clean_tombstones).put(clean_tombstones))
        .route("/snapshot", post(snapshot).put(snapshot))
        .route("/compact", post(compact).put(compact));
    Router::new().nest("/api/v1/admin/tsdb", tsdb).with_state((state, admin))
}

type Asked = State<(ApiState, Option<Admin>)>;

fn switched_on(admin: Option<Admin>) -> Result<Admin, ApiError> {
    admin.ok_or_else(|| ApiError::of_kind(ErrorKind::unavailable(), "admin APIs disabled"))
}

fn not_built(what: &str) -> ApiError {
    ApiError::not_implemented(format!("{what} is not built yet: the engine keeps everything until its retention ends"))
}

/// `delete_series?match[]=…&start=…&end=…`
async fn delete_series(State((state, admin)): Asked, request: Request) -> Result<Response, ApiError> {
    switched_on(admin)?;
    let params = Params::read(request, state.options.form_bytes_max).await?;
    if !params.has("match[]") {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    params.optional_time("start")?;
    params.optional_time("end")?;
    params.matchers().map_err(|reason| ApiError::invalid_parameter("match[]", reason))?;
    Err(not_built("deleting series"))
}

async fn clean_tombstones(State((_, admin)): Asked) -> Result<Response, ApiError> {
    switched_on(admin)?;
    // Without deletes there is nothing to clean.
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `snapshot?skip_head=…`
async fn snapshot(State((state, admin)): Asked, request: Request) -> Result<Response, ApiError> {
    let admin = switched_on(admin)?;
    let params = Params::read(request, state.options.form_bytes_max).await?;
    let skip_head = flag(&params, "skip_head")?;
    let Some(snapshot) = admin.snapshot else { return Err(not_built("a snapshot")) };
    let patience = ConfigDuration::from_secs(24 * 60 * 60).as_duration();
    let refused = |reason: String| ApiError::internal(format!("create snapshot: {reason}"));
    let name = run(&state, patience, move |_| snapshot(skip_head).map_err(refused)).await?;
    Ok(axum::Json(json!({"status": "success", "data": {"name": name}})).into_response())
}

/// `compact?wait=true`
async fn compact(State((state, admin)): Asked, request: Request) -> Result<Response, ApiError> {
    let Some(compact) = switched_on(admin)?.compact else { return Err(not_built("compaction on request")) };
    let params = Params::read(request, state.options.form_bytes_max).await?;
    let waits = flag(&params, "wait")?;
    // As long as it takes: whoever waits asked for it.
    let patience = ConfigDuration::from_secs(24 * 60 * 60).as_duration();
    let work = async move { run(&state, patience, move |ctx| compact(ctx).map_err(ApiError::internal)).await };
    if waits {
        work.await?;
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    tokio::spawn(async move {
        if let Err(error) = work.await {
            tracing::warn!(
                error = error.message(),
                "a compaction that was asked for failed; it can be asked for again"
            );
        }
    });
    Ok(StatusCode::ACCEPTED.into_response())
}

/// A parameter that is `true` or `false`; absent it is `false`.
fn flag(params: &Params, name: &str) -> Result<bool, ApiError> {
    match params.first(name) {
        "" | "false" | "0" => Ok(false),
        "true" | "1" => Ok(true),
        other => Err(ApiError::invalid_parameter(
            name,
            format_args!("unable to parse boolean {}", kymo_core::text::QuotedText(other)),
        )),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::super::fake::{FakeBackend, state};
    use super::*;

    async fn ask(admin: Option<Admin>, path: &str) -> (u16, String) {
        let state = state(FakeBackend::new(|_, _| Ok(Default::default())));
        let request = Request::post(format!("/api/v1/admin/tsdb/{path}")).body(Body::empty()).unwrap();
        let answer = admin_routes(state, admin).oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn nothing_is_done_unless_it_was_switched_on() {
        for path in ["delete_series?match[]=up", "clean_tombstones", "snapshot", "compact"] {
            let (status, body) = ask(None, path).await;
            assert_eq!(status, 503, "{path}");
            assert!(body.contains(r#""errorType":"unavailable","error":"admin APIs disabled""#), "{path}: {body}");
        }
    }

    #[tokio::test]
    async fn parameters_are_checked_and_what_is_not_built_says_so() {
        let admin = || Some(Admin::default());
        assert_eq!(ask(admin(), "clean_tombstones").await, (204, String::new()));
        let rows = [
            ("delete_series", 400, "no match[] parameter provided"),
            ("delete_series?match[]={}", 400, "match[] must contain at least one non-empty matcher"),
            ("delete_series?match[]=up&start=x", 400, "invalid time value for 'start'"),
            ("delete_series?match[]=up", 501, "deleting series is not built yet"),
            ("snapshot?skip_head=perhaps", 400, "unable to parse boolean"),
            ("snapshot", 501, "a snapshot is not built yet"),
            ("compact", 501, "compaction on request is not built yet"),
        ];
        for (path, status, text) in rows {
            let (found, body) = ask(admin(), path).await;
            assert!(found == status && body.contains(text), "{path}: {found} {body}");
        }
    }

    #[tokio::test]
    async fn a_compaction_is_waited_for_if_asked() {
        let done: Admin = Admin { compact: Some(Arc::new(|_| Ok(()))), ..Admin::default() };
        assert_eq!(ask(Some(done.clone()), "compact?wait=true").await.0, 204);
        assert_eq!(ask(Some(done), "compact").await.0, 202);
        let failing = Admin { compact: Some(Arc::new(|_| Err("the disk is full".to_owned()))), ..Admin::default() };
        let (status, body) = ask(Some(failing.clone()), "compact?wait=true").await;
        assert!(status == 500 && body.contains("the disk is full"), "{body}");
        assert_eq!(ask(Some(failing), "compact?wait=false").await.0, 202);
    }

    #[tokio::test]
    async fn a_snapshot_is_answered_by_its_name() {
        let named = |skip_head: bool| if skip_head { Err("the disk is full".to_owned()) } else { Ok("now".to_owned()) };
        let admin = || Some(Admin { snapshot: Some(Arc::new(named)), ..Admin::default() });
        let (status, body) = ask(admin(), "snapshot?skip_head=false").await;
        assert_eq!((status, &*body), (200, r#"{"data":{"name":"now"},"status":"success"}"#));
        let (status, body) = ask(admin(), "snapshot?skip_head=true").await;
        assert!(status == 500 && body.contains("create snapshot: the disk is full"), "{body}");
    }
}
