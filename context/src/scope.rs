//! In which context, and as which task, code runs.
//!
//! A future that was spawned or [`run`](Context::run) in a context puts it into a thread-local while it is polled, and
//! takes it out again. So [`current`] is right on every thread the task moves to, and costs no lookup.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::thread::ThreadId;

use pin_project_lite::pin_project;

use crate::context::Context;
use crate::global::global;

/// Who does something: what can wait, and wait for itself to go on, only as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Actor {
    /// A future of ours: the address of its context, which whoever names it keeps alive, and its number there.
    Task(usize, u32),
    /// A task of tokio that was not spawned in a context.
    Tokio(tokio::task::Id),
    /// Neither.
    Thread(ThreadId),
}

/// A context and a task in it.
#[derive(Clone)]
pub(crate) struct Scope {
    pub(crate) context: Arc<Context>,
    pub(crate) actor: Actor,
}

thread_local! {
    static CURRENT: RefCell<Option<Scope>> = const { RefCell::new(None) };
}

impl Scope {
    /// A task of `context` begins; whoever takes the scope ends it.
    pub(crate) fn task_of(context: Arc<Context>) -> Scope {
        let actor = Actor::Task(Arc::as_ptr(&context).addr(), context.begin_task());
        Scope { context, actor }
    }

    /// Where this code runs.
    pub(crate) fn here() -> Scope {
        CURRENT.with_borrow(Clone::clone).unwrap_or_else(|| {
            let thread = || Actor::Thread(std::thread::current().id());
            Scope { context: global(), actor: tokio::task::try_id().map_or_else(thread, Actor::Tokio) }
        })
    }
}

/// The context of the task that runs here; [`global`] in code that nobody runs in one.
#[must_use]
pub fn current() -> Arc<Context> {
    try_current().unwrap_or_else(global)
}

/// The context of the task that runs here, `None` in code that nobody runs in one.
#[must_use]
pub fn try_current() -> Option<Arc<Context>> {
    CURRENT.with_borrow(|scope| scope.as_ref().map(|scope| scope.context.clone()))
}

/// Calls `work` in a scope, as a poll of a [`Scoped`] would.
pub(crate) fn enter<T>(scope: Scope, work: impl FnOnce() -> T) -> T {
    let context = scope.context.clone();
    let _task = Task(&context);
    context.begin_poll();
    let mut home = Some(scope);
    let _entered = Entered::new(&mut home);
    work()
}

/// One task of a context, until dropped.
struct Task<'a>(&'a Context);

impl Drop for Task<'_> {
    fn drop(&mut self) {
        self.0.end_task();
    }
}

pin_project! {
    /// A future in a context; made by [`Context::run`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct Scoped<F> {
        // `None` only while it is polled: then it is in the thread-local.
        scope: Option<Scope>,
        #[pin]
        future: F,
    }

    impl<F> PinnedDrop for Scoped<F> {
        fn drop(this: Pin<&mut Self>) {
            if let Some(scope) = this.project().scope {
                scope.context.end_task();
            }
        }
    }
}

impl<F> Scoped<F> {
    pub(crate) fn new(scope: Scope, future: F) -> Self {
        Self { scope: Some(scope), future }
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<F::Output> {
        let this = self.project();
        if let Some(scope) = &*this.scope {
            scope.context.begin_poll();
        }
        let _entered = Entered::new(this.scope);
        this.future.poll(task)
    }
}

/// Puts a scope in place, and both back when dropped, also by a panic.
struct Entered<'a> {
    home: &'a mut Option<Scope>,
    before: Option<Scope>,
}

impl<'a> Entered<'a> {
    fn new(home: &'a mut Option<Scope>) -> Self {
        let before = CURRENT.replace(home.take());
        Self { home, before }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        *self.home = CURRENT.replace(self.before.take());
        if let Some(scope) = &*self.home {
            scope.context.end_poll();
        }
    }
}
