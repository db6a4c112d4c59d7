//! A lock for many readers or one writer, with a name.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{Hold, LockCore, LockKind, Use};
use crate::context::Context;
use crate::scope::Scope;

impl Context {
    /// A lock for many readers or one writer that is shown under this name. Clones are one lock.
    pub fn rwlock<T>(&self, name: &str, value: T) -> ContextRwLock<T> {
        ContextRwLock { core: LockCore::new(LockKind::Rwlock, self, name), value: Arc::new(RwLock::new(value)) }
    }
}

/// An async lock for many readers or one writer. Fair, as tokio's is: a reader waits behind a writer that waits.
pub struct ContextRwLock<T> {
    core: Arc<LockCore>,
    value: Arc<RwLock<T>>,
}

impl<T> ContextRwLock<T> {
    /// Locks it beside other readers.
    pub async fn read(&self) -> ContextReadGuard<'_, T> {
        let scope = Scope::here();
        let inner = match self.value.try_read() {
            Ok(inner) => inner,
            Err(_) => {
                let _waiting = self.core.wait(&scope, Use::Shared);
                self.value.read().await
            }
        };
        ContextReadGuard { _hold: self.core.hold(scope, Use::Shared), inner }
    }

    /// Locks it alone.
    pub async fn write(&self) -> ContextWriteGuard<'_, T> {
        let scope = Scope::here();
        let inner = match self.value.try_write() {
            Ok(inner) => inner,
            Err(_) => {
                let _waiting = self.core.wait(&scope, Use::Alone);
                self.value.write().await
            }
        };
        ContextWriteGuard { _hold: self.core.hold(scope, Use::Alone), inner }
    }
}

impl<T> Clone for ContextRwLock<T> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone(), value: self.value.clone() }
    }
}

/// The value of a [`ContextRwLock`], read until dropped.
#[must_use = "a guard that is dropped at once unlocks at once"]
pub struct ContextReadGuard<'a, T> {
    // Dropped first: invariant 1 of the module.
    _hold: Hold<'a>,
    inner: RwLockReadGuard<'a, T>,
}

impl<T> Deref for ContextReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

/// The value of a [`ContextRwLock`], locked alone until dropped.
#[must_use = "a guard that is dropped at once unlocks at once"]
pub struct ContextWriteGuard<'a, T> {
    // Dropped first: invariant 1 of the module.
    _hold: Hold<'a>,
    inner: RwLockWriteGuard<'a, T>,
}

impl<T> Deref for ContextWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for ContextWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}
