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
use tokio::sync::{Notify, Semaphore};
use tower::{Service, ServiceExt};

/// How long a request waits, where whoever sent it does not give up before. The time that its body may take goes on meanwhile.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(30);
/// Requests that wait at once. Each keeps its connection, and the server takes connections for so many more.
pub(super) const WAITING_MAX: usize = 256;

/// Answers every request: with "not yet" until [`make_ready`](Self::make_ready), by the routes from [`open`](Self::open) on,
/// for which it waits in between. Clones are one door.
#[derive(Clone)]
pub(super) struct Door(Arc<Shared>);

struct Shared {
    /// Whether it says that it is ready, and how far the log is read.
    tells: bool,
    replay: OnceLock<Arc<ReplayProgress>>,
    routes: OnceLock<Router>,
    opened: Notify,
    places: Semaphore,
}

impl Door {
    /// The door of the main listener.
    pub(super) fn main() -> Door {
        Door::new(true)
    }

    /// That of a listener which has nothing but ways in.
    pub(super) fn of_ways_in() -> Door {
        Door::new(false)
    }

    fn new(tells: bool) -> Door {
        let (replay, routes, opened) = (OnceLock::new(), OnceLock::new(), Notify::new());
        Door(Arc::new(Shared { tells, replay, routes, opened, places: Semaphore::new(WAITING_MAX) }))
    }

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
        let Some(replay) = self.0.replay.get() else {
            return Ok(not_yet("Kymo is opening its data directory and not ready yet.\n"));
        };
        match path {
            "/-/ready" if self.0.tells => return Ok("Kymo is Ready.\n".into_response()),
            "/api/v1/status/walreplay" if self.0.tells => return Ok(progress(replay)),
            _ => {}
        }
        let Ok(_place) = self.0.places.try_acquire() else {
            return Ok(not_yet("Kymo is reading its log, for which many requests wait already.\n"));
        };
        match tokio::time::timeout(WAIT_MAX, self.0.routes()).await {
            Ok(routes) => routes.clone().oneshot(request).await,
            Err(_) => Ok(not_yet("Kymo is still reading its log.\n")),
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

fn not_yet(why: &'static str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], why).into_response()
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use axum::body::{Body, to_bytes};
    use axum::routing::get;
    use kymo_storage::{Engine, fs::RealFs};

    use super::*;

    type Answer = <Door as Service<Request>>::Future;

    fn ask(door: &Door, path: &str) -> Answer {
        door.clone().call(Request::builder().uri(path).body(Body::empty()).unwrap())
    }

    fn is_waiting(answer: &mut Answer) -> bool {
        answer.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    async fn said(answer: Answer) -> (u16, String) {
        let response = answer.await.unwrap();
        let status = response.status().as_u16();
        (status, String::from_utf8(to_bytes(response.into_body(), 1 << 10).await.unwrap().to_vec()).unwrap())
    }

    fn progress() -> Arc<ReplayProgress> {
        let dir = tempfile::tempdir().unwrap();
        Engine::begin(Arc::new(RealFs), dir.path(), Default::default()).unwrap().progress()
    }

    #[tokio::test]
    async fn who_comes_while_the_log_is_read_waits_and_is_answered() {
        let door = Door::main();
        assert_eq!(said(ask(&door, "/-/healthy")).await.0, 200);
        for path in ["/-/ready", "/asked", "/api/v1/status/walreplay"] {
            assert_eq!(said(ask(&door, path)).await.0, 503, "{path}");
        }
        door.make_ready(progress());
        for path in ["/-/healthy", "/-/ready", "/api/v1/status/walreplay"] {
            assert_eq!(said(ask(&door, path)).await.0, 200, "{path}");
        }
        let mut waiting: Vec<Answer> = (0..3).map(|_| ask(&door, "/asked")).collect();
        assert!(waiting.iter_mut().all(is_waiting));
        door.open(Router::new().route("/asked", get("answer")));
        for answer in waiting {
            assert_eq!(said(answer).await, (200, "answer".to_owned()));
        }
        assert_eq!(said(ask(&door, "/asked")).await.0, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_has_an_end_and_so_have_the_places() {
        let door = Door::main();
        door.make_ready(progress());
        let mut waiting: Vec<Answer> = (0..WAITING_MAX).map(|_| ask(&door, "/asked")).collect();
        assert!(waiting.iter_mut().all(is_waiting));
        assert_eq!(said(ask(&door, "/asked")).await.0, 503, "no place");
        // Who goes away leaves his.
        waiting.pop();
        let mut next = ask(&door, "/asked");
        assert!(is_waiting(&mut next));
        let (status, text) = said(next).await;
        assert_eq!((status, &*text), (503, "Kymo is still reading its log.\n"));
    }

    #[tokio::test]
    async fn a_way_in_says_nothing_of_the_server() {
        let door = Door::of_ways_in();
        door.make_ready(progress());
        assert!(["/-/ready", "/api/v1/status/walreplay"].into_iter().all(|path| is_waiting(&mut ask(&door, path))));
    }
}
