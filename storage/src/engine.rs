//! The engine: its parts, and how they hold together.
//!
//! Locks, by rank: `flushing`, `merging`, `deleting` → `manifest` → `resolving` → the log's own ([`Commit`]) → that by which the
//! head's order is made → the head →
//! `metadata` → `tombstones` → `changes`, `retention` → `blocks`. None is held while a file is read, written or synced,
//! except the log's writer, which orders writes, `resolving` meanwhile, `flushing`, and `manifest` while it is published or
//! a snapshot is taken. A delete is synced in its turn, with `deleting` held and no other.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use std::collections::BTreeMap;

use kymo_core::batch::{Exemplar, Metadata, SampleBatch};
use kymo_core::storage::{Changes, StorageStatistics, Tier};
use kymo_core::{
    AppendError, AppendReport, Labels, LabelsRef, Matcher, MetricStorage, QueryContext, Reservation, SelectError,
    Selector, SeriesRef, SeriesSet, ServiceHealth,
};

use crate::append::Work;
use crate::block::{BlockCache, BlockStatistics, BlockSummary};
use crate::blocks::{Blocks, LiveBlock, Shown};
use crate::changes::ChangeLog;
use crate::compact::MergeJob;
use crate::error::StorageError;
use crate::flush::FrozenAt;
use crate::fs::{Fs, FsLock};
use crate::head::{Head, HeadState, SERIES_PER_LOCK};
use crate::hidden::Hidden;
use crate::increments::Increments;
use crate::manifest::Manifest;
use crate::metrics::StorageMetrics;
use crate::open::{OpenReport, Opening};
use crate::options::Options;
use crate::retention::RetentionPolicy;
use crate::rollup::{RollupJob, Spans, whole_hours};
use crate::tombstones::Tombstones;
use crate::wal::Commit;

/// A data directory, open.
///
/// Implements [`MetricStorage`]. The engine has no threads: somebody calls [`maintain`](Self::maintain)
/// for each lane now and then, or nothing is ever synced, flushed, merged or retired.
pub struct Engine {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) head: Head,
    pub(crate) commit: Commit,
    /// Held shared from finding a series until the sample is applied, and exclusively to free series.
    pub(crate) resolving: RwLock<()>,
    /// What the head holds of the memory limit.
    pub(crate) memory: Mutex<Reservation>,
    pub(crate) counts: Counts,
    pub(crate) metrics: StorageMetrics,
    /// Buffers of appends that are done.
    pub(crate) spare_work: Mutex<Vec<Work>>,
    /// Families with their metadata, newest first.
    pub(crate) metadata: Mutex<BTreeMap<String, Vec<Metadata>>>,
    /// Totals of series that are told increments. Changed only while frames are applied.
    pub(crate) increments: Mutex<Increments>,
    /// Held from noting that a series has no table until its first row is applied.
    pub(crate) beginning: Mutex<()>,
    /// Deletes that blocks are read past. Changed only while the head is locked.
    pub(crate) tombstones: Mutex<Tombstones>,
    /// Held by one delete at a time, so that their numbers rise in the order of the log.
    pub(crate) deleting: Mutex<()>,
    pub(crate) changes: Mutex<ChangeLog>,
    /// Swapped as a whole, while the head is locked.
    pub(crate) blocks: RwLock<Arc<Blocks>>,
    /// What is on disk. Held while it is replaced, until the list of blocks says the same, and while a snapshot links
    /// its files; appends and selects never need it.
    pub(crate) manifest: Mutex<Manifest>,
    /// Held for the length of a flush: the lane's and that of closing must not meet. Where the log goes on behind
    /// what an earlier flush set apart and could not write.
    pub(crate) flushing: Mutex<Option<FrozenAt>>,
    /// What was read from blocks.
    pub(crate) cache: Arc<BlockCache>,
    /// The merge under way. Held while it works: the lane's and one asked for must not meet.
    pub(crate) merging: Mutex<Option<MergeJob>>,
    /// The rolling up under way. Held while it works; taken before that of merges.
    pub(crate) rolling: Mutex<Option<RollupJob>>,
    /// Hours of samples, and of five minutes, that went for their size before they were rolled up, since the rolling up under
    /// way began. Taken while the manifest is held.
    pub(crate) unrolled: Mutex<[Spans; 2]>,
    /// Monotonic time of the oldest append that is not in blocks.
    pub(crate) unflushed_since: Mutex<Option<Duration>>,
    /// How long what is kept. Held only to copy or replace; replaced while the head is locked.
    pub(crate) retention: RwLock<Arc<RetentionPolicy>>,
    /// See [`Engine::on_full`].
    pub(crate) on_full: OnceLock<Box<dyn Fn() + Send + Sync>>,
    pub(crate) closed: AtomicBool,
    pub(crate) _lock: Box<dyn FsLock>,
}

/// Facts that are read without a lock. Relaxed throughout: they guard nothing.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) series: AtomicU64,
    pub(crate) head_samples: AtomicU64,
    pub(crate) head_is_full: AtomicBool,
    pub(crate) head_bytes: AtomicU64,
    pub(crate) increment_bytes: AtomicU64,
    pub(crate) quarantined: AtomicU64,
}

impl Engine {
    /// Opens a data directory, making it if it is not there, and replays its log.
    ///
    /// When this returns every acknowledged sample is answerable.
    ///
    /// # Errors
    /// [`StorageError`]: the directory is in use, was written by a newer version, or the disk fails. Damage to
    /// single blocks or log frames is no error: it is set aside and told in the report.
    pub fn open(
        fs: Arc<dyn Fs>,
        dir: &std::path::Path,
        options: Options,
    ) -> Result<(Engine, OpenReport), StorageError> {
        Engine::begin(fs, dir, options)?.finish()
    }

    /// Does of opening what takes milliseconds: it reads neither blocks nor log and waits for no disk to sync, which is left to
    /// [`Opening::finish`]. For a server, which may take requests from now on that wait for it.
    ///
    /// # Errors
    /// As those of [`open`](Self::open).
    pub fn begin(fs: Arc<dyn Fs>, dir: &std::path::Path, options: Options) -> Result<Opening, StorageError> {
        crate::open::begin(fs, dir, options)
    }

    pub(crate) fn blocks(&self) -> Arc<Blocks> {
        Arc::clone(&self.blocks.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the bytes of the blocks are made of; reads a byte of every chunk.
    ///
    /// # Errors
    /// [`SelectError`] if a block cannot be read.
    pub fn block_statistics(&self) -> Result<BlockStatistics, SelectError> {
        let mut statistics = BlockStatistics::default();
        self.blocks().list().iter().try_for_each(|block| statistics.add(block))?;
        Ok(statistics)
    }

    /// The block files of this moment, oldest sequence first. Reads nothing.
    #[must_use]
    pub fn block_list(&self) -> Vec<BlockSummary> {
        let mut list: Vec<BlockSummary> =
            self.blocks().list().iter().map(|block| BlockSummary::from(&**block.block())).collect();
        list.sort_unstable_by_key(|block| block.sequence);
        list
    }

    pub(crate) fn metadata(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Metadata>>> {
        self.metadata.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn changes(&self) -> MutexGuard<'_, ChangeLog> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tombstones(&self) -> MutexGuard<'_, Tombstones> {
        self.tombstones.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn manifest(&self) -> MutexGuard<'_, Manifest> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rises whenever much memory may have been freed at once: with every block that a flush or a merge makes, and whenever what
    /// was read from blocks is let go because nobody asks for it.
    ///
    /// ```
    /// # use kymo_core::MetricStorage;
    /// # let dir = tempfile::tempdir()?;
    /// # let (engine, _) = kymo_storage::Engine::open(
    /// #     std::sync::Arc::new(kymo_storage::fs::RealFs), dir.path(), Default::default())?;
    /// # let now = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_millis() as i64;
    /// # engine.store_metric(kymo_core::Labels::from_pairs([("__name__", "up")]).as_ref(), now, 1.0)?;
    /// let before = engine.memory_freed();
    /// engine.flush()?;
    /// assert!(engine.memory_freed() > before);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn memory_freed(&self) -> u64 {
        self.manifest().next_sequence - 1 + self.cache.let_go()
    }

    pub(crate) fn resolving(&self) -> RwLockReadGuard<'_, ()> {
        self.resolving.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The statistics that cost nothing: all but first and last time.
    pub(crate) fn sizes(&self) -> StorageStatistics {
        let blocks = self.blocks();
        StorageStatistics {
            active_series: self.counts.series.load(Ordering::Relaxed),
            head_samples: self.counts.head_samples.load(Ordering::Relaxed),
            head_bytes: self.counts.head_bytes.load(Ordering::Relaxed),
            blocks: blocks.list().len() as u64,
            block_samples: blocks.of(Tier::Raw).map(|block| shown(block).samples).sum(),
            block_bytes: blocks.list().iter().map(|block| block.bytes()).sum(),
            log_bytes: self.commit.log_bytes(),
            quarantined: self.counts.quarantined.load(Ordering::Relaxed),
            ..StorageStatistics::default()
        }
    }

    /// Notes what the head holds.
    pub(crate) fn count_head(&self, head: &HeadState) {
        let fill_ratio = head.fill_ratio(self.full_at());
        let is_full = fill_ratio >= 1.0;
        let was_full = self.counts.head_is_full.swap(is_full, Ordering::Relaxed);
        if is_full
            && !was_full
            && let Some(wake) = self.on_full.get()
        {
            wake();
        }
        self.counts.head_samples.store(head.samples(), Ordering::Relaxed);
        let bytes = head.bytes() + self.head.order_bytes() + self.counts.increment_bytes.load(Ordering::Relaxed);
        self.counts.head_bytes.store(bytes, Ordering::Relaxed);
        self.metrics.head_levels(self.counts.series.load(Ordering::Relaxed), head.samples(), bytes, fill_ratio);
    }

    /// Shows how large everything is. What appends change shows with every append, blocks whenever they change, and all
    /// of it at least as often as a lane looks.
    pub(crate) fn show_levels(&self) {
        self.metrics.levels(&self.sizes());
        self.metrics.cache_bytes.set(self.cache.bytes() as f64);
    }

    pub(crate) fn increments(&self) -> MutexGuard<'_, Increments> {
        self.increments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the head's reservation what the head holds. What cannot be reserved any more is asked for again, with its
    /// own, by the next append.
    pub(crate) fn settle_memory(&self) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.counts.head_bytes.load(Ordering::Relaxed);
        let reserved = memory.bytes();
        memory.shrink(reserved.saturating_sub(held));
        let _ = memory.grow(held.saturating_sub(reserved));
    }
}

/// What is left of a block; all of it if that cannot be found out.
fn shown(block: &LiveBlock) -> Shown {
    block.shown().unwrap_or_else(|error| {
        tracing::warn!(%error, "a block cannot be asked what deletes have left of it");
        Shown {
            samples: block.footer().samples,
            bounds: Some((block.footer().min_time_ms, block.footer().max_time_ms)),
        }
    })
}

/// The ranges, those that begin before a time widened to whole hours.
fn in_whole_hours(ranges: &[(i64, i64)], until_ms: i64) -> Vec<(i64, i64)> {
    let widen = |&(first, last): &(i64, i64)| match first <= until_ms {
        true => {
            let (start, end) = whole_hours(first, last);
            // Until the next bucket ends its last value holds.
            (start.saturating_add(1), end.saturating_add(Tier::OneHour.width_ms()))
        }
        false => (first, last),
    };
    let widened = Hidden::of(ranges.iter().map(widen).collect());
    widened.ranges().to_vec()
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl MetricStorage for Engine {
    fn append(&self, batch: &SampleBatch) -> Result<AppendReport, AppendError> {
        let mut report = AppendReport::default();
        self.append_into(batch, &mut report).map(|()| report)
    }

    fn append_into(&self, batch: &SampleBatch, report: &mut AppendReport) -> Result<(), AppendError> {
        let outcome = self.append_batch(batch, report);
        match &outcome {
            Ok(()) => self.metrics.appended(report),
            Err(error) => self.metrics.failed(error),
        }
        outcome
    }

    fn select(&self, what: &Selector, ctx: &QueryContext) -> Result<Box<dyn SeriesSet>, SelectError> {
        if self.asks_rollups(what) {
            return Ok(Box::new(self.tiered_snapshot(what, ctx)?));
        }
        Ok(Box::new(self.snapshot(what, ctx)?))
    }

    fn version(&self) -> u64 {
        self.changes().version()
    }

    fn changed_since(&self, since: u64, what: &Selector) -> Changes {
        let (policy, now_ms) = (self.retention(), self.options.clock.now_ms());
        let ages_ms = policy.ages_ms();
        let margin_ms = if policy.has_rollups() { Tier::OneHour.width_ms() } else { 0 };
        // A row of a rollup changes with whatever lies in its bucket.
        let until_ms = self.rollups_until_ms(what);
        match self.changes().since(since, what.start_ms, &ages_ms, margin_ms, now_ms) {
            Changes::Ranges(ranges) if until_ms > i64::MIN => Changes::Ranges(in_whole_hours(&ranges, until_ms)),
            changes => changes,
        }
    }

    fn resolve(&self, labels: LabelsRef<'_>) -> Option<SeriesRef> {
        let number = self.head.read().find(self.head.hash(labels), labels)?;
        self.head.series_ref(number)
    }

    fn labels(&self, series: SeriesRef) -> Option<Labels> {
        let number = self.head.locate(series)?;
        self.head.read().get(number).map(|series| series.labels.clone())
    }

    fn label_names(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<String>, SelectError> {
        self.list_names(what, ctx)
    }

    fn label_values(&self, name: &str, what: &Selector, ctx: &QueryContext) -> Result<Vec<String>, SelectError> {
        self.list_values(name, what, ctx)
    }

    fn visit_label_values(
        &self,
        name: &str,
        what: &Selector,
        ctx: &QueryContext,
        visit: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), SelectError> {
        self.show_values(name, what, ctx, visit)
    }

    fn series(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<Labels>, SelectError> {
        self.list_series(what, ctx)
    }

    fn visit_series(
        &self,
        matchers: &[Matcher],
        windows: &[(i64, i64)],
        ctx: &QueryContext,
        visit: &mut dyn FnMut(LabelsRef<'_>, u32),
    ) -> Result<(), SelectError> {
        self.visit_present(matchers, windows, ctx, visit)
    }

    fn metadata(&self, family: Option<&str>, ctx: &QueryContext) -> Result<Vec<(String, Vec<Metadata>)>, SelectError> {
        ctx.check()?;
        let metadata = Engine::metadata(self);
        let wanted = metadata.iter().filter(|(name, _)| family.is_none_or(|f| f == name.as_str()));
        Ok(wanted.map(|(name, versions)| (name.clone(), versions.clone())).collect())
    }

    fn exemplars(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<(Labels, Vec<Exemplar>)>, SelectError> {
        self.list_exemplars(what, ctx)
    }

    fn health(&self) -> Option<&ServiceHealth> {
        self.options.health.as_deref()
    }

    fn statistics(&self) -> StorageStatistics {
        let mut bounds: Option<(i64, i64)> = None;
        let mut reach = |low: i64, high: i64| {
            bounds = Some(bounds.map_or((low, high), |b| (b.0.min(low), b.1.max(high))));
        };
        let mut next = 0;
        loop {
            // In pieces, so that no append waits for all of them.
            let head = self.head.read();
            let end = head.numbers_end().min(next + SERIES_PER_LOCK);
            let series = (next..end).filter_map(|number| head.get(number));
            series.filter_map(|series| head.bounds(series)).for_each(|(low, high)| reach(low, high));
            if end == head.numbers_end() {
                break;
            }
            next = end;
        }
        let blocks = self.blocks();
        let bounds_of_blocks = blocks.list().iter().filter_map(|block| shown(block).bounds);
        bounds_of_blocks.for_each(|(low, high)| reach(low, high));
        StorageStatistics { min_time_ms: bounds.map(|b| b.0), max_time_ms: bounds.map(|b| b.1), ..self.sizes() }
    }
}
