//! Moving the head into blocks.
//!
//! 1. *Freeze*: with the log quiet, end its segment, seal every run, and set all chunks apart: they are exactly what
//!    the ended segments hold.
//! 2. *Write* those chunks into block files, one per block range. The head is locked for one series at a time; queries
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

use kymo_core::Labels;
use kymo_core::batch::{Exemplar, Metadata};
use kymo_core::storage::{Columns, Tier};

use crate::block::{Block, BlockWriter, EXTENSION, Shape};
use crate::blocks::LiveBlock;
use crate::chunk::Effort;
use crate::engine::{Engine, millis};
use crate::error::{StorageError, io_error};
use crate::head::HeadSeries;
use crate::increments;
use crate::manifest::{BlockEntry, Manifest};
use crate::merge::{Run, Source, merge};
use crate::wal::{LogPosition, segment_number};

/// Samples per chunk of a part: two hours at one every 15 seconds. Merging makes longer ones.
pub(crate) const PART_CHUNK_SAMPLES: usize = 480;
/// Files written by one flush at the most; a backfill over a longer time makes longer blocks.
const FILES_MAX: i64 = 16;
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

/// A series that has something set apart.
struct Frozen {
    labels: Labels,
    number: u32,
    exemplars: Vec<Exemplar>,
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
        if frozen.is_empty() {
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
            let with_exemplars = frozen.iter().filter(|series| !series.exemplars.is_empty());
            let flushed: HashMap<u32, &[Exemplar]> =
                with_exemplars.map(|series| (series.number, &*series.exemplars)).collect();
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

    /// The series that have something set apart, or exemplars, sorted by labels.
    fn frozen(&self) -> Vec<Frozen> {
        let head = self.head.read();
        let has_something = |number: u32, series: &HeadSeries| {
            !series.exemplars().is_empty() || head.frozen_bounds(number).next().is_some()
        };
        let frozen = head.iter().filter(|(number, series)| has_something(*number, series));
        let frozen = frozen.map(|(number, series)| Frozen {
            labels: series.labels.clone(),
            number,
            exemplars: series.exemplars().to_vec(),
        });
        let mut frozen: Vec<Frozen> = frozen.collect();
        frozen.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        frozen
    }

    fn write_frozen(
        &self,
        frozen: &[Frozen],
        deletes: u64,
        files: &mut Vec<PathBuf>,
    ) -> Result<Vec<Arc<LiveBlock>>, StorageError> {
        let ranges = self.ranges(frozen);
        let metadata: Vec<(String, Vec<Metadata>)> =
            self.metadata().iter().map(|(family, versions)| (family.clone(), versions.clone())).collect();
        // What is flushed is merged soon: the cheap encoders are good enough until then.
        let range_ms = millis(self.options.block_range);
        let shape = Shape { range_ms, chunk_samples: PART_CHUNK_SAMPLES, effort: Effort::Fast, tier: Tier::Raw };
        let mut blocks = Vec::new();
        for (number, range) in ranges.iter().enumerate() {
            let (id, path) = self.next_block();
            let failed = || io_error(&path, "writing a block");
            let mut writer = BlockWriter::create(&*self.fs, &path, id, shape).map_err(failed())?;
            // Only what this flush has made may be removed when it fails.
            files.push(path.clone());
            let write = || -> Result<bool, StorageError> {
                for series in frozen {
                    self.write_series(&mut writer, series, *range).map_err(failed())?;
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

    fn write_series(&self, writer: &mut BlockWriter, series: &Frozen, (start, end): (i64, i64)) -> std::io::Result<()> {
        let exemplars: Vec<Exemplar> =
            series.exemplars.iter().filter(|e| e.time_ms >= start && e.time_ms < end).cloned().collect();
        let (copy, snapshot) = self.head.read().frozen(series.number);
        let mut runs: Vec<Run<'_>> = copy
            .runs(&snapshot)
            .map(|(min_time_ms, max_time_ms, run)| Run {
                min_time_ms,
                max_time_ms,
                source: Source::Head(run),
                hidden: None,
            })
            .collect();
        let mut columns = Columns::default();
        // The range holds its start and not its end; a window the other way round.
        merge(&mut runs, start - 1, end - 1, &mut columns, || Ok(())).map_err(std::io::Error::other)?;
        if !columns.times.is_empty() || !exemplars.is_empty() {
            writer.series(&series.labels);
            writer.samples(&columns)?;
            writer.exemplars(&exemplars);
        }
        Ok(())
    }

    /// The block ranges `[start, end)` that the frozen samples and exemplars fall into, rising.
    fn ranges(&self, frozen: &[Frozen]) -> Vec<(i64, i64)> {
        let head = self.head.read();
        let times = || {
            let chunks = frozen.iter().flat_map(|f| head.frozen_bounds(f.number));
            chunks.chain(frozen.iter().flat_map(|f| &f.exemplars).map(|e| (e.time_ms, e.time_ms)))
        };
        let mut length = millis(self.options.block_range).max(1);
        loop {
            let mut starts = BTreeSet::new();
            for (low, high) in times() {
                let (first, last) = (low.div_euclid(length), high.div_euclid(length));
                starts.extend(first..=last.min(first.saturating_add(FILES_MAX)));
            }
            if starts.len() as i64 <= FILES_MAX || length > i64::MAX / 4 {
                let bound = |n: i64| n.saturating_mul(length);
                return starts.into_iter().map(|n| (bound(n).max(i64::MIN + 1), bound(n.saturating_add(1)))).collect();
            }
            length *= 2;
        }
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
