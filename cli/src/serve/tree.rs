//! The server on the tree of contexts, so that `kymo status` says what it does.
//!
//! ```text
//! global
//! ├── http ── /api/v1/query ── GET ── kymo-query    a request, counted on its route; and its job on a pool
//! ├── ingest ── kymo-ingest                         jobs that no request asked for: scrapes, OTLP over gRPC
//! ├── scrape, collect                               what gathers on its own account
//! └── upkeep ── sync | flush | merge ── step        the lanes, each step counted
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use kymo_context::{Context, ContextMetrics, Watch, WatchOptions};
use kymo_core::BlockingPool;
use kymo_core::pool::{Job, PoolFull};
use kymo_core::registry::Registry;
use kymo_export::program_status;

use crate::failure::Failure;

/// The tree, and who looks after it.
pub(super) struct Tree {
    pub(super) global: Arc<Context>,
    /// Ends with the server.
    _watch: Watch,
    #[cfg(unix)]
    _socket: Option<kymo_context::attach::Attach>,
}

impl Tree {
    /// Watches the global tree, puts it into the registry, and opens its socket if asked to.
    pub(super) fn start(registry: &Registry, with_socket: bool) -> Result<Tree, Failure> {
        let global = kymo_context::global();
        let metrics = ContextMetrics::register(registry, &global)
            .map_err(|error| Failure::because("cannot register the metrics of the contexts", &error))?;
        let options = WatchOptions { metrics: Some(metrics), ..WatchOptions::default() };
        let watch = Watch::start(&global, options)
            .map_err(|error| Failure::because("cannot start the thread that watches", &error))?;
        Ok(Tree {
            #[cfg(unix)]
            _socket: with_socket.then(|| open(&global)).transpose()?,
            global,
            _watch: watch,
        })
    }

    /// A pool whose jobs are contexts: of the request that asked, or of `name` below the root where none did.
    pub(super) fn pool(&self, inner: Arc<dyn BlockingPool>, name: &str, job: &'static str) -> Arc<dyn BlockingPool> {
        Arc::new(ContextPool { inner, job, unasked: self.global.child(name).begin() })
    }

    /// `routes` with each request a context, and the route of the status beside them.
    pub(super) fn routes(&self, routes: Router) -> Router {
        let global = self.global.clone();
        // Nothing of a status can fail to be JSON.
        let render = Arc::new(move || serde_json::to_string(&global.status_with_latest()).unwrap_or_default());
        let tracker = Arc::new(Tracker { http: self.global.child("http").begin(), routes: Mutex::default() });
        routes.merge(program_status::routes(render)).layer(middleware::from_fn_with_state(tracker, track))
    }
}

#[cfg(unix)]
fn open(global: &Context) -> Result<kymo_context::attach::Attach, Failure> {
    let socket = kymo_context::attach::Attach::open(global)
        .map_err(|error| Failure::because("cannot open the socket for kymo status", &error))?;
    tracing::info!(socket = %socket.path().display(), "kymo status can look in");
    Ok(socket)
}

struct ContextPool {
    inner: Arc<dyn BlockingPool>,
    job: &'static str,
    unasked: Arc<Context>,
}

impl BlockingPool for ContextPool {
    fn try_execute(&self, job: Job) -> Result<(), PoolFull> {
        let context = match kymo_context::try_current() {
            Some(request) => request.child(self.job).begin(),
            None => {
                let context = self.unasked.child(self.job).begin();
                context.persist();
                context
            }
        };
        let queued = context.blocking_on("a thread of the pool");
        self.inner.try_execute(Box::new(move || {
            drop(queued);
            context.enter(job);
        }))
    }
}

/// A context per route, made when it is first asked for.
struct Tracker {
    http: Arc<Context>,
    routes: Mutex<BTreeMap<String, Arc<Context>>>,
}

impl Tracker {
    fn route(&self, path: Option<&MatchedPath>) -> Arc<Context> {
        let path = path.map_or("no route", MatchedPath::as_str);
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        match routes.get(path) {
            Some(route) => route.clone(),
            None => routes.entry(path.to_owned()).or_insert(self.http.child(path).begin()).clone(),
        }
    }
}

async fn track(State(tracker): State<Arc<Tracker>>, request: Request, next: Next) -> Response {
    let context = tracker.route(request.extensions().get()).child(request.method().as_str()).begin();
    context.persist();
    let response = context.run(next.run(request)).await;
    context.complete_with_status(!response.status().is_server_error(), response.status().as_str());
    response
}
