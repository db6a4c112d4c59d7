//! `POST /-/reload` and `POST /-/quit`, as Prometheus has them.
//!
//! | Answer | When |
//! |---|---|
//! | 200 | done; a quit only begins |
//! | 403 | the lifecycle routes were not switched on |
//! | 405 | another method than POST and PUT |
//! | 500 | the new configuration was refused; the old one stays in force |

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use http::StatusCode;

/// What the program does when it is asked to.
#[derive(Clone)]
pub struct Lifecycle {
    /// Puts the configuration file in force again, or says why not. Blocking.
    pub reload: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// Begins to stop.
    pub quit: Arc<dyn Fn() + Send + Sync>,
}

/// The two routes; without a [`Lifecycle`] they answer that they are switched off.
pub fn lifecycle_routes(lifecycle: Option<Lifecycle>) -> Router {
    let only_post = |routes: MethodRouter<Option<Lifecycle>>| {
        routes.fallback(async || (StatusCode::METHOD_NOT_ALLOWED, "Only POST or PUT requests allowed"))
    };
    Router::new()
        .route("/-/reload", only_post(post(reload).put(reload)))
        .route("/-/quit", only_post(post(quit).put(quit)))
        .with_state(lifecycle)
}

fn off() -> Response {
    (StatusCode::FORBIDDEN, "Lifecycle API is not enabled.").into_response()
}

async fn reload(State(lifecycle): State<Option<Lifecycle>>) -> Response {
    let Some(lifecycle) = lifecycle else { return off() };
    let reloaded = match tokio::task::spawn_blocking(move || (lifecycle.reload)()).await {
        Ok(reloaded) => reloaded,
        Err(_) => Err("it was given up because of a fault in the server".to_owned()),
    };
    match reloaded {
        Ok(()) => StatusCode::OK.into_response(),
        Err(reason) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config: {reason}")).into_response()
        }
    }
}

async fn quit(State(lifecycle): State<Option<Lifecycle>>) -> Response {
    let Some(lifecycle) = lifecycle else { return off() };
    (lifecycle.quit)();
    "Requesting termination... Goodbye!".into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tower::ServiceExt;

    use super::*;

    async fn ask(router: Router, method: &str, path: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let answer = router.oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    #[tokio::test]
    async fn nothing_is_done_unless_it_is_switched_on() {
        for path in ["/-/reload", "/-/quit"] {
            assert_eq!(ask(lifecycle_routes(None), "POST", path).await.0, 403, "{path}");
            assert_eq!(ask(lifecycle_routes(None), "GET", path).await.0, 405, "{path}");
        }
    }

    #[tokio::test]
    async fn a_reload_says_why_it_failed_and_a_quit_begins() {
        let asked = Arc::new(AtomicBool::new(false));
        let flag = asked.clone();
        let with = |result: Result<(), String>| Lifecycle {
            reload: Arc::new(move || result.clone()),
            quit: Arc::new({
                let flag = flag.clone();
                move || flag.store(true, Ordering::Relaxed)
            }),
        };
        let routes = |result| lifecycle_routes(Some(with(result)));
        assert_eq!(ask(routes(Ok(())), "POST", "/-/reload").await, (200, String::new()));
        let refused = ask(routes(Err("line 3".to_owned())), "PUT", "/-/reload").await;
        assert_eq!(refused, (500, "failed to reload config: line 3".to_owned()));
        assert!(!asked.load(Ordering::Relaxed));
        assert_eq!(ask(routes(Ok(())), "POST", "/-/quit").await.0, 200);
        assert!(asked.load(Ordering::Relaxed));
    }
}
