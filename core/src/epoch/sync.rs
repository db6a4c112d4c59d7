//! What `grace` is made of outside its model.

pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
pub(super) use std::sync::{Mutex, MutexGuard};

pub(super) use super::barrier::Barrier;

/// The running number of the epoch.
pub(super) type Epoch = AtomicU64;

/// Nothing: accesses marked `SeqCst` are in one order here. Loom orders only fences so.
#[inline(always)]
pub(super) fn full_fence() {}
