//! `kymo serve`: binds, opens, connects the parts, and takes them down again.
//!
//! ```text
//!  flags ─▶ Plan ─▶ bind ─▶ open the engine ─▶ compose ─▶ upkeep ─▶ … signal ─▶ drain ─▶ flush ─▶ end
//!                    │          (503 until then)  │
//!                    └── ports file               └── routes of ingest and export behind one door
//! ```
//!
//! 1. The listener is bound before the data directory is touched: a port in use leaves no lock and no directory.
//! 2. From the bind on every request is answered: until the engine is open with 503 and `Retry-After`.
//! 3. Who starts a thread names it and joins it. On the way down: no new requests, then requests in flight, then
//!    upkeep, then pools, then the engine's last flush; a second signal leaves at any point, and loses nothing that was
//!    acknowledged.

mod door;
mod engine;
mod greeting;
mod memory;
mod options;
mod plan;
mod ports;
mod signals;
mod upkeep;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use kymo_core::pool::ThreadPool;
use kymo_core::registry::Registry;
use kymo_core::{BlockingPool, Budget, Clock, LossLedger, MetricStorage, SystemClock};
use kymo_export::api::ApiState;
use kymo_export::server::{Server, ServerError, ServerOptions};
use kymo_ingest::remote_write::handler::RemoteWriteState;
use kymo_ingest::remote_write::{Receiver, ReceiverParts, RemoteWriteConfig};
use kymo_storage::Engine;
use tokio_util::sync::CancellationToken;

use crate::describe::Limit;
use crate::failure::Failure;

pub(crate) use options::ServeArgs;

use door::Door;
use plan::Plan;
use signals::Signals;
use upkeep::Upkeep;

/// Threads of the ingest pool. An append is CPU work under short locks, and waits only for its log write.
const INGEST_THREADS: usize = 4;
/// Requests that wait for the ingest pool; the next is answered 503, which senders repeat.
const INGEST_QUEUE: usize = 256;
/// Queries that run at once. As many as Prometheus allows.
const QUERY_THREADS: usize = 20;
/// Queries that wait for a thread; the next is answered 503.
const QUERY_QUEUE: usize = 256;
/// Share of the memory limit that the engine may hold. The shares overlap: the limit itself holds for all together.
const STORAGE_PERCENT: u64 = 80;
/// Share of the memory limit for requests on their way in.
const INGEST_PERCENT: u64 = 30;
/// Share of the memory limit for queries and their answers.
const QUERIES_PERCENT: u64 = 50;
/// How long the async threads may take to end after everything was drained; nothing of value runs on them then.
const RUNTIME_END: Duration = Duration::from_secs(1);

pub(crate) fn run(args: ServeArgs) -> Result<ExitCode, Failure> {
    let plan = Plan::new(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("kymo-async")
        .enable_all()
        .build()
        .map_err(|error| Failure::because("cannot start the async threads", &error))?;
    let outcome = runtime.block_on(serve(plan));
    runtime.shutdown_timeout(RUNTIME_END);
    outcome
}

async fn serve(plan: Plan) -> Result<ExitCode, Failure> {
    let mut signals = Signals::listen()?;
    let server = bind(&plan).await?;
    let addresses = server.addresses().to_vec();
    if let Some(file) = &plan.ports_file {
        ports::write(file, addresses[0])?;
    }
    let (door, stop) = (Door::default(), CancellationToken::new());
    let mut serving = tokio::spawn(server.run(door.router(), stop.clone()));

    let memory = Budget::root("process", plan.memory_limit.bytes);
    let share = |name, percent| memory.child(name, plan.memory_limit.bytes / 100 * percent);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let opening = engine::open(&plan, clock.clone(), share("storage", STORAGE_PERCENT));
    let (engine, report) = tokio::select! {
        opened = opening => opened?,
        // Nothing of this run was acknowledged yet, and opening can be cut short anywhere, as by a kill.
        _ = signals.next() => return Ok(ExitCode::SUCCESS),
    };

    let parts = Parts::start(engine, clock, share("ingest", INGEST_PERCENT), share("queries", QUERIES_PERCENT))?;
    door.open(parts.routes());
    greeting::print(&plan, addresses[0], &report)?;

    let has_ended = tokio::select! {
        signal = signals.next() => {
            let signal = signal.name();
            tracing::info!(signal, "stopping: finishing requests, then flushing; a second signal leaves at once");
            false
        }
        ended = &mut serving => {
            tracing::error!(?ended, "the listener ended by itself: this is a fault of Kymo; stopping");
            true
        }
    };
    signals.leave_at_next();
    parts.api.readiness.set(false);
    stop.cancel();
    if !has_ended && let Ok(drained) = serving.await {
        tracing::info!(finished = drained.finished, cut_off = drained.cut_off, "requests are done");
    }
    drop(door);
    let stopped = tokio::task::spawn_blocking(move || parts.stop()).await;
    stopped.map_err(|error| Failure::because("stopping the engine was given up", &error))??;
    if has_ended { Err(Failure::new("the listener ended by itself")) } else { Ok(ExitCode::SUCCESS) }
}

async fn bind(plan: &Plan) -> Result<Server, Failure> {
    let mut options = ServerOptions::default();
    options.listen = vec![plan.listen];
    options.tokens = plan.tokens.clone();
    Server::bind(options).await.map_err(|error| {
        let failure = Failure::because("cannot start", &error);
        let ServerError::Listen { source, address } = &error else { return failure };
        match source.kind() {
            std::io::ErrorKind::AddrInUse => failure.hint(format!(
                "another process has port {}; stop it, or choose a port with --listen (port 0 picks a free one)",
                address.port()
            )),
            std::io::ErrorKind::AddrNotAvailable => {
                failure.hint(format!("{} is no address of this machine; choose another with --listen", address.ip()))
            }
            std::io::ErrorKind::PermissionDenied => {
                failure.hint("ports below 1024 are kept for root; choose another with --listen")
            }
            _ => failure,
        }
    })
}

/// What runs while the server serves.
struct Parts {
    engine: Arc<Engine>,
    upkeep: Upkeep,
    ingest: RemoteWriteState,
    api: ApiState,
}

impl Parts {
    fn start(engine: Engine, clock: Arc<dyn Clock>, ingest: Budget, queries: Budget) -> Result<Parts, Failure> {
        let engine = Arc::new(engine);
        let storage: Arc<dyn MetricStorage> = engine.clone();
        let ledger = Arc::new(LossLedger::default());
        let ingest_pool = pool("kymo-ingest", INGEST_THREADS, INGEST_QUEUE)?;
        let query_pool = pool("kymo-query", QUERY_THREADS, QUERY_QUEUE)?;
        let backend = Arc::new(kymo_query::Engine::new(storage.clone()));
        let receiver = Receiver::new(
            RemoteWriteConfig::default(),
            ReceiverParts {
                storage,
                ledger: ledger.clone(),
                clock: clock.clone(),
                budget: ingest,
                registry: Registry::new(),
            },
        );
        let receiver =
            receiver.map_err(|error| Failure::because("cannot register the metrics of remote write", &error))?;
        Ok(Parts {
            upkeep: Upkeep::start(&engine, &clock)?,
            engine,
            ingest: RemoteWriteState { receiver: Arc::new(receiver), pool: ingest_pool },
            api: ApiState::new(backend, query_pool, ledger, clock, queries),
        })
    }

    fn routes(&self) -> Router {
        kymo_ingest::remote_write::handler::routes(self.ingest.clone())
            .merge(kymo_export::api::routes(self.api.clone()))
            .merge(kymo_export::page::routes(self.api.clone()))
    }

    /// Ends what was started, in the order of invariant 3. The last requests are done by then.
    fn stop(self) -> Result<(), Failure> {
        let Parts { engine, upkeep, ingest, api } = self;
        upkeep.stop();
        // The pools end with their last owner.
        drop((ingest, api));
        engine.close().map_err(|error| {
            Failure::because("the last flush failed", &error)
                .hint("nothing is lost: what was acknowledged is in the log, and the next start reads it from there")
        })?;
        tracing::info!("stopped; everything is on disk");
        Ok(())
    }
}

/// What the program itself limits, for the reference page.
pub(crate) fn limits() -> Vec<Limit> {
    let share = |percent: u64| format!("{percent} % of the memory limit");
    vec![
        Limit::new("memory (`--memory-limit`)", "60 % of what the process may have", "503 for writes, 422 for queries"),
        Limit::new("memory of the engine", share(STORAGE_PERCENT), "503, and the head is flushed"),
        Limit::new("memory of requests on their way in", share(INGEST_PERCENT), "503"),
        Limit::new("memory of queries and their answers", share(QUERIES_PERCENT), "422, naming the limit"),
        Limit::new("write requests waiting", INGEST_QUEUE, "503"),
        Limit::new("queries at once", QUERY_THREADS, "they wait"),
        Limit::new("queries waiting", QUERY_QUEUE, "503"),
    ]
}

fn pool(name: &str, threads: usize, queue: usize) -> Result<Arc<dyn BlockingPool>, Failure> {
    let pool = ThreadPool::start(name, threads, queue)
        .map_err(|error| Failure::because(format_args!("cannot start the threads of {name}"), &error))?;
    Ok(Arc::new(pool))
}
