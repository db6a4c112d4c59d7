//! What stands between the listener and the routes: closed until the data directory is found and ours, then a place to wait
//! until it is read.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use kymo_storage::ReplayProgress;
use serde_json::json;
use tokio::sync::Notify;
use tower::{Service, ServiceExt};

/// How long a request waits, where whoever sent it does not give up before: as long as a query may take.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// Answers every request: with "not yet" until [`make_ready`](Self::make_ready), by the routes from [`open`](Self::open) on,
/// for which it waits in between. Clones are one door.
#[derive(Clone, Default)]
pub(super) struct Door(Arc<Shared>);

#[derive(Default)]
struct Shared {
    replay: OnceLock<Arc<ReplayProgress>>,
    routes: OnceLock<Router>,
    opened: Notify,
}

impl Door {
    /// Lets requests in, to wait. Called once, before [`open`](Self::open).
    pub(super) fn make_ready(&self, replay: Arc<ReplayProgress>) {
        let first = self.0.replay.set(replay).is_ok();
        assert!(first, "a log is read once");
    }

    /// Lets requests through to `routes`. Called once.
    pub(super) fn open(&self, routes: Router) {
        let first = self.0.routes.set(routes).is_ok();
        assert!(first, "the door is opened once");
        self.0.opened.notify_waiters();
    }

    async fn answer(self, request: Request) -> Result<Response, Infallible> {
        let path = request.uri().path();
        if path == "/-/healthy" {
            return Ok("Kymo is Healthy.\n".into_response());
        }
        let Some(replay) = self.0.replay.get() else { return Ok(not_yet()) };
        match path {
            "/-/ready" => return Ok("Kymo is Ready.\n".into_response()),
            "/api/v1/status/walreplay" => return Ok(progress(replay)),
            _ => {}
        }
        match tokio::time::timeout(WAIT_MAX, self.0.routes()).await {
            Ok(routes) => routes.clone().oneshot(request).await,
            Err(_) => Ok(not_yet()),
        }
    }
}

impl Shared {
    /// The routes, once there are some.
    async fn routes(&self) -> &Router {
        loop {
            let mut opened = std::pin::pin!(self.opened.notified());
            // From here on nothing is missed.
            opened.as_mut().enable();
            if let Some(routes) = self.routes.get() {
                return routes;
            }
            opened.await;
        }
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
        match self.0.routes.get() {
            Some(routes) => Box::pin(routes.clone().oneshot(request)),
            None => Box::pin(self.clone().answer(request)),
        }
    }
}

/// How far the log is read, as Prometheus tells it.
fn progress(replay: &ReplayProgress) -> Response {
    let data = json!({"min": replay.first(), "max": replay.last(), "current": replay.current()});
    axum::Json(json!({"status": "success", "data": data})).into_response()
}

fn not_yet() -> Response {
    let wait = [(header::RETRY_AFTER, "1")];
    (StatusCode::SERVICE_UNAVAILABLE, wait, "Kymo is opening its data directory and not ready yet.\n").into_response()
}
