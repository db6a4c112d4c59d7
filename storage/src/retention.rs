//! How long what is kept: by age, by series, by bytes.
//!
//! Age hides at once, to the millisecond: a select sees nothing older than its series keeps. Files follow: a block goes
//! when its newest sample is older than anything is kept, and the merge lane writes a block anew without the samples of series
//! that keep less, once all of it is too old for them, or a twentieth of it is.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use foldhash::{HashSet, HashSetExt};
use kymo_core::storage::Tier;
use kymo_core::{LabelsRef, Matcher, QueryContext, SelectError};
use roaring::RoaringBitmap;

use crate::block::Block;
use crate::blocks::LiveBlock;
use crate::engine::{Engine, millis};
use crate::error::{StorageError, io_error};

/// All tiers, the finest first.
pub(crate) const TIERS: [Tier; 3] = [Tier::Raw, Tier::FiveMinutes, Tier::OneHour];

/// How long what is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct RetentionPolicy {
    /// Age of samples as they were written, of series that no rule is about; `None` for ever.
    pub raw: Option<Duration>,
    /// Age of rollups of five minutes, as above; `None` for none at all, [`Duration::MAX`] for ever.
    #[doc(alias = "5m")]
    pub five_minutes: Option<Duration>,
    /// Age of rollups of an hour.
    #[doc(alias = "1h")]
    pub one_hour: Option<Duration>,
    /// For some series something else, for samples and rollups alike; of several rules the first that matches holds.
    pub rules: Vec<RetentionRule>,
    /// Bytes of blocks beyond which the oldest go, whatever their age; `None` for no limit. The log and the head come on
    /// top. With rollups samples have a right to half of it, and of what takes more than its share the finest goes first:
    /// where samples went, rollups answer.
    pub max_bytes: Option<u64>,
    /// The same as a share of the file system's size, from 0 to 1; of both the lower holds.
    pub max_disk_share: Option<f64>,
}

/// How long some series are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct RetentionRule {
    /// A series is meant if all of them hold.
    pub matchers: Vec<Matcher>,
    /// Age of its samples; `None` for ever.
    pub keep: Option<Duration>,
}

impl Default for RetentionPolicy {
    /// 30 days.
    fn default() -> RetentionPolicy {
        RetentionPolicy::of_age(Some(Duration::from_secs(30 * 24 * 3_600)))
    }
}

impl RetentionPolicy {
    /// The same age for everything, and any number of bytes.
    #[must_use]
    pub fn of_age(raw: Option<Duration>) -> RetentionPolicy {
        RetentionPolicy {
            raw,
            five_minutes: None,
            one_hour: None,
            rules: Vec::new(),
            max_bytes: None,
            max_disk_share: None,
        }
    }

    /// Whether rollups of this tier are made and kept; samples always are.
    #[must_use]
    pub fn has(&self, tier: Tier) -> bool {
        match tier {
            Tier::Raw => true,
            Tier::FiveMinutes => self.five_minutes.is_some(),
            Tier::OneHour => self.one_hour.is_some(),
        }
    }

    /// Whether any rollups are made.
    #[must_use]
    pub fn has_rollups(&self) -> bool {
        self.has(Tier::FiveMinutes) || self.has(Tier::OneHour)
    }

    /// How long the samples of a series are kept.
    #[must_use]
    pub fn keep(&self, labels: LabelsRef<'_>) -> Option<Duration> {
        self.keep_of(Tier::Raw, labels)
    }

    fn keep_of(&self, tier: Tier, labels: LabelsRef<'_>) -> Option<Duration> {
        if !self.has(tier) {
            return Some(Duration::ZERO);
        }
        let holds = |m: &Matcher| m.matches(labels.get(m.name()).unwrap_or_default());
        let rule = self.rules.iter().find(|rule| rule.matchers.iter().all(holds));
        rule.map_or(self.of_others(tier), |rule| rule.keep)
    }

    /// How long series are kept that no rule is about.
    fn of_others(&self, tier: Tier) -> Option<Duration> {
        match tier {
            Tier::Raw => self.raw,
            Tier::FiveMinutes => Some(self.five_minutes.unwrap_or_default()),
            Tier::OneHour => Some(self.one_hour.unwrap_or_default()),
        }
    }

    /// All ages that something of a tier is kept for.
    fn keeps(&self, tier: Tier) -> impl Iterator<Item = Option<Duration>> {
        let rules = if self.has(tier) { self.rules.as_slice() } else { &[] };
        rules.iter().map(|rule| rule.keep).chain([self.of_others(tier)])
    }

    /// The longest age that anything of a tier is kept for.
    pub(crate) fn longest(&self, tier: Tier) -> Option<Duration> {
        self.keeps(tier).try_fold(Duration::ZERO, |longest, keep| keep.map(|keep| longest.max(keep)))
    }

    /// The shortest.
    pub(crate) fn shortest(&self, tier: Tier) -> Option<Duration> {
        self.keeps(tier).flatten().min()
    }

    /// The first time that is not too old for an age. With rollups that is the first of an hour, so that what answers changes
    /// between two buckets.
    fn oldest(&self, keep: Option<Duration>, now_ms: i64) -> i64 {
        let oldest_ms = keep.map_or(i64::MIN, |keep| now_ms.saturating_sub(millis(keep)));
        if self.has_rollups() { whole_hour(oldest_ms) } else { oldest_ms }
    }

    /// Times before this are too old for every series.
    pub(crate) fn oldest_ms(&self, tier: Tier, now_ms: i64) -> i64 {
        self.oldest(self.longest(tier), now_ms)
    }

    /// Times before this are too old in every tier.
    pub(crate) fn oldest_of_all_ms(&self, now_ms: i64) -> i64 {
        TIERS.into_iter().map(|tier| self.oldest_ms(tier, now_ms)).min().unwrap_or(i64::MIN)
    }

    /// Times before this are too old for some series.
    pub(crate) fn oldest_of_some_ms(&self, tier: Tier, now_ms: i64) -> i64 {
        self.oldest(self.shortest(tier), now_ms)
    }

    /// Samples before this are too old for all series that no rule is about.
    pub(crate) fn oldest_of_others_ms(&self, now_ms: i64) -> i64 {
        self.oldest(self.raw, now_ms)
    }

    /// Times before this are too old for the series.
    pub(crate) fn oldest_of_ms(&self, tier: Tier, labels: LabelsRef<'_>, now_ms: i64) -> i64 {
        self.oldest(self.keep_of(tier, labels), now_ms)
    }

    /// Samples before this are not taken any more: of all series, of some, and of one. To the millisecond, also where what is
    /// there is kept by hours.
    pub(crate) fn refused_ms(&self, now_ms: i64) -> (i64, i64) {
        let before = |keep: Option<Duration>| keep.map_or(i64::MIN, |keep| now_ms.saturating_sub(millis(keep)));
        (before(self.longest(Tier::Raw)), before(self.shortest(Tier::Raw)))
    }

    /// The same of one series.
    pub(crate) fn refused_of_ms(&self, labels: LabelsRef<'_>, now_ms: i64) -> i64 {
        self.keep(labels).map_or(i64::MIN, |keep| now_ms.saturating_sub(millis(keep)))
    }

    /// Ages in milliseconds at which something may vanish, or be answered by another tier.
    pub(crate) fn ages_ms(&self) -> Vec<i64> {
        let kept = TIERS.into_iter().filter(|tier| self.has(*tier));
        let mut ages: Vec<i64> = kept.flat_map(|tier| self.keeps(tier).flatten().map(millis)).collect();
        ages.sort_unstable();
        ages.dedup();
        ages
    }

    /// The series of a block by what they are kept for: by each rule, and last by none.
    pub(crate) fn divide(&self, tier: Tier, block: &Block) -> Result<Vec<Kept>, SelectError> {
        let mut rest = RoaringBitmap::from_iter(0..block.len() as u32);
        let mut divided = Vec::with_capacity(self.rules.len() + 1);
        let aligned = self.has_rollups();
        for rule in self.rules.iter().filter(|_| self.has(tier)) {
            let meant = block.matching(&rule.matchers, &|| Ok(()))?.to_bitmap() & &rest;
            rest -= &meant;
            divided.push(Kept { keep: rule.keep, aligned, series: Arc::new(meant) });
        }
        divided.push(Kept { keep: self.of_others(tier), aligned, series: Arc::new(rest) });
        Ok(divided)
    }
}

/// Series of a block that are kept for one age.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    keep: Option<Duration>,
    /// Whether it is kept by whole hours.
    aligned: bool,
    pub(crate) series: Arc<RoaringBitmap>,
}

impl Kept {
    /// Times before this are too old for these series.
    pub(crate) fn oldest_ms(&self, now_ms: i64) -> i64 {
        let oldest_ms = self.keep.map_or(i64::MIN, |keep| now_ms.saturating_sub(millis(keep)));
        if self.aligned { whole_hour(oldest_ms) } else { oldest_ms }
    }
}

/// The first time of the hour that a time lies in; hours are buckets, which are open to the left.
fn whole_hour(time_ms: i64) -> i64 {
    let hour_ms = Tier::OneHour.width_ms();
    time_ms.saturating_sub(1).div_euclid(hour_ms).saturating_mul(hour_ms).saturating_add(1)
}

/// What a policy would let go of, in blocks. The head, which is hours old at the most unless something was written late, is
/// left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetentionPreview {
    /// Too old, by the number of the rule; last those that no rule is about.
    pub by_age: Vec<RetentionFigures>,
    /// What is not too old and goes for the limit in bytes: whole files, the oldest first.
    pub by_size: RetentionFigures,
}

/// How much goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetentionFigures {
    /// Series that lose something.
    pub series: u64,
    /// Samples.
    pub samples: u64,
    /// Buckets of rollups.
    pub buckets: u64,
    /// Bytes: of whole files as they are, else of the values.
    pub bytes: u64,
}

impl RetentionFigures {
    fn add(&mut self, tier: Tier, rows: u64) {
        match tier {
            Tier::Raw => self.samples += rows,
            Tier::FiveMinutes | Tier::OneHour => self.buckets += rows,
        }
    }
}

impl Engine {
    /// The policy in force.
    #[must_use]
    pub fn retention(&self) -> Arc<RetentionPolicy> {
        Arc::clone(&self.retention.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another policy in force, at once for queries.
    pub fn set_retention(&self, policy: RetentionPolicy) {
        if *self.retention() == policy {
            return;
        }
        // No other manifest or list of blocks comes in between.
        let _manifest = self.manifest();
        let _head = self.head.write();
        *self.retention.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
        self.set_blocks(self.blocks().list().to_vec());
        self.changes().touched(i64::MIN, i64::MAX, self.options.clock.now_ms());
    }

    /// Most bytes of blocks, if there is a limit.
    pub(crate) fn block_bytes_max(&self, policy: &RetentionPolicy) -> Result<Option<u64>, StorageError> {
        let share = match policy.max_disk_share {
            Some(share) => {
                let space = self.fs.space(&self.dir).map_err(io_error(&self.dir, "asking for the size of the disk"))?;
                Some((space.total as f64 * share) as u64)
            }
            None => None,
        };
        Ok(policy.max_bytes.into_iter().chain(share).min())
    }

    /// What a policy, in force or not, would let go of now. Looks into the blocks that have something too old.
    ///
    /// # Errors
    /// [`SelectError`] if a block cannot be read, wrapped, or the disk's.
    pub fn preview_retention(
        &self,
        policy: &RetentionPolicy,
        ctx: &QueryContext,
    ) -> Result<RetentionPreview, StorageError> {
        let now_ms = self.options.clock.now_ms();
        let mut by_age = vec![RetentionFigures::default(); policy.rules.len() + 1];
        let mut losing: Vec<HashSet<u64>> = vec![HashSet::new(); by_age.len()];
        let blocks = self.blocks();
        let is_too_old = |block: &LiveBlock| block.footer().max_time_ms < policy.oldest_ms(block.tier(), now_ms);
        let too_large = self.surplus(policy, is_too_old)?.blocks;
        let (mut by_size, mut losing_by_size) = (RetentionFigures::default(), HashSet::new());
        for block in blocks.list() {
            let read = |error: SelectError| io_error(block.path(), "reading a block")(std::io::Error::other(error));
            ctx.check().map_err(read)?;
            let before: u64 = by_age.iter().map(|figures| figures.bytes).sum();
            let tier = block.tier();
            if too_large.iter().any(|large| Arc::ptr_eq(large.block(), block.block())) {
                by_size.bytes += block.bytes();
                for series in 0..block.len() {
                    by_size.add(tier, block.older(series, i64::MAX).map_err(read)?.0);
                    losing_by_size.insert(self.head.hash(block.labels(series).map_err(read)?.as_ref()));
                }
                continue;
            }
            for (number, kept) in policy.divide(tier, block.block()).map_err(read)?.iter().enumerate() {
                // Of a tier that is not kept at all none of the rules decides.
                let number = if policy.has(tier) { number } else { policy.rules.len() };
                if kept.oldest_ms(now_ms) <= block.footer().min_time_ms {
                    continue;
                }
                for series in kept.series.iter() {
                    let (samples, bytes) = block.older(series as usize, kept.oldest_ms(now_ms)).map_err(read)?;
                    if samples > 0 {
                        by_age[number].add(tier, samples);
                        by_age[number].bytes += bytes;
                        let labels = block.labels(series as usize).map_err(read)?;
                        losing[number].insert(self.head.hash(labels.as_ref()));
                    }
                }
            }
            if block.footer().max_time_ms < policy.oldest_ms(tier, now_ms) {
                // The whole file goes: what is neither values of samples counts for those whose age decides.
                let values = by_age.iter().map(|figures| figures.bytes).sum::<u64>() - before;
                let longest = policy.longest(tier);
                let deciding = policy.keeps(tier).position(|keep| keep == longest).unwrap_or(0);
                let deciding = if policy.has(tier) { deciding } else { policy.rules.len() };
                by_age[deciding].bytes += block.bytes().saturating_sub(values);
            }
        }
        for (figures, losing) in by_age.iter_mut().zip(losing) {
            figures.series = losing.len() as u64;
        }
        by_size.series = losing_by_size.len() as u64;
        Ok(RetentionPreview { by_age, by_size })
    }
}
