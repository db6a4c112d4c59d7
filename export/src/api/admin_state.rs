//! `POST /api/v1/admin/state/{get,put,delete,list}`: the small facts that the system keeps of itself, off with the rest of
//! the admin API.
//!
//! | Path | Parameters | Data |
//! |---|---|---|
//! | `get` | `key` | `{"value": "…" or null, "hex": "…"}`; 404 for a key without a value |
//! | `put` | `key`, and `value` or `hex` | `{}` |
//! | `delete` | `key` | `{"deleted": true or false}` |
//! | `list` | `prefix` | the keys, sorted |
//!
//! A value is bytes: `hex` has them all, `value` is there where they are text.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::StatusCode;
use kymo_core::state::{StateError, StateStore};
use kymo_core::{ErrorKind, QueryContext};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::admin::PATIENCE;
use super::params::Params;
use super::{ApiState, run};
use crate::status::ApiError;

type Asked = State<(Arc<ApiState>, Option<Arc<dyn StateStore>>)>;

/// What `get` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateValue {
    /// The value, if it is text.
    pub value: Option<String>,
    /// Its bytes, as pairs of hexadecimal digits.
    pub hex: String,
}

impl StateValue {
    /// The value's bytes; `None` if they are not told as they should be.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        unhex(&self.hex)
    }
}

/// Bytes as pairs of hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).map(|digit| digit as u8);
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

/// The routes; without a store they answer that they are switched off.
pub fn state_routes(state: impl Into<Arc<ApiState>>, store: Option<Arc<dyn StateStore>>) -> Router {
    let routes = Router::new()
        .route("/get", post(get))
        .route("/put", post(put).put(put))
        .route("/delete", post(delete))
        .route("/list", post(list));
    Router::new().nest("/api/v1/admin/state", routes).with_state((state.into(), store))
}

fn refused(error: StateError) -> ApiError {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(below) = cause {
        let _ = write!(text, ": {below}");
        cause = below.source();
    }
    ApiError::of_kind(error.kind(), text)
}

/// Does something with the store on a thread that may wait.
async fn with<T: Send + 'static>(
    state: &ApiState,
    store: Option<Arc<dyn StateStore>>,
    work: impl FnOnce(&dyn StateStore) -> Result<T, StateError> + Send + 'static,
) -> Result<T, ApiError> {
    let Some(store) = store else {
        return Err(ApiError::of_kind(ErrorKind::unavailable(), "admin APIs disabled"));
    };
    run(state, PATIENCE, move |_: &QueryContext| work(&*store).map_err(refused)).await
}

fn data(data: impl Serialize) -> Response {
    axum::Json(json!({"status": "success", "data": data})).into_response()
}

async fn get(State((state, store)): Asked, request: Request) -> Result<Response, ApiError> {
    let params = Params::read(request, state.options.form_bytes_max).await?;
    let key = params.first("key").to_owned();
    let found = with(&state, store, move |store| store.get(&key)).await?;
    let Some(value) = found else {
        let absent = json!({"status": "error", "errorType": "not_found", "error": "the key has no value"});
        return Ok((StatusCode::NOT_FOUND, axum::Json(absent)).into_response());
    };
    let hex = hex(&value);
    Ok(data(StateValue { value: String::from_utf8(value).ok(), hex }))
}

async fn put(State((state, store)): Asked, request: Request) -> Result<Response, ApiError> {
    let params = Params::read(request, state.options.form_bytes_max).await?;
    let key = params.first("key").to_owned();
    let value = match (params.has("value"), params.has("hex")) {
        (true, false) => params.first("value").as_bytes().to_vec(),
        (false, true) => unhex(params.first("hex"))
            .ok_or_else(|| ApiError::invalid_parameter("hex", "expected pairs of hexadecimal digits"))?,
        _ => return Err(ApiError::bad_data("give one of value and hex")),
    };
    with(&state, store, move |store| store.put(&key, &value)).await?;
    Ok(data(json!({})))
}

async fn delete(State((state, store)): Asked, request: Request) -> Result<Response, ApiError> {
    let params = Params::read(request, state.options.form_bytes_max).await?;
    let key = params.first("key").to_owned();
    let deleted = with(&state, store, move |store| store.delete(&key)).await?;
    Ok(data(json!({"deleted": deleted})))
}

async fn list(State((state, store)): Asked, request: Request) -> Result<Response, ApiError> {
    let params = Params::read(request, state.options.form_bytes_max).await?;
    let prefix = params.first("prefix").to_owned();
    Ok(data(with(&state, store, move |store| store.list(&prefix)).await?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use axum::body::Body;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::super::fake::{FakeBackend, state};
    use super::*;

    /// A store of text that refuses one key.
    #[derive(Default)]
    struct Store(Mutex<BTreeMap<String, Vec<u8>>>);

    impl StateStore for Store {
        fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StateError> {
            if key == "down" {
                let source = std::io::Error::other("connection refused");
                return Err(StateError::Unavailable { source: Box::new(source) });
            }
            Ok(self.0.lock().unwrap().get(key).cloned())
        }

        fn put(&self, key: &str, value: &[u8]) -> Result<(), StateError> {
            self.0.lock().unwrap().insert(key.to_owned(), value.to_vec());
            Ok(())
        }

        fn delete(&self, key: &str) -> Result<bool, StateError> {
            Ok(self.0.lock().unwrap().remove(key).is_some())
        }

        fn list(&self, prefix: &str) -> Result<Vec<String>, StateError> {
            Ok(self.0.lock().unwrap().keys().filter(|key| key.starts_with(prefix)).cloned().collect())
        }
    }

    async fn ask(store: Option<Arc<dyn StateStore>>, path: &str) -> (u16, String) {
        let state = state(FakeBackend::new(|_, _| Ok(Default::default())));
        let request = Request::post(format!("/api/v1/admin/state/{path}")).body(Body::empty()).unwrap();
        let answer = state_routes(state, store).oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn facts_are_kept_listed_and_taken_away() {
        let store: Arc<dyn StateStore> = Arc::new(Store::default());
        let rows = [
            ("get?key=a/1", 404, r#""error":"the key has no value""#),
            ("put?key=a/1&value=one", 200, r#""status":"success""#),
            ("put?key=a/2&hex=00ff", 200, r#""status":"success""#),
            ("get?key=a/1", 200, r#"{"hex":"6f6e65","value":"one"}"#),
            ("get?key=a/2", 200, r#"{"hex":"00ff","value":null}"#),
            ("list?prefix=a/", 200, r#"["a/1","a/2"]"#),
            ("delete?key=a/1", 200, r#"{"deleted":true}"#),
            ("delete?key=a/1", 200, r#"{"deleted":false}"#),
            ("list", 200, r#"["a/2"]"#),
            ("put?key=a", 400, "give one of value and hex"),
            ("put?key=a&hex=0", 400, "expected pairs of hexadecimal digits"),
            ("get?key=down", 503, "state store is unavailable: connection refused"),
        ];
        for (path, status, text) in rows {
            let (found, body) = ask(Some(store.clone()), path).await;
            assert!(found == status && body.contains(text), "{path}: {found} {body}");
        }
        let (status, body) = ask(None, "list").await;
        assert!(status == 503 && body.contains("admin APIs disabled"), "{body}");
    }
}
