//! Small durable state, as traits: a key-value store and a queue.
//!
//! The implementations (embedded files, Redis) live with storage; the users (alert states, silences,
//! forwarding) see only these. Both are synchronous and object-safe.

use std::error::Error;

use crate::error::ErrorKind;

/// What an implementation reports as the cause of a failure.
pub type StateSource = Box<dyn Error + Send + Sync>;

/// Longest key in bytes that every store takes.
pub const KEY_BYTES_MAX: usize = 1024;

/// Largest value in bytes that every store takes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// A small key-value store that survives the process.
///
/// When [`put`](Self::put) or [`delete`](Self::delete) returned `Ok`, every later call sees it, and
/// it survives a kill of the process. Calls on one key take effect one after the other; several keys
/// are never changed together. Keys are UTF-8, ordered by bytes, non-empty.
pub trait StateStore: Send + Sync {
    /// The value of `key`, `None` if it has none.
    ///
    /// # Errors
    /// [`StateError`].
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StateError>;

    /// Sets the value of `key`, replacing an older one.
    ///
    /// # Errors
    /// [`StateError`]; then the old value stands.
    fn put(&self, key: &str, value: &[u8]) -> Result<(), StateError>;

    /// Removes `key`; says whether it had a value.
    ///
    /// # Errors
    /// [`StateError`]; then the value stands.
    fn delete(&self, key: &str) -> Result<bool, StateError>;

    /// Keys that begin with `prefix`, sorted. The empty prefix lists all.
    ///
    /// # Errors
    /// [`StateError`].
    fn list(&self, prefix: &str) -> Result<Vec<String>, StateError>;
}

/// Why a [`StateStore`] did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The key is empty or too long.
    #[error("state key of {len} bytes: 1 to {limit} are allowed")]
    KeyLength {
        /// The key's length in bytes.
        len: usize,
        /// The store's limit in bytes.
        limit: usize,
    },
    /// The value is too large.
    #[error("value of state key {key:?} has {len} bytes: at most {limit} are allowed")]
    ValueLength {
        /// The key.
        key: String,
        /// The value's length in bytes.
        len: usize,
        /// The store's limit in bytes.
        limit: usize,
    },
    /// What is stored cannot be read; the store keeps it untouched.
    #[error("state key {key:?} is damaged in the store")]
    Damaged {
        /// The key.
        key: String,
        /// What the store found.
        source: StateSource,
    },
    /// The store could not be reached or refused; the same call may succeed later.
    #[error("state store is unavailable")]
    Unavailable {
        /// What the store reported.
        source: StateSource,
    },
}

impl StateError {
    /// The kind, from which each surface derives its status.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::KeyLength { .. } => ErrorKind::Invalid,
            Self::ValueLength { .. } => ErrorKind::TooLarge,
            Self::Damaged { .. } => ErrorKind::Internal,
            Self::Unavailable { .. } => ErrorKind::unavailable(),
        }
    }
}

/// A place in a [`DiskQueue`]: the number of the record that begins there. Rises from record to
/// record, and may leave numbers out. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct QueuePosition(pub u64);

/// A bounded queue of byte records that survives the process, for one consumer.
///
/// When [`append`](Self::append) returned `Ok` the record survives a kill of the process. Records
/// come out in the order of `append`. The checkpoint (the first record not acknowledged) is durable:
/// after a restart, reading from it gives every record not acknowledged, and possibly some that
/// were acknowledged just before (at least once). Any thread may append.
pub trait DiskQueue: Send + Sync {
    /// Adds a record; returns its position.
    ///
    /// # Errors
    /// [`QueueError::Full`] at the byte limit, and nothing was added; [`QueueError::Unavailable`].
    fn append(&self, record: &[u8]) -> Result<QueuePosition, QueueError>;

    /// Appends records from `from` on to `into`, in order, until `bytes_max` bytes of records are
    /// reached or the queue ends; at least one if there is one. Returns the position after the last.
    ///
    /// Does not wait for records. Acknowledges nothing.
    ///
    /// # Errors
    /// [`QueueError::Gone`] for a position before the checkpoint; [`QueueError::Damaged`], after
    /// which reading may go on at the position it names; [`QueueError::Unavailable`].
    fn read(&self, from: QueuePosition, bytes_max: usize, into: &mut Vec<Vec<u8>>)
    -> Result<QueuePosition, QueueError>;

    /// Moves the checkpoint to `until` (exclusive) and frees what is before it. A position at or
    /// before the checkpoint changes nothing.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`]; then the checkpoint stands.
    fn acknowledge(&self, until: QueuePosition) -> Result<(), QueueError>;

    /// The first record not acknowledged.
    fn checkpoint(&self) -> QueuePosition;

    /// The position that the next record will have.
    fn end(&self) -> QueuePosition;

    /// Bytes held for records not acknowledged.
    fn bytes(&self) -> u64;
}

/// Why a [`DiskQueue`] refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The queue holds its limit.
    #[error("queue is full: a record of {wanted} bytes does not fit its limit of {limit_bytes} bytes")]
    Full {
        /// Size of the record.
        wanted: usize,
        /// Bytes the queue may hold.
        limit_bytes: u64,
    },
    /// Records from this position on were acknowledged and are gone.
    #[error("queue position {} was acknowledged; the queue begins at {}", .position.0, .checkpoint.0)]
    Gone {
        /// The position asked for.
        position: QueuePosition,
        /// The first that can be read.
        checkpoint: QueuePosition,
    },
    /// Records cannot be read; what follows them can.
    #[error("queue is damaged at position {}; it can be read again from {}", .position.0, .resume.0)]
    Damaged {
        /// The first record lost.
        position: QueuePosition,
        /// The first whole record after it.
        resume: QueuePosition,
        /// What was found.
        source: StateSource,
    },
    /// The queue's medium failed; the same call may succeed later.
    #[error("queue is unavailable")]
    Unavailable {
        /// What the medium reported.
        source: StateSource,
    },
}

impl QueueError {
    /// The kind, from which each surface derives its status.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Full { .. } | Self::Unavailable { .. } => ErrorKind::unavailable(),
            Self::Gone { .. } => ErrorKind::NotFound,
            Self::Damaged { .. } => ErrorKind::Internal,
        }
    }
}

// Both are held as trait objects by their users.
const _: Option<(&dyn StateStore, &dyn DiskQueue)> = None;
