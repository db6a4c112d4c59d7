//! Permits with a name.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Hold, LockCore, LockKind, Use};
use crate::context::Context;
use crate::scope::Scope;

impl Context {
    /// A semaphore of so many permits that is shown under this name. Clones are one semaphore.
    pub fn semaphore(&self, name: &str, permits: u32) -> ContextSemaphore {
        let inner = Arc::new(Semaphore::new(permits as usize));
        ContextSemaphore { core: LockCore::new(LockKind::Semaphore, self, name), inner, permits }
    }
}

/// Why permits cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} permits of the semaphore {name:?} were asked for, and it has {permits}")]
pub struct TooManyPermits {
    /// The semaphore's name.
    pub name: String,
    /// How many were asked for.
    pub wanted: u32,
    /// How many there are, free or not.
    pub permits: u32,
}

/// A fixed number of permits, given out in the order in which they are asked for.
#[derive(Clone)]
pub struct ContextSemaphore {
    core: Arc<LockCore>,
    inner: Arc<Semaphore>,
    permits: u32,
}

impl ContextSemaphore {
    /// One permit.
    ///
    /// # Errors
    /// [`TooManyPermits`] when it was made without any: the wait would never end. The same below.
    pub async fn acquire(&self) -> Result<ContextPermit<'_>, TooManyPermits> {
        self.acquire_many(1).await
    }

    /// So many permits at once, waiting until they are free.
    ///
    /// # Errors
    /// [`TooManyPermits`] when there are not as many.
    pub async fn acquire_many(&self, wanted: u32) -> Result<ContextPermit<'_>, TooManyPermits> {
        let scope = Scope::here();
        let refused = || TooManyPermits { name: self.core.name().to_owned(), wanted, permits: self.permits };
        if wanted > self.permits {
            return Err(refused());
        }
        let inner = match self.inner.try_acquire_many(wanted) {
            Ok(inner) => inner,
            Err(_) => {
                let _waiting = self.core.wait(&scope, Use::Permits);
                // It is never closed.
                self.inner.acquire_many(wanted).await.map_err(|_| refused())?
            }
        };
        Ok(ContextPermit { _hold: self.core.hold(scope, Use::Permits), _inner: inner })
    }
}

/// Permits of a [`ContextSemaphore`], given back when dropped.
#[must_use = "a permit that is dropped at once is given back at once"]
pub struct ContextPermit<'a> {
    // Dropped first: invariant 1 of the module.
    _hold: Hold<'a>,
    _inner: SemaphorePermit<'a>,
}
