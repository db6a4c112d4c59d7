//! What a tree is made with.

use std::sync::Arc;
use std::time::Duration;

use kymo_core::{Clock, SystemClock};

/// Sizes, thresholds and the clock of a tree of contexts. Given to its root.
///
/// ```
/// use kymo_context::{Context, Settings};
///
/// let root = Context::with_settings("global", Settings { finished_max: 500, ..Settings::default() });
/// assert_eq!(root.path(), "global");
/// ```
#[derive(Clone)]
pub struct Settings {
    /// Where the time comes from. Windows and durations use its monotonic time only.
    pub clock: Arc<dyn Clock>,
    /// Finished contexts that are remembered. 0 remembers none.
    pub finished_max: usize,
    /// Paths that are counted at once. Beyond it the idlest leaves are folded into their parents. Each takes 2.5 kB.
    pub paths_max: usize,
    /// A wait this long is called stuck.
    pub stuck_after: Duration,
    /// A lock held this long is reported.
    pub held_after: Duration,
    /// A context is called idle when nothing happened in it or below for this long.
    pub idle_after: Duration,
    /// A task that nobody polled for this long, and that waits for nothing with a name, is reported.
    pub idle_task_after: Duration,
}

impl Settings {
    /// [`finished_max`](Self::finished_max) unless set: a screen or two.
    pub const FINISHED_MAX_DEFAULT: usize = 100;
    /// [`paths_max`](Self::paths_max) unless set: 10 MB at the most.
    pub const PATHS_MAX_DEFAULT: usize = 4_096;
    /// [`stuck_after`](Self::stuck_after) unless set: longer than a healthy request.
    pub const STUCK_AFTER_DEFAULT: Duration = Duration::from_secs(5);
    /// [`held_after`](Self::held_after) unless set.
    pub const HELD_AFTER_DEFAULT: Duration = Duration::from_secs(5);
    /// [`idle_after`](Self::idle_after) unless set.
    pub const IDLE_AFTER_DEFAULT: Duration = Duration::from_secs(60);
    /// [`idle_task_after`](Self::idle_task_after) unless set.
    pub const IDLE_TASK_AFTER_DEFAULT: Duration = Duration::from_secs(600);
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            clock: Arc::new(SystemClock::new()),
            finished_max: Self::FINISHED_MAX_DEFAULT,
            paths_max: Self::PATHS_MAX_DEFAULT,
            stuck_after: Self::STUCK_AFTER_DEFAULT,
            held_after: Self::HELD_AFTER_DEFAULT,
            idle_after: Self::IDLE_AFTER_DEFAULT,
            idle_task_after: Self::IDLE_TASK_AFTER_DEFAULT,
        }
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("finished_max", &self.finished_max)
            .field("paths_max", &self.paths_max)
            .finish_non_exhaustive()
    }
}
