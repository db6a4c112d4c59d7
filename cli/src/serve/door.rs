//! What stands between the listener and the routes: closed until the engine is open.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tower::{Service, ServiceExt};

/// Answers every request: with "not yet" until [`open`](Self::open), by the routes from then on. Clones are one door.
#[derive(Clone, Default)]
pub(super) struct Door(Arc<OnceLock<Router>>);

impl Door {
    /// Lets requests through to `routes`. Called once.
    pub(super) fn open(&self, routes: Router) {
        let first = self.0.set(routes).is_ok();
        assert!(first, "the door is opened once");
    }
}

impl Service<Request> for Door {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.0.get() {
            Some(routes) => Box::pin(routes.clone().oneshot(request)),
            None => {
                let response = not_yet(&request);
                Box::pin(async { Ok(response) })
            }
        }
    }
}

fn not_yet(request: &Request) -> Response {
    if request.uri().path() == "/-/healthy" {
        return "Kymo is Healthy.\n".into_response();
    }
    let wait = [(header::RETRY_AFTER, "1")];
    (StatusCode::SERVICE_UNAVAILABLE, wait, "Kymo is reading its log and not ready yet.\n").into_response()
}
