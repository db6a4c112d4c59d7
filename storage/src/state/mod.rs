//! Small state that survives the process: the implementations of [`StateStore`](kymo_core::state::StateStore), and [`FileQueue`], the one of
//! [`DiskQueue`](kymo_core::state::DiskQueue), with a [`Consumer`] that handles what is in one.
//!
//! ```text
//!              Measured ── storage_operations_total, storage_operation_duration_seconds
//!                 │
//!     ┌───────────┼────────────────┐
//! MemoryState  EmbeddedState     RedisState
//!  (nothing     (redb over Fs:    (a server of its own,
//!   survives)    state/state.redb) one deadline per operation)
//! ```
//!
//! Each fulfils the contract of `kymo_core::contract::state`, which the tests run on all of them.

mod consumer;
#[cfg(feature = "local-state")]
mod embedded;
mod measured;
mod memory;
#[cfg(feature = "local-state")]
mod pages;
mod queue;
#[cfg(feature = "redis")]
mod redis;

use kymo_core::state::{KEY_BYTES_MAX, StateError, VALUE_BYTES_MAX};

pub use consumer::{ConsumeError, Consumed, Consumer, MESSAGE_METRICS};
#[cfg(feature = "local-state")]
pub use embedded::{EmbeddedFault, EmbeddedState};
pub use measured::{Measured, STATE_METRICS};
pub use memory::MemoryState;
pub use queue::{FileQueue, QueueFault, QueueOptions, QueueReport, QueueSync};
#[cfg(feature = "redis")]
pub use redis::{RedisFault, RedisOptions, RedisState};

/// What every store asks of a key.
fn check_key(key: &str) -> Result<(), StateError> {
    match key.len() {
        1..=KEY_BYTES_MAX => Ok(()),
        len => Err(StateError::KeyLength { len, limit: KEY_BYTES_MAX }),
    }
}

/// What every store asks of a value.
fn check_value(key: &str, value: &[u8]) -> Result<(), StateError> {
    match value.len() {
        0..=VALUE_BYTES_MAX => Ok(()),
        len => Err(StateError::ValueLength { key: key.to_owned(), len, limit: VALUE_BYTES_MAX }),
    }
}

#[cfg(any(feature = "redis", feature = "local-state"))]
fn unavailable(source: impl std::error::Error + Send + Sync + 'static) -> StateError {
    StateError::Unavailable { source: Box::new(source) }
}
