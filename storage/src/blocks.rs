//! The live blocks, as one immutable list that is swapped, and what is not shown of them.

use std::ops::Deref;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use kymo_core::storage::Tier;
use kymo_core::{Labels, LabelsRef, QueryContext, SelectError, Selector};
use roaring::RoaringBitmap;

use crate::block::{Block, ChunkRef};
use crate::hidden::{Hidden, Hides};
use crate::listing::{Listing, Order};
use crate::retention::{Kept, RetentionPolicy};
use crate::rollup::{GROUP, Rolled};
use crate::sample::Sample;
use crate::tombstones::{Tombstone, Tombstones};

/// Pause at the least between two looks for samples that are too old.
const LOOK_AGAIN_MS: i64 = 60_000;

/// A block, and the tombstones that hide something of it.
#[derive(Debug)]
pub(crate) struct LiveBlock {
    block: Arc<Block>,
    /// Deletes up to this one hide nothing of the block.
    deletes_through: u64,
    /// Later ones that reach into its time.
    pending: Vec<Arc<Pending>>,
    shown: OnceLock<Shown>,
    policy: Arc<RetentionPolicy>,
    /// Its series by what the policy keeps them for.
    kept: OnceLock<Vec<Kept>>,
    /// When it is worth looking again for samples that are too old.
    look_again_ms: AtomicI64,
}

/// A tombstone and the series of one block that it matches, which are looked up when they are wanted first.
#[derive(Debug)]
struct Pending {
    tombstone: Arc<Tombstone>,
    series: OnceLock<Arc<RoaringBitmap>>,
}

/// What is left of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) samples: u64,
    /// First and last time of them.
    pub(crate) bounds: Option<(i64, i64)>,
}

impl Deref for LiveBlock {
    type Target = Block;

    fn deref(&self) -> &Block {
        &self.block
    }
}

impl LiveBlock {
    pub(crate) fn new(block: Block, deletes_through: u64) -> LiveBlock {
        LiveBlock {
            block: Arc::new(block),
            deletes_through,
            pending: Vec::new(),
            shown: OnceLock::new(),
            // Until it is put into a list, which has one.
            policy: Arc::new(RetentionPolicy::of_age(None)),
            kept: OnceLock::new(),
            look_again_ms: AtomicI64::new(i64::MIN),
        }
    }

    pub(crate) fn block(&self) -> &Arc<Block> {
        &self.block
    }

    /// What it holds: samples, or rollups.
    pub(crate) fn tier(&self) -> Tier {
        self.footer().tier()
    }

    /// Deletes up to this one hide nothing of the block.
    pub(crate) fn deletes_through(&self) -> u64 {
        self.deletes_through
    }

    /// Tombstones that may hide something of it.
    pub(crate) fn tombstones(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn is_pending(&self, tombstone: u64) -> bool {
        self.pending.binary_search_by_key(&tombstone, |p| p.tombstone.id).is_ok()
    }

    /// The same block under this policy and these tombstones.
    fn under(self: &Arc<Self>, tombstones: &Tombstones, policy: &Arc<RetentionPolicy>) -> Arc<LiveBlock> {
        let is_same_policy = Arc::ptr_eq(policy, &self.policy);
        let footer = self.footer();
        let reaches =
            |t: &&Arc<Tombstone>| t.id > self.deletes_through && t.reaches(footer.min_time_ms, footer.max_time_ms);
        let reaching: Vec<&Arc<Tombstone>> = tombstones.list().iter().filter(reaches).collect();
        let is_same = reaching.iter().map(|t| t.id).eq(self.pending.iter().map(|p| p.tombstone.id));
        if reaching.is_empty() && (self.deletes_through < tombstones.applied() || !is_same) {
            // Not further than what was applied: a replay has more before it, and may make blocks on its way.
            return Arc::new(self.with(tombstones.applied(), Vec::new(), policy));
        }
        if is_same && is_same_policy {
            return Arc::clone(self);
        }
        let known = |id: u64| self.pending.iter().find(|p| p.tombstone.id == id).cloned();
        let pending = reaching.into_iter().map(|t| {
            known(t.id).unwrap_or_else(|| Arc::new(Pending { tombstone: Arc::clone(t), series: OnceLock::new() }))
        });
        Arc::new(self.with(self.deletes_through, pending.collect(), policy))
    }

    /// The same block, of which deletes up to this one hide nothing, and these do.
    fn with(&self, deletes_through: u64, pending: Vec<Arc<Pending>>, policy: &Arc<RetentionPolicy>) -> LiveBlock {
        LiveBlock {
            block: Arc::clone(&self.block),
            deletes_through: deletes_through.max(self.deletes_through),
            pending,
            shown: OnceLock::new(),
            policy: Arc::clone(policy),
            // What was looked up stays, as long as it was looked up for the same policy.
            kept: if Arc::ptr_eq(policy, &self.policy) { self.kept.clone() } else { OnceLock::new() },
            look_again_ms: AtomicI64::new(i64::MIN),
        }
    }

    /// The same block without its tombstones, if they hide nothing of it. Looks into the block.
    pub(crate) fn settled(&self) -> Result<Option<Arc<LiveBlock>>, SelectError> {
        let Some(last) = self.pending.last() else { return Ok(None) };
        let hides = self.deleted(i64::MIN, i64::MAX)?;
        if self.tier() != Tier::Raw && !hides.is_empty() {
            // A bucket is hidden by what lies between its first sample and its last, too.
            return Ok(None);
        }
        let has_exemplars = || self.exemplars().map(|all| all.iter().any(|(series, _)| hides.of(*series).is_some()));
        if !hides.is_empty() && (self.shown()?.samples < self.footer().samples || has_exemplars()?) {
            return Ok(None);
        }
        Ok(Some(Arc::new(self.with(last.tombstone.id, Vec::new(), &self.policy))))
    }

    /// What is hidden of it in a window: what was deleted, and what of some series is too old while others keep it.
    pub(crate) fn hides(&self, start_ms: i64, end_ms: i64, now_ms: i64) -> Result<Hides, SelectError> {
        let mut hides = self.deleted(start_ms, end_ms)?;
        if self.policy.oldest_of_some_ms(self.tier(), now_ms) > start_ms.max(self.footer().min_time_ms) {
            for kept in self.kept()? {
                // Times of which a sample would lie in the window: all too old ones that the block may hold.
                hides.push(Arc::clone(&kept.series), i64::MIN, kept.oldest_ms(now_ms).saturating_sub(1));
            }
        }
        Ok(hides)
    }

    fn kept(&self) -> Result<&[Kept], SelectError> {
        match self.kept.get() {
            Some(kept) => Ok(kept),
            None => self.policy.divide(self.tier(), &self.block).map(|kept| &**self.kept.get_or_init(|| kept)),
        }
    }

    /// What was deleted of it in a window.
    pub(crate) fn deleted(&self, start_ms: i64, end_ms: i64) -> Result<Hides, SelectError> {
        let mut hides = Hides::default();
        for pending in &self.pending {
            let tombstone = &pending.tombstone;
            if tombstone.reaches(start_ms, end_ms) {
                hides.push(pending.series(&self.block)?, tombstone.what.start_ms, tombstone.what.end_ms);
            }
        }
        Ok(hides)
    }

    /// Shows series that satisfy the matchers and have a chunk with something to be seen in the window: labels, those
    /// chunks, and what is hidden of them. In order of their labels.
    pub(crate) fn select(
        &self,
        what: &Selector,
        now_ms: i64,
        ctx: &QueryContext,
        mut found: impl FnMut(&Labels, &[ChunkRef], Option<&Hidden>) -> Result<(), SelectError>,
    ) -> Result<(), SelectError> {
        let hides = self.hides(what.start_ms, what.end_ms, now_ms)?;
        if hides.is_empty() {
            return self.block.select(what, ctx, |_, labels, chunks| found(labels, chunks, None));
        }
        let mut seen = Vec::new();
        self.block.select(what, ctx, |series, labels, chunks| {
            let Some(hidden) = hides.of(series) else { return found(labels, chunks, None) };
            seen.clear();
            for chunk in chunks {
                if self.shows(chunk, &hidden, what)? {
                    seen.push(*chunk);
                }
            }
            if seen.is_empty() { Ok(()) } else { found(labels, &seen, Some(&hidden)) }
        })
    }

    /// Whether anything of a chunk is seen in the window.
    pub(crate) fn shows(&self, chunk: &ChunkRef, hidden: &Hidden, what: &Selector) -> Result<bool, SelectError> {
        if !hidden.meets(chunk.min_time_ms, chunk.max_time_ms) {
            return Ok(true);
        }
        if hidden.covers(chunk.min_time_ms, chunk.max_time_ms) {
            return Ok(false);
        }
        Ok(self.block.times(chunk.row.column)?.iter().any(|time| what.covers(*time) && !hidden.contains(*time)))
    }

    /// Adds the label names of matching series.
    pub(crate) fn label_names(
        &self,
        what: &Selector,
        now_ms: i64,
        ctx: &QueryContext,
        names: &mut Listing,
    ) -> Result<(), SelectError> {
        if self.hides(what.start_ms, what.end_ms, now_ms)?.is_empty() {
            return self.block.label_names(what, ctx, names);
        }
        names.begin(Order::None);
        self.select(what, now_ms, ctx, |labels, _, _| {
            labels.iter().for_each(|(name, _)| names.add(name));
            Ok(())
        })
    }

    /// Adds the values of a label of matching series.
    pub(crate) fn label_values(
        &self,
        name: &str,
        what: &Selector,
        now_ms: i64,
        ctx: &QueryContext,
        values: &mut Listing,
    ) -> Result<(), SelectError> {
        if self.hides(what.start_ms, what.end_ms, now_ms)?.is_empty() {
            return self.block.label_values(name, what, ctx, values);
        }
        values.begin(Order::None);
        self.select(what, now_ms, ctx, |labels, _, _| {
            labels.get(name).into_iter().for_each(|value| values.add(value));
            Ok(())
        })
    }

    /// Samples of a series before a time that are not deleted, and about how many bytes their values take; of a block of rollups
    /// their rows.
    pub(crate) fn older(&self, series: usize, oldest_ms: i64) -> Result<(u64, u64), SelectError> {
        let hidden = self.deleted(i64::MIN, oldest_ms)?.of(series).unwrap_or_default();
        let (mut samples, mut bytes) = (0, 0);
        // Chunks of rollups come in groups whose first has all rows.
        let group = if self.tier() == Tier::Raw { 1 } else { GROUP };
        for (number, chunk) in self.block.chunks(series)?.iter().enumerate() {
            let (first, last) = (chunk.min_time_ms, chunk.max_time_ms);
            if first >= oldest_ms || hidden.covers(first, last.min(oldest_ms - 1)) {
                continue;
            }
            let all = u64::from(chunk.samples);
            let old = if last < oldest_ms && !hidden.meets(first, last) {
                all
            } else {
                let times = self.block.times(chunk.row.column)?;
                times.iter().filter(|time| **time < oldest_ms && !hidden.contains(**time)).count() as u64
            };
            samples += if number % group == 0 { old } else { 0 };
            bytes += (chunk.bytes() * old).checked_div(all).unwrap_or(0);
        }
        Ok((samples, bytes))
    }

    /// Whether it holds a sample that its series keeps no longer.
    pub(crate) fn is_outlived(&self, now_ms: i64) -> Result<bool, SelectError> {
        if self.policy.oldest_of_some_ms(self.tier(), now_ms) <= self.footer().min_time_ms {
            return Ok(false);
        }
        for kept in self.kept()? {
            let oldest_ms = kept.oldest_ms(now_ms);
            for series in kept.series.iter().take_while(|_| oldest_ms > self.footer().min_time_ms) {
                if self.older(series as usize, oldest_ms)?.0 > 0 {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Whether one sample in `share` at least is one that its series keeps no longer. Not looked at more often than the
    /// answer can change much.
    pub(crate) fn is_much_outlived(&self, share: u64, now_ms: i64) -> Result<bool, SelectError> {
        let footer = self.footer();
        let is_due = now_ms >= self.look_again_ms.load(Ordering::Relaxed);
        if !is_due || self.policy.oldest_of_some_ms(self.tier(), now_ms) <= footer.min_time_ms {
            return Ok(false);
        }
        let mut outlived = 0u64;
        for kept in self.kept()? {
            let oldest_ms = kept.oldest_ms(now_ms);
            if oldest_ms > footer.min_time_ms {
                for series in kept.series.iter() {
                    outlived += self.older(series as usize, oldest_ms)?.0;
                }
            }
        }
        if outlived > 0 && outlived.saturating_mul(share) >= footer.samples {
            return Ok(true);
        }
        let length = footer.max_time_ms.saturating_sub(footer.min_time_ms);
        let pause = length / i64::try_from(share).unwrap_or(i64::MAX).max(1);
        // Relaxed: being late costs one look.
        self.look_again_ms.store(now_ms.saturating_add(pause.max(LOOK_AGAIN_MS)), Ordering::Relaxed);
        Ok(false)
    }

    /// What deletes have left of it. Looks into the block once, if there are tombstones.
    pub(crate) fn shown(&self) -> Result<Shown, SelectError> {
        let footer = self.footer();
        if self.pending.is_empty() {
            let bounds = (footer.samples > 0).then_some((footer.min_time_ms, footer.max_time_ms));
            return Ok(Shown { samples: footer.samples, bounds });
        }
        if let Some(shown) = self.shown.get() {
            return Ok(*shown);
        }
        let hides = self.deleted(i64::MIN, i64::MAX)?;
        let mut shown = Shown { samples: 0, bounds: None };
        let mut add = |samples: u64, first: i64, last: i64| {
            shown.samples += samples;
            shown.bounds = Some(shown.bounds.map_or((first, last), |b| (b.0.min(first), b.1.max(last))));
        };
        for series in 0..self.block.len() {
            let hidden = hides.of(series).unwrap_or_default();
            for chunk in self.block.chunks(series)? {
                let (first, last) = (chunk.min_time_ms, chunk.max_time_ms);
                if !hidden.meets(first, last) {
                    add(u64::from(chunk.samples), first, last);
                } else if !hidden.covers(first, last) {
                    let times = self.block.times(chunk.row.column)?;
                    times.iter().filter(|time| !hidden.contains(**time)).for_each(|time| add(1, *time, *time));
                }
            }
        }
        Ok(*self.shown.get_or_init(|| shown))
    }
}

impl Pending {
    /// Found whole, whoever asks first: it holds for all who ask later.
    fn series(&self, block: &Block) -> Result<Arc<RoaringBitmap>, SelectError> {
        if let Some(series) = self.series.get() {
            return Ok(Arc::clone(series));
        }
        let mut series = RoaringBitmap::new();
        for matchers in &self.tombstone.what.any_of {
            series |= block.matching(matchers, &|| Ok(()))?.to_bitmap();
        }
        Ok(Arc::clone(self.series.get_or_init(|| Arc::new(series))))
    }
}

/// Live blocks, rising by sequence: at one timestamp a later one wins.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    list: Vec<Arc<LiveBlock>>,
    max_time_ms: Option<i64>,
    /// What is rolled up, in just these blocks.
    rolled: Arc<Rolled>,
}

impl Blocks {
    /// These blocks under these tombstones and this policy.
    pub(crate) fn new(
        list: Vec<Arc<LiveBlock>>,
        tombstones: &Tombstones,
        policy: &Arc<RetentionPolicy>,
        rolled: Arc<Rolled>,
    ) -> Blocks {
        let mut list: Vec<Arc<LiveBlock>> = list.iter().map(|block| block.under(tombstones, policy)).collect();
        list.sort_by_key(|block| block.footer().sequence);
        let samples = list.iter().filter(|block| block.tier() == Tier::Raw);
        let max_time_ms = samples.map(|block| block.footer().max_time_ms).max();
        Blocks { list, max_time_ms, rolled }
    }

    /// Blocks of samples and of rollups.
    pub(crate) fn list(&self) -> &[Arc<LiveBlock>] {
        &self.list
    }

    pub(crate) fn rolled(&self) -> &Arc<Rolled> {
        &self.rolled
    }

    /// Those of one tier.
    pub(crate) fn of(&self, tier: Tier) -> impl DoubleEndedIterator<Item = &Arc<LiveBlock>> {
        self.list.iter().filter(move |block| block.tier() == tier)
    }

    /// Highest time of a sample in any block; the lowest of all times when there is none.
    pub(crate) fn max_time_ms(&self) -> i64 {
        self.max_time_ms.unwrap_or(i64::MIN)
    }

    /// Highest time of one series in any block, hidden ones included.
    pub(crate) fn newest(&self, labels: LabelsRef<'_>) -> i64 {
        let newest = |block: &Arc<LiveBlock>| {
            block.newest(labels).unwrap_or_else(|error| {
                tracing::warn!(%error, "a block cannot be asked for the newest sample of a series");
                // As if it had one at its very end, so that a late sample is looked up.
                Some(block.footer().max_time_ms)
            })
        };
        self.of(Tier::Raw).filter_map(newest).max().unwrap_or(i64::MIN)
    }

    /// The samples of one series at exactly these times, which rise. A chunk that cannot be read counts as not having
    /// any: the new sample is then stored and wins.
    pub(crate) fn samples(&self, labels: LabelsRef<'_>, times: &[i64]) -> Vec<Option<Sample>> {
        let mut found = vec![None; times.len()];
        let (Some(first), Some(last)) = (times.first(), times.last()) else { return found };
        for block in self.of(Tier::Raw).rev() {
            let footer = block.footer();
            if *last < footer.min_time_ms || *first > footer.max_time_ms {
                continue;
            }
            let mut look_up = || {
                let Some(series) = block.find(labels)? else { return Ok(()) };
                let hidden = block.deleted(*first, *last)?.of(series);
                let is_hidden = |time_ms| hidden.as_ref().is_some_and(|hidden| hidden.contains(time_ms));
                block.samples(series, times, is_hidden, &mut found)
            };
            let read: Result<(), SelectError> = look_up();
            if let Err(error) = read {
                tracing::warn!(%error, "a stored chunk cannot be compared with a late sample");
            }
        }
        found
    }
}
