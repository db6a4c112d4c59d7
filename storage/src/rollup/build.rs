//! Making rollups, in steps: one window of time at a time becomes a block of its own.
//!
//! 1. *Choose* a window with an hour that has samples, is over, and is not made or was touched since.
//! 2. *Write* its block, series by series: hours to be made from what is finer, all others carried over from the block that was there.
//! 3. *Publish* a manifest with the new block in place of the old one and those hours noted as made. That is the moment.
//!
//! What is flushed between 1 and 3 touches its hours, which are then dirty at once. A crash before 3 leaves a file that the
//! next opening removes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use kymo_core::aggregate::rollup::{Figures, append_rows};
use kymo_core::batch::Metadata;
use kymo_core::memory::remember_metadata;
use kymo_core::storage::{Columns, Tier};
use kymo_core::{Labels, SelectError};

use super::layers::{Borders, Layers, Stands, append_shown, hours_of};
use super::rows::{self, Payloads};
use super::spans::{Made, Rolled, Spans, whole_hours};
use crate::block::{Block, BlockWriter, ChunkRef, Scan, Shape};
use crate::blocks::{Blocks, LiveBlock};
use crate::chunk::Effort;
use crate::compact::{Allowance, BySeries, Extent, hides_much, hides_something};
use crate::engine::{Engine, millis};
use crate::error::{StorageError, io_error};
use crate::hidden::{Hidden, Hides};
use crate::manifest::{BlockEntry, Manifest};
use crate::merge::{Run, Source, merge};
use crate::retention::RetentionPolicy;

/// Time that a block of five minutes is about, and one of an hour.
const WINDOWS_MS: [i64; 2] = [24 * 3_600_000, 240 * 3_600_000];
/// A window that is not over is made once its samples have reached this part of the age they are kept for.
const KEEP_SHARE: i64 = 4;

/// What is to be made.
struct Plan {
    tier: Tier,
    /// The window, open to the left.
    window: (i64, i64),
    /// Hours in it that are to be made.
    hours: Spans,
}

/// Rolling up under way.
pub(crate) struct RollupJob {
    plan: Plan,
    /// Blocks of what is finer, and last those of rollups that were there.
    inputs: Vec<Input>,
    policy: Arc<RetentionPolicy>,
    now_ms: i64,
    /// What was made when it began.
    rolled: Arc<Rolled>,
    stands: Stands,
    /// The last delete that what is hidden in the inputs goes by.
    deletes: u64,
    /// The highest sequence of a block of samples that there was.
    sequence: u64,
    writer: BlockWriter,
    path: PathBuf,
    metadata: BTreeMap<String, Vec<Metadata>>,
    worked: Duration,
    tally: Tally,
    /// Hours of the window that deletes have touched.
    touched: Spans,
}

struct Input {
    scan: Scan,
    tier: Tier,
    hides: Hides,
}

#[derive(Default)]
struct Tally {
    samples: u64,
    buckets: u64,
}

/// Chunks of one series in one input.
#[derive(Default)]
struct Taken {
    input: usize,
    /// Chunks, and where the payload of each ends.
    chunks: Vec<(ChunkRef, usize)>,
    payloads: Vec<u8>,
    hidden: Option<Hidden>,
}

impl Taken {
    fn payload(&self, chunk: usize) -> &[u8] {
        let begin = chunk.checked_sub(1).map_or(0, |before| self.chunks[before].1);
        &self.payloads[begin..self.chunks[chunk].1]
    }
}

/// Payloads that are at hand.
struct AtHand<'a> {
    block: &'a Block,
    taken: &'a Taken,
}

impl Payloads for AtHand<'_> {
    fn read(&self, number: usize, chunk: &ChunkRef, columns: &mut Columns) -> Result<(), SelectError> {
        self.block.read_payload(chunk, self.taken.payload(number), columns)
    }
}

fn window_ms(tier: Tier) -> i64 {
    if tier == Tier::OneHour { WINDOWS_MS[1] } else { WINDOWS_MS[0] }
}

/// The window that a time lies in; windows are open to the left.
fn window_of(tier: Tier, time_ms: i64) -> (i64, i64) {
    let length = window_ms(tier);
    let start = time_ms.saturating_sub(1).div_euclid(length).saturating_mul(length);
    (start, start.saturating_add(length))
}

/// What rollups of a tier are made of.
fn source_of(tier: Tier, policy: &RetentionPolicy) -> Tier {
    if tier == Tier::OneHour && policy.has(Tier::FiveMinutes) { Tier::FiveMinutes } else { Tier::Raw }
}

/// The finest rollups there are to be of a tier that goes.
pub(crate) fn made_of(tier: Tier, policy: &RetentionPolicy) -> Option<Tier> {
    [Tier::FiveMinutes, Tier::OneHour].into_iter().find(|coarser| {
        coarser.width_ms() > tier.width_ms() && policy.has(*coarser) && source_of(*coarser, policy) == tier
    })
}

/// What of hours of a tier is neither `made` of the coarser one nor never will be, as one of both went for its size.
fn to_be_made(hours: Spans, made: &Spans, rolled: &Rolled, (tier, coarser): (Tier, Tier)) -> Spans {
    hours.without(made).without(rolled.gone(coarser)).without(&rolled.stood_for(tier, coarser))
}

impl Engine {
    /// Whether a block that is too old is still needed to make rollups of it.
    pub(crate) fn waits_for_rollups(&self, block: &LiveBlock, policy: &RetentionPolicy, now_ms: i64) -> bool {
        self.unmade(block, policy, now_ms, |made| made.built.clone())
    }

    /// Whether rollups of a block that is not too old are not made yet, or are to be made anew.
    pub(crate) fn lacks_rollups(&self, block: &LiveBlock, policy: &RetentionPolicy, now_ms: i64) -> bool {
        self.unmade(block, policy, now_ms, Made::clean)
    }

    fn unmade(
        &self,
        block: &LiveBlock,
        policy: &RetentionPolicy,
        now_ms: i64,
        enough: impl FnOnce(&Made) -> Spans,
    ) -> bool {
        let (footer, tier) = (block.footer(), block.tier());
        let coarser = made_of(tier, policy).filter(|_| footer.samples > 0 && policy.has(tier));
        let Some(coarser) = coarser else { return false };
        let (start, end) = whole_hours(footer.min_time_ms, footer.max_time_ms);
        let (blocks, oldest_ms) = (self.blocks(), policy.oldest_ms(coarser, now_ms).saturating_sub(1));
        let rolled = blocks.rolled();
        let made = enough(rolled.of(coarser));
        !to_be_made(Spans::of(start.max(oldest_ms), end), &made, rolled, (tier, coarser)).is_empty()
    }

    /// Whether samples are too old and not rolled up yet, so that they must not be left out of merges.
    pub(crate) fn rollups_lag(&self, blocks: &Blocks, now_ms: i64) -> bool {
        let policy = self.retention();
        let Some(coarser) = made_of(Tier::Raw, &policy) else { return false };
        let end_ms = policy.oldest_of_others_ms(now_ms).saturating_sub(1);
        let oldest_ms = policy.oldest_ms(coarser, now_ms).saturating_sub(1);
        let rolled = blocks.rolled();
        blocks.of(Tier::Raw).any(|block| {
            let (start, end) = whole_hours(block.footer().min_time_ms, block.footer().max_time_ms);
            let hours = Spans::of(start.max(oldest_ms), end.min(end_ms));
            let left = to_be_made(hours, &rolled.of(coarser).built, rolled, (Tier::Raw, coarser));
            block.footer().samples > 0 && !left.is_empty()
        })
    }

    /// Begins to roll up, or goes on with it; `None` if there is nothing to do, else by how many bytes which blocks have shrunk
    /// once one is done.
    pub(crate) fn roll_some(
        &self,
        allowance: &Allowance,
        extent: Extent,
        now_ms: i64,
    ) -> Result<Option<(u64, u64)>, StorageError> {
        let mut rolling = self.rolling.lock().unwrap_or_else(PoisonError::into_inner);
        if rolling.is_none() {
            *self.unrolled.lock().unwrap_or_else(PoisonError::into_inner) = Default::default();
            let (blocks, deletes) = {
                let _head = self.head.read();
                (self.blocks(), self.tombstones().applied())
            };
            let policy = self.retention();
            let Some(plan) = self.choose_rollup(&blocks, &policy, extent, now_ms) else { return Ok(None) };
            let Some(job) = self.begin_rollup(plan, &blocks, policy, deletes, now_ms)? else { return Ok(None) };
            *rolling = Some(job);
        }
        let Some(job) = rolling.as_mut() else { return Ok(None) };
        let began = self.options.clock.monotonic();
        let outcome = job.go_on(self, allowance);
        job.worked += self.options.clock.monotonic().saturating_sub(began);
        match outcome {
            Ok(false) => Ok(Some((0, 0))),
            Ok(true) => {
                let finished = rolling.take().map_or(Ok((0, 0)), |job| self.finish_rollup(job));
                self.metrics.rollups.count(finished).map(Some)
            }
            Err(error) => {
                if let Some(job) = rolling.take() {
                    self.remove_file(&job.path);
                }
                self.metrics.rollups.count(Err(error))
            }
        }
    }

    fn choose_rollup(&self, blocks: &Blocks, policy: &RetentionPolicy, extent: Extent, now_ms: i64) -> Option<Plan> {
        let tiers = || [Tier::FiveMinutes, Tier::OneHour].into_iter().filter(|tier| policy.has(*tier));
        let missing = || tiers().find_map(|tier| self.missing(blocks, policy, tier, extent, now_ms));
        let hidden = || {
            let is_wanted = |block: &&Arc<LiveBlock>| match extent {
                Extent::Due => hides_much(block, now_ms),
                Extent::All | Extent::Hidden => hides_something(block, now_ms),
            };
            tiers().find_map(|tier| blocks.of(tier).find(is_wanted).map(|block| rewritten(block)))
        };
        if extent == Extent::Hidden { hidden() } else { missing().or_else(hidden) }
    }

    /// The oldest window of a tier of which something is to be made.
    fn missing(
        &self,
        blocks: &Blocks,
        policy: &RetentionPolicy,
        tier: Tier,
        extent: Extent,
        now_ms: i64,
    ) -> Option<Plan> {
        let (source, hour_ms) = (source_of(tier, policy), Tier::OneHour.width_ms());
        let late_ms = if extent == Extent::All { 0 } else { millis(self.options.block_range) / 2 };
        let limit = now_ms.saturating_sub(late_ms).div_euclid(hour_ms).saturating_mul(hour_ms);
        let clean = blocks.rolled().of(tier).clean();
        let mut wanted = Spans::default();
        for footer in blocks.of(source).map(|block| block.footer()).filter(|footer| footer.samples > 0) {
            let (start, end) = whole_hours(footer.min_time_ms, footer.max_time_ms);
            wanted.add(start, end.min(limit));
        }
        if source == Tier::FiveMinutes {
            wanted = wanted.and(&blocks.rolled().of(source).clean());
        }
        let oldest_ms = policy.oldest_ms(tier, now_ms).saturating_sub(1);
        let wanted = wanted.without(&clean).without(blocks.rolled().gone(tier)).within(oldest_ms, limit);
        let wanted = wanted.without(&blocks.rolled().stood_for(source, tier));
        let keep_ms = policy.shortest(source).map_or(i64::MAX, millis);
        // What is about to go for its size waits for it.
        let pressed_ms = self.waiting_until_ms(source, policy, now_ms);
        let mut at = wanted.iter().next().map(|(start, _)| start)?;
        loop {
            let window = window_of(tier, at.saturating_add(1));
            let hours = wanted.within(window.0, window.1);
            let first = hours.iter().next().map_or(i64::MAX, |(start, _)| start);
            let is_over = window.1.saturating_add(late_ms) <= now_ms;
            let is_pressing = first.saturating_add(hour_ms) <= now_ms.saturating_sub(keep_ms / KEEP_SHARE)
                || pressed_ms.is_some_and(|until_ms| first < until_ms);
            if extent == Extent::All || is_over || is_pressing {
                let in_the_way = |block: &&Arc<LiveBlock>| block.tombstones() > 0 && reaches(block, window);
                return Some(match blocks.of(source).find(in_the_way).filter(|_| source != Tier::Raw) {
                    // What was deleted of it first goes there.
                    Some(block) => rewritten(block),
                    None => Plan { tier, window, hours },
                });
            }
            at = wanted.within(window.1, i64::MAX).iter().next().map(|(start, _)| start)?;
        }
    }

    fn begin_rollup(
        &self,
        plan: Plan,
        blocks: &Blocks,
        policy: Arc<RetentionPolicy>,
        deletes: u64,
        now_ms: i64,
    ) -> Result<Option<RollupJob>, StorageError> {
        let source = source_of(plan.tier, &policy);
        let of_tier = |tier: Tier| blocks.of(tier).filter(|block| reaches(block, plan.window));
        let chosen: Vec<&Arc<LiveBlock>> = of_tier(source).chain(of_tier(plan.tier)).collect();
        let bytes: u64 = chosen.iter().map(|block| block.bytes()).sum();
        let space = self.fs.space(&self.dir).map_err(io_error(&self.dir, "asking for room to roll up"))?;
        if space.available <= bytes {
            tracing::debug!(bytes, available = space.available, "there is no room to roll up");
            return Ok(None);
        }
        let (mut inputs, mut metadata) = (Vec::with_capacity(chosen.len()), BTreeMap::new());
        for block in chosen {
            let read = |error: SelectError| io_error(block.path(), "reading a block")(std::io::Error::other(error));
            for (family, versions) in block.metadata().map_err(read)? {
                let kept = metadata.entry(family).or_insert_with(Vec::new);
                versions.iter().rev().for_each(|version| remember_metadata(kept, version));
            }
            let hides = block.deleted(i64::MIN, i64::MAX).map_err(read)?;
            inputs.push(Input { scan: Scan::new(Arc::clone(block.block())), tier: block.tier(), hides });
        }
        let sequence = blocks.of(Tier::Raw).map(|block| block.footer().sequence).max().unwrap_or(0);
        let (id, path) = self.next_block();
        let range_ms = millis(self.options.block_range);
        let shape = Shape { range_ms, chunk_samples: usize::MAX / 2, effort: Effort::Small, tier: plan.tier };
        let writer =
            BlockWriter::create(&*self.fs, &path, id, shape).map_err(io_error(&path, "writing a block of rollups"))?;
        let rolled = Arc::clone(blocks.rolled());
        Ok(Some(RollupJob {
            stands: Stands::of(&policy, &rolled),
            worked: Duration::ZERO,
            tally: Tally::default(),
            touched: Spans::default(),
            plan,
            inputs,
            policy,
            now_ms,
            rolled,
            deletes,
            sequence,
            writer,
            path,
            metadata,
        }))
    }

    fn finish_rollup(&self, job: RollupJob) -> Result<(u64, u64), StorageError> {
        let began = self.options.clock.monotonic();
        let RollupJob { plan, writer, path, .. } = job;
        let metadata: Vec<_> = job.metadata.into_iter().collect();
        let written = writer.finish(&metadata).map_err(io_error(&path, "writing a block of rollups"));
        let opened = written.and_then(|written| {
            let open = || Block::open(&*self.fs, &path, &self.options.budget, &self.cache);
            (written.series > 0).then(open).transpose()
        });
        let made = opened.inspect_err(|_| self.remove_file(&path))?;
        if made.is_none() {
            self.remove_file(&path);
        }
        let bytes_after = made.as_ref().map_or(0, Block::bytes);
        let dir = self.dir.join("blocks");
        self.fs.sync_dir(&dir).map_err(io_error(&dir, "syncing the directory of blocks"))?;

        let old: Vec<&Arc<Block>> =
            job.inputs.iter().filter(|input| input.tier == plan.tier).map(|input| input.scan.block()).collect();
        let is_old = |block: &LiveBlock| old.iter().any(|old| Arc::ptr_eq(old, block.block()));
        let mut manifest = self.manifest();
        let blocks = self.blocks();
        let mut list: Vec<Arc<LiveBlock>> = blocks.list().iter().filter(|block| !is_old(block)).cloned().collect();
        list.extend(made.map(|block| Arc::new(LiveBlock::new(block, job.deletes))));
        let mut next = Manifest { blocks: list.iter().map(|b| BlockEntry::of(b)).collect(), ..manifest.clone() };
        let made_of = source_of(plan.tier, &job.policy);
        // What went meanwhile, and is in it.
        let unrolled = self.unrolled.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = unrolled[usize::from(made_of != Tier::Raw)].and(&plan.hours);
        drop(unrolled);
        next.rolled.made_of_gone(made_of, &gone);
        let of_tier = next.rolled.of_mut(plan.tier);
        of_tier.built.add_all(&plan.hours);
        plan.hours.iter().for_each(|(start, end)| of_tier.dirty.remove(start, end));
        if plan.tier == Tier::OneHour {
            // Buckets that a delete took, and that there was nothing yet to make anew from.
            let stale = job.touched.without(&job.rolled.of(Tier::FiveMinutes).clean()).and(&of_tier.built);
            of_tier.dirty.add_all(&stale);
        } else {
            let coarse = next.rolled.of_mut(Tier::OneHour);
            coarse.dirty.add_all(&plan.hours.and(&coarse.built));
        }
        // What was flushed meanwhile is not in it.
        for footer in blocks.of(Tier::Raw).map(|block| block.footer()).filter(|footer| footer.sequence > job.sequence) {
            next.rolled.touch(footer.min_time_ms, footer.max_time_ms);
        }
        self.publish(&mut manifest, next)?;
        {
            let _head = self.head.write();
            self.set_blocks_and(list, Arc::new(manifest.rolled.clone()));
        }
        drop(manifest);
        let bytes_before: u64 = old.iter().map(|block| block.bytes()).sum();
        old.iter().for_each(|block| self.remove_file(block.path()));
        let took = job.worked + self.options.clock.monotonic().saturating_sub(began);
        let metrics = &self.metrics.rollup;
        metrics.duration.record(took.as_secs_f64());
        metrics.samples.add(job.tally.samples);
        metrics.buckets.add(job.tally.buckets);
        metrics.written_bytes.add(bytes_after);
        Ok((old.len() as u64, bytes_before.saturating_sub(bytes_after)))
    }
}

/// A block of rollups, written anew without what is hidden in it.
fn rewritten(block: &LiveBlock) -> Plan {
    let tier = block.tier();
    Plan { tier, window: window_of(tier, block.footer().max_time_ms), hours: Spans::default() }
}

/// Whether a block has something in a window.
fn reaches(block: &LiveBlock, window: (i64, i64)) -> bool {
    let footer = block.footer();
    footer.samples > 0 && footer.max_time_ms > window.0 && footer.min_time_ms <= window.1
}

impl BySeries for RollupJob {
    fn bytes(&self) -> u64 {
        self.writer.bytes()
    }

    fn next_series(&mut self) -> Result<bool, StorageError> {
        let path = self.path.clone();
        let read = |error: SelectError| {
            io_error(&path, "rolling up")(std::io::Error::new(std::io::ErrorKind::InvalidData, error.to_string()))
        };
        let mut next: Option<Labels> = None;
        for input in &mut self.inputs {
            if let Some(labels) = input.scan.labels().map_err(read)?
                && next.as_ref().is_none_or(|next| labels < next)
            {
                next = Some(labels.clone());
            }
        }
        let Some(labels) = next else { return Ok(false) };
        let rows = self.rows_of(&labels).map_err(read)?;
        if !rows.times.is_empty() {
            self.tally.buckets += rows.times.len() as u64;
            self.writer.series(&labels);
            rows::write(&rows, &mut self.writer).map_err(io_error(&path, "writing a block of rollups"))?;
        }
        Ok(true)
    }
}

impl RollupJob {
    /// The rows of a series in the window.
    fn rows_of(&mut self, labels: &Labels) -> Result<Columns, SelectError> {
        let (start, end) = self.plan.window;
        let mut taken: Vec<Taken> = Vec::new();
        for (number, input) in self.inputs.iter_mut().enumerate() {
            if input.scan.labels()? != Some(labels) {
                continue;
            }
            let mut one = Taken { input: number, hidden: input.hides.of(input.scan.number()), ..Taken::default() };
            // Of samples only those in the window are read; a group of figures is read as a whole.
            let within = if input.tier == Tier::Raw { (start, end) } else { (i64::MIN, i64::MAX) };
            input.scan.take_within(within, &mut one.chunks, &mut one.payloads)?;
            taken.push(one);
        }
        let mut layers = Layers::default();
        let mut touched = [Spans::default(), Spans::default()];
        for tier in [Tier::FiveMinutes, Tier::OneHour] {
            let mut of_tier: Vec<&Taken> = taken.iter().filter(|one| self.inputs[one.input].tier == tier).collect();
            of_tier.sort_by_key(|one| one.chunks.first().map(|(chunk, _)| chunk.min_time_ms));
            for one in of_tier {
                let block = self.inputs[one.input].scan.block();
                let place = || format!("{}: rollups of {labels}", block.path().display());
                let chunks: Vec<ChunkRef> = one.chunks.iter().map(|(chunk, _)| *chunk).collect();
                let at_hand = AtHand { block, taken: one };
                match &one.hidden {
                    None => rows::read(&chunks, tier, Figures::ALL, &at_hand, &place, layers.stored(tier))?,
                    Some(hidden) => {
                        let mut all = Columns::default();
                        rows::read(&chunks, tier, Figures::ALL, &at_hand, &place, &mut all)?;
                        append_shown(&all, tier, hidden, layers.stored(tier));
                        touched[usize::from(tier == Tier::OneHour)].add_all(&hours_of(hidden));
                    }
                }
            }
        }
        let mut runs: Vec<Run<'_>> = Vec::new();
        let mut by_precedence: Vec<&Taken> =
            taken.iter().filter(|one| self.inputs[one.input].tier == Tier::Raw).collect();
        by_precedence.sort_by_key(|one| self.inputs[one.input].scan.block().footer().sequence);
        for one in by_precedence {
            let block = self.inputs[one.input].scan.block();
            runs.extend(one.chunks.iter().enumerate().map(|(number, (chunk, _))| Run {
                min_time_ms: chunk.min_time_ms,
                max_time_ms: chunk.max_time_ms,
                source: Source::Payload(block, chunk, one.payload(number)),
                hidden: one.hidden.as_ref(),
            }));
        }
        merge(&mut runs, start, end, &mut layers.raw, || Ok(()))?;
        self.tally.samples += layers.raw.times.len() as u64;

        let borders = Borders::of(&self.policy, labels.as_ref(), self.now_ms);
        let [fine, coarse] = &touched;
        layers.settle(&self.rolled, [fine, coarse], borders, &self.stands);
        let tier = self.plan.tier;
        let mine = &touched[usize::from(tier == Tier::OneHour)];
        let built = self.rolled.of(tier).built.within(start, end);
        let mut anew = self.plan.hours.clone();
        anew.add_all(&mine.and(&built));
        self.touched.add_all(&mine.within(start, end));
        let mut kept = built;
        kept.add_all(&self.plan.hours);
        let oldest_ms = match tier {
            Tier::OneHour => borders.one_hour,
            _ => borders.five_minutes,
        };
        let mut rows = Columns::default();
        for (start, end) in kept.within(oldest_ms, i64::MAX).iter() {
            for (start, end, is_anew) in anew.pieces(start, end) {
                if is_anew {
                    layers.rows(tier, start, end, &mut rows);
                } else {
                    append_rows(layers.stored(tier), start, end, &mut rows);
                }
            }
        }
        Ok(rows)
    }
}
