//! `kymo serve`: binds, opens, connects the parts, and takes them down again.
//!
//! ```text
//!  flags, file ─▶ Plan ─▶ bind ─▶ open the engine ─▶ compose ─▶ upkeep ─▶ … signal ─▶ drain ─▶ flush ─▶ end
//!                          │    (503; waits from here)  │            │
//!                          └── ports file               │            └── SIGHUP: the file again
//!                                                       └── every way in, and the routes behind one door
//! ```
//!
//! 1. The listeners are bound before the data directory is touched: a port in use leaves no lock and no directory.
//! 2. From the bind on every HTTP request is answered: until the data directory is ours with 503 and `Retry-After`, then once the
//!    engine is open.
//! 3. Who starts a thread names it and joins it. On the way down: no new requests and scrapes, then those in flight,
//!    then upkeep, then pools, then the engine's last flush; a second signal leaves at any point, and loses nothing that was
//!    acknowledged.

mod door;
mod engine;
mod facts;
mod features;
mod greeting;
mod listeners;
mod memory;
pub(crate) mod options;
mod parts;
mod plan;
mod ports;
pub(crate) mod reload;
mod runs;
mod scrape;
mod signals;
mod tree;
mod upkeep;

pub(crate) use engine::refused;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use kymo_core::registry::Registry;
use kymo_core::state::StateStore;
use kymo_core::{Budget, Clock, SystemClock};
use kymo_storage::state::Measured;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

pub(crate) use options::ServeArgs;
pub(crate) use parts::limits;

use facts::Facts;
use listeners::Listeners;
use parts::{Parts, Shares};
use plan::Plan;
use runs::Runs;
use signals::{Asked, Signals};

/// What the server keeps of itself.
#[derive(Clone)]
struct Remembered {
    store: Arc<dyn StateStore>,
    runs: Arc<Runs>,
}

/// Opens the state store, and notes that a run begins; off the async threads, since a disk and a Redis take their time.
async fn state_store(plan: &Plan, registry: &Registry, clock: Arc<dyn Clock>) -> Result<Remembered, Failure> {
    let (section, data_dir, registry) = (plan.state.clone(), plan.data_dir.clone(), registry.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let store = crate::state::open(&section, &data_dir)?;
        let store = Measured::new(store, crate::state::backend_label(section.backend), &registry, clock)
            .map_err(|error| Failure::because("cannot register the metrics of the state store", &error))?;
        let store: Arc<dyn StateStore> = Arc::new(store);
        Ok(Remembered { runs: Arc::new(Runs::begin(store.clone())), store })
    });
    opened.await.map_err(|error| Failure::because("opening the state store was given up", &error))?
}

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
    let registry = Registry::new();
    registry.on_overflow(|overflow| tracing::warn!(metric = overflow.family, label = overflow.label, "{overflow}"));
    let listeners = Listeners::bind(&plan, &registry).await?;
    let addresses = listeners.addresses();
    if let Some(file) = &plan.ports_file {
        ports::write(file, addresses)?;
    }
    let stop = CancellationToken::new();
    let mut serving = listeners.serve(stop.clone());

    let memory = Budget::root("process", plan.memory_limit.bytes);
    let shares = Shares::of(&memory, plan.memory_limit.bytes);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let started_ms = clock.now_ms();
    let opening = async {
        let begun = engine::begin(&plan, clock.clone(), shares.storage.clone(), registry.clone()).await?;
        // All that was acknowledged can be asked for from now on; who asks waits until it is read.
        serving.make_ready(begun.progress());
        begun.finish(&plan).await
    };
    let (opened, report) = tokio::select! {
        opened = opening => opened?,
        // Nothing of this run was acknowledged yet, and opening can be cut short anywhere, as by a kill.
        _ = signals.stop() => return Ok(ExitCode::SUCCESS),
    };

    let remembered = state_store(&plan, &registry, clock.clone()).await?;
    let facts = Facts::new(&plan, started_ms, report.log_damage.len() + report.quarantined.len(), remembered);
    let quit = CancellationToken::new();
    let mut parts = Parts::start(&plan, opened, registry, clock, &shares, facts, quit.clone())?;
    serving.open(parts.routes(), parts.otlp());
    parts.watch(&stop);
    greeting::print(&plan, addresses, &report, parts.run_before())?;

    let has_ended = loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop(signal) => {
                    let signal = signal.name();
                    tracing::info!(signal, "stopping: finishing requests, then flushing; a second signal leaves at once");
                    break false;
                }
                Asked::Reload => {
                    let reload = parts.reload();
                    // What came of it is logged and shown by whoever reads the file.
                    let _ = tokio::task::spawn_blocking(move || reload.reload()).await;
                }
            },
            () = quit.cancelled() => {
                tracing::info!("stopping, as asked over HTTP: finishing requests, then flushing; a signal leaves at once");
                break false;
            }
            () = serving.ended() => {
                tracing::error!("a listener ended by itself: this is a fault of Kymo; stopping");
                break true;
            }
        }
    };
    signals.leave_at_next();
    parts.is_stopping();
    serving.drain().await;
    parts.unwatch().await;
    let stopped = tokio::task::spawn_blocking(move || parts.stop()).await;
    stopped.map_err(|error| Failure::because("stopping the engine was given up", &error))??;
    if has_ended { Err(Failure::new("a listener ended by itself")) } else { Ok(ExitCode::SUCCESS) }
}
