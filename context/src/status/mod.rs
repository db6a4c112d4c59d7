//! The tree at one moment, as values: as text for people, as JSON for programs (by serde), and as a stream.

mod gather;
mod stream;
pub(crate) mod text;

use std::collections::BTreeMap;
use std::time::Duration;

use kymo_core::window::{Trend, WindowCounts};
use serde::{Deserialize, Serialize};

pub use stream::StatusStream;
pub use text::Paint;

use crate::context::Context;
use crate::lock::LockKind;
use crate::value::{MetricValue, seconds};
use crate::watch::Finding;

/// A tree of contexts at one moment.
///
/// Requests are read in one pass: what a path shows is the sum of what it and all paths below show, exactly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// When, ms since the Unix epoch.
    pub taken_ms: i64,
    /// What lives, parents before children, siblings by name and age. The first is the root.
    pub contexts: Vec<ContextStatus>,
    /// Every path that is counted, sorted, also those whose contexts have ended.
    pub requests: Vec<RequestsStatus>,
    /// What a person should look at.
    pub findings: Vec<Finding>,
    /// Contexts that finished since the start.
    pub finished: u64,
    /// The last of them, newest first; only when asked for.
    pub latest: Option<Vec<FinishedStatus>>,
    /// How full the table of paths is.
    pub paths: PathsStatus,
}

/// How a context does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Something happened lately, here or below.
    Active,
    /// Nothing happened for long.
    Idle,
    /// It waits for something with a name.
    Waiting,
    /// It has waited too long.
    Stuck,
    /// It is part of a circle of locks.
    Deadlocked,
    /// It was cancelled and has not ended yet.
    Cancelled,
    /// It said that it ended well.
    Completed,
    /// It said that it failed.
    Failed,
}

/// A context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContextStatus {
    /// From the root down, joined by dots.
    pub path: String,
    /// The last piece of the path, as it was given.
    pub name: String,
    /// 0 for the root.
    pub depth: usize,
    /// Since it began.
    #[serde(with = "seconds")]
    pub uptime: Duration,
    /// How it does.
    pub state: State,
    /// Since something happened, here or below.
    #[serde(with = "seconds")]
    pub idle: Duration,
    /// Its own tasks that have not ended.
    pub tasks: u32,
    /// Whether it was cancelled.
    pub is_cancelled: bool,
    /// What it said of its end.
    pub outcome: Option<OutcomeStatus>,
    /// What it waits for, longest first.
    pub waits: Vec<WaitStatus>,
    /// Locks it holds, longest first.
    pub holds: Vec<HoldStatus>,
    /// Its metrics.
    pub metrics: BTreeMap<String, MetricValue>,
    /// Its data.
    pub data: BTreeMap<String, serde_json::Value>,
    /// Metrics and data that found no room.
    pub left_out: u64,
    /// Counters of its path and all below.
    pub counters: BTreeMap<String, CounterStatus>,
    /// Requests of its path and all below; `None` if there never was one.
    pub requests: Option<Requests>,
}

/// How a context ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeStatus {
    /// Well or not.
    pub ok: bool,
    /// In its own words.
    pub message: String,
}

/// A wait.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WaitStatus {
    /// The name of the wait or the lock.
    pub what: String,
    /// The kind of lock, `None` for a named await.
    pub lock: Option<LockKind>,
    /// For how long.
    #[serde(with = "seconds")]
    pub waited: Duration,
    /// Whether that is too long.
    pub stuck: bool,
    /// Who holds the lock.
    pub held_by: Vec<String>,
}

/// A lock that is held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HoldStatus {
    /// Its name.
    pub lock: String,
    /// Its kind.
    pub kind: LockKind,
    /// For how long.
    #[serde(with = "seconds")]
    pub held: Duration,
    /// How many wait for it.
    pub waiting: usize,
}

/// A counter of the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CounterStatus {
    /// Ever.
    pub total: u64,
    /// At this moment.
    pub live: u64,
}

/// Requests in all windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// Ever.
    pub since_start: u64,
    /// In the last 24 hours.
    pub last_day: u64,
    /// In the last 60 minutes.
    pub last_hour: u64,
    /// In the last 60 seconds.
    pub last_minute: u64,
    /// In the last second: the current rate.
    pub last_second: u64,
    /// The last minute against the one before.
    pub trend: Trend,
}

impl From<&WindowCounts> for Requests {
    fn from(counts: &WindowCounts) -> Requests {
        Requests {
            since_start: counts.since_start,
            last_day: counts.last_day,
            last_hour: counts.last_hour,
            last_minute: counts.last_minute,
            last_second: counts.last_second,
            trend: counts.trend(),
        }
    }
}

/// Requests of one path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestsStatus {
    /// From the root down.
    pub path: String,
    /// Whether a context of this path lives.
    pub lives: bool,
    /// Of the path and all below.
    pub requests: Requests,
    /// Counters of the path and all below.
    pub counters: BTreeMap<String, CounterStatus>,
}

/// A context that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FinishedStatus {
    /// From the root down.
    pub path: String,
    /// How long it lived.
    #[serde(with = "seconds")]
    pub uptime: Duration,
    /// How long ago it ended.
    #[serde(with = "seconds")]
    pub ago: Duration,
    /// What it said of its end.
    pub outcome: Option<OutcomeStatus>,
    /// Whether it had been cancelled.
    pub is_cancelled: bool,
}

/// The table of paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathsStatus {
    /// Paths that are counted.
    pub counted: usize,
    /// Paths that were folded into their parents to make room. Their counts are in the parents'.
    pub folded: u64,
    /// Paths that found no room, and whose nearest ancestor counts for them.
    pub refused: u64,
}

impl Status {
    /// The same with everything removed that changes by itself as time goes by, for comparing two moments.
    pub(crate) fn without_times(mut self) -> Status {
        self.taken_ms = 0;
        for context in &mut self.contexts {
            (context.uptime, context.idle) = (Duration::ZERO, Duration::ZERO);
            context.waits.iter_mut().for_each(|wait| wait.waited = Duration::ZERO);
            context.holds.iter_mut().for_each(|hold| hold.held = Duration::ZERO);
        }
        for finding in &mut self.findings {
            match finding {
                Finding::Cycle { links, .. } => {
                    links.iter_mut().for_each(|link| (link.waited, link.held) = (Duration::ZERO, Duration::ZERO));
                }
                Finding::LongHold { held: time, .. }
                | Finding::LongWait { waited: time, .. }
                | Finding::IdleTasks { idle: time, .. } => *time = Duration::ZERO,
            }
        }
        self.latest.iter_mut().flatten().for_each(|finished| finished.ago = Duration::ZERO);
        self
    }

    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        // Keys are strings and numbers finite or `null`: nothing of it can fail.
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl Context {
    /// The whole tree of this context as it is now.
    #[must_use]
    pub fn status(&self) -> Status {
        gather::status(self.root(), false)
    }

    /// The same with the contexts that finished last.
    #[must_use]
    pub fn status_with_latest(&self) -> Status {
        gather::status(self.root(), true)
    }

    /// [`status_with_latest`](Self::status_with_latest) as JSON.
    #[must_use]
    pub fn status_json(&self) -> serde_json::Value {
        self.status_with_latest().to_json()
    }

    /// The status now, and again whenever something has changed, at most once a second. That time goes by is no change.
    ///
    /// # Panics
    /// Outside of a tokio runtime with its timer on.
    #[must_use]
    pub fn status_stream(&self) -> StatusStream {
        StatusStream::new(self.root().own())
    }
}
