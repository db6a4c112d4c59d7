//! Service health fed from metrics, kept as series, and taken up again after a start.
//!
//! ```text
//!   http_server_request_duration_seconds, … ─► MetricReader ─┐
//!   (whatever door they came by, from storage)                ├─► core::health ─► kymo_service_* ─► storage
//!   spans ───────────────────────────────────────────────────┘        ▲                              │
//!                                                                     └─────── after a start ────────┘
//! ```
//!
//! [`ServiceWatch`] is the loop: once a second it aggregates, every few seconds it reads what the metrics of requests gained, and
//! every 15 seconds a [`Collector`] stores what is known of services.

mod config;
mod reader;
mod stored;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kymo_core::health::ServiceHealth;
use kymo_core::registry::RegisterError;
use kymo_core::storage::CancelFlag;
use kymo_core::{Budget, QueryContext, SelectError};
use tokio_util::sync::CancellationToken;

use crate::collect::{CollectParts, Collector, CollectorOptions, hostname};

pub use config::{
    LatencyUnit, RequestMetric, RequestRule, ServiceHealthConfig, ServiceHealthConfigError, ThresholdsConfig,
};
pub use reader::FOLLOWED_SERIES_MAX;

use reader::{LATE_MAX_MS, MetricReader, Reading, compiled};
use stored::Figures;

/// How often figures are aggregated.
const AGGREGATE_EVERY: Duration = Duration::from_secs(1);
/// How often figures are stored.
const STORE_EVERY: Duration = Duration::from_secs(15);
/// Keeps a [`ServiceHealth`] alive. See the [module](self).
pub struct ServiceWatch {
    health: Arc<ServiceHealth>,
    parts: CollectParts,
    budget: Budget,
    config: ServiceHealthConfig,
    collector: Collector,
}

impl ServiceWatch {
    /// Nothing begins before [`run`](Self::run). `budget` is for reading what is stored.
    ///
    /// # Errors
    /// [`RegisterError`] when the registry holds other metrics of the collector's names.
    pub fn new(
        health: Arc<ServiceHealth>,
        config: ServiceHealthConfig,
        parts: CollectParts,
        budget: Budget,
    ) -> Result<ServiceWatch, RegisterError> {
        let options = CollectorOptions {
            interval: STORE_EVERY,
            offset: Duration::from_millis(7_500),
            job: "service_health".to_owned(),
            instance: hostname(),
            is_target: false,
        };
        let source = Box::new(Figures { health: health.clone() });
        let collector = Collector::of("service_health", options, source, parts.clone())?;
        Ok(ServiceWatch { health, parts, budget, config, collector })
    }

    /// Takes up what was stored, and goes on until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let ServiceWatch { health, parts, budget, config, collector } = self;
        let clock = parts.clock.clone();
        let context = {
            let clock = clock.clone();
            move || QueryContext {
                deadline: None,
                cancel: CancelFlag::default(),
                budget: budget.clone(),
                clock: clock.clone(),
            }
        };
        let now_ms = clock.now_ms();
        let since_ms = now_ms - LATE_MAX_MS;
        let reader = MetricReader::new(compiled(&config.metrics), since_ms);
        let storage = parts.storage.clone();
        let reading = Reading { version: storage.version(), storage, reader, read_ms: since_ms, went_back_ms: 0 };
        let reading = Arc::new(Mutex::new(reading));
        let reads_metrics = config.metrics_interval.as_ms() > 0;
        let restored = {
            let (health, storage, reading, ctx) = (health.clone(), parts.storage.clone(), reading.clone(), context());
            on_pool(&parts, move || -> Result<(), SelectError> {
                stored::restore_traced(&*storage, &ctx, &health, now_ms)?;
                if reads_metrics {
                    // The last hour of services that metrics tell of, with their operations.
                    reading.lock().unwrap_or_else(PoisonError::into_inner).catch_up(&ctx, &health, now_ms)?;
                    health.aggregate_health();
                }
                stored::restore(&*storage, &ctx, &health, now_ms)
            })
        };
        if let Some(Err(error)) = restored.await {
            tracing::warn!(%error, "what was known of services cannot be read; it begins anew");
        }
        let storing = collector.run(stop.clone());
        let watching = async {
            let interval = config.metrics_interval.as_duration();
            let mut read_at: Option<Duration> = None;
            let mut was_failing = false;
            while !stop.is_cancelled() {
                let (now_ms, now) = (clock.now_ms(), clock.monotonic());
                let is_due =
                    !interval.is_zero() && read_at.is_none_or(|read_at| now.saturating_sub(read_at) >= interval);
                let (health, reading, ctx) = (health.clone(), reading.clone(), context());
                let done = on_pool(&parts, move || -> Result<(), SelectError> {
                    if is_due {
                        let mut reading = reading.lock().unwrap_or_else(PoisonError::into_inner);
                        let caught_up = reading.catch_up(&ctx, &health, now_ms);
                        drop(reading);
                        health.aggregate_health();
                        return caught_up;
                    }
                    health.aggregate_health();
                    Ok(())
                });
                match done.await {
                    Some(Ok(())) => {
                        was_failing = false;
                        if is_due {
                            read_at = Some(now);
                        }
                    }
                    Some(Err(error)) if !std::mem::replace(&mut was_failing, true) => {
                        tracing::warn!(%error, "metrics of requests cannot be read; tried again");
                    }
                    Some(Err(_)) => {}
                    // The pool is full: what was counted waits in its cells.
                    None => {}
                }
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(AGGREGATE_EVERY) => {}
                }
            }
        };
        tokio::join!(storing, watching);
    }
}

/// Does `job` on the pool; `None` when it is full, or the job failed on a fault of Kymo.
async fn on_pool<T: Send + 'static>(parts: &CollectParts, job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (reply, result) = tokio::sync::oneshot::channel();
    // Nobody waits only when the whole watch was dropped.
    parts.pool.try_execute(Box::new(move || drop(reply.send(job())))).ok()?;
    result.await.ok()
}
