//! Waits with a name.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;

use crate::context::Context;
use crate::lock::LockCore;
use crate::slots::Slots;

/// Something of a context waits. Kept in the context while it does.
pub(crate) struct Wait {
    pub(crate) what: WaitFor,
    /// Monotonic.
    pub(crate) since: Duration,
}

/// The waits of one context. The first has a place of its own: most contexts wait for one thing at a time, and there may be
/// a million contexts.
pub(crate) struct Waits {
    first: Option<Wait>,
    more: Slots<Wait>,
}

impl Waits {
    pub(crate) const fn new() -> Self {
        Self { first: None, more: Slots::new() }
    }

    fn insert(&mut self, wait: Wait) -> u32 {
        if self.first.is_none() {
            self.first = Some(wait);
            return 0;
        }
        self.more.insert(wait) + 1
    }

    fn remove(&mut self, key: u32) -> Option<Wait> {
        match key.checked_sub(1) {
            None => self.first.take(),
            Some(at) => self.more.remove(at),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Wait> {
        self.first.iter().chain(self.more.iter())
    }
}

impl Context {
    /// Notes a wait that begins now; its key is for [`end_wait`](Self::end_wait).
    pub(crate) fn begin_wait(&self, what: WaitFor) -> u32 {
        let since = self.touch();
        self.waits().insert(Wait { what, since })
    }

    /// The wait is over.
    pub(crate) fn end_wait(&self, key: u32) {
        let gone = self.waits().remove(key);
        // Outside of the lock: it may be the last owner of a named lock.
        drop(gone);
    }
}

pub(crate) enum WaitFor {
    Named(Cow<'static, str>),
    Lock(Arc<LockCore>),
}

pin_project! {
    /// A future with a name for what it waits for; made by [`Context::waiting_on`].
    ///
    /// It is shown from when it first has to wait. One that is ready at once costs nothing.
    #[must_use = "futures do nothing unless awaited"]
    pub struct WaitingOn<'a, F> {
        // A field of its own, so that a panic or a drop in between ends the wait as well.
        note: Note<'a>,
        #[pin]
        future: F,
    }
}

struct Note<'a> {
    context: &'a Context,
    what: Option<Cow<'static, str>>,
    key: Option<u32>,
}

impl<'a, F> WaitingOn<'a, F> {
    pub(crate) fn new(context: &'a Context, what: Cow<'static, str>, future: F) -> Self {
        Self { note: Note { context, what: Some(what), key: None }, future }
    }
}

impl<F: Future> Future for WaitingOn<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<F::Output> {
        let this = self.project();
        let polled = this.future.poll(task);
        match &polled {
            Poll::Ready(_) => this.note.end(),
            Poll::Pending => this.note.begin(),
        }
        polled
    }
}

impl Note<'_> {
    fn begin(&mut self) {
        if let Some(what) = self.what.take() {
            self.key = Some(self.context.begin_wait(WaitFor::Named(what)));
        }
    }

    fn end(&mut self) {
        if let Some(key) = self.key.take() {
            self.context.end_wait(key);
        }
    }
}

impl Drop for Note<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// A wait without a future; made by [`Context::blocking_on`]. It may be dropped anywhere.
#[must_use = "the wait ends when this is dropped"]
pub struct BlockingOn {
    context: Arc<Context>,
    key: u32,
}

impl BlockingOn {
    pub(crate) fn new(context: Arc<Context>, what: Cow<'static, str>) -> Self {
        let key = context.begin_wait(WaitFor::Named(what));
        Self { context, key }
    }
}

impl Drop for BlockingOn {
    fn drop(&mut self) {
        self.context.end_wait(self.key);
    }
}
