//! A mutex with a name.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

use super::{Hold, LockCore, LockKind, Use};
use crate::context::Context;
use crate::scope::Scope;

impl Context {
    /// A mutex that is shown in the status under this name, with who holds it and who waits. Clones are one mutex.
    pub fn mutex<T>(&self, name: &str, value: T) -> ContextMutex<T> {
        ContextMutex { core: LockCore::new(LockKind::Mutex, self, name), value: Arc::new(Mutex::new(value)) }
    }
}

/// An async mutex with a name; fair, as tokio's is. Who locks it is the context that runs: [`current`](crate::current).
pub struct ContextMutex<T> {
    core: Arc<LockCore>,
    value: Arc<Mutex<T>>,
}

impl<T> ContextMutex<T> {
    /// Locks it, waiting for its turn. Dropping the future gives the place in the queue up.
    pub async fn lock(&self) -> ContextMutexGuard<'_, T> {
        let scope = Scope::here();
        let inner = match self.value.try_lock() {
            Ok(inner) => inner,
            Err(_) => {
                let _waiting = self.core.wait(&scope, Use::Alone);
                self.value.lock().await
            }
        };
        ContextMutexGuard { _hold: self.core.hold(scope, Use::Alone), inner }
    }

    /// Locks it if it is free now.
    #[must_use]
    pub fn try_lock(&self) -> Option<ContextMutexGuard<'_, T>> {
        let inner = self.value.try_lock().ok()?;
        Some(ContextMutexGuard { _hold: self.core.hold(Scope::here(), Use::Alone), inner })
    }
}

impl<T> Clone for ContextMutex<T> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone(), value: self.value.clone() }
    }
}

/// The value of a [`ContextMutex`], locked until dropped. Moved to another task, it is still shown as held by the one
/// that locked it.
#[must_use = "a guard that is dropped at once unlocks at once"]
pub struct ContextMutexGuard<'a, T> {
    // Dropped first: invariant 1 of the module.
    _hold: Hold<'a>,
    inner: MutexGuard<'a, T>,
}

impl<T> Deref for ContextMutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for ContextMutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}
