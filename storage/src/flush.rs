//! Moving the head into blocks.
//!
//! 1. *Freeze*: with the log quiet, end its segment, seal every run, and set all chunks apart: they are exactly what
//!    the ended segments hold.
//! 2. *Write* those chunks into block files, one per block range. The head is locked for few series at a time; queries
//!    still read the chunks there.
//! 3. *Publish* a manifest that lists the blocks and lets replay begin at the new segment. That is the moment.
//! 4. *Swap*: drop the chunks and show the blocks, while the head is locked.
//! 5. Remove the superfluous segments; free series that have been idle.
//!
//! A failure before 3 leaves everything as it was, but for files that the next opening removes; what was set apart
//! stays so, and the next flush begins with it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use foldhash::HashMap;

use kymo_core::batch::{Exemplar, Metadata};
use kymo_core::storage::{Columns, Tier};
use kymo_core::{Budget, Labels, QueryContext};

use crate::block::{Block, BlockWriter, EXTENSION, Shape};
use crate::blocks::LiveBlock;
use crate::chunk::Effort;
use crate::engine::{Engine, millis};
use crate::error::{StorageError, io_error};
use crate::head::{HeadCopy, HeadSnapshot, SERIES_PER_LOCK};
use crate::increments;
use crate::manifest::{BlockEntry, Manifest};
use crate::merge::{Run, Source, damaged_in_memory, merge};
use crate::wal::{LogPosition, segment_number};

/// Samples per chunk of a part: two hours at one every 15 seconds. Merging makes longer ones.
pub(crate) const PART_CHUNK_SAMPLES: usize = 480;
/// Files written by one flush at the most; a backfill over a longer time makes longer blocks.
const FILES_MAX: i64 = 16;
/// Series, and about how many samples, that are copied while the head is locked.
const SERIES_PER_COPY: usize = 256;
const SAMPLES_PER_COPY: usize = 1 << 16;
/// Flushes that a series may stay without a sample before it is freed.
const IDLE_FLUSHES_MAX: u8 = 2;

/// A moment at which everything was set apart.
#[derive(Debug)]
pub(crate) struct FrozenAt {
    /// Where the log goes on.
    position: LogPosition,
    /// The totals of series that are told increments as they were then, if there are any.
    totals: Option<Vec<u8>>,
    /// The last delete before.
    deletes: u64,
}

/// What a flush moves into blocks.
#[derive(Default)]
struct Frozen {
    /// Numbers of the series that have something set apart, or exemplars, rising.
    numbers: Vec<u32>,
    /// Theirs.
    labels: Vec<Labels>,
    /// Places in these two, by labels.
    order: Vec<u32>,
    /// By number.
    exemplars: HashMap<u32, Vec<Exemplar>>,
    /// First and last block range of chunks and exemplars, each pair once.
    spans: BTreeSet<(i64, i64)>,
}

impl Frozen {
    /// The block ranges `[start, end)` that all of it falls into, rising, if one is `length` long.
    fn ranges(&self, mut length: i64) -> Vec<(i64, i64)> {
        let mut doubled = 0;
        loop {
            let mut starts = BTreeSet::new();
            for (first, last) in self.spans.iter().map(|(first, last)| (first >> doubled, last >> doubled)) {
                starts.extend(first..=last.min(first.saturating_add(FILES_MAX)));
            }
            if starts.len() as i64 <= FILES_MAX || length > i64::MAX / 4 {
                let bound = |n: i64| n.saturating_mul(length);
                return starts.into_iter().map(|n| (bound(n).max(i64::MIN + 1), bound(n.saturating_add(1)))).collect();
            }
            length *= 2;
            doubled += 1;
        }
    }
}

/// What is copied of some series, to be written when the head is not locked.
#[derive(Default)]
struct Batch {
    copy: HeadCopy,
    series: Vec<HeadSnapshot>,
    columns: Columns,
}

impl Engine {
    /// Moves everything in the head into blocks. Appends and queries go on meanwhile.
    ///
    /// # Errors
    /// The disk's; then nothing has changed.
    pub fn flush(&self) -> Result<(), StorageError> {
        let mut left_over = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let began = self.options.clock.monotonic();
        if let Some(frozen) = &*left_over {
            self.metrics.flushes.count(self.flush_frozen(frozen))?;
            *left_over = None;
        }
        let is_early = self.is_full_early();
        let frozen = left_over.insert(self.freeze());
        let position = frozen.position;
        let is_something = self.metrics.flushes.count(self.flush_frozen(frozen))?;
        *left_over = None;
        // What was appended meanwhile is as old as this flush at most.
        *self.unflushed_since.lock().unwrap_or_else(PoisonError::into_inner) =
            (self.counts.head_samples.load(Ordering::Relaxed) > 0).then_some(began);
        if !is_something {
            return Ok(());
        }
        let took = self.options.clock.monotonic().saturating_sub(began);
        self.metrics.flush_duration.record(took.as_secs_f64());
        self.remove_segments_before(position.segment)?;
        if !is_early {
            self.free_idle_series();
        }
        Ok(())
    }

    /// Whether few samples made the head full: others may not have had the time to send anything since the last flush.
    fn is_full_early(&self) -> bool {
        let (head, full_at) = (self.head.read(), self.full_at());
        head.is_full(full_at) && head.samples() < full_at
    }

    /// Removes log segments before `keep`, oldest first. Appends go on: nobody writes to those any more.
    fn remove_segments_before(&self, keep: u64) -> Result<(), StorageError> {
        let wal = self.dir.join("wal");
        let remove = || -> std::io::Result<()> {
            for entry in self.fs.list(&wal)? {
                if segment_number(&entry.name).is_some_and(|number| number < keep) {
                    self.fs.remove(&wal.join(&entry.name))?;
                    self.commit.writer().removed(entry.len);
                }
            }
            Ok(())
        };
        remove().map_err(io_error(&wal, "removing superfluous log segments"))
    }

    fn freeze(&self) -> FrozenAt {
        self.commit.quiesced(|writer| self.freeze_at(writer.rotate()))
    }

    /// Sets everything apart that the log says before `position`.
    pub(crate) fn freeze_at(&self, position: LogPosition) -> FrozenAt {
        let mut head = self.head.write();
        head.freeze();
        let increments = self.increments();
        let all = increments.iter().filter_map(|(number, totals)| Some((&head.get(number)?.labels, totals)));
        let mut all = all.peekable();
        let totals = all.peek().is_some().then(|| increments::encode(all));
        let deletes = self.tombstones().freeze();
        FrozenAt { position, totals, deletes }
    }

    /// Writes the totals of a flush; 0 if there are none.
    fn write_totals(&self, frozen: &FrozenAt, files: &mut Vec<PathBuf>) -> Result<u64, StorageError> {
        let Some(bytes) = &frozen.totals else { return Ok(0) };
        let (dir, number) = (self.dir.join("totals"), self.next_block().0);
        let path = increments::path_of(&dir, number);
        files.push(path.clone());
        increments::write(&*self.fs, &path, bytes)?;
        self.fs.sync_dir(&dir).map_err(io_error(&dir, "syncing the directory of totals"))?;
        Ok(number)
    }

    /// Writes what is set apart into blocks and lets replay begin at `position`; `false` if there was nothing.
    pub(crate) fn flush_frozen(&self, at: &FrozenAt) -> Result<bool, StorageError> {
        let frozen = self.frozen();
        if frozen.numbers.is_empty() {
            // The log may still hold metadata, which goes into blocks together with samples.
            let mut head = self.head.write();
            // What was set apart may have been deleted since.
            head.drop_frozen(|_, _| false);
            self.tombstones().thaw();
            self.count_head(&head);
            return Ok(false);
        }
        let mut files = Vec::new();
        let write = |files: &mut Vec<PathBuf>| -> Result<_, StorageError> {
            let totals = self.write_totals(at, files)?;
            Ok((totals, self.write_frozen(&frozen, at.deletes, files)?))
        };
        let written = match write(&mut files) {
            Err(error) if error.is_disk_full() => {
                files.drain(..).for_each(|path: PathBuf| self.remove_file(&path));
                self.give_up_reserve();
                write(&mut files)
            }
            other => other,
        };
        let (totals, new_blocks) = written.inspect_err(|_| files.iter().for_each(|path| self.remove_file(path)))?;
        // Held until the blocks show: another lane's manifest must list them, too.
        let mut manifest = self.manifest();
        let old_totals = manifest.totals;
        let mut next = Manifest { replay_from: at.position, totals, deletes: at.deletes, ..manifest.clone() };
        next.blocks.extend(new_blocks.iter().map(|block| BlockEntry::of(block)));
        for footer in new_blocks.iter().map(|block| block.footer()).filter(|footer| footer.samples > 0) {
            next.rolled.touch(footer.min_time_ms, footer.max_time_ms);
        }
        self.publish(&mut manifest, next)?;

        self.metrics.flushed_bytes.add(new_blocks.iter().map(|block| block.bytes()).sum());
        {
            let mut head = self.head.write();
            let mut list = self.blocks().list().to_vec();
            list.extend(new_blocks);
            let flushed = &frozen.exemplars;
            head.drop_frozen(|number, exemplar| flushed.get(&number).is_some_and(|all| all.contains(exemplar)));
            self.count_head(&head);
            self.tombstones().thaw();
            self.set_blocks_and(list, Arc::new(manifest.rolled.clone()));
        }
        drop(manifest);
        if old_totals != 0 {
            self.remove_file(&increments::path_of(&self.dir.join("totals"), old_totals));
        }
        self.settle_memory();
        Ok(true)
    }

    /// What is to be moved into blocks. Appends go on meanwhile: the head is locked for few series at a time, and those
    /// that come have nothing set apart.
    fn frozen(&self) -> Frozen {
        let length = self.range_ms();
        let mut frozen = Frozen::default();
        let mut last = None;
        let (mut next, numbers_end, live) = {
            let head = self.head.read();
            (0, head.numbers_end(), head.series())
        };
        while next < numbers_end {
            let head = self.head.read();
            let end = next.saturating_add(SERIES_PER_LOCK).min(numbers_end);
            for number in next..end {
                let Some(series) = head.get(number) else { continue };
                let exemplars = series.exemplars();
                let mut is_something = !exemplars.is_empty();
                let times = exemplars.iter().map(|exemplar| (exemplar.time_ms, exemplar.time_ms));
                for bounds in head.frozen_bounds(number).inspect(|_| is_something = true).chain(times) {
                    // Most chunks have the times of the one before.
                    if last != Some(bounds) {
                        last = Some(bounds);
                        frozen.spans.insert((bounds.0.div_euclid(length), bounds.1.div_euclid(length)));
                    }
                }
                if is_something {
                    frozen.numbers.push(number);
                    frozen.labels.push(series.labels.clone());
                }
                if !exemplars.is_empty() {
                    frozen.exemplars.insert(number, exemplars.to_vec());
                }
            }
            next = end;
        }
        let Frozen { numbers, labels, .. } = &frozen;
        // Where memory is short it is not taken from those who append: then labels are compared as they lie.
        let none = || Budget::root("the order of a flush", 0);
        let budget = if self.is_short_of_memory() { none() } else { self.options.budget.clone() };
        let ctx = QueryContext { budget, ..QueryContext::unlimited() };
        let sorted = self.head.sorted(numbers, |at| &labels[at as usize], live, &ctx);
        frozen.order = sorted.unwrap_or_else(|_| {
            let mut order: Vec<u32> = (0..labels.len() as u32).collect();
            order.sort_unstable_by(|a, b| labels[*a as usize].cmp(&labels[*b as usize]));
            order
        });
        frozen
    }

    fn range_ms(&self) -> i64 {
        millis(self.options.block_range).max(1)
    }

    fn write_frozen(
        &self,
        frozen: &Frozen,
        deletes: u64,
        files: &mut Vec<PathBuf>,
    ) -> Result<Vec<Arc<LiveBlock>>, StorageError> {
        let ranges = frozen.ranges(self.range_ms());
        let metadata: Vec<(String, Vec<Metadata>)> =
            self.metadata().iter().map(|(family, versions)| (family.clone(), versions.clone())).collect();
        // What is flushed is merged soon: the cheap encoders are good enough until then.
        let range_ms = millis(self.options.block_range);
        let shape = Shape { range_ms, chunk_samples: PART_CHUNK_SAMPLES, effort: Effort::Fast, tier: Tier::Raw };
        let mut blocks = Vec::new();
        let mut batch = Batch::default();
        for (number, range) in ranges.iter().enumerate() {
            let (id, path) = self.next_block();
            let failed = || io_error(&path, "writing a block");
            let mut writer = BlockWriter::create(&*self.fs, &path, id, shape).map_err(failed())?;
            // Only what this flush has made may be removed when it fails.
            files.push(path.clone());
            let write = || -> Result<bool, StorageError> {
                let mut order = &frozen.order[..];
                while !order.is_empty() {
                    let copied;
                    (copied, order) = order.split_at(self.copy_some(&mut batch, frozen, order, *range));
                    for (series, at) in copied.iter().enumerate() {
                        write_series(&mut writer, &mut batch, series, (frozen, *at as usize), *range)
                            .map_err(failed())?;
                    }
                }
                let is_last = number + 1 == ranges.len();
                let written = writer.finish(if is_last { &metadata } else { &[] }).map_err(failed())?;
                // What was to be written may have been deleted meanwhile.
                Ok(written.series > 0 || (is_last && !metadata.is_empty()))
            };
            if !write()? {
                files.pop();
                self.remove_file(&path);
                continue;
            }
            let block = Block::open(&*self.fs, &path, &self.options.budget, &self.cache)?;
            blocks.push(Arc::new(LiveBlock::new(block, deletes)));
        }
        let dir = self.dir.join("blocks");
        self.fs.sync_dir(&dir).map_err(io_error(&dir, "syncing the directory of blocks"))?;
        Ok(blocks)
    }

    /// Copies what is set apart of the next series in the order; gives of how many.
    fn copy_some(&self, to: &mut Batch, frozen: &Frozen, order: &[u32], (start, end): (i64, i64)) -> usize {
        // The range holds its start and not its end; a window the other way round.
        let window = (start - 1, end - 1);
        (to.copy, to.series) = Default::default();
        let order = &order[..order.len().min(SERIES_PER_COPY)];
        let numbers = order.iter().map(|at| frozen.numbers[*at as usize]);
        let mut samples = 0;
        {
            let head = self.head.read();
            head.touch_frozen(numbers.clone());
            for number in numbers {
                let series = head.copy_frozen(number, window, &mut to.copy);
                samples += series.samples();
                to.series.push(series);
                if samples > SAMPLES_PER_COPY {
                    break;
                }
            }
        }
        let paid = to.copy.finish(to.series.iter_mut(), window, &mut |_| Ok(()));
        debug_assert!(paid.is_ok(), "nobody asks for payment");
        to.series.len()
    }

    /// Number and path of the next block file. A number is used once, also when nothing comes of the file: a
    /// manifest whose publishing failed may still turn out to be the live one, and it lists that file.
    pub(crate) fn next_block(&self) -> (u64, PathBuf) {
        let mut manifest = self.manifest();
        let id = manifest.next_sequence;
        manifest.next_sequence += 1;
        (id, self.dir.join("blocks").join(format!("{id:016}.{EXTENSION}")))
    }

    fn free_idle_series(&self) {
        let freed = {
            let _alone = self.resolving.write().unwrap_or_else(PoisonError::into_inner);
            let mut head = self.head.write();
            let mut increments = self.increments();
            increments.forget_idle(self.options.clock.now_ms());
            self.counts.increment_bytes.store(increments.bytes(), Ordering::Relaxed);
            let is_kept = |number: u32| increments.has(number);
            let freed = head.free_idle(IDLE_FLUSHES_MAX, is_kept, |labels| self.head.hash(labels));
            self.counts.series.fetch_sub(freed as u64, Ordering::Relaxed);
            self.count_head(&head);
            freed
        };
        if freed > 0 {
            // Appends go on meanwhile.
            self.head.forget_freed();
            self.count_head(&self.head.read());
        }
    }
}

/// Writes what was copied of a series, and its exemplars, as far as they are in the range.
fn write_series(
    writer: &mut BlockWriter,
    batch: &mut Batch,
    series: usize,
    (frozen, at): (&Frozen, usize),
    (start, end): (i64, i64),
) -> std::io::Result<()> {
    let Batch { copy, series: all, columns } = batch;
    let (labels, series, window) = (&frozen.labels[at], &all[series], (start - 1, end - 1));
    columns.clear();
    let read = if series.is_rising() {
        copy.read_rising(series, window, columns).map_err(damaged_in_memory)
    } else {
        let run =
            |(min_time_ms, max_time_ms, run)| Run { min_time_ms, max_time_ms, source: Source::Head(run), hidden: None };
        merge(&mut copy.runs(series).map(run).collect(), window.0, window.1, columns, || Ok(())).map(drop)
    };
    read.map_err(std::io::Error::other)?;
    let exemplars = frozen.exemplars.get(&frozen.numbers[at]).map_or(&[][..], Vec::as_slice);
    let is_inside = |exemplar: &&Exemplar| start <= exemplar.time_ms && exemplar.time_ms < end;
    let exemplars: Vec<Exemplar> = exemplars.iter().filter(is_inside).cloned().collect();
    if !columns.times.is_empty() || !exemplars.is_empty() {
        writer.series(labels);
        writer.samples(columns)?;
        writer.exemplars(&exemplars);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_doubled_until_there_are_few() {
        const HOUR: i64 = 3_600_000;
        let ranges =
            |spans: &[(i64, i64)]| Frozen { spans: spans.iter().copied().collect(), ..Frozen::default() }.ranges(HOUR);
        assert_eq!(ranges(&[(-1, 0), (0, 0), (3, 3)]), [(-HOUR, 0), (0, HOUR), (3 * HOUR, 4 * HOUR)]);
        // Hours -33 to 30: of two hours they are 32, of four 17, of eight 9.
        let all = ranges(&[(-33, -20), (-20, 30)]);
        assert_eq!((all.len(), all[0], all[8]), (9, (-40 * HOUR, -32 * HOUR), (24 * HOUR, 32 * HOUR)));
        assert!(all.windows(2).all(|two| two[0].1 == two[1].0));
        let widest = ranges(&[(i64::MIN / HOUR, i64::MIN / HOUR), (i64::MAX / HOUR, i64::MAX / HOUR)]);
        assert_eq!(widest.len(), 2);
        assert!(widest.iter().all(|(start, end)| start < end));
    }
}
