//! Epochs, marks and what waits for them.
//!
//! **Reader.** [`Grace::pin`] reads the epoch and writes it to the thread's own [`Mark`]; then it reads shared pointers and
//! what they point to; then [`Mark::unpin`] clears the mark.
//!
//! **Remover.** Unlinks first (so that no new reader finds the thing), then [`Grace::retire`] takes the epoch and moves it
//! on. A thing retired in epoch `e` is given back for freeing when every mark is clear or says more than `e`.
//!
//! **Why that is enough.** Say a reader found the thing, so it read a pointer from before the unlinking.
//! (1) Its mark says at most `e`: had it read an epoch beyond `e`, that epoch was written after the unlinking, and reading
//! it (Acquire) would have made the unlinking visible. (2) The remover sees that mark: the reader wrote its mark before it
//! read the pointer, the remover unlinked before it reads marks, and there is a full barrier between the two of each side
//! (`barrier` says whose). So either the remover's read comes after the mark was written, or the reader's read comes
//! after the unlinking, and then it did not find the thing.
//!
//! # Orderings
//! For (2): SeqCst for the pointers (see `table`) and for reading marks, and for writing them where no barrier of the system
//! does; AcqRel fails it, as it lets the reader's two accesses pass each other. Release when a mark is cleared, which the reading of marks acquires:
//! whatever a reader did with the thing happens before it is freed.
//!
//! A thread that ends gives its mark to the next. If it is still pinned then (a pin was forgotten, or lives in another
//! thread-local value) the mark is left as it is: things wait, nothing is freed too early.

use std::sync::PoisonError;

use super::sync::{AtomicU32, AtomicU64, Barrier, Epoch, Mutex, MutexGuard, Ordering, full_fence};

/// In which epoch a thread began to read. A cache line pair of its own: 128 bytes, as processors fetch lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Mark {
    /// 0 = not reading.
    epoch: AtomicU64,
    /// Pins of the thread, one in another. Used by that thread only.
    depth: AtomicU32,
    barrier: Barrier,
}

impl Mark {
    fn new() -> Self {
        Self { epoch: AtomicU64::new(0), depth: AtomicU32::new(0), barrier: Barrier::of_process() }
    }

    /// Ends what `Grace::pin` began.
    #[inline]
    pub(super) fn unpin(&self) {
        let depth = self.depth.load(Ordering::Relaxed) - 1;
        self.depth.store(depth, Ordering::Relaxed);
        if depth == 0 {
            self.epoch.store(0, Ordering::Release);
        }
    }
}

/// Marks of all threads, and garbage.
#[derive(Debug)]
pub(super) struct Grace<T> {
    /// Guards the lists. Nothing is freed under it: freeing takes other locks.
    lists: Mutex<Lists<T>>,
    epoch: Epoch,
}

#[derive(Debug)]
pub(super) struct Lists<T> {
    /// Of all threads there are and were: never more than lived at one time, so leaked.
    marks: Vec<&'static Mark>,
    idle: Vec<&'static Mark>,
    /// With the epoch it was retired in, rising.
    garbage: Vec<(u64, T)>,
}

/// Nothing yet. [`Grace`] is made from it elsewhere, as only std's lock can be made in a constant.
pub(super) const fn no_marks<T>() -> Lists<T> {
    Lists { marks: Vec::new(), idle: Vec::new(), garbage: Vec::new() }
}

impl<T> Grace<T> {
    pub(super) const fn from_parts(lists: Mutex<Lists<T>>, epoch: Epoch) -> Self {
        Self { lists, epoch }
    }

    fn lists(&self) -> MutexGuard<'_, Lists<T>> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A mark for a thread.
    pub(super) fn take_mark(&self) -> &'static Mark {
        let mut lists = self.lists();
        if let Some(mark) = lists.idle.pop() {
            return mark;
        }
        let mark = Box::leak(Box::new(Mark::new()));
        lists.marks.push(mark);
        mark
    }

    /// Takes the mark of a thread that ends.
    pub(super) fn hand_over(&self, mark: &'static Mark) {
        if mark.depth.load(Ordering::Relaxed) == 0 {
            self.lists().idle.push(mark);
        }
    }

    /// From here to `mark.unpin` nothing is freed that could be found.
    #[inline]
    pub(super) fn pin(&self, mark: &Mark) {
        let depth = mark.depth.load(Ordering::Relaxed);
        mark.depth.store(depth + 1, Ordering::Relaxed);
        if depth == 0 {
            mark.barrier.write_mark(&mark.epoch, self.epoch.load(Ordering::Acquire));
            full_fence();
        }
    }

    /// Takes what was unlinked before this call; gives back what may be freed now.
    pub(super) fn retire(&self, garbage: T) -> Vec<T> {
        full_fence();
        let mut lists = self.lists();
        let epoch = self.epoch.fetch_add(1, Ordering::SeqCst);
        lists.garbage.push((epoch, garbage));
        Self::freeable(&mut lists)
    }

    /// Gives back what may be freed now.
    pub(super) fn collect(&self) -> Vec<T> {
        Self::freeable(&mut self.lists())
    }

    fn freeable(lists: &mut Lists<T>) -> Vec<T> {
        if lists.garbage.is_empty() {
            return Vec::new();
        }
        full_fence();
        if !Barrier::of_process().before_reading_marks() {
            return Vec::new();
        }
        let pinned = lists.marks.iter().map(|mark| mark.epoch.load(Ordering::SeqCst)).filter(|epoch| *epoch > 0).min();
        let end = match pinned {
            Some(oldest) => lists.garbage.partition_point(|(epoch, _)| *epoch < oldest),
            None => lists.garbage.len(),
        };
        lists.garbage.drain(..end).map(|(_, garbage)| garbage).collect()
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.lists().garbage.len()
    }
}
