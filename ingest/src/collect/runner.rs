//! The loop: gather, store, wait for the next moment.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kymo_core::pool::PoolFull;
use kymo_core::registry::{FamilySnapshot, RegisterError, Registry};
use kymo_core::{AppendError, BlockingPool, Clock, LossLedger, MetricStorage, SystemClock};
use tokio_util::sync::CancellationToken;

use super::gathered::Gathered;
use super::host::{Host, HostOptions};
use super::metrics::RoundMetrics;
use super::own::Own;
use super::store::{Engine, SERIES_MAX, SourceStore};

/// A round that begins so little after its moment has the moment as its timestamp: equal distances are stored best.
const LATE_MS_MAX: i64 = 2;

/// Gives the samples of one round.
pub trait Source: Send + 'static {
    /// Pushes all there is now. What cannot be read is left out; nothing here is worth stopping for.
    fn gather(&mut self, out: &mut Gathered);
}

/// When a collector gathers, and under which name.
#[derive(Debug, Clone)]
pub struct CollectorOptions {
    /// Time between rounds. Moments lie on multiples of it in wall time, moved by `offset`.
    pub interval: Duration,
    /// See `interval`.
    pub offset: Duration,
    /// The label `job` of every series.
    pub job: String,
    /// The label `instance` of every series.
    pub instance: String,
    /// Whether `up` is stored with each round: what is gathered is a target, and not what the server made of other series.
    pub is_target: bool,
}

impl CollectorOptions {
    /// The host, every five seconds: a rate over 30 seconds, or a page that is looked at, is right within a minute of the
    /// first start.
    #[must_use]
    pub fn host() -> CollectorOptions {
        CollectorOptions {
            interval: Duration::from_secs(5),
            offset: Duration::ZERO,
            job: "host".to_owned(),
            instance: hostname(),
            is_target: true,
        }
    }

    /// This process, every 15 seconds as a scrape would, and never at the moment of the host's round.
    #[must_use]
    pub fn own() -> CollectorOptions {
        CollectorOptions {
            interval: Duration::from_secs(15),
            offset: Duration::from_millis(2_500),
            job: "kymo".to_owned(),
            instance: hostname(),
            is_target: true,
        }
    }
}

/// What a collector works with.
#[derive(Clone)]
pub struct CollectParts {
    /// Where samples go.
    pub storage: Arc<dyn MetricStorage>,
    /// Where files are read and samples appended, off the async threads.
    pub pool: Arc<dyn BlockingPool>,
    /// Where everything that came, and everything refused, is booked.
    pub ledger: Arc<LossLedger>,
    /// Dates samples, and times the parts of a round.
    pub clock: Arc<dyn Clock>,
    /// Where the collector's own metrics go; and what [`Collector::own`] collects.
    pub registry: Registry,
}

impl CollectParts {
    /// An engine and a pool, with a ledger, registry and system clock of their own.
    #[must_use]
    pub fn around(storage: Arc<dyn MetricStorage>, pool: Arc<dyn BlockingPool>) -> CollectParts {
        CollectParts {
            storage,
            pool,
            ledger: Arc::default(),
            clock: Arc::new(SystemClock::new()),
            registry: Registry::new(),
        }
    }
}

/// Gathers from one source and stores what it gives, until it is told to stop.
pub struct Collector {
    source: &'static str,
    interval_ms: i64,
    offset_ms: i64,
    parts: CollectParts,
    metrics: RoundMetrics,
    is_target: bool,
    /// Guards the source and its series; held for a round, which runs on the pool, and nobody else asks for it then.
    work: Arc<Mutex<Work>>,
}

struct Work {
    source: Box<dyn Source>,
    gathered: Gathered,
    store: SourceStore,
    engine: Engine,
}

/// Why a round gave nothing.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Pool(#[from] PoolFull),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("the round was given up: the pool ended, or the round failed on a fault of Kymo")]
    Lost,
}

impl Collector {
    /// Collects from this machine, under node_exporter's names.
    ///
    /// # Errors
    /// [`RegisterError`] when the registry holds other metrics of the same names.
    pub fn host(options: CollectorOptions, host: HostOptions, parts: CollectParts) -> Result<Collector, RegisterError> {
        let host = Host::new(host, parts.clock.clone(), &parts.registry)?;
        Collector::of("host", options, Box::new(host), parts)
    }

    /// Collects what the registry of `parts` says of this process, and `others`, asked every round: the standard
    /// `process_*` metrics, say.
    ///
    /// # Errors
    /// [`RegisterError`] when the registry holds other metrics of the same names.
    pub fn own(
        options: CollectorOptions,
        parts: CollectParts,
        others: impl Fn() -> Vec<FamilySnapshot> + Send + 'static,
    ) -> Result<Collector, RegisterError> {
        let own = Own { registry: parts.registry.clone(), others: Box::new(others) };
        Collector::of("self", options, Box::new(own), parts)
    }

    /// Collects from any source; `name` is its name in the loss ledger and in the collector's metrics.
    ///
    /// # Errors
    /// [`RegisterError`] when the registry holds other metrics of the same names.
    pub fn of(
        name: &'static str,
        options: CollectorOptions,
        source: Box<dyn Source>,
        parts: CollectParts,
    ) -> Result<Collector, RegisterError> {
        let CollectorOptions { interval, offset, job, instance, is_target } = options;
        let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
        let engine =
            Engine { storage: parts.storage.clone(), ledger: parts.ledger.clone(), clock: parts.clock.clone() };
        let store = SourceStore::new(name, job, instance, SERIES_MAX);
        Ok(Collector {
            source: name,
            interval_ms,
            offset_ms: i64::try_from(offset.as_millis()).unwrap_or(0) % interval_ms,
            metrics: RoundMetrics::register(&parts.registry, name)?,
            parts,
            is_target,
            work: Arc::new(Mutex::new(Work { source, gathered: Gathered::default(), store, engine })),
        })
    }

    /// Runs a round at once and then at every moment of the grid. When `stop` is cancelled, ends the series with
    /// staleness markers, and returns.
    ///
    /// A round that takes longer than the interval delays nobody else; the moments it missed are left out.
    pub async fn run(self, stop: CancellationToken) {
        let mut planned_ms = self.parts.clock.now_ms();
        let mut was_failing = false;
        while !stop.is_cancelled() {
            let result = self.round(planned_ms).await;
            let is_failing = result.is_err();
            match result {
                Ok(()) => self.metrics.stored.inc(),
                Err(RoundError::Pool(full)) => {
                    self.metrics.skipped.inc();
                    let now_ms = self.parts.clock.now_ms();
                    self.parts.ledger.refuse(self.source, "pool_full", 1, now_ms, || full.to_string());
                }
                Err(error) => {
                    self.metrics.failed.inc();
                    if !was_failing {
                        tracing::warn!(source = self.source, %error, "what was collected is not stored");
                    }
                }
            }
            was_failing = is_failing;
            planned_ms = self.next_after(self.parts.clock.now_ms());
            let wait = Duration::from_millis((planned_ms - self.parts.clock.now_ms()).max(0).unsigned_abs());
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
        }
        let ended = self.on_pool(|work| {
            let now_ms = work.engine.clock.now_ms();
            work.store.end(&work.engine, now_ms)
        });
        if let Err(error) = ended.await {
            // Without markers the series end five minutes later by themselves.
            tracing::debug!(source = self.source, %error, "the collected series could not be ended");
        }
    }

    /// The first moment of the grid later than `now_ms`.
    fn next_after(&self, now_ms: i64) -> i64 {
        let into = now_ms.saturating_sub(self.offset_ms).rem_euclid(self.interval_ms);
        now_ms.saturating_add(self.interval_ms - into)
    }

    async fn round(&self, planned_ms: i64) -> Result<(), RoundError> {
        let samples = self.metrics.samples.clone();
        let is_target = self.is_target;
        let round = self.on_pool(move |work| {
            let Work { source, gathered, store, engine } = work;
            let now_ms = engine.clock.now_ms();
            let is_late = !(0..=LATE_MS_MAX).contains(&now_ms.saturating_sub(planned_ms));
            gathered.clear();
            if is_target {
                gathered.bare("up", 1.0);
            }
            source.gather(gathered);
            samples.set(gathered.samples().count() as f64);
            store.store(engine, gathered, if is_late { now_ms } else { planned_ms })
        });
        round.await
    }

    async fn on_pool(
        &self,
        job: impl FnOnce(&mut Work) -> Result<(), AppendError> + Send + 'static,
    ) -> Result<(), RoundError> {
        let (reply, result) = tokio::sync::oneshot::channel();
        let work = self.work.clone();
        self.parts.pool.try_execute(Box::new(move || {
            // A round that panicked left nothing behind that the next one does not clear.
            let mut work = work.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody waits only when the whole collector was dropped.
            let _ = reply.send(job(&mut work));
        }))?;
        result.await.map_err(|_| RoundError::Lost)?.map_err(RoundError::from)
    }
}

/// The name of this machine, as `uname -n` says it.
#[must_use]
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
