//! Locks that know their name, who holds them and who waits.
//!
//! They are tokio's locks with a record beside each. The record is guarded by a mutex of the standard library, held for
//! a few stores and never across an await.
//!
//! 1. A hold is noted after the lock was got, and its note is gone before the lock is given back. So two tasks are never
//!    noted as holding what only one can hold.
//! 2. A wait is noted from before the lock is asked for until after it was got or given up. A wait and a hold have a
//!    number each that their lock never uses again: seen twice, it was there in between.

mod mutex;
mod rwlock;
mod semaphore;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use mutex::{ContextMutex, ContextMutexGuard};
pub use rwlock::{ContextReadGuard, ContextRwLock, ContextWriteGuard};
pub use semaphore::{ContextPermit, ContextSemaphore, TooManyPermits};

use crate::context::Context;
use crate::path;
use crate::scope::Scope;
use crate::tree::Tree;
use crate::wait::WaitFor;

/// What kind of lock it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockKind {
    /// One holder.
    Mutex,
    /// Many readers or one writer.
    Rwlock,
    /// As many permits as it was made with.
    Semaphore,
}

impl LockKind {
    /// In a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            LockKind::Mutex => "mutex",
            LockKind::Rwlock => "rwlock",
            LockKind::Semaphore => "semaphore",
        }
    }
}

/// How it is held or wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Beside others of its kind.
    Shared,
    /// Alone.
    Alone,
    /// As some permits of many.
    Permits,
}

/// Who holds or waits.
#[derive(Clone)]
pub(crate) struct Party {
    pub(crate) scope: Scope,
    /// Monotonic.
    pub(crate) since: Duration,
    pub(crate) how: Use,
}

/// The record of a lock.
pub(crate) struct LockCore {
    kind: LockKind,
    name: Box<str>,
    /// Where it was made.
    owner: Arc<str>,
    tree: Arc<Tree>,
    number: u32,
    state: Mutex<LockState>,
}

#[derive(Default)]
struct LockState {
    /// Holds and waits noted so far: the number of the next.
    parties: u64,
    /// Most often one.
    holders: Vec<(u64, Party)>,
    /// In the order in which they came, which is that of their numbers.
    waiters: BTreeMap<u64, Party>,
    /// Its number in the tree's list while somebody waits.
    contended: Option<u32>,
}

/// A lock at one moment.
pub(crate) struct LockView {
    pub(crate) lock: Arc<LockCore>,
    pub(crate) holders: Vec<(u64, Party)>,
    pub(crate) waiters: Vec<(u64, Party)>,
}

impl LockCore {
    fn new(kind: LockKind, context: &Context, name: &str) -> Arc<LockCore> {
        let tree = context.tree().clone();
        Arc::new_cyclic(|me: &Weak<LockCore>| LockCore {
            kind,
            name: path::bounded(name),
            owner: context.kept_path().clone(),
            number: tree.add_lock(me.clone()),
            tree,
            state: Mutex::default(),
        })
    }

    pub(crate) fn kind(&self) -> LockKind {
        self.kind
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }

    pub(crate) fn view(self: &Arc<Self>) -> LockView {
        let state = self.state();
        let waiters = state.waiters.iter().map(|(id, party)| (*id, party.clone())).collect();
        LockView { lock: self.clone(), holders: state.holders.clone(), waiters }
    }

    /// Notes that `scope` has it, until the hold is dropped.
    fn hold(&self, scope: Scope, how: Use) -> Hold<'_> {
        let since = scope.context.touch();
        let mut state = self.state();
        let id = state.number();
        state.holders.push((id, Party { scope, since, how }));
        drop(state);
        Hold { core: self, id }
    }

    /// Notes that `scope` waits, until the note is dropped.
    fn wait(self: &Arc<Self>, scope: &Scope, how: Use) -> Waiting {
        let since = self.tree.now();
        let id = {
            let mut state = self.state();
            let id = state.number();
            state.waiters.insert(id, Party { scope: scope.clone(), since, how });
            if state.contended.is_none() {
                state.contended = Some(self.tree.add_contended(self.clone()));
            }
            id
        };
        let key = scope.context.begin_wait(WaitFor::Lock(self.clone()));
        Waiting { core: self.clone(), context: scope.context.clone(), id, key }
    }

    fn state(&self) -> MutexGuard<'_, LockState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LockState {
    fn number(&mut self) -> u64 {
        self.parties += 1;
        self.parties
    }
}

impl Drop for LockCore {
    fn drop(&mut self) {
        self.tree.remove_lock(self.number);
    }
}

/// The note of a hold.
struct Hold<'a> {
    core: &'a LockCore,
    id: u64,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let gone = {
            let holders = &mut self.core.state().holders;
            holders.iter().position(|(id, _)| *id == self.id).map(|at| holders.swap_remove(at))
        };
        // Outside of the lock: it may be the last owner of its context.
        drop(gone);
    }
}

/// The note of a wait.
struct Waiting {
    core: Arc<LockCore>,
    context: Arc<Context>,
    id: u64,
    key: u32,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.context.end_wait(self.key);
        let (party, contended) = {
            let mut state = self.core.state();
            let party = state.waiters.remove(&self.id);
            let contended = if state.waiters.is_empty() { state.contended.take() } else { None };
            if let Some(at) = contended {
                // Inside, so that who waits next is not taken off the list for who waited last.
                self.core.tree.remove_contended(at);
            }
            (party, contended)
        };
        drop((party, contended));
    }
}
