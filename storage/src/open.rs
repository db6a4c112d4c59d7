//! Opening a data directory: manifest, blocks, and the log.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use foldhash::HashMap;
use kymo_core::batch::Metadata;
use kymo_core::memory::remember_metadata;
use kymo_core::{Labels, SeriesRef};

use crate::append::Applying;
use crate::block::{Block, BlockCache};
use crate::blocks::{Blocks, LiveBlock};
use crate::changes::ChangeLog;
use crate::codec::Malformed;
use crate::engine::{Counts, Engine};
use crate::error::{StorageError, io_error};
use crate::fs::{Fs, FsLock};
use crate::head::Head;
use crate::increments::{self, Added};
use crate::manifest::Manifest;
use crate::metrics::StorageMetrics;
use crate::options::Options;
use crate::sample::Sample;
use crate::tombstones::Tombstones;
use crate::wal::{
    ChainReader, Commit, LogDamage, LogPosition, LogWriter, NONE, ReadFrame, Record, ReplayEnd, SegmentReader,
    cut_tail, decode, segment_number,
};

/// Head bytes beyond which replay flushes, as a share of the memory limit.
const REPLAY_SHARE: u64 = 2;

/// Samples for which replay makes a block of their own at the least, however little memory there is.
const RELIEVED_SAMPLES_MIN: u64 = 10_000;
/// Refs that stand together in [`Known`]; one alone takes the room of all.
const KNOWN_PAGE: usize = 32;
/// Full heads that replay takes before it flushes.
const REPLAYED_HEADS_MAX: u64 = 2;
/// What replay takes for the highest time in blocks: nobody looks into them, and whether they hold a time as well makes no
/// difference, as the head wins. With the real one, what is below it would all be late.
const BELOW_ALL: i64 = i64::MIN;

/// What was found while opening.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Which opening of the directory this is.
    pub opening: u32,
    /// Blocks in use.
    pub blocks: usize,
    /// Log frames replayed.
    pub frames: u64,
    /// Samples in them.
    pub samples: u64,
    /// Bytes cut off the log because a kill left a frame unfinished.
    pub torn_bytes: u64,
    /// Stretches of the log that could not be read. Their files are kept in `quarantine/`.
    pub log_damage: Vec<LogDamage>,
    /// Samples in sound frames whose series was defined in a damaged stretch.
    pub orphaned_samples: u64,
    /// Blocks that could not be read, moved to `quarantine/`, with the fault.
    pub quarantined: Vec<(PathBuf, String)>,
}

/// A data directory that is there and is ours. Of its files only the manifest was read, and how those of the log begin; dropping
/// it leaves them as they are.
///
/// ```
/// # use kymo_storage::Engine;
/// # let dir = tempfile::tempdir()?;
/// let opening = Engine::begin(std::sync::Arc::new(kymo_storage::fs::RealFs), dir.path(), Default::default())?;
/// let progress = opening.progress();
/// let (engine, report) = opening.finish()?;
/// assert_eq!((progress.current(), report.samples), (progress.last(), 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "blocks and log are to be read"]
pub struct Opening {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    options: Options,
    lock: Box<dyn FsLock>,
    manifest: Manifest,
    /// All there are.
    segments: Vec<(u64, PathBuf)>,
    progress: Arc<ReplayProgress>,
}

/// How far the log is read, in numbers of its segments.
#[derive(Debug)]
pub struct ReplayProgress {
    first: u64,
    last: u64,
    /// Relaxed: a figure to show, which publishes nothing.
    current: AtomicU64,
}

impl ReplayProgress {
    /// The segment that is read first; 0 if there are none, as the others then.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The segment that is read last.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The segment that is being read, or was read last.
    #[must_use]
    pub fn current(&self) -> u64 {
        self.current.load(Ordering::Relaxed)
    }
}

impl Opening {
    /// Tells while the log is read how far that is.
    #[must_use]
    pub fn progress(&self) -> Arc<ReplayProgress> {
        Arc::clone(&self.progress)
    }

    /// Reads the blocks' directories, and the log: of that a million series in half a second, a million samples in 35 ms.
    ///
    /// # Errors
    /// As those of [`Engine::open`].
    pub fn finish(self) -> Result<(Engine, OpenReport), StorageError> {
        let Opening { fs, dir, options, lock, mut manifest, segments, progress } = self;
        // The names of the folders inside become durable with the manifest; that of the directory itself here.
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs.sync_dir(parent).map_err(io_error(parent, "syncing the directory above the data directory"))?;
        let mut report = OpenReport::default();
        let cache = Arc::new(BlockCache::new(&options.budget, options.cache_bytes));
        let blocks = open_blocks(&*fs, &dir, &mut manifest, &options, &cache, &mut report)?;

        manifest.opening += 1;
        report.opening = manifest.opening;
        // Durable before the first ref of this opening is handed out.
        manifest.publish(&*fs, &dir)?;
        fs.sync_dir(&dir).map_err(io_error(&dir, "syncing the data directory"))?;

        let replayed = to_replay(&segments, &manifest);
        let next_segment = segments.last().map_or(1, |(number, _)| number + 1).max(manifest.replay_from.segment);
        let closed_bytes =
            replayed.iter().filter_map(|(_, path)| fs.open(path, crate::fs::OpenMode::Read).ok()?.len().ok()).sum();
        let writer = LogWriter::new(
            Arc::clone(&fs),
            dir.join("wal"),
            options.sync,
            next_segment,
            closed_bytes,
            options.budget.try_reserve(0)?,
        );
        let memory = options.budget.try_reserve(0)?;
        let metrics = StorageMetrics::new(&options.registry, &options.limits)?;
        let policy = Arc::new(options.retention.clone());
        let numbers = blocks.iter().map(LiveBlock::deletes_through);
        let tombstones = Tombstones::new(manifest.tombstones.clone(), manifest.deletes, numbers);
        let seed = options.clock.now_ms() as u64 ^ u64::from(manifest.opening) << 48;
        let engine = Engine {
            head: Head::new(manifest.opening, seed),
            commit: Commit::new(writer),
            resolving: RwLock::default(),
            memory: Mutex::new(memory),
            counts: Counts::default(),
            metrics,
            spare_work: Mutex::default(),
            metadata: Mutex::new(metadata_of(&blocks)),
            increments: Mutex::default(),
            beginning: Mutex::default(),
            changes: Mutex::new(ChangeLog::default()),
            blocks: RwLock::new(Arc::new(Blocks::new(
                blocks.into_iter().map(Arc::new).collect(),
                &tombstones,
                &policy,
                Arc::new(manifest.rolled.clone()),
            ))),
            tombstones: Mutex::new(tombstones),
            deleting: Mutex::default(),
            manifest: Mutex::new(manifest),
            flushing: Mutex::default(),
            cache,
            merging: Mutex::default(),
            rolling: Mutex::default(),
            unrolled: Mutex::default(),
            unflushed_since: Mutex::new(None),
            on_full: OnceLock::new(),
            retention: RwLock::new(policy),
            closed: AtomicBool::new(false),
            fs,
            dir,
            options,
            _lock: lock,
        };
        report.blocks = engine.blocks().list().len();
        engine.restore_totals(&mut report)?;
        engine.replay(replayed, &progress, &mut report)?;
        for (number, path) in &segments {
            if *number < engine.manifest().replay_from.segment {
                engine.remove_file(path);
            }
        }
        let damaged = report.quarantined.len() + report.log_damage.len();
        engine.counts.quarantined.store(damaged as u64, Ordering::Relaxed);
        if engine.options.reserve_bytes > 0
            && engine.fs.open(&engine.dir.join(crate::maintain::RESERVE), crate::fs::OpenMode::Read).is_err()
        {
            engine.make_reserve();
        }
        Ok((engine, report))
    }
}

/// What the blocks say of families, newest first.
fn metadata_of(blocks: &[LiveBlock]) -> BTreeMap<String, Vec<Metadata>> {
    let mut metadata = BTreeMap::new();
    // The list names a merged block last, whatever it was made of; newest first goes by what was written when.
    let mut by_sequence: Vec<&LiveBlock> = blocks.iter().collect();
    by_sequence.sort_by_key(|block| block.footer().sequence);
    for block in by_sequence {
        for (family, versions) in block.metadata().unwrap_or_default() {
            let kept = metadata.entry(family).or_insert_with(Vec::new);
            versions.iter().rev().for_each(|version| remember_metadata(kept, version));
        }
    }
    metadata
}

/// The segments that are not wholly in blocks.
fn to_replay<'a>(segments: &'a [(u64, PathBuf)], manifest: &Manifest) -> &'a [(u64, PathBuf)] {
    &segments[segments.partition_point(|(number, _)| *number < manifest.replay_from.segment)..]
}

pub(crate) fn begin(fs: Arc<dyn Fs>, dir: &Path, options: Options) -> Result<Opening, StorageError> {
    // Looked at before anything is touched: a newer directory stays as it is.
    Manifest::read(&*fs, dir)?;
    let make = |path: &Path| fs.create_dir_all(path).map_err(io_error(path, "making the directory"));
    make(dir)?;
    let lock = fs.lock(&dir.join("LOCK")).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => StorageError::Locked { dir: dir.to_owned() },
        _ => io_error(dir, "locking the data directory")(error),
    })?;
    let (wal, block_dir) = (dir.join("wal"), dir.join("blocks"));
    make(&wal)?;
    make(&block_dir)?;
    make(&dir.join("totals"))?;
    let segments = list_segments(&*fs, &wal)?;
    let found = Manifest::read(&*fs, dir)?;
    let has_blocks = !fs.list(&block_dir).map_err(io_error(&block_dir, "listing the blocks"))?.is_empty();
    if found.is_none() && (has_blocks || !segments.is_empty()) {
        let fault = Malformed { what: "the manifest is missing although there is data", offset: 0 };
        return Err(StorageError::Damaged { path: dir.join("MANIFEST"), fault });
    }
    check_segment_versions(&*fs, &segments)?;
    let manifest = found.unwrap_or_else(Manifest::new);
    if SeriesRef::new(manifest.opening + 1, 0).is_none() {
        return Err(StorageError::OpeningsUsedUp { dir: dir.to_owned() });
    }
    let replayed = to_replay(&segments, &manifest);
    let number_of = |segment: Option<&(u64, PathBuf)>| segment.map_or(0, |(number, _)| *number);
    let (first, last) = (number_of(replayed.first()), number_of(replayed.last()));
    let progress = Arc::new(ReplayProgress { first, last, current: AtomicU64::new(first) });
    Ok(Opening { fs, dir: dir.to_owned(), options, lock, manifest, segments, progress })
}

fn list_segments(fs: &dyn Fs, wal: &Path) -> Result<Vec<(u64, PathBuf)>, StorageError> {
    let entries = fs.list(wal).map_err(io_error(wal, "listing the log"))?;
    let mut segments: Vec<(u64, PathBuf)> =
        entries.into_iter().filter_map(|e| Some((segment_number(&e.name)?, wal.join(&e.name)))).collect();
    segments.sort_unstable();
    Ok(segments)
}

/// Refuses a log of a newer version before anything is changed.
fn check_segment_versions(fs: &dyn Fs, segments: &[(u64, PathBuf)]) -> Result<(), StorageError> {
    segments.iter().try_for_each(|(number, path)| SegmentReader::open(fs, path, *number).map(drop))
}

/// Opens the blocks the manifest lists, sets damaged ones aside, and removes files nothing refers to.
fn open_blocks(
    fs: &dyn Fs,
    dir: &Path,
    manifest: &mut Manifest,
    options: &Options,
    cache: &Arc<BlockCache>,
    report: &mut OpenReport,
) -> Result<Vec<LiveBlock>, StorageError> {
    let block_dir = dir.join("blocks");
    let mut blocks = Vec::new();
    let mut sound = Vec::new();
    for entry in &manifest.blocks {
        let path = block_dir.join(&entry.name);
        match Block::open(fs, &path, &options.budget, cache) {
            Ok(block) => {
                sound.push(entry.clone());
                blocks.push(LiveBlock::new(block, entry.deletes));
            }
            Err(
                error @ (StorageError::NewerVersion { .. }
                | StorageError::OlderVersion { .. }
                | StorageError::Budget(_)),
            ) => return Err(error),
            Err(error) => {
                tracing::error!(path = %path.display(), error = &error as &dyn std::error::Error, "a block cannot be read and is set aside");
                report.quarantined.push((path.clone(), error.to_string()));
                set_aside(fs, dir, &path);
            }
        }
    }
    manifest.blocks = sound;
    for entry in fs.list(&block_dir).map_err(io_error(&block_dir, "listing the blocks"))? {
        if !manifest.blocks.iter().any(|block| entry.name.to_str() == Some(&block.name)) {
            let path = block_dir.join(&entry.name);
            tracing::info!(path = %path.display(), "removing what an interrupted flush or merge left behind");
            fs.remove(&path).map_err(io_error(&path, "removing a superfluous file"))?;
        }
    }
    Ok(blocks)
}

/// Moves a file to `quarantine/`, for somebody to look at.
fn set_aside(fs: &dyn Fs, dir: &Path, path: &Path) {
    let quarantine = dir.join("quarantine");
    let moved = fs.create_dir_all(&quarantine).and_then(|()| {
        fs.rename(path, &quarantine.join(path.file_name().unwrap_or_default()))?;
        fs.sync_dir(&quarantine)
    });
    if let Err(error) = moved {
        tracing::warn!(path = %path.display(), %error, "a damaged file could not be set aside");
    }
}

/// Keeps a copy of a damaged log segment: the log itself goes with the next flush.
fn keep_copy(fs: &dyn Fs, dir: &Path, path: &Path) {
    let quarantine = dir.join("quarantine");
    let kept = fs
        .create_dir_all(&quarantine)
        .and_then(|()| fs.hard_link(path, &quarantine.join(path.file_name().unwrap_or_default())));
    if let Err(error) = kept {
        tracing::warn!(path = %path.display(), %error, "a damaged log segment could not be kept");
    }
}

/// What replay carries from frame to frame.
#[derive(Default)]
struct Replay {
    /// The numbers that refs of earlier openings have now.
    known: Known,
    /// What the frames of the segment lean on.
    chain: ChainReader,
    /// Of the labels of series that are defined at once.
    hashes: Vec<u64>,
}

/// The numbers that refs of earlier openings have now. Refs come in the order of their numbers, mostly, so those of neighbours lie
/// together: a table of a million has no place in the processor's caches.
#[derive(Debug, Default)]
struct Known(HashMap<(u32, u64), Box<[Option<NonZeroU32>; KNOWN_PAGE]>>);

impl Known {
    fn place(series: SeriesRef) -> ((u32, u64), usize) {
        let page = KNOWN_PAGE as u64;
        ((series.opening(), series.index() / page), (series.index() % page) as usize)
    }

    fn get(&self, series: SeriesRef) -> Option<u32> {
        let (page, at) = Known::place(series);
        self.0.get(&page)?[at].map(|above| above.get() - 1)
    }

    fn insert(&mut self, series: SeriesRef, number: u32) {
        let (page, at) = Known::place(series);
        // The highest number is no series'.
        self.0.entry(page).or_insert_with(|| Box::new([None; KNOWN_PAGE]))[at] = NonZeroU32::MIN.checked_add(number);
    }
}

/// What a record of the log adds to a series.
enum Replayed {
    Sample(Sample),
    Added(Added, bool),
}

impl Engine {
    /// Takes the totals that the last flush kept. A file that cannot be read is set aside: its series begin anew.
    fn restore_totals(&self, report: &mut OpenReport) -> Result<(), StorageError> {
        let number = self.manifest().totals;
        let dir = self.dir.join("totals");
        for entry in self.fs.list(&dir).map_err(io_error(&dir, "listing the totals"))? {
            let path = dir.join(&entry.name);
            if number == 0 || path != increments::path_of(&dir, number) {
                self.remove_file(&path);
            }
        }
        if number == 0 {
            return Ok(());
        }
        let path = increments::path_of(&dir, number);
        let now_ms = self.options.clock.now_ms();
        let mut head = self.head.write();
        let mut increments = self.increments();
        let restored = increments::read(&*self.fs, &path).and_then(|bytes| {
            let each = |labels: Labels, totals| {
                let hash = self.head.hash(labels.as_ref());
                if let Some(number) = head.find(hash, labels.as_ref()).or_else(|| head.insert(hash, labels)) {
                    increments.restore(number, totals, now_ms);
                }
            };
            increments::decode(&bytes, each).map_err(|fault| StorageError::Damaged { path: path.clone(), fault })
        });
        if let Err(error) = restored {
            tracing::error!(path = %path.display(), error = &error as &dyn std::error::Error, "totals cannot be read and are set aside");
            report.quarantined.push((path.clone(), error.to_string()));
            set_aside(&*self.fs, &self.dir, &path);
        }
        self.counts.series.store(head.series() as u64, Ordering::Relaxed);
        self.counts.increment_bytes.store(increments.bytes(), Ordering::Relaxed);
        Ok(())
    }

    fn replay(
        &self,
        segments: &[(u64, PathBuf)],
        progress: &ReplayProgress,
        report: &mut OpenReport,
    ) -> Result<(), StorageError> {
        self.head.write().index_beside();
        let replayed = self.replay_segments(segments, progress, report);
        self.head.write().index_here();
        replayed?;
        if self.counts.head_samples.load(Ordering::Relaxed) > 0 {
            let now = self.options.clock.monotonic();
            *self.unflushed_since.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        }
        self.take_memory()
    }

    fn replay_segments(
        &self,
        segments: &[(u64, PathBuf)],
        progress: &ReplayProgress,
        report: &mut OpenReport,
    ) -> Result<(), StorageError> {
        let mut replay = Replay::default();
        for (number, path) in segments {
            progress.current.store(*number, Ordering::Relaxed);
            let mut reader = SegmentReader::open(&*self.fs, path, *number)?;
            let skip_until = {
                let from = self.manifest().replay_from;
                if from.segment == *number { from.offset } else { 0 }
            };
            replay.chain.clear();
            while let Some(frame) = reader.next()? {
                let end = frame.end;
                let is_covered = end <= skip_until;
                let outcome = self.replay_frame(frame, is_covered, &mut replay, report);
                report.frames += u64::from(!is_covered);
                if let Err(fault) = outcome {
                    reader.note_malformed(fault.what);
                }
                self.relieve(LogPosition { segment: *number, offset: end })?;
            }
            if !reader.damage.is_empty() {
                for damage in &reader.damage {
                    tracing::error!(path = %damage.path.display(), offset = damage.offset, bytes = damage.bytes, what = damage.what, "the log is damaged");
                }
                keep_copy(&*self.fs, &self.dir, path);
                report.log_damage.append(&mut reader.damage);
            }
            if let ReplayEnd::Torn { keep, cut } = reader.end
                && cut > 0
            {
                tracing::warn!(path = %path.display(), keep, cut, "the log ends in an unfinished frame, which is cut off");
                report.torn_bytes += cut;
                cut_tail(&*self.fs, path, keep)?;
            }
        }
        Ok(())
    }

    /// Applies one frame; of a frame that is in blocks already only the definitions.
    fn replay_frame(
        &self,
        frame: ReadFrame<'_>,
        is_covered: bool,
        replay: &mut Replay,
        report: &mut OpenReport,
    ) -> Result<(), Malformed> {
        let now_ms = self.options.clock.now_ms();
        let mut head = self.head.write();
        let mut increments = self.increments();
        let (mut samples, mut touched) = (0u64, None::<(i64, i64)>);
        let Replay { known, chain, hashes } = replay;
        let outcome = decode(frame.payload, chain, frame.footing, |record| {
            let (number, series, sample) = match record {
                Record::Define(definitions, numbers) => {
                    hashes.clear();
                    hashes.extend(definitions.iter().map(|(_, labels)| self.head.hash(*labels)));
                    head.touch_hashes(hashes);
                    for (((series, labels), hash), number) in definitions.iter().zip(&*hashes).zip(numbers) {
                        let found = head.find(*hash, *labels).or_else(|| head.insert(*hash, labels.to_labels()));
                        if let Some(found) = found {
                            known.insert(*series, found);
                            *number = found;
                        }
                    }
                    return;
                }
                Record::Metadata(family, metadata) => {
                    remember_metadata(self.metadata().entry(family).or_default(), &metadata);
                    return;
                }
                Record::Delete(tombstone) => {
                    if !is_covered {
                        head.index_here();
                        self.apply_delete(&mut head, tombstone);
                        head.index_beside();
                    }
                    return;
                }
                Record::Exemplar(series, exemplar) => {
                    if let Some(number) = known.get(series)
                        && !is_covered
                    {
                        head.add_exemplar(number, &exemplar);
                    }
                    return;
                }
                Record::Added { number, series, row, begins } => (number, series, Replayed::Added(row, begins)),
                Record::Float { number, series, time_ms, start_ms, bits } => {
                    (number, series, Replayed::Sample(Sample::float(time_ms, start_ms, f64::from_bits(bits))))
                }
                Record::Histogram { number, series, time_ms, start_ms, value } => {
                    (number, series, Replayed::Sample(Sample::histogram(time_ms, start_ms, value.into())))
                }
            };
            if is_covered {
                return;
            }
            if *number == NONE {
                let Some(found) = known.get(series) else {
                    report.orphaned_samples += 1;
                    return;
                };
                *number = found;
            }
            let number = *number;
            let sample = match sample {
                Replayed::Sample(sample) => sample,
                Replayed::Added(row, begins) => {
                    let mut applying =
                        Applying { head: &mut head, increments: &mut increments, blocks_max: BELOW_ALL, now_ms };
                    // What was refused then is refused now; whoever sent it was told.
                    if let Ok(Some((time_ms, _))) = applying.add(number, &row, begins, None) {
                        samples += 1;
                        touched = Some(touched.map_or((time_ms, time_ms), |t| (t.0.min(time_ms), t.1.max(time_ms))));
                    }
                    return;
                }
            };
            let time_ms = sample.time_ms;
            let is_plain = sample.start_ms == 0 && sample.histogram.is_none();
            if !is_plain || !head.append_ahead(number, time_ms, sample.bits, BELOW_ALL) {
                head.append(number, sample, BELOW_ALL, None);
            }
            samples += 1;
            touched = Some(touched.map_or((time_ms, time_ms), |t| (t.0.min(time_ms), t.1.max(time_ms))));
        });
        self.counts.series.store(head.series() as u64, Ordering::Relaxed);
        self.counts.increment_bytes.store(increments.bytes(), Ordering::Relaxed);
        self.count_head(&head);
        report.samples += samples;
        if let Some((first, last)) = touched {
            self.changes().touched(first, last, now_ms);
        }
        outcome
    }

    /// Counts what the head holds, and reserves it.
    fn take_memory(&self) -> Result<(), StorageError> {
        let head = self.head.read();
        self.count_head(&head);
        let bytes = self.counts.head_bytes.load(Ordering::Relaxed);
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let held = memory.bytes();
        memory.grow(bytes.saturating_sub(held))?;
        Ok(())
    }

    /// Flushes in the middle of a replay when the head outgrows its share of the memory limit, or weighs so much that what
    /// follows would take long: rows that blocks held already were not stored when they came, and are now.
    fn relieve(&self, behind: LogPosition) -> Result<(), StorageError> {
        let (samples, bytes) = (&self.counts.head_samples, &self.counts.head_bytes);
        let is_large = bytes.load(Ordering::Relaxed) > self.options.budget.limit() / REPLAY_SHARE
            && samples.load(Ordering::Relaxed) >= RELIEVED_SAMPLES_MIN;
        let is_heavy = self.head.read().weight() / REPLAYED_HEADS_MAX >= self.full_at();
        let mut left_over = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        // What could not be flushed for its weight once is not tried again with every frame.
        if !is_large && (!is_heavy || left_over.is_some()) {
            return Ok(());
        }
        if let Some(frozen) = &*left_over {
            self.flush_frozen(frozen)?;
            *left_over = None;
        }
        let frozen = left_over.insert(self.freeze_at(behind));
        match self.flush_frozen(frozen) {
            Ok(_) => *left_over = None,
            Err(error) if is_large => return Err(error),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a long log cannot be flushed while it is replayed"
                );
            }
        }
        Ok(())
    }
}
