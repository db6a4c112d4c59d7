//! What the server remembers of itself from one run to the next, in the state store.
//!
//! | Key | Value |
//! |---|---|
//! | `server/id` | 32 hexadecimal digits, made at the first start: which server this is, whatever it is called |
//! | `server/run` | JSON: when the newest run began, when it was last known to run, whether it ended in order |
//! | `server/starts` | JSON: starts so far, and how many of the runs before them did not end in order |
//!
//! A store that cannot be reached keeps the server from nothing: it is said once, and what was to be kept is kept when it is
//! there again. Calls of the store block, and are made on threads that may.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kymo_core::random::{OsRandom, Random};
use kymo_core::state::{StateError, StateStore};
use kymo_core::text::DurationText;
use kymo_core::{Clock, SystemClock};
use serde::{Deserialize, Serialize};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::failure::chain;

const ID: &str = "server/id";
const RUN: &str = "server/run";
const STARTS: &str = "server/starts";

/// How often the server notes that it runs: so far off is what the next run says of when this one ended.
const NOTE_EVERY: Duration = Duration::from_secs(60);

/// One run, as it is kept. Times in milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Run {
    began_ms: i64,
    seen_ms: i64,
    ended_in_order: bool,
    version: String,
    process: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Starts {
    starts: u64,
    after_disorder: u64,
}

/// The memory of runs.
pub(super) struct Runs {
    store: Arc<dyn StateStore>,
    clock: SystemClock,
    began_ms: i64,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Whether this run is in the store's counts.
    is_counted: bool,
    /// Whether the store failed when it was last asked.
    is_down: bool,
    /// Said once, when the store first answers.
    before: Option<String>,
}

impl Runs {
    /// Notes that a run begins; what is said of the one before is in [`greeting`](Self::greeting).
    pub(super) fn begin(store: Arc<dyn StateStore>) -> Runs {
        let clock = SystemClock::new();
        let runs = Runs { store, began_ms: clock.now_ms(), clock, known: Mutex::default() };
        runs.note(false);
        runs
    }

    /// What is to be said of the run before, if it did not end in order.
    pub(super) fn greeting(&self) -> Option<String> {
        self.known().before.clone()
    }

    /// Notes that the run goes on, until `stop`.
    pub(super) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut interval: Interval = tokio::time::interval(NOTE_EVERY);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first is at once, and was done.
        interval.tick().await;
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                () = stop.cancelled() => return,
            }
            let runs = self.clone();
            // A panic would be a fault of the store; the next note tries again.
            let _ = tokio::task::spawn_blocking(move || runs.note(false)).await;
        }
    }

    /// Notes that the run ended in order.
    pub(super) fn end(&self) {
        self.note(true);
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, ended_in_order: bool) {
        let mut known = self.known();
        match self.try_note(ended_in_order, &mut known) {
            Ok(()) if known.is_down => {
                tracing::info!("the state store answers again");
                known.is_down = false;
            }
            Ok(()) => {}
            Err(error) => {
                if !known.is_down {
                    tracing::warn!(
                        error = chain(&error),
                        "the state store does not take what the server wants to remember; trying again"
                    );
                }
                known.is_down = true;
            }
        }
    }

    fn try_note(&self, ended_in_order: bool, known: &mut Known) -> Result<(), StateError> {
        if !known.is_counted {
            self.count(known)?;
            known.is_counted = true;
        }
        self.put(
            RUN,
            &Run {
                began_ms: self.began_ms,
                seen_ms: self.clock.now_ms(),
                ended_in_order,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                process: std::process::id(),
            },
        )
    }

    fn count(&self, known: &mut Known) -> Result<(), StateError> {
        if self.store.get(ID)?.is_none() {
            let random = OsRandom::new();
            let id = format!("{:016x}{:016x}", random.next_u64(), random.next_u64());
            self.store.put(ID, id.as_bytes())?;
        }
        let mut starts: Starts = self.get(STARTS)?.unwrap_or_default();
        starts.starts += 1;
        if let Some(before) = self.get::<Run>(RUN)?.filter(|before| !before.ended_in_order) {
            starts.after_disorder += 1;
            let ran_ms = before.seen_ms.saturating_sub(before.began_ms);
            let ago_ms = self.began_ms.saturating_sub(before.seen_ms).max(0);
            known.before = Some(format!(
                "the run before ended in no order (a kill, a crash, or power loss): it had run {}, and was last seen {} before this start",
                DurationText(ran_ms / 1_000 * 1_000),
                DurationText(ago_ms / 1_000 * 1_000),
            ));
            tracing::warn!(
                began_ms = before.began_ms,
                seen_ms = before.seen_ms,
                process = before.process,
                "the run before did not end in order"
            );
        }
        self.put(STARTS, &starts)
    }

    /// A fact in JSON. What another version wrote in another form counts as nothing.
    fn get<T: for<'de> Deserialize<'de>>(&self, key: &str) -> Result<Option<T>, StateError> {
        Ok(self.store.get(key)?.and_then(|value| serde_json::from_slice(&value).ok()))
    }

    fn put(&self, key: &str, value: &impl Serialize) -> Result<(), StateError> {
        // Nothing of these can fail to be JSON.
        self.store.put(key, &serde_json::to_vec(value).unwrap_or_default())
    }
}
