//! How an engine is opened, and its limits.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use kymo_core::{Budget, Clock, Registry, ServiceHealth, SystemClock};

use crate::retention::RetentionPolicy;

/// When the log is made safe against power loss. A kill of the process loses nothing under any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncPolicy {
    /// Before every acknowledgement.
    Always,
    /// At the latest [`Options::sync_interval`] after a write.
    #[default]
    Interval,
    /// When the system sees fit.
    Never,
}

impl FromStr for SyncPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<SyncPolicy, String> {
        match text {
            "always" => Ok(SyncPolicy::Always),
            "interval" => Ok(SyncPolicy::Interval),
            "never" => Ok(SyncPolicy::Never),
            other => Err(format!("unknown sync policy {other:?}: expected always, interval or never")),
        }
    }
}

impl fmt::Display for SyncPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SyncPolicy::Always => "always",
            SyncPolicy::Interval => "interval",
            SyncPolicy::Never => "never",
        })
    }
}

/// Named limits of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Series that can take samples at once. At about 1 KiB each the default stays below 10 GiB.
    pub active_series: usize,
    /// Labels of one series.
    pub labels_per_series: usize,
    /// Bytes of one label name or value.
    pub label_bytes: usize,
    /// Writers of increments and totals that are remembered, over all series; at 1.3 KB each the default stays below
    /// 140 MB.
    pub increment_writers: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { active_series: 10_000_000, labels_per_series: 128, label_bytes: 64 << 10, increment_writers: 100_000 }
    }
}

/// How an engine is opened.
#[derive(Clone)]
pub struct Options {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Memory for everything the engine holds.
    pub budget: Budget,
    /// Where the engine's own metrics are registered.
    pub registry: Registry,
    /// How long what is kept; [`Engine::set_retention`](crate::Engine::set_retention) puts another one in its place.
    pub retention: RetentionPolicy,
    /// When the log is synced.
    pub sync: SyncPolicy,
    /// For [`SyncPolicy::Interval`].
    pub sync_interval: Duration,
    /// Limits.
    pub limits: Limits,
    /// What is known of services, for those who ask the engine; it is filled by whoever made it.
    pub health: Option<Arc<ServiceHealth>>,
    /// Samples in the head beyond which it is flushed: bounds the time that replay takes. Late samples, which had to be looked for
    /// among the chunks of their series, count as more than one; with half a million of one series it is flushed, too.
    pub flush_samples: u64,
    /// Age of the oldest unflushed append beyond which the head is flushed.
    pub flush_age: Duration,
    /// Length of a part's time range; parts are cut at its multiples.
    pub block_range: Duration,
    /// Memory for what was read from blocks and may be read again; taken from the budget as it fills. A quarter of it at the
    /// most is for what was read only once.
    pub cache_bytes: u64,
    /// Time after which [`Engine::maintain`](crate::Engine::maintain) gives back what was read from blocks and nobody asked for
    /// again.
    pub cache_idle: Duration,
    /// Bytes kept back on disk, so that a full disk can still be tidied.
    pub reserve_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            clock: Arc::new(SystemClock::new()),
            budget: Budget::unlimited(),
            registry: Registry::new(),
            retention: RetentionPolicy::default(),
            sync: SyncPolicy::default(),
            sync_interval: Duration::from_secs(1),
            limits: Limits::default(),
            health: None,
            flush_samples: 6_000_000,
            flush_age: Duration::from_secs(2 * 3_600),
            block_range: Duration::from_secs(2 * 3_600),
            cache_bytes: 64 << 20,
            cache_idle: Duration::from_secs(300),
            reserve_bytes: 4 << 20,
        }
    }
}
