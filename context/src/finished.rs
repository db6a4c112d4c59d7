//! The contexts that finished last.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::path::Name;

/// A finished context, as cheap to keep as can be: its path is put together when somebody asks.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    pub(crate) parent_path: Arc<str>,
    pub(crate) name: Name,
    /// Monotonic times.
    pub(crate) started: Duration,
    pub(crate) ended: Duration,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) is_cancelled: bool,
}

/// What a context said of its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) is_ok: bool,
    pub(crate) message: Box<str>,
}

/// The last ones, oldest first.
pub(crate) struct FinishedRing {
    max: usize,
    /// A leaf.
    ring: Mutex<Ring>,
}

struct Ring {
    last: VecDeque<Finished>,
    count: u64,
}

impl FinishedRing {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, ring: Mutex::new(Ring { last: VecDeque::new(), count: 0 }) }
    }

    /// Whether anything is kept at all.
    pub(crate) fn keeps(&self) -> bool {
        self.max > 0
    }

    pub(crate) fn push(&self, finished: Finished) {
        let oldest = {
            let mut ring = self.lock();
            ring.count += 1;
            let oldest = if ring.last.len() >= self.max { ring.last.pop_front() } else { None };
            ring.last.push_back(finished);
            oldest
        };
        // Freed outside of the lock.
        drop(oldest);
    }

    /// Counts one that is not kept.
    pub(crate) fn skip(&self) {
        self.lock().count += 1;
    }

    /// How many finished, ever.
    pub(crate) fn count(&self) -> u64 {
        self.lock().count
    }

    /// Newest first.
    pub(crate) fn last(&self) -> Vec<Finished> {
        self.lock().last.iter().rev().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
