//! One target and its scrapes.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kymo_core::status::{TargetHealth, TargetStatus};
use kymo_core::{BudgetExceeded, SeriesRef};
use tokio_util::sync::CancellationToken;

use super::SOURCE;
use super::blocking::blocking;
use super::client::Request;
use super::error::{ScrapeError, StoreError, chain};
use super::families::FamilyList;
use super::job::Job;
use super::jobs::Shared;
use super::metrics::TargetMetrics;
use super::moment;
use super::negotiate::{accept_header, format_of};
use super::schedule::Schedule;
use super::store::{Answer, Outcome, TargetStore};
use super::target::Target;
use crate::exposition::Format;

/// Scrapes one target.
pub(super) struct Scraper {
    shared: Arc<Shared>,
    job: Arc<Job>,
    target: Target,
    request: Request,
    schedule: Schedule,
    metrics: TargetMetrics,
    /// Held while a scrape is stored, on a thread that may block.
    store: Arc<Mutex<TargetStore>>,
    /// Held only to copy.
    facts: Mutex<Facts>,
}

#[derive(Clone, Default)]
struct Facts {
    health: TargetHealth,
    last_error: String,
    last_scrape_ms: Option<i64>,
    last_scrape_seconds: f64,
    families: Option<FamilyList>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scraper {
    pub(super) fn new(shared: Arc<Shared>, job: Arc<Job>, target: Target) -> Result<Scraper, BudgetExceeded> {
        let config = job.config();
        let timeout = Duration::from_millis(target.timeout_ms.unsigned_abs());
        let request = Request {
            url: target.url.clone(),
            accept: accept_header(&config.protocols, config.escaping),
            compression: config.compression,
            timeout,
            body_bytes_max: config.limits.body_bytes,
            last_bytes: AtomicUsize::new(0),
        };
        let labels = target.labels.clone();
        let store = TargetStore::new(Arc::clone(config), labels, timeout.as_secs_f64(), shared.budget())?;
        let schedule = Schedule::new(target.interval_ms, target.identity, shared.seed());
        let facts = Mutex::default();
        let metrics = shared.metrics().of_target(&config.name);
        Ok(Scraper { request, schedule, metrics, store: Arc::new(Mutex::new(store)), facts, shared, job, target })
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Scrapes at every moment of the target's grid until `stop`, which lets a scrape that has begun end, or `shutdown`, which
    /// does not.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken, shutdown: CancellationToken) -> Arc<Self> {
        let clock = Arc::clone(&self.shared.engine().clock);
        let mut due_ms = None;
        loop {
            let planned_ms = self.schedule.next_after(clock.now_ms());
            let skipped = due_ms.map_or(0, |due_ms| self.schedule.moments_between(due_ms, planned_ms));
            self.metrics.skipped.add(skipped);
            due_ms = Some(planned_ms);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return self,
                () = stop.cancelled() => return self,
                () = self.wait_until(planned_ms) => {}
            }
            if clock.now_ms() < planned_ms {
                // The clock was set back: the next moment is another one now.
                continue;
            }
            let late_us = clock.now_us().saturating_sub(planned_ms.saturating_mul(1_000));
            self.metrics.delay.record(late_us.max(0) as f64 / 1e6);
            due_ms = Some(self.schedule.next_after(planned_ms));
            let time_ms = self.schedule.timestamp(planned_ms, clock.now_ms());
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return self,
                () = self.scrape(time_ms) => {}
            }
        }
    }

    /// Waits for a moment of wall time, or until the clock is set back by more than an interval.
    async fn wait_until(&self, moment_ms: i64) {
        loop {
            // In microseconds: the fraction of a millisecond that has passed would be waited for twice.
            let now_us = self.shared.engine().clock.now_us();
            let left_us = moment_ms.saturating_mul(1_000).saturating_sub(now_us);
            if left_us <= 0 || left_us > self.schedule.interval_ms().saturating_mul(1_000) {
                return;
            }
            moment::sleep(Duration::from_micros(left_us.unsigned_abs())).await;
        }
    }

    /// One scrape, stored with timestamp `time_ms`.
    pub(super) async fn scrape(&self, time_ms: i64) {
        let engine = self.shared.engine().clone();
        let started = engine.clock.monotonic();
        let fetched = match self.job.over_target_limit() {
            Some(error) => Err(error),
            None => self.fetch().await,
        };
        let store = Arc::clone(&self.store);
        let clock = Arc::clone(&engine.clock);
        let seconds = move || clock.monotonic().saturating_sub(started).as_secs_f64();
        let stored = blocking(self.shared.pool(), {
            let (engine, seconds) = (engine.clone(), seconds.clone());
            move || {
                // The body lives until it is stored, and its memory stays reserved.
                let (body, format) = match fetched {
                    Ok(fetched) => fetched,
                    Err(error) => return lock(&store).store(&engine, time_ms, Err(error), seconds),
                };
                lock(&store).store(&engine, time_ms, Ok(Answer { body: &body.bytes, format }), seconds)
            }
        })
        .await;
        if let Err(error) = &stored {
            let shown = || format!("{}: {error}", self.target.url);
            engine.ledger.refuse(SOURCE, "not_stored", 1, engine.clock.now_ms(), shown);
        }
        self.note(time_ms, seconds(), stored);
    }

    async fn fetch(&self) -> Result<(super::client::Body, Format), ScrapeError> {
        let body = self.request.fetch(self.job.client(), self.shared.budget()).await?;
        // An empty body is an answer that says nothing, in whatever format.
        let format = match body.bytes.is_empty() {
            true => Format::Text,
            false => format_of(&body.content_type, self.job.config().fallback)?,
        };
        Ok((body, format))
    }

    /// Keeps what became of a scrape, for pages that show it.
    fn note(&self, time_ms: i64, seconds: f64, stored: Result<Outcome, StoreError>) {
        let metrics = &self.metrics;
        metrics.duration.record(seconds);
        let (error, families) = match stored {
            Ok(outcome) => {
                metrics.bytes.add(outcome.bytes);
                match (&outcome.error, &outcome.store_error) {
                    (Some(error), _) => {
                        metrics.failed.inc();
                        self.shared.metrics().failed(error.reason());
                    }
                    (None, Some(_)) => metrics.not_stored.inc(),
                    (None, None) => {
                        metrics.stored.inc();
                        metrics.samples.add(outcome.samples);
                    }
                }
                let error = outcome.error.map(|error| error.to_string());
                (error.or_else(|| outcome.store_error.map(|error| error.to_string())), outcome.families)
            }
            Err(error) => {
                metrics.not_stored.inc();
                (Some(chain(&error)), None)
            }
        };
        if let Some(error) = &error {
            tracing::debug!(job = self.job.config().name, url = self.target.url, error, "scrape failed");
        }
        let mut facts = lock(&self.facts);
        facts.health = if error.is_none() { TargetHealth::Up } else { TargetHealth::Down };
        facts.last_error = error.unwrap_or_default();
        facts.last_scrape_ms = Some(time_ms);
        facts.last_scrape_seconds = seconds;
        facts.families = families.or_else(|| facts.families.take());
    }

    /// Waits until a successor of this target, if there is one, has surely been scraped, then marks the series that nobody
    /// goes on with.
    pub(super) async fn run_end(self: Arc<Self>, shutdown: CancellationToken) {
        let interval_ms = self.schedule.interval_ms();
        let stale_ms = self.schedule.next_after(self.shared.engine().clock.now_ms());
        for moment_ms in [stale_ms, stale_ms + interval_ms, stale_ms + interval_ms + interval_ms / 10] {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = self.wait_until(moment_ms) => {}
            }
        }
        self.end(stale_ms).await;
    }

    /// Marks at `stale_ms` the series of this target that no other one goes on with.
    pub(super) async fn end(&self, stale_ms: i64) {
        let (store, shared) = (Arc::clone(&self.store), Arc::clone(&self.shared));
        let ended = blocking(self.shared.pool(), move || {
            let living = shared.living(&lock(&store).tracked());
            let is_alive = |series: SeriesRef| living.binary_search(&series).is_ok();
            lock(&store).end_of_run(shared.engine(), stale_ms, is_alive)
        });
        if let Err(error) = ended.await.and_then(std::convert::identity) {
            tracing::warn!(
                url = self.target.url,
                error = chain(&error),
                "series of a gone target were not marked stale"
            );
        }
    }

    /// Those of `series` that are this target's and have not vanished.
    pub(super) fn tracked_of(&self, series: &[SeriesRef]) -> Vec<SeriesRef> {
        let store = lock(&self.store);
        series.iter().copied().filter(|series| store.tracks(*series)).collect()
    }

    pub(super) fn status(&self) -> TargetStatus {
        let facts = lock(&self.facts).clone();
        TargetStatus {
            pool: self.job.config().name.clone(),
            url: self.target.url.clone(),
            labels: self.labels(),
            discovered_labels: self.target.discovered.clone(),
            health: facts.health,
            last_error: facts.last_error,
            last_scrape_ms: facts.last_scrape_ms,
            last_scrape_seconds: facts.last_scrape_seconds,
            interval_ms: self.target.interval_ms,
            timeout_ms: self.target.timeout_ms,
        }
    }

    pub(super) fn labels(&self) -> kymo_core::status::LabelMap {
        self.target.labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    pub(super) fn families(&self) -> FamilyList {
        lock(&self.facts).families.clone().unwrap_or_else(|| Arc::from([]))
    }
}
