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
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::StatusCode;
use kymo_core::{Deletion, ErrorKind, QueryContext};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::params::Params;
use super::{ApiState, run};
use crate::status::ApiError;

/// Does something to the engine, as long as the context is not cancelled; `Err` says why not. Blocking.
pub type AdminAction = Arc<dyn Fn(&QueryContext) -> Result<(), String> + Send + Sync>;

/// Takes a snapshot, of blocks only if told so, and gives its name; `Err` says why there is none. Blocking.
pub type SnapshotAction = Arc<dyn Fn(bool) -> Result<String, String> + Send + Sync>;

/// Why the engine did not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminFailure {
    /// What the surface makes of it.
    pub kind: ErrorKind,
    /// What was the matter.
    pub message: String,
}

/// What a delete takes away, as the engine counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeleteFigures {
    /// Series that have a sample or a bucket to lose.
    pub series: u64,
    /// Samples.
    pub samples: u64,
    /// Buckets of rollups, of five minutes and of an hour; 0 from a server that does not tell.
    #[serde(default)]
    pub buckets: u64,
    /// Bytes of the values of both on disk.
    pub bytes: u64,
}

/// What cleaning gave back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CleanFigures {
    /// Block files that were written anew, or went.
    pub blocks: u64,
    /// Bytes by which they are smaller.
    pub bytes: u64,
}

/// What is wanted of a delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteMode {
    /// That it is done.
    Delete,
    /// The same, and to know what it took.
    Report,
    /// Only to know what it would take.
    DryRun,
}

/// Deletes, or says what would be; figures unless the mode is [`DeleteMode::Delete`]. Blocking.
pub type DeleteAction =
    Arc<dyn Fn(&Deletion, DeleteMode, &QueryContext) -> Result<DeleteFigures, AdminFailure> + Send + Sync>;

/// Gives the bytes of deleted samples back, as long as the context is not cancelled. Blocking.
pub type CleanAction = Arc<dyn Fn(&QueryContext) -> Result<CleanFigures, AdminFailure> + Send + Sync>;

/// What a policy of keeping is asked about: selectors with ages, the age of all others, and limits, each as the
/// configuration file has it; nothing at all stands for the policy in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetentionQuestion {
    /// Selector and age, in their order.
    pub rules: Vec<(String, String)>,
    /// Age of what no rule is about.
    pub raw: Option<String>,
    /// Age of rollups of five minutes; none are made without.
    pub five_minutes: Option<String>,
    /// Age of rollups of an hour.
    pub one_hour: Option<String>,
    /// Most bytes of blocks.
    pub size: Option<String>,
    /// Most of the disk.
    pub disk_share: Option<String>,
}

/// What a policy of keeping would let go of now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetentionAnswer {
    /// Too old, by rule; last what no rule is about.
    pub by_age: Vec<RetentionLoss>,
    /// What goes for the limit in bytes.
    pub by_size: DeleteFigures,
}

/// What one rule lets go of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RetentionLoss {
    /// The rule's matchers; empty for what no rule is about.
    pub series: String,
    /// How long it keeps them.
    pub keep: String,
    /// How much goes.
    pub goes: DeleteFigures,
}

/// Says what a policy would let go of. Blocking.
pub type RetentionAction =
    Arc<dyn Fn(&RetentionQuestion, &QueryContext) -> Result<RetentionAnswer, AdminFailure> + Send + Sync>;

/// What the engine can do when it is asked to; what it cannot is `None`.
#[derive(Clone, Default)]
pub struct Admin {
    /// Moves everything into blocks and merges them as far as they ever will be.
    pub compact: Option<AdminAction>,
    /// Takes a snapshot below the data directory.
    pub snapshot: Option<SnapshotAction>,
    /// Deletes series in a range of time.
    pub delete: Option<DeleteAction>,
    /// Gives the bytes of deleted samples back.
    pub clean: Option<CleanAction>,
    /// Says what a policy of keeping would let go of.
    pub retention: Option<RetentionAction>,
}

/// The routes; without an [`Admin`] they answer that they are switched off.
pub fn admin_routes(state: impl Into<Arc<ApiState>>, admin: Option<Admin>) -> Router {
    let tsdb = Router::new()
        .route("/delete_series", post(delete_series).put(delete_series))
        .route("/clean_tombstones", post(clean_tombstones).put(clean_tombstones))
        .route("/retention", post(retention).put(retention))
        .route("/snapshot", post(snapshot).put(snapshot))
        .route("/compact", post(compact).put(compact));
    Router::new().nest("/api/v1/admin/tsdb", tsdb).with_state((state.into(), admin))
}

/// As long as it takes: whoever waits asked for it.
pub(super) const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

type Asked = State<(Arc<ApiState>, Option<Admin>)>;

fn switched_on(admin: Option<Admin>) -> Result<Admin, ApiError> {
    admin.ok_or_else(|| ApiError::of_kind(ErrorKind::unavailable(), "admin APIs disabled"))
}

fn not_built(what: &str) -> ApiError {
    ApiError::not_implemented(format!("{what} is not built yet: the engine keeps everything until its retention ends"))
}

impl From<AdminFailure> for ApiError {
    fn from(failure: AdminFailure) -> ApiError {
        ApiError::of_kind(failure.kind, failure.message)
    }
}

fn figures(data: impl Serialize) -> Response {
    axum::Json(json!({"status": "success", "data": data})).into_response()
}

/// `delete_series?match[]=…&start=…&end=…`: 204. Kymo's own: `report=true` answers with what it took, `dry_run=true`
/// only says what it would.
async fn delete_series(State((state, admin)): Asked, request: Request) -> Result<Response, ApiError> {
    let delete = switched_on(admin)?.delete;
    let params = Params::read(request, state.options.form_bytes_max).await?;
    if !params.has("match[]") {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let start_ms = params.optional_time("start")?.unwrap_or(i64::MIN);
    let end_ms = params.optional_time("end")?.unwrap_or(i64::MAX);
    let any_of = params.matchers().map_err(|reason| ApiError::invalid_parameter("match[]", reason))?;
    let mode = match (flag(&params, "dry_run")?, flag(&params, "report")?) {
        (true, _) => DeleteMode::DryRun,
        (false, true) => DeleteMode::Report,
        (false, false) => DeleteMode::Delete,
    };
    let Some(delete) = delete else { return Err(not_built("deleting series")) };
    if end_ms < start_ms {
        return Err(ApiError::bad_data("end timestamp must not be before start time"));
    }
    let what = Deletion { any_of, start_ms, end_ms };
    let done = run(&state, PATIENCE, move |ctx| Ok(delete(&what, mode, ctx)?)).await?;
    Ok(if mode == DeleteMode::Delete { StatusCode::NO_CONTENT.into_response() } else { figures(done) })
}

/// `clean_tombstones`: 204, or with `report=true` what it gave back.
async fn clean_tombstones(State((state, admin)): Asked, request: Request) -> Result<Response, ApiError> {
    let clean = switched_on(admin)?.clean;
    let params = Params::read(request, state.options.form_bytes_max).await?;
    let reports = flag(&params, "report")?;
    let Some(clean) = clean else { return Err(not_built("cleaning tombstones")) };
    let done = run(&state, PATIENCE, move |ctx| Ok(clean(ctx)?)).await?;
    Ok(if reports { figures(done) } else { StatusCode::NO_CONTENT.into_response() })
}

/// `retention?match[]=…&keep[]=…&raw=…&5m=…&1h=…&size=…&disk_share=…`: what would go; of the policy in force without parameters.
async fn retention(State((state, admin)): Asked, request: Request) -> Result<Response, ApiError> {
    let retention = switched_on(admin)?.retention;
    let params = Params::read(request, state.options.form_bytes_max).await?;
    let texts = |name| params.all(name).map(str::to_owned).collect::<Vec<String>>();
    let (selectors, ages) = (texts("match[]"), texts("keep[]"));
    if selectors.len() != ages.len() {
        return Err(ApiError::bad_data("each match[] must come with a keep[]"));
    }
    let given = |name| Some(params.first(name).to_owned()).filter(|text| !text.is_empty());
    let question = RetentionQuestion {
        rules: selectors.into_iter().zip(ages).collect(),
        raw: given("raw"),
        size: given("size"),
        five_minutes: given("5m"),
        one_hour: given("1h"),
        disk_share: given("disk_share"),
    };
    let Some(retention) = retention else { return Err(not_built("looking ahead at retention")) };
    run(&state, PATIENCE, move |ctx| Ok(retention(&question, ctx)?)).await.map(figures)
}

/// `snapshot?skip_head=…`
async fn snapshot(State((state, admin)): Asked, request: Request) -> Result<Response, ApiError> {
    let admin = switched_on(admin)?;
    let params = Params::read(request, state.options.form_bytes_max).await?;
    let skip_head = flag(&params, "skip_head")?;
    let Some(snapshot) = admin.snapshot else { return Err(not_built("a snapshot")) };
    let refused = |reason: String| ApiError::internal(format!("create snapshot: {reason}"));
    let name = run(&state, PATIENCE, move |_| snapshot(skip_head).map_err(refused)).await?;
    Ok(axum::Json(json!({"status": "success", "data": {"name": name}})).into_response())
}

/// `compact?wait=true`
async fn compact(State((state, admin)): Asked, request: Request) -> Result<Response, ApiError> {
    let Some(compact) = switched_on(admin)?.compact else { return Err(not_built("compaction on request")) };
    let params = Params::read(request, state.options.form_bytes_max).await?;
    let waits = flag(&params, "wait")?;
    let work = async move { run(&state, PATIENCE, move |ctx| compact(ctx).map_err(ApiError::internal)).await };
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
    use std::sync::Mutex;

    use axum::body::Body;
    use http_body_util::BodyExt;
    use kymo_core::Matcher;
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
        let rows = [
            ("delete_series", 400, "no match[] parameter provided"),
            ("delete_series?match[]={}", 400, "match[] must contain at least one non-empty matcher"),
            ("delete_series?match[]=up&start=x", 400, "invalid time value for 'start'"),
            ("delete_series?match[]=up", 501, "deleting series is not built yet"),
            ("delete_series?match[]=up&dry_run=perhaps", 400, "unable to parse boolean"),
            ("clean_tombstones", 501, "cleaning tombstones is not built yet"),
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

    #[tokio::test]
    async fn a_delete_gets_what_was_asked_and_answers_as_asked() {
        let asked: Arc<Mutex<Vec<(Deletion, DeleteMode)>>> = Arc::default();
        let noted = asked.clone();
        let delete: DeleteAction = Arc::new(move |what, mode, _| {
            noted.lock().unwrap().push((what.clone(), mode));
            match what.end_ms {
                7_000 => Err(AdminFailure { kind: ErrorKind::Limit, message: "too many".to_owned() }),
                _ => Ok(DeleteFigures { series: 2, samples: 30, buckets: 4, bytes: 400 }),
            }
        });
        let clean: CleanAction = Arc::new(|_| Ok(CleanFigures { blocks: 1, bytes: 5 }));
        let admin = || Some(Admin { delete: Some(delete.clone()), clean: Some(clean.clone()), ..Admin::default() });
        let none = (204, String::new());
        assert_eq!(ask(admin(), "delete_series?match[]=up&match[]={a=~%22b%22}").await, none);
        let figures = r#"{"data":{"buckets":4,"bytes":400,"samples":30,"series":2},"status":"success"}"#.to_owned();
        assert_eq!(ask(admin(), "delete_series?match[]=up&start=1&end=2&dry_run=true").await, (200, figures.clone()));
        assert_eq!(ask(admin(), "delete_series?match[]=up&start=1&end=2&report=true").await, (200, figures));
        let (status, body) = ask(admin(), "delete_series?match[]=up&end=7").await;
        assert!(status == 422 && body.contains("too many"), "{status} {body}");
        let (status, body) = ask(admin(), "delete_series?match[]=up&start=3&end=2").await;
        assert!(status == 400 && body.contains("end timestamp must not be before start time"), "{status} {body}");
        assert_eq!(ask(admin(), "clean_tombstones").await, none);
        let figures = r#"{"data":{"blocks":1,"bytes":5},"status":"success"}"#.to_owned();
        assert_eq!(ask(admin(), "clean_tombstones?report=true").await, (200, figures));
        let up = || vec![Matcher::equal("__name__", "up")];
        let both = vec![up(), vec![Matcher::new("a", kymo_core::MatchOp::Regex, "b").unwrap()]];
        let of = |any_of, start_ms, end_ms| Deletion { any_of, start_ms, end_ms };
        let wanted = [
            (of(both, i64::MIN, i64::MAX), DeleteMode::Delete),
            (of(vec![up()], 1_000, 2_000), DeleteMode::DryRun),
            (of(vec![up()], 1_000, 2_000), DeleteMode::Report),
            (of(vec![up()], i64::MIN, 7_000), DeleteMode::Delete),
        ];
        assert_eq!(*asked.lock().unwrap(), wanted);
    }

    #[tokio::test]
    async fn a_policy_is_asked_about_in_pairs_of_selector_and_age() {
        let asked: Arc<Mutex<Vec<RetentionQuestion>>> = Arc::default();
        let noted = asked.clone();
        let retention: RetentionAction = Arc::new(move |question, _| {
            noted.lock().unwrap().push(question.clone());
            let goes = DeleteFigures { series: 1, samples: 2, buckets: 0, bytes: 3 };
            let by_age = vec![RetentionLoss { series: "{a=\"b\"}".to_owned(), keep: "3d".to_owned(), goes }];
            Ok(RetentionAnswer { by_age, by_size: DeleteFigures::default() })
        });
        let admin = || Some(Admin { retention: Some(retention.clone()), ..Admin::default() });
        let (status, body) = ask(admin(), "retention?match[]=up&keep[]=3d&match[]=a&keep[]=0&raw=9d&size=1GiB").await;
        assert_eq!(status, 200, "{body}");
        let rules = vec![("up".to_owned(), "3d".to_owned()), ("a".to_owned(), "0".to_owned())];
        let (raw, size) = (Some("9d".to_owned()), Some("1GiB".to_owned()));
        assert_eq!(*asked.lock().unwrap(), [RetentionQuestion { rules, raw, size, ..RetentionQuestion::default() }]);
        let goes = r#"{"goes":{"buckets":0,"bytes":3,"samples":2,"series":1},"keep":"3d","series":"{a=\"b\"}"}"#;
        assert!(body.contains(&format!("\"byAge\":[{goes}]")), "{body}");
        let (status, body) = ask(admin(), "retention?match[]=up").await;
        assert!(status == 400 && body.contains("each match[] must come with a keep[]"), "{body}");
        assert_eq!(ask(Some(Admin::default()), "retention").await.0, 501);
    }
}
