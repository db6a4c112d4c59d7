//! The engine on disk as the server sees it: opened, what was found, and its failures with what to do about them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use kymo_core::registry::Registry;
use kymo_core::text::write_size_rounded;
use kymo_core::{Budget, Clock, ServiceHealth};
use kymo_storage::fs::RealFs;
use kymo_storage::{Engine, Limits, LogDamage, OpenReport, Opening, Options, ReplayProgress, StorageError};

use super::plan::Plan;
use crate::failure::{Failure, chain};

/// The engine, and what is known of services beside it.
pub(super) struct Opened {
    pub(super) engine: Engine,
    pub(super) health: Arc<ServiceHealth>,
}

/// A data directory of which all but the manifest is still to be read, and what is known of services beside it.
pub(super) struct Begun {
    opening: Opening,
    health: Arc<ServiceHealth>,
}

/// Begins to open the data directory, off the async threads.
pub(super) async fn begin(
    plan: &Plan,
    clock: Arc<dyn Clock>,
    budget: Budget,
    registry: Registry,
) -> Result<Begun, Failure> {
    let of_services = plan.config.as_ref().map(|config| config.service_health.clone()).unwrap_or_default();
    let health = Arc::new(ServiceHealth::new(of_services.options(), clock.clone()));
    let options = Options {
        clock,
        budget,
        registry,
        retention: plan.retention.clone(),
        sync: plan.sync,
        limits: Limits { active_series: plan.series_limit, ..Limits::default() },
        health: Some(health.clone()),
        ..Options::default()
    };
    let dir = plan.data_dir.clone();
    let opening = off_the_async_threads(plan, move || Engine::begin(Arc::new(RealFs), &dir, options)).await?;
    Ok(Begun { opening, health })
}

impl Begun {
    /// Tells how far the log is read.
    pub(super) fn progress(&self) -> Arc<ReplayProgress> {
        self.opening.progress()
    }

    /// Reads blocks and log, off the async threads: it takes as long as it takes.
    pub(super) async fn finish(self, plan: &Plan) -> Result<(Opened, OpenReport), Failure> {
        let Begun { opening, health } = self;
        let (engine, report) = off_the_async_threads(plan, move || opening.finish()).await?;
        Ok((Opened { engine, health }, report))
    }
}

async fn off_the_async_threads<T: Send + 'static>(
    plan: &Plan,
    open: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, Failure> {
    let opened = tokio::task::spawn_blocking(open).await;
    let opened = opened.map_err(|error| Failure::because("opening the data directory was given up", &error))?;
    opened.map_err(|error| refused(&plan.data_dir, &error))
}

/// Why a data directory cannot be opened, and what to do.
pub(crate) fn refused(dir: &Path, error: &StorageError) -> Failure {
    let failure = Failure::new(format!("cannot open the data directory {}: {}", dir.display(), chain(error)));
    match error {
        StorageError::Locked { .. } => {
            failure.hint("another kymo uses it: stop that one, or choose another directory with --data-dir")
        }
        StorageError::NewerVersion { .. } => {
            failure.hint("nothing was touched: run the newer kymo, or choose another directory with --data-dir")
        }
        StorageError::Damaged { .. } => failure
            .hint("nothing was removed: restore the file from a copy, or choose another directory with --data-dir"),
        StorageError::Budget(_) => failure.hint("give more memory with --memory-limit"),
        StorageError::OpeningsUsedUp { .. } => failure.hint("choose a new directory with --data-dir"),
        StorageError::Io { source, .. } => match source.kind() {
            io::ErrorKind::StorageFull => failure.hint("the disk is full: make room, and start again"),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => failure
                .hint("this user cannot write there: change the owner, or choose another directory with --data-dir"),
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                failure.hint("a file is in the way: choose another directory with --data-dir")
            }
            _ => failure.hint("choose a directory that can be made and written with --data-dir"),
        },
        _ => failure,
    }
}

/// What replay found, a line each; damage is logged besides.
pub(super) fn found(report: &OpenReport) -> Vec<String> {
    let mut lines = vec![format!(
        "{} samples in {} log frames, {} blocks, opening {}",
        report.samples, report.frames, report.blocks, report.opening
    )];
    if report.torn_bytes > 0 {
        let mut size = String::new();
        write_size_rounded(&mut size, report.torn_bytes);
        lines.push(format!("{size} of an unfinished frame cut off the log, as a kill leaves it"));
        tracing::info!(bytes = report.torn_bytes, "cut an unfinished frame off the log");
    }
    for damage in &report.log_damage {
        let LogDamage { path, offset, bytes, what } = damage;
        lines.push(format!(
            "DAMAGED log {}: {what} at byte {offset}, {bytes} bytes skipped; kept in quarantine",
            path.display()
        ));
        tracing::error!(path = %path.display(), offset, bytes, what, "a stretch of the log cannot be read; kept in quarantine");
    }
    if report.orphaned_samples > 0 {
        lines.push(format!("{} samples of series that a damaged stretch defined are lost", report.orphaned_samples));
        tracing::error!(samples = report.orphaned_samples, "samples whose series a damaged stretch defined are lost");
    }
    for (path, fault) in &report.quarantined {
        lines.push(format!("DAMAGED block {}: {fault}; kept in quarantine", path.display()));
        tracing::error!(path = %path.display(), %fault, "a block cannot be read and is kept in quarantine");
    }
    lines
}
