//! How many threads evaluate queries.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads of all queries of an engine. Each query has its own, always; others join it only where no query of its own wants a
/// processor, and leave when one comes.
#[derive(Debug)]
pub(crate) struct Threads {
    max: usize,
    busy: AtomicUsize,
}

/// A thread that is counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Busy<'a>(&'a Threads);

impl Threads {
    pub(crate) fn new(max: usize) -> Threads {
        Threads { max, busy: AtomicUsize::new(0) }
    }

    /// Counts the thread of a query.
    pub(crate) fn enter(&self) -> Busy<'_> {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(self)
    }

    /// Counts one more, if there is room for it.
    pub(crate) fn try_join(&self) -> Option<Busy<'_>> {
        let joined = |busy: usize| (busy < self.max).then_some(busy + 1);
        self.busy.fetch_update(Ordering::Relaxed, Ordering::Relaxed, joined).ok().map(|_| Busy(self))
    }

    /// Whether [`try_join`](Self::try_join) might be answered.
    pub(crate) fn has_room(&self) -> bool {
        self.busy.load(Ordering::Relaxed) < self.max
    }

    /// Whether threads that joined should leave.
    pub(crate) fn is_crowded(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > self.max
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_join_up_to_the_limit_and_queries_always_enter() {
        let threads = Threads::new(2);
        let first = threads.enter();
        let joined = threads.try_join().unwrap();
        assert!(threads.try_join().is_none() && !threads.has_room() && !threads.is_crowded());
        let second = threads.enter();
        assert!(threads.is_crowded());
        drop(joined);
        assert!(!threads.is_crowded() && threads.try_join().is_none());
        drop((first, second));
        assert!(threads.has_room() && threads.try_join().is_some());
    }
}
