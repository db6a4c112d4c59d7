//! The configuration in force, and putting a changed file in its place.
//!
//! A file is put in force whole or not at all. Scrape jobs change at once, and those that did not change go on
//! untouched; so do how long what is kept, and from where on a service is not well. Other settings of the server itself and those of OTLP are those of its start, and
//! a change of them is said.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use kymo::config::{self, Configuration, KymoSection};
use kymo_core::metric::MetricKind;
use kymo_core::registry::{Gauge, MetricDesc, RegisterError, Registry};
use kymo_core::status::{ConfigurationStatus, LabelMap, ScrapePoolStatus, StatusError, StatusSource};
use kymo_core::{Clock, ServiceHealth};
use kymo_export::api::QueryLog;
use kymo_ingest::otlp::OtlpConfig;
use kymo_ingest::scrape::{JobConfig, ScrapeManager};
use kymo_ingest::services::ServiceHealthConfig;
use kymo_storage::Engine;

use super::plan::RetentionFlags;
use crate::failure::chain;

/// Every metric of the program itself.
pub(crate) const METRICS: &[MetricDesc] = &[SUCCESSFUL, LOADED];

const SUCCESSFUL: MetricDesc = MetricDesc {
    name: "kymo_config_last_reload_successful",
    kind: MetricKind::Gauge,
    unit: "",
    help: "Whether the configuration file could be put in force when it was last read: 1 or 0.",
    labels: &[],
};
const LOADED: MetricDesc = MetricDesc {
    name: "kymo_config_last_reload_success_timestamp_seconds",
    kind: MetricKind::Gauge,
    unit: "seconds",
    help: "When the configuration in force was read, since the Unix epoch.",
    labels: &[],
};

/// The log of queries.
pub(super) struct Logged {
    pub(super) log: QueryLog,
    /// The flag's file, which wins over the configuration's.
    pub(super) file: Option<PathBuf>,
}

/// How long what is kept.
pub(super) struct Retained {
    pub(super) engine: Arc<Engine>,
    /// Win over the file.
    pub(super) flags: RetentionFlags,
}

/// The file, what of it is in force, and what became of the last attempt to read it.
pub(super) struct Reload {
    path: Option<PathBuf>,
    /// In force since the start.
    kymo: KymoSection,
    otlp: OtlpConfig,
    service_health: ServiceHealthConfig,
    /// Judges by the thresholds in force.
    health: Arc<ServiceHealth>,
    scrape: Arc<ScrapeManager>,
    queries: Logged,
    retained: Retained,
    clock: Arc<dyn Clock>,
    /// Held for a whole reload, so that two do not cross.
    status: Mutex<ConfigurationStatus>,
    /// Held only to copy or replace.
    external_labels: Mutex<LabelMap>,
    /// Scrape jobs by name. Held only to copy or replace.
    pools: Mutex<BTreeMap<String, ScrapePoolStatus>>,
    successful: Gauge,
    loaded: Gauge,
}

impl Reload {
    /// What the server starts with; its jobs are put in force by [`apply`](Self::apply).
    pub(super) fn new(
        config: Option<&Configuration>,
        scrape: Arc<ScrapeManager>,
        queries: Logged,
        retained: Retained,
        health: Arc<ServiceHealth>,
        clock: Arc<dyn Clock>,
        registry: &Registry,
    ) -> Result<Reload, RegisterError> {
        Ok(Reload {
            path: config.map(|config| config.path.clone()),
            kymo: config.map(|config| config.kymo.clone()).unwrap_or_default(),
            otlp: config.map(|config| config.otlp.clone()).unwrap_or_default(),
            service_health: config.map(|config| config.service_health.clone()).unwrap_or_default(),
            health,
            scrape,
            queries,
            retained,
            clock,
            status: Mutex::default(),
            external_labels: Mutex::default(),
            pools: Mutex::default(),
            successful: registry.gauge(&SUCCESSFUL).register()?,
            loaded: registry.gauge(&LOADED).register()?,
        })
    }

    /// Reads the file again. Blocking.
    ///
    /// # Errors
    /// Why the old configuration stays in force.
    pub(super) fn reload(&self) -> Result<(), String> {
        let Some(path) = &self.path else {
            // What is in force are the defaults and the flags of the start, which cannot have changed.
            tracing::info!("asked to read the configuration again: there is no file, so nothing changed");
            return self.open_query_log(None);
        };
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let done = match config::load(path) {
            Ok(config) => self.put_in_force(&config, &mut status).inspect(|()| Reload::log_notices(&config)),
            Err(faults) => Err(faults.lines()),
        };
        match &done {
            Ok(()) => tracing::info!(path = %path.display(), "the configuration file was read again"),
            Err(reason) => {
                self.successful.set(0.0);
                status.reload_error.clone_from(reason);
                tracing::error!(path = %path.display(), "the configuration stays as it was: {reason}");
            }
        }
        done
    }

    /// Puts the configuration of the start in force.
    pub(super) fn apply(&self, config: Option<&Configuration>) -> Result<(), String> {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        match config {
            Some(config) => self.put_in_force(config, &mut status),
            None => {
                self.open_query_log(None)?;
                self.note_success(String::new(), &mut status);
                Ok(())
            }
        }
    }

    fn put_in_force(&self, config: &Configuration, status: &mut ConfigurationStatus) -> Result<(), String> {
        // A file that is logged to may be there for a while without being used; jobs that run cannot be taken back.
        self.open_query_log(config.query_log_file.as_deref())?;
        self.scrape.apply(config.jobs.clone()).map_err(|error| chain(&error))?;
        let Retained { engine, flags } = &self.retained;
        engine.set_retention(flags.over(&config.kymo));
        let KymoSection { retention, retention_size, retention_disk_share, .. } = self.kymo.clone();
        let with_its_retention = KymoSection { retention, retention_size, retention_disk_share, ..config.kymo.clone() };
        self.health.set_thresholds(config.service_health.thresholds.thresholds());
        let thresholds = self.service_health.thresholds.clone();
        let with_its_thresholds = ServiceHealthConfig { thresholds, ..config.service_health.clone() };
        let changes = [
            ("kymo", with_its_retention != self.kymo),
            ("otlp", config.otlp != self.otlp),
            ("service_health", with_its_thresholds != self.service_health),
        ];
        for (section, changed) in changes {
            if changed {
                tracing::warn!(section, "changes of this section come into force with the next start");
            }
        }
        *self.external_labels.lock().unwrap_or_else(PoisonError::into_inner) = config.external_labels.clone();
        *self.pools.lock().unwrap_or_else(PoisonError::into_inner) = pools(config);
        self.note_success(config.text.clone(), status);
        Ok(())
    }

    /// Opens the log of queries, anew if it was open: a rotation may have moved it away.
    fn open_query_log(&self, of_file: Option<&Path>) -> Result<(), String> {
        let path = self.queries.file.as_deref().or(of_file);
        let shown = || path.map(|path| path.display().to_string()).unwrap_or_default();
        self.queries.log.set_file(path).map_err(|error| format!("cannot open the query log {}: {error}", shown()))
    }

    /// Says what a file that was read again asks for in vain; of the first one the greeting does.
    fn log_notices(config: &Configuration) {
        for notice in &config.notices {
            tracing::warn!(notice, "not served");
        }
    }

    fn note_success(&self, text: String, status: &mut ConfigurationStatus) {
        let loaded_ms = self.clock.now_ms();
        *status = ConfigurationStatus { text, loaded_ms, reload_error: String::new() };
        self.successful.set(1.0);
        self.loaded.set(loaded_ms as f64 / 1e3);
    }
}

/// What is told of each scrape job.
fn pools(config: &Configuration) -> BTreeMap<String, ScrapePoolStatus> {
    let pool = |job: &JobConfig| {
        let text = config.job_texts.get(&job.name).cloned().unwrap_or_default();
        (job.name.clone(), ScrapePoolStatus { text, relabel: job.relabel.clone() })
    };
    config.jobs.iter().map(pool).collect()
}

impl StatusSource for Reload {
    fn configuration(&self) -> Result<Option<ConfigurationStatus>, StatusError> {
        Ok(Some(self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()))
    }

    fn scrape_pool(&self, name: &str) -> Result<Option<ScrapePoolStatus>, StatusError> {
        Ok(self.pools.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned())
    }

    fn external_labels(&self) -> Result<Option<LabelMap>, StatusError> {
        Ok(Some(self.external_labels.lock().unwrap_or_else(PoisonError::into_inner).clone()))
    }
}
