//! The context itself.
//!
//! 1. A child holds its parent, a parent only knows its children: a context lives as long as somebody works in it, and
//!    those above it live as long. When the last owner goes, it leaves its parent's list and is remembered as finished.
//! 2. Nothing here is held while foreign code runs: no lock is held across a poll, a waker, or the drop of a user's value.
//!
//! Ranks of locks: the paths of [`Tree`](crate::tree::Tree) before the counts of a path; a [`LockCore`]'s state before
//! the tree's list of contended locks; all others are leaves.
//!
//! [`LockCore`]: crate::lock::LockCore

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::branch::Branch;
use crate::builder::ContextBuilder;
use crate::cancel::Cancelled;
use crate::counts::PathCounts;
use crate::finished::{Finished, Outcome};
use crate::path::{self, Name};
use crate::scope::{self, Scope, Scoped};
use crate::settings::Settings;
use crate::tree::Tree;
use crate::value::{Details, MetricValue};
use crate::wait::{BlockingOn, WaitingOn, Waits};

/// One poll, in the number that counts them: the lower half is for those under way.
const POLL: u64 = 1 << 32;

/// A piece of work with a name: a program, a connection, a request.
///
/// Contexts form a tree. What is cancelled is cancelled with everything below; what is counted is counted with
/// everything below; what waits says what for. A context ends when its last `Arc` is dropped.
pub struct Context {
    me: Weak<Context>,
    tree: Arc<Tree>,
    /// `None` for the root, and for a context that has left the tree.
    parent: Option<Arc<Context>>,
    /// Its number among the parent's children. Relaxed: set before anybody else has this context.
    number: AtomicU32,
    /// Its tasks that have not ended, and, in the upper half, all that ever began.
    tasks: AtomicU64,
    /// How often its tasks were polled, times [`POLL`], and how many of them are being polled now. Polls look at no clock;
    /// who looks at the context notes when it was polled again.
    polls: AtomicU64,
    /// `polls` when somebody looked.
    polls_seen: AtomicU64,
    /// When it began, monotonic.
    started: Duration,
    /// Nanoseconds of the monotonic clock when something last happened in it.
    active: AtomicU64,
    name: Name,
    branch: Branch<Weak<Context>>,
    waits: Mutex<Waits>,
    counts: OnceLock<Arc<PathCounts>>,
    path: OnceLock<Arc<str>>,
    details: OnceLock<Box<Mutex<Details>>>,
}

impl Context {
    /// A tree of its own with this root.
    #[must_use]
    pub fn new(name: &str) -> Arc<Context> {
        Context::with_settings(name, Settings::default())
    }

    /// The same with sizes and a clock of choice.
    #[must_use]
    pub fn with_settings(name: &str, settings: Settings) -> Arc<Context> {
        let name = Name::new(name);
        let tree = Arc::new(Tree::new(name.as_str(), settings));
        Arc::new_cyclic(|me| Context::made(me, tree, None, name))
    }

    /// A context below this one, to be given values and begun; see [`ContextBuilder`].
    pub fn child(&self, name: &str) -> ContextBuilder {
        ContextBuilder::new(self.own(), Name::new(name))
    }

    /// Begins a context below `parent`.
    pub(crate) fn begin(parent: Arc<Context>, name: Name) -> Arc<Context> {
        let child = Arc::new_cyclic(|me| Context::made(me, parent.tree.clone(), Some(parent), name));
        if let Some(parent) = &child.parent {
            // Whole by now, so that a cancel at the same time can reach it.
            let (number, is_cancelled) = parent.branch.adopt(child.me.clone());
            child.number.store(number, Ordering::Relaxed);
            if is_cancelled {
                child.cancel();
            }
            parent.touch_at(child.started);
        }
        child
    }

    fn made(me: &Weak<Context>, tree: Arc<Tree>, parent: Option<Arc<Context>>, name: Name) -> Context {
        let started = tree.now();
        Context {
            me: me.clone(),
            tree,
            parent,
            number: AtomicU32::new(0),
            tasks: AtomicU64::new(0),
            polls: AtomicU64::new(0),
            polls_seen: AtomicU64::new(0),
            started,
            active: AtomicU64::new(nanos(started)),
            name,
            branch: Branch::new(),
            waits: Mutex::new(Waits::new()),
            counts: OnceLock::new(),
            path: OnceLock::new(),
            details: OnceLock::new(),
        }
    }

    /// Its name, as given; cut to [`NAME_BYTES_MAX`](path::NAME_BYTES_MAX).
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The names from the root down to here, joined by dots; [`path`] says how.
    #[must_use]
    pub fn path(&self) -> String {
        path::join(self.names())
    }

    /// The context above, `None` at the root.
    #[must_use]
    pub fn parent(&self) -> Option<&Arc<Context>> {
        self.parent.as_ref()
    }

    // --- tasks

    /// Runs `task` on tokio, in this context. Awaiting the handle gives its output.
    ///
    /// # Panics
    /// Outside of a tokio runtime, as `tokio::spawn` does; here and in the other ways to spawn.
    #[track_caller]
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(self.run(task))
    }

    /// Runs `task` on tokio in a context of its own below this one.
    #[track_caller]
    pub fn spawn_child<F, Fut>(&self, name: &str, task: F) -> JoinHandle<Fut::Output>
    where
        F: FnOnce(Arc<Context>) -> Fut + Send + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: Send + 'static,
    {
        self.child(name).spawn(task)
    }

    /// `future` in this context: [`current`](crate::current) inside of it is this one. It counts as a task of its own.
    pub fn run<F: Future>(&self, future: F) -> Scoped<F> {
        Scoped::new(Scope::task_of(self.own()), future)
    }

    /// Calls `work` in this context, for code that blocks a thread of its own: [`current`](crate::current) inside of it is
    /// this one.
    pub fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        scope::enter(Scope::task_of(self.own()), work)
    }

    // --- cancelling

    /// Cancels this context and everything below, now and in future. Tasks hear of it; they are not stopped by force.
    pub fn cancel(&self) {
        let mut left = self.branch.cancel(Weak::upgrade).unwrap_or_default();
        while let Some(child) = left.pop() {
            left.extend(child.branch.cancel(Weak::upgrade).unwrap_or_default());
        }
    }

    /// Whether it was cancelled, or anything above it. One load.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.branch.is_cancelled()
    }

    /// Ready once this context is cancelled. Woken, not polled.
    pub fn cancelled(&self) -> Cancelled<'_> {
        Cancelled::new(&self.branch)
    }

    /// Waits until this context is cancelled.
    pub async fn wait(&self) {
        self.cancelled().await;
    }

    // --- metrics and data

    /// Sets a metric; the newest value of a key is kept, and shown in the status.
    pub fn add_metric(&self, key: &str, value: MetricValue) {
        self.touch();
        self.details().set_metric(key, value);
    }

    /// Sets data to look at; the newest value of a key is kept.
    pub fn set_data(&self, key: &str, value: serde_json::Value) {
        self.touch();
        self.details().set_data(key, value);
    }

    /// What [`set_data`](Self::set_data) last set, `None` if nothing.
    #[must_use]
    pub fn get_data(&self, key: &str) -> Option<serde_json::Value> {
        self.known_details()?.data.get(key).cloned()
    }

    /// What [`add_metric`](Self::add_metric) last set, `None` if nothing.
    #[must_use]
    pub fn get_metric(&self, key: &str) -> Option<MetricValue> {
        self.known_details()?.metrics.get(key).cloned()
    }

    /// Says how the work of this context ended; shown while it lives and among the last finished. The newest counts.
    pub fn complete_with_status(&self, is_ok: bool, message: &str) {
        self.touch();
        self.details().outcome = Some(Outcome { is_ok, message: message.into() });
    }

    // --- counting

    /// Counts one request: on the path of the parent, and so on all paths above it. At the root, on the root itself.
    ///
    /// The context that is persisted is the request, and its own path is not counted: there may be millions. Each call
    /// counts, also on a context that was cancelled or completed. O(1), and no allocation once the parent's path exists.
    pub fn persist(&self) {
        let now = self.touch();
        self.parent.as_deref().unwrap_or(self).counts().count_request(now);
    }

    /// Adds one to a total of this path. Totals outlive contexts.
    pub fn increment_total(&self, counter: &str) {
        let now = self.touch();
        self.counts().tally(counter, now, |tally| tally.total += 1);
    }

    /// Adds one to what is live under this path. What a context does not take back itself is taken back when it ends.
    pub fn increment_live(&self, counter: &str) {
        let now = self.touch();
        *self.details().live.entry(counter.into()).or_default() += 1;
        self.counts().tally(counter, now, |tally| tally.live += 1);
    }

    /// Takes one back. A context takes back no more than it added.
    pub fn decrement_live(&self, counter: &str) {
        let now = self.touch();
        {
            let mut details = self.details();
            match details.live.get_mut(counter) {
                Some(live) if *live > 0 => *live -= 1,
                _ => return,
            }
        }
        self.counts().tally(counter, now, |tally| tally.live = tally.live.saturating_sub(1));
    }

    /// The total of this path and all below it.
    #[must_use]
    pub fn get_total(&self, counter: &str) -> u64 {
        self.tree.paths.tally(&self.names(), counter).total
    }

    /// What is live under this path and all below it.
    #[must_use]
    pub fn get_live(&self, counter: &str) -> u64 {
        self.tree.paths.tally(&self.names(), counter).live
    }

    /// The number of requests that a name like `global.p2p.requests_last_hour` stands for, in this context's tree.
    ///
    /// The name is a path and one of `requests_since_start`, `requests_last_day`, `requests_last_hour`,
    /// `requests_last_minute`, `requests_last_second`. `None` for another name, and for a path under which nothing was
    /// counted since it was last folded into its parent; the root's is always known.
    #[must_use]
    pub fn counter(&self, name: &str) -> Option<u64> {
        let mut names = path::split(name)?;
        let span = kymo_core::window::Span::parse(names.pop()?.strip_prefix("requests_")?)?;
        Some(self.tree.paths.requests(&names, self.tree.now())?.get(span))
    }

    // --- waiting

    /// Awaits `future`, and says meanwhile what for: in the status, `stuck on "db query" 12.3 s`.
    pub fn waiting_on<F: Future>(&self, what: impl Into<Cow<'static, str>>, future: F) -> WaitingOn<'_, F> {
        WaitingOn::new(self, what.into(), future)
    }

    /// The same for code without a future: it waits until the note is dropped.
    pub fn blocking_on(&self, what: impl Into<Cow<'static, str>>) -> BlockingOn {
        BlockingOn::new(self.own(), what.into())
    }

    // --- for the rest of the crate

    pub(crate) fn own(&self) -> Arc<Context> {
        match self.me.upgrade() {
            Some(me) => me,
            // A context is made inside its `Arc`, and calls of its methods borrow it.
            None => unreachable!("a borrowed context has an owner"),
        }
    }

    pub(crate) fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    pub(crate) fn root(&self) -> &Context {
        let mut here = self;
        while let Some(parent) = here.parent.as_deref() {
            here = parent;
        }
        here
    }

    /// From the root down.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names = vec![self.name()];
        let mut here = self;
        while let Some(parent) = here.parent.as_deref() {
            names.push(parent.name());
            here = parent;
        }
        names.reverse();
        names
    }

    /// The path, kept; for contexts that others refer to by it.
    pub(crate) fn kept_path(&self) -> &Arc<str> {
        self.path.get_or_init(|| self.path().into())
    }

    pub(crate) fn counts(&self) -> &Arc<PathCounts> {
        self.counts.get_or_init(|| self.tree.paths.counts(&self.names()[1..]))
    }

    pub(crate) fn started(&self) -> Duration {
        self.started
    }

    /// Since when nothing happened in it, itself alone; nothing while a task of it is being polled.
    ///
    /// Polls are noticed here, so the time of the last one is known as well as somebody looks: a [`Watch`](crate::Watch)
    /// does every second.
    pub(crate) fn idle(&self, now: Duration) -> Duration {
        let polls = self.polls.load(Ordering::Relaxed);
        let is_polled = polls % POLL > 0;
        if self.polls_seen.swap(polls, Ordering::Relaxed) != polls || is_polled {
            self.touch_at(now);
            return Duration::ZERO;
        }
        now.saturating_sub(Duration::from_nanos(self.active.load(Ordering::Relaxed)))
    }

    /// Notes that something happened, and gives the time.
    pub(crate) fn touch(&self) -> Duration {
        let now = self.tree.now();
        self.touch_at(now);
        now
    }

    /// Relaxed, as the two counters below: numbers to look at, which publish nothing.
    fn touch_at(&self, now: Duration) {
        self.active.store(nanos(now), Ordering::Relaxed);
    }

    /// How many of its tasks have not ended.
    pub(crate) fn tasks(&self) -> u32 {
        self.tasks.load(Ordering::Relaxed) as u32
    }

    /// A task begins; gives its number, of its own among the tasks of this context.
    pub(crate) fn begin_task(&self) -> u32 {
        (self.tasks.fetch_add((1 << 32) + 1, Ordering::Relaxed) >> 32) as u32
    }

    /// It ends.
    pub(crate) fn end_task(&self) {
        self.tasks.fetch_sub(1, Ordering::Relaxed);
    }

    /// A poll of one of its tasks begins.
    pub(crate) fn begin_poll(&self) {
        self.polls.fetch_add(POLL + 1, Ordering::Relaxed);
    }

    /// It ends.
    pub(crate) fn end_poll(&self) {
        self.polls.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn children(&self) -> Vec<Arc<Context>> {
        self.branch.children(Weak::upgrade)
    }

    pub(crate) fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn details(&self) -> MutexGuard<'_, Details> {
        self.details.get_or_init(Box::default).lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` when it has none, and then makes none.
    pub(crate) fn known_details(&self) -> Option<MutexGuard<'_, Details>> {
        Some(self.details.get()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn give_back(&self, live: BTreeMap<Box<str>, u64>, now: Duration) {
        let Some(counts) = self.counts.get() else { return };
        for (name, live) in live {
            if live > 0 {
                counts.tally(&name, now, |tally| tally.live = tally.live.saturating_sub(live));
            }
        }
    }

    /// Leaves the tree; gives back the parent, or `None` when it has left or is the root.
    fn leave(&mut self) -> Option<Arc<Context>> {
        let parent = self.parent.take()?;
        parent.branch.forget(*self.number.get_mut());
        let ended = self.tree.now();
        let details = self.details.take().map(|details| (*details).into_inner());
        let outcome = details.and_then(|details| {
            let details = details.unwrap_or_else(PoisonError::into_inner);
            self.give_back(details.live, ended);
            details.outcome
        });
        parent.touch_at(ended);
        if self.tree.finished.keeps() {
            self.tree.finished.push(Finished {
                parent_path: parent.kept_path().clone(),
                name: std::mem::take(&mut self.name),
                started: self.started,
                ended,
                outcome,
                is_cancelled: self.branch.is_cancelled(),
            });
        } else {
            self.tree.finished.skip();
        }
        Some(parent)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // One after the other and not one inside the other: a chain of parents may be longer than the stack.
        let mut parent = self.leave();
        while let Some(mut last) = parent.and_then(Arc::into_inner) {
            parent = last.leave();
        }
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("path", &self.path()).field("is_cancelled", &self.is_cancelled()).finish()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
