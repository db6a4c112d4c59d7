//! What all contexts of one tree share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::counts::Paths;
use crate::finished::FinishedRing;
use crate::lock::LockCore;
use crate::settings::Settings;
use crate::slots::Slots;

pub(crate) struct Tree {
    pub(crate) settings: Settings,
    pub(crate) paths: Paths,
    pub(crate) finished: FinishedRing,
    /// Every named lock, for those held long. A leaf.
    locks: Mutex<Slots<Weak<LockCore>>>,
    /// Those that somebody waits for, so that looking for cycles costs nothing while nobody does. A leaf.
    contended: Mutex<Slots<Arc<LockCore>>>,
}

impl Tree {
    pub(crate) fn new(root_name: &str, settings: Settings) -> Tree {
        Tree {
            paths: Paths::new(root_name, settings.paths_max),
            finished: FinishedRing::new(settings.finished_max),
            settings,
            locks: Mutex::new(Slots::new()),
            contended: Mutex::new(Slots::new()),
        }
    }

    /// Monotonic.
    pub(crate) fn now(&self) -> Duration {
        self.settings.clock.monotonic()
    }

    pub(crate) fn add_lock(&self, lock: Weak<LockCore>) -> u32 {
        guard(&self.locks).insert(lock)
    }

    pub(crate) fn remove_lock(&self, at: u32) {
        let gone = guard(&self.locks).remove(at);
        drop(gone);
    }

    pub(crate) fn locks(&self) -> Vec<Arc<LockCore>> {
        guard(&self.locks).iter().filter_map(Weak::upgrade).collect()
    }

    pub(crate) fn add_contended(&self, lock: Arc<LockCore>) -> u32 {
        guard(&self.contended).insert(lock)
    }

    pub(crate) fn remove_contended(&self, at: u32) {
        let gone = guard(&self.contended).remove(at);
        drop(gone);
    }

    pub(crate) fn contended(&self) -> Vec<Arc<LockCore>> {
        guard(&self.contended).iter().cloned().collect()
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
