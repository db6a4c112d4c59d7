//! Merging: few long blocks out of many short ones, written for size.
//!
//! Parts pile up within a block range; when four neighbours of about one size are there they become one, still by the
//! cheap encoders. Once a longer window of the time axis is closed, what lies within it becomes one block for which
//! encoding is not spared; chunks that are written so already and need no new cut are taken over as they are. A window of
//! which the head still holds so much that it would be merged again waits for the flush.
//!
//! The result carries the highest sequence of its inputs, which is right only if no other block that overlaps it in
//! time has a sequence between those of its inputs; a set for which that does not hold is left alone.
//!
//! A merge goes on from step to step and touches nothing but its own file until it is whole; a crash leaves that file,
//! which the next opening removes.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use kymo_core::batch::{Exemplar, Metadata};
use kymo_core::memory::EXEMPLARS_PER_SERIES_MAX;
use kymo_core::storage::{Columns, Tier};
use kymo_core::{Labels, SelectError};

use crate::block::{Block, BlockWriter, ChunkRef, Pieces, Scan, Shape};
use crate::blocks::LiveBlock;
use crate::chunk::Effort;
use crate::engine::{Engine, millis};
use crate::error::{StorageError, io_error};
use crate::flush::PART_CHUNK_SAMPLES;
use crate::hidden::{Hidden, Hides};
use crate::maintain::{MaintainLimit, Next};
use crate::manifest::{BlockEntry, Manifest};
use crate::merge::{Run, Source, merge};

/// Windows in multiples of the block range in which closed time is merged.
const WINDOWS: [i64; 3] = [4, 12, 84];
/// A window is at most this part of the retention, so that little is kept beyond it.
const WINDOWS_PER_RETENTION: i64 = 10;
/// Parts of about one size that are worth merging while their window is open.
const PARTS: usize = 4;
/// Below this all parts are of one size.
const SMALL_BYTES: u64 = 256 << 10;
/// A closed window is merged again once what came late is this part of it.
const LATE_SHARE: u64 = 8;
/// Samples of a chunk of a merged block: twice a part's take a tenth less, and are read in pages.
const MERGED_CHUNK_SAMPLES: usize = 960;
/// Series of which the samples are counted while the head is locked.
const COUNTED_AT_ONCE: u32 = 1_024;
/// How often a lane with nothing to do looks again.
const LOOK_AGAIN_MS: i64 = 10_000;
/// A merge rests this many times as long as it worked, so that it takes a part of one core only.
const REST: u32 = 1;

/// Samples hidden by deletes for which a block is rewritten: one in so many.
const HIDDEN_SHARE: u64 = 20;
/// Tombstones of a block for which it is rewritten, however little they hide.
const PENDING_MAX: usize = 32;

/// What is to be merged, and how.
#[derive(Debug)]
struct Plan {
    inputs: Vec<Arc<LiveBlock>>,
    effort: Effort,
    /// The last delete that what is hidden in the inputs goes by.
    deletes: u64,
    /// The time that what is too old in them goes by.
    now_ms: i64,
}

/// How much is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What is worth it.
    Due,
    /// All that can be, as if time were over.
    All,
    /// What holds something deleted.
    Hidden,
}

/// What a step of merging did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// There is nothing to merge.
    Nothing,
    /// A merge goes on.
    Working,
    /// A merge is done, by which blocks have shrunk.
    Done(CleanReport),
}

/// What cleaning gave back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CleanReport {
    /// Blocks that were written anew, or went.
    pub blocks: u64,
    /// Bytes by which they are smaller together.
    pub bytes: u64,
}

/// A merge under way.
pub(crate) struct MergeJob {
    inputs: Vec<Scan>,
    /// What is hidden in each of them.
    hides: Vec<Hides>,
    /// The last delete that goes by.
    deletes: u64,
    writer: BlockWriter,
    effort: Effort,
    path: PathBuf,
    /// Time it took so far, rests left out.
    worked: Duration,
    exemplars: BTreeMap<Labels, Vec<Exemplar>>,
    metadata: BTreeMap<String, Vec<Metadata>>,
    scratch: Scratch,
}

/// Buffers of merging one series.
#[derive(Default)]
struct Scratch {
    /// Per input that has the series: which, and where its chunks begin.
    of_input: Vec<(usize, usize)>,
    /// What is hidden of the series in each of those.
    hidden: Vec<Option<Hidden>>,
    /// Chunks, and where the payload of each ends.
    chunks: Vec<(ChunkRef, usize)>,
    payloads: Vec<u8>,
    times: Vec<i64>,
    columns: Columns,
}

/// What one call may do.
pub(crate) struct Allowance {
    pub(crate) until: Option<Duration>,
    pub(crate) bytes: u64,
}

/// Work that writes a block series by series, over as many calls as it takes.
pub(crate) trait BySeries {
    /// Bytes written so far.
    fn bytes(&self) -> u64;

    /// Writes the next series; `false` when there is none left.
    fn next_series(&mut self) -> Result<bool, StorageError>;

    /// Goes on until all series are done (`true`) or the allowance is used up.
    fn go_on(&mut self, engine: &Engine, allowance: &Allowance) -> Result<bool, StorageError> {
        let until = self.bytes().saturating_add(allowance.bytes);
        loop {
            if !self.next_series()? {
                return Ok(true);
            }
            let is_late = allowance.until.is_some_and(|until| engine.options.clock.monotonic() >= until);
            if is_late || self.bytes() >= until {
                return Ok(false);
            }
        }
    }
}

impl Engine {
    pub(crate) fn merge_step(&self, limit: MaintainLimit) -> Result<Next, StorageError> {
        let began = self.options.clock.monotonic();
        let allowance = Allowance { until: Some(began + limit.time), bytes: limit.bytes };
        if self.tend_some(&allowance, Extent::Due, self.options.clock.now_ms())? == Step::Nothing {
            return Ok(Next::At(self.options.clock.now_ms().saturating_add(LOOK_AGAIN_MS)));
        }
        let rest = self.options.clock.monotonic().saturating_sub(began) * REST;
        self.metrics.merge.rests.add_f64(rest.as_secs_f64());
        Ok(match millis(rest) {
            0 => Next::Now,
            rest => Next::At(self.options.clock.now_ms().saturating_add(rest)),
        })
    }

    /// Moves the head into blocks and merges all blocks as far as they ever will be, also those of time that is not over.
    ///
    /// Appends and queries go on meanwhile. `goes_on` is asked between steps of a few milliseconds to seconds; work that it
    /// ends is taken up by the next merge.
    ///
    /// # Errors
    /// The disk's. Nothing is lost by a failure; it can be tried again.
    pub fn compact(&self, mut goes_on: impl FnMut() -> bool) -> Result<(), StorageError> {
        self.flush()?;
        let allowance = Allowance { until: None, bytes: MaintainLimit::default().bytes };
        // What gets too old meanwhile would keep it from ever ending.
        let now_ms = self.options.clock.now_ms();
        while goes_on() && self.tend_some(&allowance, Extent::All, now_ms)? != Step::Nothing {}
        Ok(())
    }

    /// Moves what is in memory and the log into compressed blocks, and merges these. The name is the one this was asked for
    /// by; a server does the same bit by bit in [`maintain`](Self::maintain).
    ///
    /// # Errors
    /// As [`compact`](Self::compact).
    pub fn compress_cold(&self) -> Result<(), StorageError> {
        self.compact(|| true)
    }

    /// Gives the bytes of deleted samples back, and of those that are too old for their series: moves the head into blocks,
    /// which frees the log, and writes the blocks that hold such anew without them. Without this the merge lane does it, once it is worth it.
    ///
    /// Appends and queries go on meanwhile; `goes_on` as in [`compact`](Self::compact).
    ///
    /// # Errors
    /// The disk's. Nothing is lost by a failure; it can be tried again.
    pub fn clean_tombstones(&self, mut goes_on: impl FnMut() -> bool) -> Result<CleanReport, StorageError> {
        self.flush()?;
        let allowance = Allowance { until: None, bytes: MaintainLimit::default().bytes };
        let (mut report, now_ms) = (CleanReport::default(), self.options.clock.now_ms());
        while goes_on() {
            match self.tend_some(&allowance, Extent::Hidden, now_ms)? {
                Step::Nothing => break,
                Step::Working => {}
                Step::Done(done) => {
                    report.blocks += done.blocks;
                    report.bytes += done.bytes;
                }
            }
        }
        Ok(report)
    }

    /// Merges, and where nothing is to be merged rolls up.
    fn tend_some(&self, allowance: &Allowance, extent: Extent, now_ms: i64) -> Result<Step, StorageError> {
        match self.merge_some(allowance, extent, now_ms)? {
            Step::Nothing => {}
            step => return Ok(step),
        }
        Ok(match self.roll_some(allowance, extent, now_ms)? {
            None => Step::Nothing,
            Some((0, 0)) => Step::Working,
            Some((blocks, bytes)) => Step::Done(CleanReport { blocks, bytes }),
        })
    }

    /// Begins a merge or goes on with one.
    fn merge_some(&self, allowance: &Allowance, extent: Extent, now_ms: i64) -> Result<Step, StorageError> {
        let mut merging = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        // What retention has taken since needs no merging.
        if let Some(job) = merging.take_if(|job| !self.are_live(&job.inputs)) {
            self.remove_file(&job.path);
        }
        if merging.is_none() {
            self.settle_tombstones();
            let (blocks, deletes) = {
                // While it is locked no delete is applied, so that the blocks hide just those up to that one.
                let _head = self.head.read();
                (self.blocks(), self.tombstones().applied())
            };
            let samples: Vec<Arc<LiveBlock>> = blocks.of(Tier::Raw).cloned().collect();
            // What is too old is left out once it is rolled up.
            let hidden_ms = if self.rollups_lag(&blocks, now_ms) { i64::MIN } else { now_ms };
            let space = self.fs.space(&self.dir).map_err(io_error(&self.dir, "asking for room to merge"))?;
            let Some(plan) = self.choose(&samples, deletes, (extent, space.available), (now_ms, hidden_ms)) else {
                return Ok(Step::Nothing);
            };
            *merging = Some(self.begin_merge(plan)?);
        }
        let Some(job) = merging.as_mut() else { return Ok(Step::Nothing) };
        let began = self.options.clock.monotonic();
        let outcome = job.go_on(self, allowance);
        job.worked += self.options.clock.monotonic().saturating_sub(began);
        match outcome {
            Ok(false) => Ok(Step::Working),
            Ok(true) => {
                let job = merging.take();
                let finished = job.map_or(Ok(CleanReport::default()), |job| self.finish_merge(job));
                self.metrics.merges.count(finished).map(Step::Done)
            }
            Err(error) => {
                if let Some(job) = merging.take() {
                    self.remove_file(&job.path);
                }
                self.metrics.merges.count(Err(error))
            }
        }
    }

    fn are_live(&self, inputs: &[Scan]) -> bool {
        let blocks = self.blocks();
        inputs.iter().all(|input| blocks.list().iter().any(|block| Arc::ptr_eq(block.block(), input.block())))
    }

    fn begin_merge(&self, mut plan: Plan) -> Result<MergeJob, StorageError> {
        // Of samples at one time the later wins, and of metadata the later is newer.
        plan.inputs.sort_by_key(|block| block.footer().sequence);
        let now_ms = plan.now_ms;
        let (_, path) = self.next_block();
        let sequence = plan.inputs.iter().map(|block| block.footer().sequence).max().unwrap_or(0);
        let chunk_samples = match plan.effort {
            Effort::Fast => PART_CHUNK_SAMPLES,
            Effort::Small => MERGED_CHUNK_SAMPLES,
        };
        let shape =
            Shape { range_ms: millis(self.options.block_range), chunk_samples, effort: plan.effort, tier: Tier::Raw };
        let (mut exemplars, mut metadata) = (BTreeMap::<Labels, Vec<Exemplar>>::new(), BTreeMap::new());
        let mut hides = Vec::with_capacity(plan.inputs.len());
        for block in &plan.inputs {
            let read = |error: SelectError| io_error(block.path(), "reading a block")(std::io::Error::other(error));
            let hidden_here = block.hides(i64::MIN, i64::MAX, now_ms).map_err(read)?;
            for (series, mut found) in block.exemplars().map_err(read)? {
                if let Some(hidden) = hidden_here.of(series) {
                    found.retain(|exemplar| !hidden.contains(exemplar.time_ms));
                }
                if found.is_empty() {
                    continue;
                }
                let labels = block.labels(series).map_err(read)?;
                let kept = exemplars.entry(labels).or_default();
                kept.extend(found);
                kept.sort_by_key(|e| e.time_ms);
                kept.dedup();
                let surplus = kept.len().saturating_sub(EXEMPLARS_PER_SERIES_MAX);
                kept.drain(..surplus);
            }
            for (family, versions) in block.metadata().map_err(read)? {
                let kept = metadata.entry(family).or_insert_with(Vec::new);
                versions.iter().rev().for_each(|version| kymo_core::memory::remember_metadata(kept, version));
            }
            hides.push(hidden_here);
        }
        let writer = BlockWriter::create(&*self.fs, &path, sequence, shape)
            .map_err(io_error(&path, "writing a merged block"))?;
        let inputs = plan.inputs.iter().map(|block| Scan::new(Arc::clone(block.block()))).collect();
        let (scratch, effort, deletes) = (Scratch::default(), plan.effort, plan.deletes);
        let worked = Duration::ZERO;
        Ok(MergeJob { inputs, hides, deletes, writer, effort, path, worked, exemplars, metadata, scratch })
    }

    /// Completes the file and lets it take the place of the blocks it was made of.
    fn finish_merge(&self, job: MergeJob) -> Result<CleanReport, StorageError> {
        let began = self.options.clock.monotonic();
        let MergeJob { inputs, writer, path, metadata, deletes, worked, .. } = job;
        let metadata: Vec<_> = metadata.into_iter().collect();
        let written = writer.finish(&metadata).map_err(io_error(&path, "writing a merged block"));
        let opened = written.and_then(|written| {
            let is_empty = written.series == 0 && metadata.is_empty();
            let open = || Block::open(&*self.fs, &path, &self.options.budget, &self.cache);
            (!is_empty).then(open).transpose()
        });
        let merged = opened.inspect_err(|_| self.remove_file(&path))?;
        if merged.is_none() {
            self.remove_file(&path);
        }
        let bytes_before: u64 = inputs.iter().map(|input| input.block().bytes()).sum();
        let bytes_after = merged.as_ref().map_or(0, Block::bytes);
        let bytes = bytes_before.saturating_sub(bytes_after);
        let dir = self.dir.join("blocks");
        self.fs.sync_dir(&dir).map_err(io_error(&dir, "syncing the directory of blocks"))?;

        let is_input = |block: &LiveBlock| inputs.iter().any(|input| Arc::ptr_eq(input.block(), block.block()));
        let mut manifest = self.manifest();
        // Retention may have taken an input meanwhile; what it retired is hidden by age anyway.
        let mut list: Vec<Arc<LiveBlock>> = self.blocks().list().iter().filter(|b| !is_input(b)).cloned().collect();
        list.extend(merged.map(|block| Arc::new(LiveBlock::new(block, deletes))));
        let next = Manifest { blocks: list.iter().map(|b| BlockEntry::of(b)).collect(), ..manifest.clone() };
        self.publish(&mut manifest, next)?;
        self.swap_blocks(list);
        inputs.iter().for_each(|input| self.remove_file(input.block().path()));
        let took = worked + self.options.clock.monotonic().saturating_sub(began);
        let metrics = &self.metrics.merge;
        metrics.duration.record(took.as_secs_f64());
        metrics.blocks.add(inputs.len() as u64);
        metrics.read_bytes.add(bytes_before);
        metrics.written_bytes.add(bytes_after);
        Ok(CleanReport { blocks: inputs.len() as u64, bytes })
    }

    /// Forgets tombstones in blocks of which they hide nothing.
    fn settle_tombstones(&self) {
        let settled = |block: &Arc<LiveBlock>| match block.settled() {
            Ok(settled) => settled.map(|settled| (Arc::clone(block), settled)),
            Err(error) => {
                tracing::warn!(%error, "a block cannot be asked what deletes hide in it");
                None
            }
        };
        let settled: Vec<_> = self.blocks().list().iter().filter_map(settled).collect();
        if settled.is_empty() {
            return;
        }
        let _manifest = self.manifest();
        let _head = self.head.write();
        let mut list = self.blocks().list().to_vec();
        for block in &mut list {
            if let Some((_, settled)) = settled.iter().find(|(before, _)| Arc::ptr_eq(before, block)) {
                *block = Arc::clone(settled);
            }
        }
        self.set_blocks(list);
    }

    /// Samples in the head by multiples of a width.
    fn head_by_time(&self, width_ms: i64) -> BTreeMap<i64, u64> {
        let (mut counts, mut begin) = (BTreeMap::new(), 0_u32);
        loop {
            // Appends go on in between.
            let head = self.head.read();
            let end = head.numbers_end().min(begin.saturating_add(COUNTED_AT_ONCE));
            if begin >= end {
                return counts;
            }
            head.count_by_time(begin..end, width_ms, &mut counts);
            begin = end;
        }
    }

    /// What to merge next, of what there is room for.
    fn choose(
        &self,
        blocks: &[Arc<LiveBlock>],
        deletes: u64,
        (extent, room): (Extent, u64),
        (now_ms, hidden_ms): (i64, i64),
    ) -> Option<Plan> {
        let everything = extent == Extent::All;
        let may_merge = |inputs: &[Arc<LiveBlock>]| may_merge(inputs, blocks) && has_room(inputs, room);
        let hidden = || {
            let is_wanted = |block: &&Arc<LiveBlock>| match extent {
                Extent::Due => hides_much(block, hidden_ms),
                Extent::All | Extent::Hidden => hides_something(block, hidden_ms),
            };
            let found = blocks.iter().find(|block| is_wanted(block) && has_room(std::slice::from_ref(block), room))?;
            let inputs = vec![Arc::clone(found)];
            let effort = if inputs[0].footer().level > 0 { Effort::Small } else { Effort::Fast };
            Some(Plan { inputs, effort, deletes, now_ms: hidden_ms })
        };
        if extent == Extent::Hidden {
            return hidden();
        }
        let range_ms = millis(self.options.block_range).max(1);
        let longest_ms =
            self.retention().longest(Tier::Raw).map_or(i64::MAX, |keep| millis(keep) / WINDOWS_PER_RETENTION);
        let windows = || {
            let fitting = WINDOWS.iter().map(|n| range_ms.saturating_mul(*n)).filter(|window| *window <= longest_ms);
            let mut fitting: Vec<i64> = fitting.collect();
            if fitting.is_empty() {
                fitting.push(range_ms);
            }
            if everything {
                // The longest takes in what lies in the shorter ones.
                fitting.reverse();
            }
            fitting
        };
        let in_head = OnceCell::new();
        // Whether so much of a window is still in the head that the window would be merged again.
        let waits = |(start, end): (i64, i64), inputs: &[Arc<LiveBlock>]| {
            let in_head = in_head.get_or_init(|| self.head_by_time(range_ms));
            let to_come: u64 =
                in_head.range(start.div_euclid(range_ms)..end.div_euclid(range_ms)).map(|(_, n)| n).sum();
            let there: u64 = inputs.iter().map(|block| block.footer().samples).sum();
            to_come > 0 && to_come.saturating_mul(LATE_SHARE) >= there
        };
        let closed = windows().into_iter().find_map(|window| {
            // Half a range is left to what comes late.
            let is_over = |n: i64| {
                let end = n.saturating_add(1).saturating_mul(window);
                everything || end.saturating_add(range_ms / 2) <= now_ms
            };
            let bounds = |n: i64| (n.saturating_mul(window), n.saturating_add(1).saturating_mul(window));
            let mut over = by_window(blocks, window).into_iter().filter(|(n, _)| is_over(*n));
            let worth = over.find(|(n, inputs)| match everything {
                true => needs_merging(inputs) && may_merge(inputs),
                false => is_worth_merging(inputs) && may_merge(inputs) && !waits(bounds(*n), inputs),
            });
            worth.map(|(_, inputs)| Plan { inputs, effort: Effort::Small, deletes, now_ms: hidden_ms })
        });
        let open = || {
            by_window(blocks, range_ms).into_values().find_map(|inputs| {
                let inputs = alike(inputs)?;
                may_merge(&inputs).then_some(Plan { inputs, effort: Effort::Fast, deletes, now_ms: hidden_ms })
            })
        };
        if everything { closed.or_else(hidden) } else { open().or(closed).or_else(hidden) }
    }
}

impl BySeries for MergeJob {
    fn bytes(&self) -> u64 {
        self.writer.bytes()
    }

    fn next_series(&mut self) -> Result<bool, StorageError> {
        let MergeJob { inputs, hides, writer, path, exemplars, scratch, effort, .. } = self;
        let read = |error: SelectError| {
            io_error(path, "merging blocks")(std::io::Error::new(std::io::ErrorKind::InvalidData, error.to_string()))
        };
        let mut next: Option<Labels> = None;
        for input in inputs.iter_mut() {
            if let Some(labels) = input.labels().map_err(read)?
                && next.as_ref().is_none_or(|next| labels < next)
            {
                next = Some(labels.clone());
            }
        }
        let Some(labels) = next else { return Ok(false) };
        scratch.of_input.clear();
        scratch.hidden.clear();
        scratch.chunks.clear();
        scratch.payloads.clear();
        for (number, input) in inputs.iter_mut().enumerate() {
            if input.labels().map_err(read)? == Some(&labels) {
                scratch.of_input.push((number, scratch.chunks.len()));
                scratch.hidden.push(hides[number].of(input.number()));
                input.take(&mut scratch.chunks, &mut scratch.payloads).map_err(read)?;
            }
        }
        let exemplars = exemplars.get(&labels).map_or(&[][..], Vec::as_slice);
        if scratch.chunks.is_empty() && exemplars.is_empty() {
            return Ok(true);
        }
        let failed = |error: WriteError| match error {
            WriteError::Read(error) => read(error),
            WriteError::Write(error) => io_error(path, "writing a merged block")(error),
        };
        if scratch.hides_something() {
            let shown = scratch.shown(inputs).map_err(read)?;
            if !shown.times.is_empty() || !exemplars.is_empty() {
                writer.series(&labels);
                writer.samples(shown).map_err(|error| failed(error.into()))?;
                writer.exemplars(exemplars);
            }
            return Ok(true);
        }
        writer.series(&labels);
        scratch.write(inputs, writer, *effort).map_err(failed)?;
        writer.exemplars(exemplars);
        Ok(true)
    }
}

enum WriteError {
    Read(SelectError),
    Write(std::io::Error),
}

impl From<SelectError> for WriteError {
    fn from(error: SelectError) -> WriteError {
        WriteError::Read(error)
    }
}

impl From<std::io::Error> for WriteError {
    fn from(error: std::io::Error) -> WriteError {
        WriteError::Write(error)
    }
}

impl Scratch {
    fn payload(&self, chunk: usize) -> &[u8] {
        let begin = chunk.checked_sub(1).map_or(0, |before| self.chunks[before].1);
        &self.payloads[begin..self.chunks[chunk].1]
    }

    /// Which of the inputs that have the series a chunk comes from.
    fn position(&self, chunk: usize) -> usize {
        self.of_input.partition_point(|(_, begin)| *begin <= chunk).saturating_sub(1)
    }

    /// The input that a chunk comes from.
    fn input<'a>(&self, chunk: usize, inputs: &'a [Scan]) -> &'a Arc<Block> {
        inputs[self.of_input[self.position(chunk)].0].block()
    }

    fn hidden(&self, chunk: usize) -> Option<&Hidden> {
        self.hidden[self.position(chunk)].as_ref()
    }

    fn hides_something(&self) -> bool {
        let meets = |n: usize| {
            let chunk = &self.chunks[n].0;
            self.hidden(n).is_some_and(|hidden| hidden.meets(chunk.min_time_ms, chunk.max_time_ms))
        };
        self.hidden.iter().any(Option::is_some) && (0..self.chunks.len()).any(meets)
    }

    /// What is shown of the series.
    fn shown(&mut self, inputs: &[Scan]) -> Result<&Columns, SelectError> {
        let mut columns = std::mem::take(&mut self.columns);
        columns.clear();
        let decoded = self.decode(inputs, &mut columns);
        self.columns = columns;
        decoded.map(|()| &self.columns)
    }

    fn write(&mut self, inputs: &[Scan], writer: &mut BlockWriter, effort: Effort) -> Result<(), WriteError> {
        let mut columns = std::mem::take(&mut self.columns);
        let mut times = std::mem::take(&mut self.times);
        columns.clear();
        times.clear();
        let written = self.write_with(inputs, writer, effort, &mut columns, &mut times);
        (self.columns, self.times) = (columns, times);
        written
    }

    fn write_with(
        &self,
        inputs: &[Scan],
        writer: &mut BlockWriter,
        effort: Effort,
        columns: &mut Columns,
        times: &mut Vec<i64>,
    ) -> Result<(), WriteError> {
        let mut order: Vec<usize> = (0..self.chunks.len()).collect();
        order.sort_by_key(|&n| self.chunks[n].0.min_time_ms);
        let apart = order.windows(2).all(|w| self.chunks[w[0]].0.max_time_ms < self.chunks[w[1]].0.min_time_ms);
        if !apart {
            self.decode(inputs, columns)?;
            return Ok(writer.samples(columns)?);
        }
        // Where each chunk begins, if it may be taken over as it is.
        let mut begins = BTreeMap::new();
        for &n in &order {
            let block = self.input(n, inputs);
            let is_good = effort == Effort::Fast || block.footer().level > 0;
            if is_good {
                begins.insert(times.len(), n);
            }
            times.extend_from_slice(&block.times(self.chunks[n].0.row.column)?);
        }
        let pieces = writer.cut(times);
        let kept = |range: &std::ops::Range<usize>| {
            let n = *begins.get(&range.start)?;
            (self.chunks[n].0.samples as usize == range.len()).then_some(n)
        };
        if pieces.iter().any(|range| kept(range).is_none()) {
            self.decode(inputs, columns)?;
        }
        let mut decoded = Pieces::new(columns);
        for range in pieces {
            decoded.next(range.len());
            match kept(&range).map(|n| (n, self.chunks[n].0.row)) {
                None => writer.chunk(decoded.samples(range))?,
                Some((_, row)) if row.len == 0 => writer.constant(&times[range], row.constant)?,
                Some((n, _)) => writer.payload(&times[range], self.payload(n))?,
            }
        }
        Ok(())
    }

    fn decode(&self, inputs: &[Scan], columns: &mut Columns) -> Result<(), SelectError> {
        let run = |n: usize| {
            let chunk = &self.chunks[n].0;
            let source = Source::Payload(self.input(n, inputs), chunk, self.payload(n));
            let hidden = self.hidden(n);
            Run { min_time_ms: chunk.min_time_ms, max_time_ms: chunk.max_time_ms, source, hidden }
        };
        let mut runs: Vec<Run<'_>> = (0..self.chunks.len()).map(run).collect();
        merge(&mut runs, i64::MIN, i64::MAX, columns, || Ok(())).map(drop)
    }
}

/// Blocks that lie within one window, by window, in the order of the list.
fn by_window(blocks: &[Arc<LiveBlock>], window_ms: i64) -> BTreeMap<i64, Vec<Arc<LiveBlock>>> {
    let mut by_window: BTreeMap<i64, Vec<Arc<LiveBlock>>> = BTreeMap::new();
    for block in blocks {
        let footer = block.footer();
        let (first, last) = (footer.min_time_ms.div_euclid(window_ms), footer.max_time_ms.div_euclid(window_ms));
        if first == last {
            by_window.entry(first).or_default().push(Arc::clone(block));
        }
    }
    by_window
}

/// Whether anything of a block is hidden.
pub(crate) fn hides_something(block: &LiveBlock, now_ms: i64) -> bool {
    block.tombstones() > 0 || told(block.is_outlived(now_ms))
}

/// Whether so much of a block is hidden that it is worth writing it anew.
pub(crate) fn hides_much(block: &LiveBlock, now_ms: i64) -> bool {
    let samples = block.footer().samples;
    let deleted = || told(block.shown().map(|shown| samples - shown.samples.min(samples)));
    block.tombstones() > PENDING_MAX
        || (block.tombstones() > 0 && deleted() * HIDDEN_SHARE >= samples.max(1))
        || told(block.is_much_outlived(HIDDEN_SHARE, now_ms))
}

/// What a block says of itself; nothing if it cannot be read, as then it cannot be written anew either.
fn told<T: Default>(asked: Result<T, SelectError>) -> T {
    asked.unwrap_or_else(|error| {
        tracing::warn!(%error, "a block cannot be asked what is hidden in it");
        T::default()
    })
}

/// Whether merging these changes anything.
fn needs_merging(inputs: &[Arc<LiveBlock>]) -> bool {
    inputs.len() > 1 || inputs.iter().any(|block| block.footer().level == 0)
}

/// The same, and what is new is not too little for rewriting all.
fn is_worth_merging(inputs: &[Arc<LiveBlock>]) -> bool {
    let bytes = || inputs.iter().map(|block| block.bytes());
    let (largest, all) = (bytes().max().unwrap_or(0), bytes().sum::<u64>());
    needs_merging(inputs) && (inputs.len() == 1 || (all - largest).saturating_mul(LATE_SHARE) >= largest)
}

/// The first neighbours (by sequence) of about one size, if there are enough of them.
fn alike(inputs: Vec<Arc<LiveBlock>>) -> Option<Vec<Arc<LiveBlock>>> {
    let size = |block: &Arc<LiveBlock>| block.bytes().max(SMALL_BYTES);
    let parts: Vec<Arc<LiveBlock>> = inputs.into_iter().filter(|block| block.footer().level == 0).collect();
    for begin in 0..parts.len() {
        let (mut low, mut high) = (u64::MAX, 0);
        let like = parts[begin..].iter().take_while(|block| {
            (low, high) = (low.min(size(block)), high.max(size(block)));
            high <= low.saturating_mul(PARTS as u64)
        });
        let count = like.count();
        if count >= PARTS {
            return Some(parts[begin..begin + count].to_vec());
        }
    }
    None
}

/// Whether what comes of them fits beside them, were it as large.
fn has_room(inputs: &[Arc<LiveBlock>], available: u64) -> bool {
    let bytes: u64 = inputs.iter().map(|block| block.bytes()).sum();
    if available <= bytes {
        tracing::debug!(bytes, available, "there is no room to merge");
    }
    available > bytes
}

/// See the module.
fn may_merge(inputs: &[Arc<LiveBlock>], all: &[Arc<LiveBlock>]) -> bool {
    let sequences = || inputs.iter().map(|block| block.footer().sequence);
    let (Some(low), Some(high)) = (sequences().min(), sequences().max()) else { return false };
    let start = inputs.iter().map(|block| block.footer().min_time_ms).min();
    let end = inputs.iter().map(|block| block.footer().max_time_ms).max();
    all.iter().filter(|block| !inputs.iter().any(|input| Arc::ptr_eq(input, block))).all(|block| {
        let footer = block.footer();
        let is_between = footer.sequence > low && footer.sequence < high;
        let overlaps = Some(footer.max_time_ms) >= start && Some(footer.min_time_ms) <= end;
        !(is_between && overlaps)
    })
}
