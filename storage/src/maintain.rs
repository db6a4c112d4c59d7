//! Tending: one bounded step per call, by lanes that may run at once on different threads.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use kymo_core::storage::Tier;

use crate::blocks::{Blocks, LiveBlock};
use crate::engine::{Engine, millis};
use crate::error::{StorageError, io_error};
use crate::manifest::{BlockEntry, Manifest, remove_if_there};
use crate::options::SyncPolicy;
use crate::retention::RetentionPolicy;
use crate::rollup::{Rolled, Spans, made_of, whole_hours};
use crate::tombstones::Tombstone;

/// How often an idle lane should look again, when nothing tells it to.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The file that holds room back.
pub(crate) const RESERVE: &str = "RESERVE";

/// A kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Makes the log durable.
    Sync,
    /// Moves the head into blocks; retires blocks that are too old.
    Flush,
    /// Makes few long blocks of many short ones.
    Merge,
}

impl Lane {
    /// All lanes.
    pub const ALL: [Lane; 3] = [Lane::Sync, Lane::Flush, Lane::Merge];

    /// A name for threads, logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Lane::Sync => "sync",
            Lane::Flush => "flush",
            Lane::Merge => "merge",
        }
    }
}

/// How much one step may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaintainLimit {
    /// Time after which a step that can stop does.
    pub time: Duration,
    /// Bytes of blocks that one merge may read.
    pub bytes: u64,
}

impl Default for MaintainLimit {
    fn default() -> MaintainLimit {
        MaintainLimit { time: Duration::from_secs(5), bytes: 1 << 30 }
    }
}

/// When a lane wants to be called again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// There is more to do.
    Now,
    /// Not before this time of the clock, milliseconds since the Unix epoch, unless [`Engine::on_full`] tells that the head is
    /// full.
    At(i64),
    /// Only after something was appended.
    Idle,
}

impl Engine {
    /// Does one step of a lane.
    ///
    /// [`Lane::Sync`] syncs once, [`Lane::Flush`] retires or flushes once (the head is bounded, so this is, too) and gives back
    /// some of what was read from blocks and nobody asks for,
    /// [`Lane::Merge`] makes one block. Calls for one lane must not overlap.
    ///
    /// # Errors
    /// The disk's. Nothing is lost by a step that failed; it can be tried again.
    pub fn maintain(&self, lane: Lane, limit: MaintainLimit) -> Result<Next, StorageError> {
        match lane {
            Lane::Sync => self.sync_step(),
            Lane::Flush => self.flush_step(),
            Lane::Merge => self.merge_step(limit),
        }
    }

    /// Flushes and syncs everything and takes no more appends. Queries go on.
    ///
    /// # Errors
    /// The disk's; then the log still holds what could not be flushed, and it can be tried again.
    pub fn close(&self) -> Result<(), StorageError> {
        self.closed.store(true, Ordering::Release);
        let flushed = self.flush();
        self.sync_now()?;
        flushed
    }

    fn look_again(&self) -> Next {
        Next::At(self.options.clock.now_ms().saturating_add(millis(LOOK_AGAIN)))
    }

    fn sync_step(&self) -> Result<Next, StorageError> {
        // Here as well: this lane does not wait for a long flush.
        self.show_levels();
        if self.options.sync != SyncPolicy::Interval {
            return Ok(Next::Idle);
        }
        let now = self.options.clock.monotonic();
        let since = self.commit.writer().unsynced_since();
        let at = |left: Duration| Next::At(self.options.clock.now_ms().saturating_add(millis(left)));
        let Some(since) = since else { return Ok(at(self.options.sync_interval)) };
        let due = since + self.options.sync_interval;
        if now < due {
            return Ok(at(due - now));
        }
        self.sync_now()?;
        Ok(at(self.options.sync_interval))
    }

    /// Makes every frame written so far durable.
    ///
    /// # Errors
    /// The disk's; the frames stay in memory and are tried again, in a new file.
    pub fn sync_now(&self) -> Result<(), StorageError> {
        let job = self.commit.writer().begin_sync();
        let Some(job) = job else { return Ok(()) };
        let done = job.run();
        let settled = self.commit.writer().finish_sync(job, done);
        self.metrics.syncs.count(settled).map_err(io_error(&self.dir.join("wal"), "syncing the log"))
    }

    fn flush_step(&self) -> Result<Next, StorageError> {
        self.keep_reserve();
        if self.is_short_of_memory() {
            self.cache.clear();
        }
        let is_aged = !self.cache.age(self.options.clock.monotonic(), self.options.cache_idle);
        self.show_levels();
        if self.retire()? {
            return Ok(Next::Now);
        }
        if self.wants_flush() {
            self.flush()?;
        }
        // It may have filled again meanwhile, of which nobody is told.
        Ok(if is_aged && !self.is_full() { self.look_again() } else { Next::Now })
    }

    fn wants_flush(&self) -> bool {
        let since = *self.unflushed_since.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = since.is_some_and(|s| self.options.clock.monotonic() >= s + self.options.flush_age);
        let is_empty = self.counts.head_samples.load(Ordering::Relaxed) == 0;
        self.is_full() || is_old || (self.is_short_of_memory() && !is_empty)
    }

    fn is_full(&self) -> bool {
        self.counts.head_is_full.load(Ordering::Relaxed)
    }

    /// The weight of a full head.
    pub(crate) fn full_at(&self) -> u64 {
        self.options.flush_samples.max(1)
    }

    /// Has `wake` called whenever the head has become so full that [`Lane::Flush`] has to move it into blocks: a fast sender
    /// may fill it twice before that lane looks again by itself.
    ///
    /// It is called by the thread that appends, while the head is locked: it must come back at once and ask nothing of the
    /// engine. Only the first is kept.
    pub fn on_full(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.on_full.set(Box::new(wake));
    }

    pub(crate) fn is_short_of_memory(&self) -> bool {
        let budget = &self.options.budget;
        budget.used() >= budget.limit() / 10 * 9
    }

    /// Removes blocks whose newest sample is older than anything is kept, and the oldest beyond the limit in bytes; `true` if
    /// there were any.
    fn retire(&self) -> Result<bool, StorageError> {
        let mut manifest = self.manifest();
        let (policy, now_ms) = (self.retention(), self.options.clock.now_ms());
        let is_too_old = |block: &LiveBlock| self.is_too_old(block, &policy, now_ms);
        let too_large = self.going(self.surplus(&policy, is_too_old)?, &policy, now_ms)?;
        let is_too_large = |block: &Arc<LiveBlock>| too_large.iter().any(|large| Arc::ptr_eq(large, block));
        let (old, kept): (Vec<_>, Vec<_>) =
            self.blocks().list().iter().cloned().partition(|block| is_too_old(block) || is_too_large(block));
        let (kept, old) = keep_overruling(kept, old, is_too_old);
        if old.is_empty() {
            return Ok(false);
        }
        let mut next = Manifest { blocks: kept.iter().map(|b| BlockEntry::of(b)).collect(), ..manifest.clone() };
        let mut unrolled = <[Spans; 2]>::default();
        for block in old.iter().filter(|block| !is_too_old(block) && block.footer().samples > 0) {
            let (tier, (start, end)) =
                (block.tier(), whole_hours(block.footer().min_time_ms, block.footer().max_time_ms));
            let left = next.rolled.let_go(tier, &Spans::of(start, end), made_of(tier, &policy));
            if tier != Tier::OneHour {
                unrolled[usize::from(tier != Tier::Raw)].add_all(&left);
            }
        }
        self.publish(&mut manifest, next)?;
        for (all, more) in self.unrolled.lock().unwrap_or_else(PoisonError::into_inner).iter_mut().zip(&unrolled) {
            all.add_all(more);
        }
        {
            let _head = self.head.write();
            self.set_blocks_and(kept, Arc::new(manifest.rolled.clone()));
        }
        for block in &old {
            let footer = block.footer();
            if !is_too_old(block) {
                // Age hides by itself; what goes for its size is a change that queries must be told.
                self.changes().touched(footer.min_time_ms, footer.max_time_ms, now_ms);
            }
            self.metrics.retired.add(1);
            tracing::info!(path = %block.path().display(), "block is outside the retention and is removed");
            self.remove_file(block.path());
        }
        Ok(true)
    }

    /// Whether a block is too old for every series, and nothing is to be made of it any more.
    pub(crate) fn is_too_old(&self, block: &LiveBlock, policy: &RetentionPolicy, now_ms: i64) -> bool {
        block.footer().max_time_ms < policy.oldest_ms(block.tier(), now_ms)
            && !self.waits_for_rollups(block, policy, now_ms)
    }

    /// Publishes a manifest; on a full disk the reserve is given up for it.
    pub(crate) fn publish(&self, manifest: &mut Manifest, mut next: Manifest) -> Result<(), StorageError> {
        let needed = self.tombstones().needed(|id| next.blocks.iter().any(|block| block.deletes < id));
        next.tombstones = needed.iter().map(|tombstone| Tombstone::clone(tombstone)).collect();
        let mut published = next.publish(&*self.fs, &self.dir);
        if published.as_ref().is_err_and(StorageError::is_disk_full) {
            self.give_up_reserve();
            published = next.publish(&*self.fs, &self.dir);
        }
        published?;
        *manifest = next;
        Ok(())
    }

    pub(crate) fn give_up_reserve(&self) {
        if self.fs.remove(&self.dir.join(RESERVE)).is_ok() {
            tracing::warn!(dir = %self.dir.display(), "disk is full; the reserve is given up");
        }
    }

    /// Takes the reserve again once there is room to spare.
    fn keep_reserve(&self) {
        let path = self.dir.join(RESERVE);
        let bytes = self.options.reserve_bytes;
        if bytes == 0 || self.fs.open(&path, crate::fs::OpenMode::Read).is_ok() {
            return;
        }
        if self.fs.space(&self.dir).is_ok_and(|space| space.available > 4 * bytes) {
            self.make_reserve();
        }
    }

    pub(crate) fn make_reserve(&self) {
        let path = self.dir.join(RESERVE);
        let made = self.fs.create_new(&path).and_then(|file| file.allocate(0, self.options.reserve_bytes));
        if let Err(error) = made {
            // A file system that cannot hold room back, or has none: the engine works without.
            tracing::debug!(path = %path.display(), %error, "no reserve is kept");
            let _ = remove_if_there(&*self.fs, &path);
        }
    }

    /// Removes a file that nothing refers to any more; a failure leaves it for the next opening.
    pub(crate) fn remove_file(&self, path: &std::path::Path) {
        if let Err(error) = self.fs.remove(path) {
            tracing::warn!(path = %path.display(), %error, "a superfluous file could not be removed");
        }
    }

    /// Makes `list` the live blocks; every select sees the old list or the new one.
    pub(crate) fn swap_blocks(&self, list: Vec<Arc<LiveBlock>>) {
        let _head = self.head.write();
        self.set_blocks(list);
    }

    /// The same, for a caller that holds the head.
    pub(crate) fn set_blocks(&self, list: Vec<Arc<LiveBlock>>) {
        let rolled = Arc::clone(self.blocks().rolled());
        self.set_blocks_and(list, rolled);
    }

    /// The same, with what is rolled up in them.
    pub(crate) fn set_blocks_and(&self, list: Vec<Arc<LiveBlock>>, rolled: Arc<Rolled>) {
        let mut tombstones = self.tombstones();
        let blocks = Arc::new(Blocks::new(list, &tombstones, &self.retention(), rolled));
        tombstones.keep(|id| blocks.list().iter().any(|block| block.is_pending(id)));
        *self.blocks.write().unwrap_or_else(PoisonError::into_inner) = blocks;
        self.metrics.levels(&self.sizes());
    }
}

/// Keeps those of `old` that went for their size and overrule something in `kept`: without them a value that was replaced
/// would be back.
fn keep_overruling(
    mut kept: Vec<Arc<LiveBlock>>,
    mut old: Vec<Arc<LiveBlock>>,
    is_too_old: impl Fn(&LiveBlock) -> bool,
) -> (Vec<Arc<LiveBlock>>, Vec<Arc<LiveBlock>>) {
    let overrules = |block: &LiveBlock, other: &LiveBlock| {
        if is_too_old(block) || block.tier() != Tier::Raw || other.tier() != Tier::Raw {
            return false;
        }
        let (block, other) = (block.footer(), other.footer());
        block.sequence > other.sequence
            && block.min_time_ms <= other.max_time_ms
            && other.min_time_ms <= block.max_time_ms
    };
    loop {
        let (needed, gone): (Vec<_>, Vec<_>) =
            old.into_iter().partition(|block| kept.iter().any(|other| overrules(block, other)));
        old = gone;
        if needed.is_empty() {
            return (kept, old);
        }
        kept.extend(needed);
    }
}
