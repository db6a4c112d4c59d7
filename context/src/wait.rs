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

/// Something of a context waits. Kept in the context while it does.
pub(crate) struct Wait {
    pub(crate) what: WaitFor,
    /// Monotonic.
    pub(crate) since: Duration,
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
            let since = self.context.touch();
            self.key = Some(self.context.waits().insert(Wait { what: WaitFor::Named(what), since }));
        }
    }

    fn end(&mut self) {
        if let Some(key) = self.key.take() {
            let gone = self.context.waits().remove(key);
            drop(gone);
        }
    }
}

impl Drop for Note<'_> {
    fn drop(&mut self) {
        self.end();
    }
}
