//! One node's part in cancelling: whether it is cancelled, who waits to hear of it, and its children.
//!
//! Three things meet here from any threads: a child is adopted, a child leaves, the node is cancelled; and somebody may
//! wait. What must hold:
//!
//! 1. A child that was adopted is either among those that `cancel` returns, or `adopt` said that the node is cancelled.
//! 2. Who waits is either woken by `cancel`, or saw that the node is cancelled.
//!
//! Both hold for one reason: `cancel` raises the flag before it takes the lock, and the others look at the flag inside
//! the lock. Whoever has the lock first is seen by the other.
//!
//! **Orderings.** The flag is stored with Release and loaded with Acquire, so that who sees it also sees what the
//! canceller did before. The argument above needs no more: the flag that is raised before a lock is visible to whoever
//! takes the lock later.

use std::task::{Context, Poll, Waker};

use crate::slots::Slots;
use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering, PoisonError};

/// `C` is a handle to a child.
pub(crate) struct Branch<C> {
    is_cancelled: AtomicBool,
    /// A leaf: wakers are called and children upgraded to owners outside of it.
    inner: Mutex<Inner<C>>,
}

struct Inner<C> {
    children: Slots<C>,
    waiting: Slots<Waker>,
}

impl<C> Branch<C> {
    pub(crate) fn new() -> Self {
        let inner = Inner { children: Slots::new(), waiting: Slots::new() };
        Self { is_cancelled: AtomicBool::new(false), inner: Mutex::new(inner) }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire)
    }

    /// Takes in a child; says its number, and whether it is to be cancelled as well.
    pub(crate) fn adopt(&self, child: C) -> (u32, bool) {
        let mut inner = self.lock();
        let at = inner.children.insert(child);
        (at, self.is_cancelled())
    }

    /// Forgets a child.
    pub(crate) fn forget(&self, at: u32) {
        let gone = self.lock().children.remove(at);
        // Outside of the lock: a handle may be the last of its kind.
        drop(gone);
    }

    /// Cancels this node and wakes who waits. `owned` makes of each child what the caller goes on with; `None` the
    /// second time.
    pub(crate) fn cancel<O>(&self, owned: impl FnMut(&C) -> Option<O>) -> Option<Vec<O>> {
        if self.is_cancelled.swap(true, Ordering::AcqRel) {
            return None;
        }
        let (waiting, children) = {
            let mut inner = self.lock();
            let waiting: Vec<Waker> = inner.waiting.take().collect();
            (waiting, inner.children.iter().filter_map(owned).collect())
        };
        waiting.into_iter().for_each(Waker::wake);
        Some(children)
    }

    /// What `owned` makes of each child, in no particular order.
    pub(crate) fn children<O>(&self, owned: impl FnMut(&C) -> Option<O>) -> Vec<O> {
        self.lock().children.iter().filter_map(owned).collect()
    }

    /// Ready once cancelled. `key` is the waiter's place, empty at first; who stops waiting gives it to
    /// [`leave`](Self::leave).
    pub(crate) fn poll_cancelled(&self, key: &mut Option<u32>, task: &mut Context<'_>) -> Poll<()> {
        if self.is_cancelled() {
            *key = None;
            return Poll::Ready(());
        }
        let mut inner = self.lock();
        if self.is_cancelled() {
            *key = None;
            return Poll::Ready(());
        }
        let outdated = match key.and_then(|at| inner.waiting.get_mut(at)) {
            Some(waker) if waker.will_wake(task.waker()) => None,
            Some(waker) => Some(std::mem::replace(waker, task.waker().clone())),
            None => {
                *key = Some(inner.waiting.insert(task.waker().clone()));
                None
            }
        };
        drop(inner);
        // Outside of the lock: the last waker of a task drops what the task holds.
        drop(outdated);
        Poll::Pending
    }

    /// Ends the waiting of `key`.
    pub(crate) fn leave(&self, key: u32) {
        // After a cancel the list is empty for good, or will be: nobody is added to it any more.
        let gone = {
            let mut inner = self.lock();
            if self.is_cancelled() { None } else { inner.waiting.remove(key) }
        };
        drop(gone);
    }

    fn lock(&self) -> MutexGuard<'_, Inner<C>> {
        // Only insertions and removals happen inside, which are whole or have not happened.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
