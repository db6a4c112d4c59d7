//! `/api/v1/status/contexts`: what a program does and what it waits for, as it says itself.
//!
//! What is said is not this crate's: whoever mounts the route gives a function that renders it as JSON. `kymo status URL`
//! reads it.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// Renders the status as one JSON document. Called on a thread that may block.
pub type RenderStatus = Arc<dyn Fn() -> String + Send + Sync>;

/// The path of the route.
pub const PATH: &str = "/api/v1/status/contexts";

/// `GET` [`PATH`], in the envelope of the Prometheus API.
pub fn routes(render: RenderStatus) -> Router {
    Router::new().route(PATH, get(move || answer(render.clone())))
}

async fn answer(render: RenderStatus) -> Response {
    match tokio::task::spawn_blocking(move || render()).await {
        Ok(json) => {
            let body = format!(r#"{{"status":"success","data":{json}}}"#);
            ([(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the status cannot be rendered\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn get(render: RenderStatus) -> (StatusCode, String) {
        let request = Request::get(PATH).body(Body::empty()).unwrap();
        let answer = routes(render).oneshot(request).await.unwrap();
        let status = answer.status();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn what_the_program_says_comes_in_the_envelope() {
        let (status, body) = get(Arc::new(|| r#"{"contexts":[]}"#.to_owned())).await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, r#"{"status":"success","data":{"contexts":[]}}"#));
        let (status, _) = get(Arc::new(|| panic!("of the program's code"))).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    }
}
