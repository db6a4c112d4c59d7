//! Deleting: what it would take, doing it, and giving the bytes back.
//!
//! 1. *Log* the delete, with its number, and sync the log.
//! 2. In the log's order, while the head is locked: take the samples out of the head, hide them in the blocks, note the
//!    change. From then on nobody sees them.
//! 3. The manifest, published anew, and every one from then on has the tombstone, until no block needs it. A merge leaves out what is hidden in the
//!    blocks it reads; [`Engine::clean_tombstones`] makes the merge lane's work now.
//!
//! A kill before the end of 1 leaves the delete undone, or, as with an append, done although nobody was told.
//! [`crate::tombstones`] has the invariants.

use std::convert::Infallible;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use foldhash::{HashSet, HashSetExt};
use kymo_core::storage::Columns;
use kymo_core::{AppendError, Deletion, ErrorKind, QueryContext, SelectError, Selector, SeriesSet};

use crate::engine::Engine;
use crate::head::HeadState;
use crate::tombstones::{TOMBSTONES_MAX, Tombstone};
use crate::wal::FrameBuilder;

/// What a delete takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeleteReport {
    /// Series that have a sample or a bucket to lose.
    pub series: u64,
    /// Samples.
    pub samples: u64,
    /// Buckets of rollups that have something of it: they go, or are made anew of the samples that are left.
    pub buckets: u64,
    /// Bytes of the values of both in block files: what comes back by cleaning is more, as times and index shrink as well.
    pub bytes: u64,
}

/// Why nothing was deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteError {
    /// The log could not be written, or the engine is closed.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// What would be deleted could not be read.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// Too many deletes are still in the way of reading.
    #[error("{limit} deletes wait for their bytes to be given back; clean tombstones first")]
    TooMany {
        /// The most there may be.
        limit: usize,
    },
}

impl DeleteError {
    /// What a surface makes of it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            DeleteError::Append(error) => error.kind(),
            DeleteError::Select(error) => error.kind(),
            DeleteError::TooMany { .. } => ErrorKind::Limit,
        }
    }
}

impl Engine {
    /// What [`delete`](Self::delete) would take away now. Reads all of it.
    ///
    /// # Errors
    /// As [`MetricStorage::select`](kymo_core::MetricStorage::select).
    pub fn measure_delete(&self, what: &Deletion, ctx: &QueryContext) -> Result<DeleteReport, SelectError> {
        let mut report = DeleteReport::default();
        let mut columns = Columns::default();
        let mut losing = HashSet::new();
        for (number, matchers) in what.any_of.iter().enumerate() {
            // A window is open to the left.
            let selector = Selector::new(matchers.clone(), what.start_ms.saturating_sub(1), what.end_ms);
            let set = self.snapshot(&selector, ctx)?;
            let before = Deletion { any_of: what.any_of[..number].to_vec(), ..*what };
            for index in 0..set.len() {
                ctx.check()?;
                if before.matches(set.labels(index).as_ref()) {
                    continue;
                }
                set.read(index, &mut columns)?;
                let samples = columns.times.len() as u64;
                let (in_chunks, bytes) = set.in_chunks(index);
                if samples > 0 {
                    losing.insert(self.head.hash(set.labels(index).as_ref()));
                }
                report.samples += samples;
                // Of a chunk that is not taken away whole, its share.
                let share = samples.min(in_chunks);
                report.bytes +=
                    (u128::from(bytes) * u128::from(share)).checked_div(in_chunks.into()).unwrap_or(0) as u64;
            }
        }
        self.measure_buckets(what, ctx, |series, buckets, bytes| {
            losing.insert(self.head.hash(series.as_ref()));
            report.buckets += buckets;
            report.bytes += bytes;
        })?;
        report.series = losing.len() as u64;
        Ok(report)
    }

    /// Takes away what was written until now of matching series in a range of time, exemplars included. When this
    /// returns nobody sees it any more, also after a kill of the process or, whatever the policy, power loss. What
    /// is written later is kept. Running totals of series that are told increments go on from where they are.
    ///
    /// Bytes come back with the next merge of what is concerned, or by [`clean_tombstones`](Self::clean_tombstones).
    ///
    /// # Errors
    /// [`DeleteError`]: nothing was deleted.
    pub fn delete(&self, what: &Deletion) -> Result<(), DeleteError> {
        let _one_at_a_time = self.deleting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.closed.load(Ordering::Acquire) {
            return Err(AppendError::Closed.into());
        }
        if self.tombstones().list().len() >= TOMBSTONES_MAX {
            return Err(DeleteError::TooMany { limit: TOMBSTONES_MAX });
        }
        let tombstone = Tombstone { id: self.tombstones().last() + 1, what: what.clone() };
        let mut frame = FrameBuilder::default();
        frame.delete(&tombstone);
        let now = self.options.clock.monotonic();
        let write = || {
            let encode = |chain: &mut _, out: &mut _| frame.encode(self.head.opening(), chain, |_| None, out);
            self.commit.write(now, encode)
        };
        let turn = write().or_else(|error| match error.kind() {
            std::io::ErrorKind::StorageFull => {
                self.give_up_reserve();
                write()
            }
            _ => Err(error),
        });
        let turn = turn.map_err(|error| AppendError::Log { source: std::io::Error::new(error.kind(), error) })?;
        self.commit.in_turn(turn, || {
            // Before a manifest can say that a block is without what was deleted: the log must not say less.
            if let Err(error) = self.sync_now() {
                tracing::warn!(%error, "a delete is in the log, which could not be synced; it will be tried again");
            }
            let mut head = self.head.write();
            self.apply_delete(&mut head, tombstone);
            self.count_head(&head);
        });
        // The log has it; this is for a copy that is made without the log.
        let mut manifest = self.manifest();
        let next = manifest.clone();
        if let Err(error) = self.publish(&mut manifest, next) {
            tracing::warn!(%error, "a delete is in the log and not in the manifest yet");
        }
        drop(manifest);
        self.unflushed_since.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(now);
        self.settle_memory();
        self.metrics.deletes.add(1);
        Ok(())
    }

    /// Applies a delete that is in the log, in the log's order.
    pub(crate) fn apply_delete(&self, head: &mut HeadState, tombstone: Tombstone) {
        let what = &tombstone.what;
        for matchers in &what.any_of {
            // What is in the log is done whole.
            let Ok(numbers) = head.select(matchers, &|| Ok::<(), Infallible>(()));
            for number in numbers {
                head.delete(number, what.start_ms, what.end_ms);
            }
        }
        self.changes().touched(what.start_ms, what.end_ms, self.options.clock.now_ms());
        self.tombstones().apply(tombstone);
        self.set_blocks(self.blocks().list().to_vec());
    }
}
