//! What `lane` is made of outside its model.

pub(super) use std::sync::atomic::{AtomicU64, Ordering, fence};
