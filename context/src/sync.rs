//! What `branch` is built of; `context/tests/loom.rs` puts loom's in its place.

pub(crate) use std::sync::atomic::{AtomicBool, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};
