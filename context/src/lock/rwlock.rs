//! A lock for many readers or one writer, with a name.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

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
    pub async fn read(&self) -> ContextReadGuard<T> {
        let scope = Scope::here();
        let inner = match self.value.clone().try_read_owned() {
            Ok(inner) => inner,
            Err(_) => {
                let _waiting = self.core.wait(&scope, Use::Shared);
                self.value.clone().read_owned().await
            }
        };
        ContextReadGuard { _hold: self.core.hold(scope, Use::Shared), inner }
    }

    /// Locks it alone.
    pub async fn write(&self) -> ContextWriteGuard<T> {
        let scope = Scope::here();
        let inner = match self.value.clone().try_write_owned() {
            Ok(inner) => inner,
            Err(_) => {
                let _waiting = self.core.wait(&scope, Use::Alone);
                self.value.clone().write_owned().await
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
pub struct ContextReadGuard<T> {
    // Dropped first: invariant 1 of the module.
    _hold: Hold,
    inner: OwnedRwLockReadGuard<T>,
}

impl<T> Deref for ContextReadGuard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

/// The value of a [`ContextRwLock`], locked alone until dropped.
#[must_use = "a guard that is dropped at once unlocks at once"]
pub struct ContextWriteGuard<T> {
    // Dropped first: invariant 1 of the module.
    _hold: Hold,
    inner: OwnedRwLockWriteGuard<T>,
}

impl<T> Deref for ContextWriteGuard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for ContextWriteGuard<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}
