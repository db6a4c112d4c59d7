//! What stands between the listener and the routes: closed until the engine is open.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tower::ServiceExt;

/// Answers every request: with "not yet" until [`open`](Self::open), by the routes from then on. Clones are one door.
#[derive(Clone, Default)]
pub(super) struct Door(Arc<OnceLock<Router>>);

impl Door {
    /// Lets requests through to `routes`. Called once.
    pub(super) fn open(&self, routes: Router) {
        let first = self.0.set(routes).is_ok();
        assert!(first, "the door is opened once");
    }

    pub(super) fn router(&self) -> Router {
        let door = self.clone();
        Router::new().fallback(move |request| door.pass(request))
    }

    async fn pass(self, request: Request) -> Response {
        match self.0.get() {
            Some(routes) => routes.clone().oneshot(request).await.into_response(),
            None if request.uri().path() == "/-/healthy" => "Kymo is Healthy.\n".into_response(),
            None => {
                let wait = [(header::RETRY_AFTER, "1")];
                (StatusCode::SERVICE_UNAVAILABLE, wait, "Kymo is reading its log and not ready yet.\n").into_response()
            }
        }
    }
}
