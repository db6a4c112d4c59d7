//! All jobs: putting them in force, running them, telling about them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kymo_core::registry::{RegisterError, Registry};
use kymo_core::status::{LabelMap, StatusError, StatusSource, TargetStatus};
use kymo_core::{BlockingPool, Budget, Clock, LossLedger, Metadata, MetricStorage, SeriesRef};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::client::{BoxError, ClientFactory, ScrapeClient};
use super::config::JobConfig;
use super::discovery::{Discovery, DiscoveryConfig, Resolve, system_resolver};
use super::job::Job;
use super::metrics::ScrapeMetrics;
use super::scraper::Scraper;
use super::store::Engine;

/// What scraping needs.
pub struct ScrapeParts {
    /// Where samples go.
    pub storage: Arc<dyn MetricStorage>,
    /// Where losses are booked.
    pub ledger: Arc<LossLedger>,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where blocking work runs.
    pub pool: Arc<dyn BlockingPool>,
    /// Memory for answers and known series.
    pub budget: Budget,
    /// Makes HTTP clients.
    pub clients: ClientFactory,
    /// Where what is scraped is counted.
    pub registry: Registry,
    /// Moves the phases of all targets, so that two processes ask at different times.
    pub seed: u64,
}

/// A job that cannot be put in force.
#[derive(Debug, thiserror::Error)]
#[error("scrape job {job:?}: cannot make its HTTP client")]
pub struct ApplyError {
    /// The job.
    pub job: String,
    /// Why not.
    pub source: BoxError,
}

/// What a target says of its families.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetMetadata {
    /// The job it belongs to.
    pub pool: String,
    /// Its labels.
    pub labels: LabelMap,
    /// Its families, sorted by name.
    pub families: Arc<[(String, Metadata)]>,
}

/// What all scrapers share.
pub(super) struct Shared {
    engine: Engine,
    pool: Arc<dyn BlockingPool>,
    budget: Budget,
    metrics: ScrapeMetrics,
    seed: u64,
    resolve: Resolve,
    /// Scrapers that have not stopped. Held only to copy or change the list.
    live: Mutex<Vec<Arc<Scraper>>>,
    departed: mpsc::UnboundedSender<Arc<Scraper>>,
}

impl Shared {
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn pool(&self) -> &dyn BlockingPool {
        &*self.pool
    }

    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    pub(super) fn metrics(&self) -> &ScrapeMetrics {
        &self.metrics
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn discovery(&self, config: &DiscoveryConfig, client: Option<ScrapeClient>) -> Discovery {
        Discovery::new(config, client, Arc::clone(&self.pool), &self.resolve)
    }

    fn live(&self) -> MutexGuard<'_, Vec<Arc<Scraper>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn arrive(&self, scraper: &Arc<Scraper>) {
        self.live().push(Arc::clone(scraper));
    }

    /// Takes a scraper that stopped; what is left of it is to be marked stale.
    pub(super) fn depart(&self, ended: Result<Arc<Scraper>, JoinError>) {
        match ended {
            Ok(scraper) => {
                self.live().retain(|live| !Arc::ptr_eq(live, &scraper));
                // Nobody takes it when all is shut down; then nothing is to be marked.
                let _ = self.departed.send(scraper);
            }
            Err(error) if error.is_panic() => tracing::error!(%error, "a scraper panicked"),
            Err(_) => {}
        }
    }

    /// Those of `series` that a live target goes on with, sorted. Blocking.
    pub(super) fn living(&self, series: &[SeriesRef]) -> Vec<SeriesRef> {
        let live = self.live().clone();
        let mut living: Vec<SeriesRef> = live.iter().flat_map(|scraper| scraper.tracked_of(series)).collect();
        living.sort_unstable();
        living
    }
}

/// Scrapes the targets of all jobs.
pub struct ScrapeManager {
    shared: Arc<Shared>,
    clients: ClientFactory,
    jobs: watch::Sender<Vec<Arc<Job>>>,
    /// Held while new jobs are made, so that of two reloads one sees what the other did.
    applying: Mutex<()>,
    /// Taken by the one `run`.
    departed: Mutex<Option<mpsc::UnboundedReceiver<Arc<Scraper>>>>,
}

/// A job at work.
struct Running {
    job: Arc<Job>,
    stop: CancellationToken,
}

impl ScrapeManager {
    /// Without jobs.
    ///
    /// # Errors
    /// [`RegisterError`] when the registry holds other metrics of the same names.
    pub fn new(parts: ScrapeParts) -> Result<ScrapeManager, RegisterError> {
        ScrapeManager::with_resolver(parts, system_resolver())
    }

    pub(super) fn with_resolver(parts: ScrapeParts, resolve: Resolve) -> Result<ScrapeManager, RegisterError> {
        let (departed, receiver) = mpsc::unbounded_channel();
        let engine = Engine { storage: parts.storage, ledger: parts.ledger, clock: parts.clock };
        let shared = Shared {
            engine,
            pool: parts.pool,
            budget: parts.budget.child("scrape", u64::MAX),
            metrics: ScrapeMetrics::register(&parts.registry)?,
            seed: parts.seed,
            resolve,
            live: Mutex::default(),
            departed,
        };
        Ok(ScrapeManager {
            shared: Arc::new(shared),
            clients: parts.clients,
            jobs: watch::Sender::new(Vec::new()),
            applying: Mutex::default(),
            departed: Mutex::new(Some(receiver)),
        })
    }

    /// Puts these jobs in force instead of those before. A job that did not change goes on untouched; targets of one that
    /// changed are scraped at their next moment as if nothing had happened.
    ///
    /// # Errors
    /// [`ApplyError`]; then everything stays as it was.
    pub fn apply(&self, configs: Vec<JobConfig>) -> Result<(), ApplyError> {
        let _alone = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.jobs.borrow().clone();
        let mut jobs = Vec::with_capacity(configs.len());
        for config in configs {
            let earlier = before.iter().find(|job| job.config().name == config.name);
            match earlier {
                Some(same) if **same.config() == config => jobs.push(Arc::clone(same)),
                earlier => {
                    let name = config.name.clone();
                    let job = Job::new(config, &self.clients).map_err(|source| ApplyError { job: name, source })?;
                    earlier.inspect(|earlier| job.inherit(earlier));
                    jobs.push(Arc::new(job));
                }
            }
        }
        self.shared.metrics.jobs.set(jobs.len() as f64);
        self.jobs.send_replace(jobs);
        Ok(())
    }

    /// Runs the jobs in force, also those that [`apply`](Self::apply) brings later, until `shutdown`. Returns when all tasks
    /// have ended. Series get no staleness markers then: after a restart their targets go on. A second call returns at
    /// once.
    pub async fn run(&self, shutdown: CancellationToken) {
        let taken = self.departed.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut departed) = taken else { return };
        let mut changes = self.jobs.subscribe();
        let mut running: Vec<Running> = Vec::new();
        let mut tasks = JoinSet::new();
        loop {
            let wanted = changes.borrow_and_update().clone();
            running.retain(|known| {
                let stays = wanted.iter().any(|job| Arc::ptr_eq(job, &known.job));
                if !stays {
                    known.stop.cancel();
                }
                stays
            });
            for job in wanted {
                if running.iter().any(|known| Arc::ptr_eq(&job, &known.job)) {
                    continue;
                }
                let stop = CancellationToken::new();
                tasks.spawn(Arc::clone(&job).run(Arc::clone(&self.shared), stop.clone(), shutdown.clone()));
                running.push(Running { job, stop });
            }
            loop {
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => {
                        while tasks.join_next().await.is_some() {}
                        return;
                    }
                    _ = changes.changed() => break,
                    Some(gone) = departed.recv() => {
                        tasks.spawn(gone.run_end(shutdown.clone()));
                    }
                    Some(ended) = tasks.join_next() => {
                        if let Err(error) = ended {
                            tracing::error!(%error, "a scrape job ended by itself");
                        }
                    }
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// What targets say of their families.
    #[must_use]
    pub fn metadata(&self) -> Vec<TargetMetadata> {
        let jobs = self.jobs.borrow().clone();
        let of = |job: &Arc<Job>| {
            let pool = job.config().name.clone();
            let one = move |scraper: Arc<Scraper>| TargetMetadata {
                pool: pool.clone(),
                labels: scraper.labels(),
                families: scraper.families(),
            };
            job.scrapers().into_iter().map(one)
        };
        jobs.iter().flat_map(of).collect()
    }
}

impl StatusSource for ScrapeManager {
    fn scrape_pools(&self) -> Result<Vec<String>, StatusError> {
        Ok(self.jobs.borrow().iter().map(|job| job.config().name.clone()).collect())
    }

    fn targets(&self) -> Result<Vec<TargetStatus>, StatusError> {
        let jobs = self.jobs.borrow().clone();
        let of = |job: &Arc<Job>| {
            let active = job.scrapers().into_iter().map(|scraper| scraper.status());
            active.chain(job.dropped()).collect::<Vec<_>>()
        };
        Ok(jobs.iter().flat_map(of).collect())
    }
}
