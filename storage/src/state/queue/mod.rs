//! A queue of records in files, for one consumer: what is to be sent on, kept until it was.
//!
//! ```text
//! queue/
//!   LOCK
//!   CHECKPOINT                    the first record not acknowledged; replaced as a whole
//!   00000000000000000000.queue    a segment: header, then a frame for each record
//!   00000000000000001234.queue    named by the position of its first record; appended to is only the last
//! ```
//!
//! A library so far: nothing in the program forwards yet.
//!
//! 1. A record is acknowledged to whoever appended it after its frame was written whole; a frame written in part is cut off, or the
//!    segment is left for good. What a failed sync may have lost is never written after: the segment is left, too.
//! 2. Every opening begins a segment of its own, further on by [`GAP`] than anything that an opening before can have given out: a
//!    position that power loss took is never given to another record.
//! 3. The checkpoint is durable before a segment that lies before it is removed. A queue whose end lies before its checkpoint, because power
//!    loss took what was acknowledged, goes on after the checkpoint.
//! 4. A torn end of the last segment is cut off when the queue is opened, and told in the [`QueueReport`]. Damage elsewhere is told
//!    by `read`, once for whoever reads over it, with where to go on.

mod segment;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kymo_core::state::{DiskQueue, QueueError, QueuePosition};
use kymo_core::{Clock, SystemClock};

use crate::fs::{Fs, FsFile, FsLock, OpenMode};
use segment::{FRAME_HEADER_LEN, Found, HEADER_LEN, Header, HeaderFault, SegmentReader};

/// Positions left out at each opening: more than the frames of a segment, of which alone some can be unsynced.
const GAP: u64 = 1 << 32;
/// Segments that are closed by age are closed at this part of it.
const AGE_PARTS: u32 = 8;
/// Ends of reads that are remembered, so that neither the next read nor the acknowledgement begins at the segment's start.
const MARKS_MAX: usize = 16;
const LOCK: &str = "LOCK";
const CHECKPOINT: &str = "CHECKPOINT";
const NEW_CHECKPOINT: &str = "CHECKPOINT.new";
const SUFFIX: &str = ".queue";

/// When what is appended becomes safe against power loss. A kill of the process loses nothing in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueueSync {
    /// Before `append` returns.
    Always,
    /// When its segment is full, or [`FileQueue::sync`] is called.
    #[default]
    PerSegment,
}

/// How a queue is kept.
#[derive(Clone)]
pub struct QueueOptions {
    /// Most bytes of records not acknowledged, their frames included. Default 1 GiB.
    pub bytes_max: u64,
    /// Records older than this are given up, a segment at a time and so up to an eighth later. Default none.
    pub age_max: Option<Duration>,
    /// A segment is closed at this size. Default 8 MiB.
    pub segment_bytes: u64,
    /// When records are synced.
    pub sync: QueueSync,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
}

impl Default for QueueOptions {
    fn default() -> QueueOptions {
        QueueOptions {
            bytes_max: 1 << 30,
            age_max: None,
            segment_bytes: 8 << 20,
            sync: QueueSync::default(),
            clock: Arc::new(SystemClock::new()),
        }
    }
}

/// What opening found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueReport {
    /// Bytes of a record that was not written whole, cut off the end.
    pub torn_bytes: u64,
    /// Segments whose header cannot be read; their records are read all the same.
    pub damaged_headers: Vec<PathBuf>,
    /// Whether the checkpoint could not be read: everything that is there comes out again.
    pub is_checkpoint_lost: bool,
}

/// What was the matter with a queue's files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueFault {
    /// Another process has it open.
    #[error("{}: in use by another process", dir.display())]
    Locked {
        /// The queue's directory.
        dir: PathBuf,
    },
    /// The disk failed.
    #[error("{}: {doing} failed", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the disk said.
        source: io::Error,
    },
    /// A file is of another version. Nothing was touched.
    #[error("{}: format {version}, this build reads {supported}", path.display(), supported = segment::VERSION)]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Bytes are not as they were written.
    #[error("{}: {what} at byte {offset}", path.display())]
    Bytes {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
}

fn io_fault(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> QueueFault {
    let path = path.to_owned();
    move |source| QueueFault::Io { path, doing, source }
}

fn unavailable(fault: QueueFault) -> QueueError {
    QueueError::Unavailable { source: Box::new(fault) }
}

/// A [`DiskQueue`] in a directory of its own.
pub struct FileQueue {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    options: QueueOptions,
    /// Held across I/O on purpose: writers take turns.
    inner: Mutex<Inner>,
    _lock: Box<dyn FsLock>,
}

struct Inner {
    /// By rising first position.
    segments: VecDeque<Segment>,
    /// The last segment, while it can be appended to.
    open: Option<Arc<dyn FsFile>>,
    end: u64,
    /// The position after the last record, which lies before `end` when the queue was opened since.
    after: u64,
    checkpoint: Mark,
    /// Where reads ended.
    marks: VecDeque<Mark>,
    /// Time of the newest record of this opening.
    newest_ms: Option<i64>,
    frame: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    first: u64,
    /// The position after the last record of the segment before, if its header can be read.
    after: u64,
    created_ms: i64,
    /// Bytes of its file that hold whole frames, as far as is known.
    len: u64,
    /// Whether something in it may still be lost to power loss.
    is_synced: bool,
}

/// A position, and where its frame begins, or would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    position: u64,
    /// First position of the segment.
    segment: u64,
    offset: u64,
}

impl FileQueue {
    /// Opens the queue in `dir`, made when missing; only one process can.
    ///
    /// # Errors
    /// [`QueueFault`]; nothing was removed.
    pub fn open(fs: Arc<dyn Fs>, dir: &Path, options: QueueOptions) -> Result<(FileQueue, QueueReport), QueueFault> {
        fs.create_dir_all(dir).map_err(io_fault(dir, "making it"))?;
        if let Some(parent) = dir.parent() {
            fs.sync_dir(parent).map_err(io_fault(parent, "syncing it"))?;
        }
        let lock_path = dir.join(LOCK);
        let lock = fs.lock(&lock_path).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => QueueFault::Locked { dir: dir.to_owned() },
            _ => io_fault(&lock_path, "locking it")(error),
        })?;
        let mut report = QueueReport::default();
        let mut segments = listed(&*fs, dir, &mut report)?;
        let after = cut_torn_end(&*fs, dir, &mut segments, &mut report)?;
        let checkpoint = read_checkpoint(&*fs, dir, &mut report)?;
        let mut end = after;
        if !segments.is_empty() || checkpoint.is_some() {
            end = end.max(checkpoint.unwrap_or_default()).saturating_add(GAP);
        }
        let first = segments.front().map_or(end, |segment| segment.first);
        let position = checkpoint.unwrap_or(first).max(first).min(end);
        let mut inner = Inner {
            segments,
            open: None,
            end,
            after,
            checkpoint: Mark { position, segment: first, offset: HEADER_LEN as u64 },
            marks: VecDeque::new(),
            newest_ms: None,
            frame: Vec::new(),
        };
        let queue = FileQueue { fs, dir: dir.to_owned(), options, inner: Mutex::default(), _lock: lock };
        inner.checkpoint = queue.locate(&inner, position)?;
        queue.drop_before_checkpoint(&mut inner)?;
        *queue.inner() = inner;
        Ok((queue, report))
    }

    /// Makes everything appended so far safe against power loss.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`]: of what was not synced before, some may be lost if power is; it can still be read. The next
    /// record goes to another segment.
    pub fn sync(&self) -> Result<(), QueueError> {
        let mut inner = self.inner();
        self.sync_open(&mut inner).map_err(unavailable)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, first: u64) -> PathBuf {
        self.dir.join(format!("{first:020}{SUFFIX}"))
    }

    fn reader(&self, segment: &Segment) -> Result<SegmentReader, QueueFault> {
        let path = self.path(segment.first);
        let file = self.fs.open(&path, OpenMode::Read).map_err(io_fault(&path, "opening it"))?;
        Ok(SegmentReader::new(file, &path, segment.first, segment.len))
    }

    fn sync_open(&self, inner: &mut Inner) -> Result<(), QueueFault> {
        let (Some(open), Some(last)) = (&inner.open, inner.segments.back_mut()) else { return Ok(()) };
        if last.is_synced {
            return Ok(());
        }
        let path = self.path(last.first);
        match open.sync_data() {
            Ok(()) => {
                last.is_synced = true;
                Ok(())
            }
            Err(error) => {
                // Invariant 1.
                inner.open = None;
                Err(io_fault(&path, "syncing it")(error))
            }
        }
    }

    /// The segment to append to: the open one, or a new one.
    fn open_segment(&self, inner: &mut Inner, now_ms: i64) -> Result<Arc<dyn FsFile>, QueueFault> {
        let is_old = |segment: &Segment| {
            let age = self.options.age_max.map(|age| (age / AGE_PARTS).as_millis() as i64);
            age.is_some_and(|age| now_ms.saturating_sub(segment.created_ms) >= age)
        };
        let is_full = |segment: &Segment| segment.len >= self.options.segment_bytes || is_old(segment);
        if inner.segments.back().is_some_and(is_full) {
            self.sync_open(inner)?;
            inner.open = None;
        }
        if let Some(open) = &inner.open {
            return Ok(open.clone());
        }
        let header = Header { first: inner.end, after: inner.after, created_ms: now_ms };
        let path = self.path(header.first);
        let file = self.begin(&path, header)?;
        let segment = Segment {
            first: header.first,
            after: header.after,
            created_ms: now_ms,
            len: HEADER_LEN as u64,
            is_synced: true,
        };
        inner.segments.push_back(segment);
        inner.open = Some(file.clone());
        Ok(file)
    }

    fn begin(&self, path: &Path, header: Header) -> Result<Arc<dyn FsFile>, QueueFault> {
        // One that was begun and came to nothing is in the way.
        match self.fs.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_fault(path, "removing it")(error)),
            _ => {}
        }
        let file = self.fs.create_new(path).map_err(io_fault(path, "making it"))?;
        file.append_all(&header.encode()).map_err(|error| io_fault(path, "writing it")(error.into()))?;
        file.sync_data().map_err(io_fault(path, "syncing it"))?;
        self.fs.sync_dir(&self.dir).map_err(io_fault(&self.dir, "syncing it"))?;
        Ok(file)
    }

    fn try_append(&self, inner: &mut Inner, record: &[u8]) -> Result<u64, QueueFault> {
        let now_ms = self.options.clock.now_ms();
        let file = self.open_segment(inner, now_ms)?;
        let position = inner.end;
        inner.frame.clear();
        segment::put_frame(&mut inner.frame, position, record);
        let Some(last) = inner.segments.back_mut() else { return Ok(position) };
        let path = self.path(last.first);
        let (before, written) = (last.len, file.append_all(&inner.frame));
        if let Err(partial) = written {
            // Invariant 1: what is there of the frame goes, or the segment is left.
            if file.set_len(before).is_err() {
                inner.open = None;
            }
            return Err(io_fault(&path, "writing it")(partial.into()));
        }
        last.len += inner.frame.len() as u64;
        last.is_synced = false;
        if self.options.sync == QueueSync::Always
            && let Err(fault) = self.sync_open(inner)
        {
            // It was not acknowledged, so it is not to come out. The segments's other records were synced.
            if let Some(last) = inner.segments.back_mut() {
                last.len = before;
                last.is_synced = true;
            }
            let _ = file.set_len(before);
            return Err(fault);
        }
        inner.end += 1;
        inner.after = inner.end;
        inner.newest_ms = Some(now_ms);
        Ok(position)
    }

    /// Where a position is, or the first after it: from a place known to be before.
    fn locate(&self, inner: &Inner, position: u64) -> Result<Mark, QueueFault> {
        if position >= inner.end {
            let last = inner.segments.back();
            let (segment, offset) =
                last.map_or((inner.end, HEADER_LEN as u64), |last| (last.first, last.len.max(HEADER_LEN as u64)));
            return Ok(Mark { position, segment, offset });
        }
        let holder = inner.segments.iter().rev().find(|segment| segment.first <= position);
        let Some(holder) = holder.or(inner.segments.front()) else {
            return Ok(Mark { position, segment: position, offset: HEADER_LEN as u64 });
        };
        let marks = inner.marks.iter().chain(std::iter::once(&inner.checkpoint));
        let nearest = marks.filter(|mark| mark.segment == holder.first && mark.position <= position);
        let mut offset = nearest.map(|mark| mark.offset).max().unwrap_or(HEADER_LEN as u64).min(holder.len);
        let reader = self.reader(holder)?;
        let read_fault = |error| io_fault(reader.path(), "reading it")(error);
        let (mut record, mut expected) = (Vec::new(), 0);
        loop {
            match reader.frame(offset, expected, &mut record).map_err(read_fault)? {
                Found::Frame { position: found, .. } if found >= position => break,
                Found::Frame { position: found, next } => (offset, expected) = (next, found + 1),
                Found::End => break,
                Found::Damage { .. } => {
                    match reader.resync(offset, expected.max(holder.first), &mut record).map_err(read_fault)? {
                        Some((at, found)) if found <= position => (offset, expected) = (at, found),
                        // What is wanted is the damage itself, or behind it: whoever reads it is told.
                        _ => break,
                    }
                }
            }
        }
        Ok(Mark { position, segment: holder.first, offset })
    }

    /// Removes the segments of which nothing is left to read.
    fn drop_before_checkpoint(&self, inner: &mut Inner) -> Result<(), QueueFault> {
        loop {
            let next = inner.segments.get(1).map_or(inner.end, |next| next.first);
            let is_open = inner.segments.len() == 1 && inner.open.is_some();
            match inner.segments.front().copied() {
                Some(front) if next <= inner.checkpoint.position && !is_open => {
                    let path = self.path(front.first);
                    match self.fs.remove(&path) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => {
                            return Err(io_fault(&path, "removing it")(error));
                        }
                        _ => drop(inner.segments.pop_front()),
                    }
                }
                _ => return Ok(()),
            }
        }
    }

    /// Moves the checkpoint, durably, and frees what is before it.
    fn move_checkpoint(&self, inner: &mut Inner, until: u64) -> Result<(), QueueFault> {
        let mark = self.locate(inner, until)?;
        let (new, path) = (self.dir.join(NEW_CHECKPOINT), self.dir.join(CHECKPOINT));
        match self.fs.remove(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_fault(&new, "removing it")(error)),
            _ => {}
        }
        let file = self.fs.create_new(&new).map_err(io_fault(&new, "making it"))?;
        let written = file.append_all(&segment::encode_checkpoint(until));
        written.map_err(|error| io_fault(&new, "writing it")(error.into()))?;
        file.sync_data().map_err(io_fault(&new, "syncing it"))?;
        self.fs.rename(&new, &path).map_err(io_fault(&path, "renaming it"))?;
        self.fs.sync_dir(&self.dir).map_err(io_fault(&self.dir, "syncing it"))?;
        inner.checkpoint = mark;
        inner.marks.retain(|mark| mark.position > until);
        // What is not removed now is removed with the next acknowledgement, or at the next opening.
        let _ = self.drop_before_checkpoint(inner);
        Ok(())
    }

    /// Gives up the segments whose records are all too old.
    fn expire(&self, inner: &mut Inner) -> Result<(), QueueFault> {
        let Some(age) = self.options.age_max else { return Ok(()) };
        let oldest_ms = self.options.clock.now_ms().saturating_sub(age.as_millis() as i64);
        // A segment's records are older than the segment after it, and than the newest record of all.
        let followers = inner.segments.iter().skip(1).map(|next| (next.first, next.created_ms));
        let part_ms = (age / AGE_PARTS).as_millis() as i64;
        let newest_ms =
            inner.newest_ms.or_else(|| inner.segments.back().map(|last| last.created_ms.saturating_add(part_ms)));
        let last = newest_ms.map(|newest_ms| (inner.end, newest_ms));
        let expired = followers.chain(last).take_while(|(_, newest_ms)| *newest_ms < oldest_ms).last();
        match expired {
            Some((until, _)) if until > inner.checkpoint.position => self.move_checkpoint(inner, until),
            _ => Ok(()),
        }
    }

    fn bytes_of(inner: &Inner) -> u64 {
        let held = inner.segments.iter().filter(|segment| segment.first >= inner.checkpoint.segment);
        held.map(|segment| {
            let from =
                if segment.first == inner.checkpoint.segment { inner.checkpoint.offset } else { HEADER_LEN as u64 };
            segment.len.saturating_sub(from)
        })
        .sum()
    }
}

impl DiskQueue for FileQueue {
    fn append(&self, record: &[u8]) -> Result<QueuePosition, QueueError> {
        let mut inner = self.inner();
        self.expire(&mut inner).map_err(unavailable)?;
        let limit_bytes = self.options.bytes_max;
        let wanted = FRAME_HEADER_LEN as u64 + record.len() as u64;
        if FileQueue::bytes_of(&inner).saturating_add(wanted) > limit_bytes || u32::try_from(record.len()).is_err() {
            return Err(QueueError::Full { wanted: record.len(), limit_bytes });
        }
        self.try_append(&mut inner, record).map(QueuePosition).map_err(unavailable)
    }

    fn read(
        &self,
        from: QueuePosition,
        bytes_max: usize,
        into: &mut Vec<Vec<u8>>,
    ) -> Result<QueuePosition, QueueError> {
        // What is read lies before `len` of its segment, so writers need not wait; what acknowledging removes meanwhile stays with
        // the open file.
        let (mut mark, segments, end) = {
            let mut inner = self.inner();
            self.expire(&mut inner).map_err(unavailable)?;
            if from.0 < inner.checkpoint.position {
                return Err(QueueError::Gone { position: from, checkpoint: QueuePosition(inner.checkpoint.position) });
            }
            if from.0 >= inner.end {
                return Ok(from);
            }
            let mark = self.locate(&inner, from.0).map_err(unavailable)?;
            let segments: Vec<Segment> =
                inner.segments.iter().filter(|segment| segment.first >= mark.segment).copied().collect();
            (mark, segments, inner.end)
        };
        let (mut bytes, mut record, began) = (0usize, Vec::new(), into.len());
        'segments: for (index, segment) in segments.iter().enumerate() {
            let reader = self.reader(segment).map_err(unavailable)?;
            let read_fault = |error| unavailable(io_fault(reader.path(), "reading it")(error));
            let follower = segments.get(index + 1).map_or(end, |next| next.first);
            if mark.segment != segment.first {
                mark = Mark {
                    position: mark.position.max(segment.first),
                    segment: segment.first,
                    offset: HEADER_LEN as u64,
                };
            }
            loop {
                if into.len() > began && bytes >= bytes_max {
                    break 'segments;
                }
                match reader.frame(mark.offset, 0, &mut record).map_err(read_fault)? {
                    // Of a failed sync: the record was not acknowledged, and its position went to another one.
                    Found::Frame { position, .. } if position >= follower => break,
                    Found::Frame { position, next } => {
                        if position >= mark.position {
                            if into.len() > began && bytes.saturating_add(record.len()) > bytes_max {
                                break 'segments;
                            }
                            bytes += record.len();
                            into.push(std::mem::take(&mut record));
                            mark.position = position + 1;
                        }
                        mark.offset = next;
                    }
                    Found::End => {
                        // The segment ends before its last record: it was cut where a frame ends.
                        let next = segments.get(index + 1).filter(|next| next.after > mark.position);
                        let Some(next) = next else { break };
                        if into.len() > began {
                            break 'segments;
                        }
                        let (path, offset) = (reader.path().to_owned(), mark.offset);
                        return Err(QueueError::Damaged {
                            position: QueuePosition(mark.position),
                            resume: QueuePosition(next.first),
                            source: Box::new(QueueFault::Bytes { path, offset, what: "unexpected end" }),
                        });
                    }
                    Found::Damage { what } => {
                        let found = reader.resync(mark.offset, segment.first, &mut record).map_err(read_fault)?;
                        let resume = found.map_or(follower, |(_, position)| position);
                        if resume > mark.position {
                            if into.len() > began {
                                break 'segments;
                            }
                            let (path, offset) = (reader.path().to_owned(), mark.offset);
                            return Err(QueueError::Damaged {
                                position: QueuePosition(mark.position),
                                resume: QueuePosition(resume),
                                source: Box::new(QueueFault::Bytes { path, offset, what }),
                            });
                        }
                        match found {
                            Some((at, _)) => mark.offset = at,
                            None => break,
                        }
                    }
                }
            }
        }
        if into.len() == began {
            // Positions that were left out, up to the end.
            return Ok(QueuePosition(end));
        }
        let mut inner = self.inner();
        if inner.marks.len() == MARKS_MAX {
            inner.marks.pop_front();
        }
        inner.marks.push_back(mark);
        Ok(QueuePosition(mark.position))
    }

    fn acknowledge(&self, until: QueuePosition) -> Result<(), QueueError> {
        let mut inner = self.inner();
        let until = until.0.min(inner.end);
        if until <= inner.checkpoint.position {
            return Ok(());
        }
        self.move_checkpoint(&mut inner, until).map_err(unavailable)
    }

    fn checkpoint(&self) -> QueuePosition {
        QueuePosition(self.inner().checkpoint.position)
    }

    fn end(&self) -> QueuePosition {
        QueuePosition(self.inner().end)
    }

    fn bytes(&self) -> u64 {
        FileQueue::bytes_of(&self.inner())
    }
}

impl Default for Inner {
    fn default() -> Inner {
        let checkpoint = Mark { position: 0, segment: 0, offset: HEADER_LEN as u64 };
        Inner {
            segments: VecDeque::new(),
            open: None,
            end: 0,
            after: 0,
            checkpoint,
            marks: VecDeque::new(),
            newest_ms: None,
            frame: Vec::new(),
        }
    }
}

impl std::fmt::Debug for FileQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileQueue").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// The segments there are.
fn listed(fs: &dyn Fs, dir: &Path, report: &mut QueueReport) -> Result<VecDeque<Segment>, QueueFault> {
    let mut segments: VecDeque<Segment> = VecDeque::new();
    for entry in fs.list(dir).map_err(io_fault(dir, "listing it"))? {
        let name = entry.name.to_string_lossy();
        let Some(first) = name.strip_suffix(SUFFIX).and_then(|digits| digits.parse().ok()) else { continue };
        let path = dir.join(&entry.name);
        let file = fs.open(&path, OpenMode::Read).map_err(io_fault(&path, "opening it"))?;
        let mut header = vec![0; HEADER_LEN.min(entry.len as usize)];
        file.read_exact_at(&mut header, 0).map_err(io_fault(&path, "reading it"))?;
        let (after, created_ms) = match Header::decode(&header) {
            Ok(header) if header.first == first => (header.after, header.created_ms),
            Err(HeaderFault::Version(version)) if header.starts_with(&segment::MAGIC) && is_other_version(&header) => {
                return Err(QueueFault::Version { path, version });
            }
            _ => {
                report.damaged_headers.push(path);
                // Of the time before it, so that it is not given up too early.
                (0, segments.back().map_or(i64::MIN, |before| before.created_ms))
            }
        };
        segments.push_back(Segment { first, after, created_ms, len: entry.len, is_synced: true });
    }
    segments.make_contiguous().sort_by_key(|segment| segment.first);
    Ok(segments)
}

/// Whether a version that is not ours was written, rather than a bit flipped: then the checksum fits.
fn is_other_version(header: &[u8]) -> bool {
    header.split_last_chunk::<4>().is_some_and(|(sealed, sum)| crc32fast::hash(sealed) == u32::from_le_bytes(*sum))
}

/// Cuts what was not written whole off the last segment; gives the position after its last record. Invariant 4.
fn cut_torn_end(
    fs: &dyn Fs,
    dir: &Path,
    segments: &mut VecDeque<Segment>,
    report: &mut QueueReport,
) -> Result<u64, QueueFault> {
    let Some(last) = segments.back_mut() else { return Ok(0) };
    let path = dir.join(format!("{:020}{SUFFIX}", last.first));
    let file = fs.open(&path, OpenMode::Append).map_err(io_fault(&path, "opening it"))?;
    let reader = SegmentReader::new(file.clone(), &path, last.first, last.len);
    let (mut offset, mut end, mut record) = (HEADER_LEN as u64, last.first, Vec::new());
    if report.damaged_headers.last() == Some(&path)
        && reader.resync(0, end, &mut record).map_err(io_fault(&path, "reading it"))?.is_none()
    {
        // It was being begun: its header is synced before there are records.
        fs.remove(&path).map_err(io_fault(&path, "removing it"))?;
        report.damaged_headers.pop();
        segments.pop_back();
        return cut_torn_end(fs, dir, segments, report);
    }
    while offset < last.len {
        let found = reader.frame(offset, end, &mut record).map_err(io_fault(&path, "reading it"))?;
        match found {
            Found::Frame { position, next } => (offset, end) = (next, position.saturating_add(1)),
            Found::End => break,
            Found::Damage { .. } => {
                match reader.resync(offset, end, &mut record).map_err(io_fault(&path, "reading it"))? {
                    Some((at, position)) => (offset, end) = (at, position),
                    None => {
                        report.torn_bytes = last.len - offset;
                        file.set_len(offset).map_err(io_fault(&path, "cutting it"))?;
                        file.sync_data().map_err(io_fault(&path, "syncing it"))?;
                        last.len = offset;
                    }
                }
            }
        }
    }
    Ok(end)
}

/// The checkpoint, `None` if there is none that can be read.
fn read_checkpoint(fs: &dyn Fs, dir: &Path, report: &mut QueueReport) -> Result<Option<u64>, QueueFault> {
    let path = dir.join(CHECKPOINT);
    let file = match fs.open(&path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_fault(&path, "opening it")(error)),
    };
    let len = file.len().map_err(io_fault(&path, "reading it"))?.min(segment::CHECKPOINT_LEN as u64 + 1);
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0).map_err(io_fault(&path, "reading it"))?;
    match segment::decode_checkpoint(&bytes) {
        Ok(position) => Ok(Some(position)),
        Err(HeaderFault::Version(version)) if is_other_version(&bytes) => Err(QueueFault::Version { path, version }),
        Err(_) => {
            report.is_checkpoint_lost = true;
            Ok(None)
        }
    }
}
