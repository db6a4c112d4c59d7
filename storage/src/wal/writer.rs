//! The open segment, and what to do when the disk fails under it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kymo_core::Reservation;

use super::LogPosition;
use super::frame::{FRAME_HEADER_LEN, SEGMENT_HEADER_LEN, seal_frame, segment_header};
use super::retained::Retained;
use crate::fs::{Fs, FsFile};
use crate::options::SyncPolicy;

/// A segment is closed once it has passed this length, so that damage and re-reading stay local.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// Nor before it is this many times as long as the definitions in it, which the next one repeats: those of a million
/// series alone are longer than that.
const SEGMENT_PER_DEFINITIONS: u64 = 8;
/// Unsynced payload kept in memory, for the case that a sync fails; beyond it a writer syncs first.
const UNSYNCED_BYTES_MAX: u64 = 32 << 20;

/// Writes frames to the newest segment.
pub(crate) struct LogWriter {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    policy: SyncPolicy,
    /// The open file; `None` before the first frame of a segment and after a failure.
    file: Option<Arc<dyn FsFile>>,
    /// Its number, or the number of the last one.
    segment: u64,
    /// Its length: whole frames only.
    len: u64,
    /// Rises with every segment and every frame that was lost: what comes next leans on nothing before.
    generation: Arc<AtomicU64>,
    /// Payloads since the last successful sync.
    unsynced: Retained,
    /// Their bytes, reserved as far as the budget has them.
    unsynced_memory: Reservation,
    /// Whether it did not have all.
    is_over_budget: bool,
    /// Closed segments that hold some of them.
    unsynced_closed: Vec<Arc<dyn FsFile>>,
    /// Bytes of closed segments that still exist.
    closed_bytes: u64,
    /// Of those and of the open one. Relaxed: it guards nothing.
    bytes: Arc<AtomicU64>,
}

impl LogWriter {
    /// A writer whose first segment will be `first_segment`; what it keeps in memory is reserved by `memory`.
    pub(crate) fn new(
        fs: Arc<dyn Fs>,
        dir: PathBuf,
        policy: SyncPolicy,
        first_segment: u64,
        closed_bytes: u64,
        memory: Reservation,
    ) -> LogWriter {
        LogWriter {
            fs,
            dir,
            policy,
            file: None,
            segment: first_segment - 1,
            len: 0,
            generation: Arc::new(AtomicU64::new(first_segment)),
            unsynced: Retained::default(),
            unsynced_memory: memory,
            is_over_budget: false,
            unsynced_closed: Vec::new(),
            closed_bytes,
            bytes: Arc::new(AtomicU64::new(closed_bytes)),
        }
    }

    /// The generation a frame must have been encoded for to be written now.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The same, for those who do not hold the writer; it may rise at any moment.
    pub(crate) fn shared_generation(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.generation)
    }

    /// Bytes of log files, the open one's included, for those who do not hold the writer.
    pub(crate) fn shared_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.bytes)
    }

    fn set_len(&mut self, len: u64) {
        self.len = len;
        self.show_bytes();
    }

    fn show_bytes(&self) {
        self.bytes.store(self.closed_bytes + self.len, Ordering::Relaxed);
    }

    /// When the oldest unsynced frame was written, on the monotonic clock.
    pub(crate) fn unsynced_since(&self) -> Option<Duration> {
        self.unsynced.since()
    }

    /// Writes frames, which stand in `bytes` back to back with blank headers, by one write, and syncs if the policy
    /// asks for it.
    ///
    /// On `Err` none of them is in the log (or only in a file that is cut back), and the next
    /// write may succeed.
    pub(crate) fn write(&mut self, bytes: &mut [u8], frames: &[FrameSpan], now: Duration) -> io::Result<()> {
        let file = self.open().inspect_err(|_| self.lose())?;
        let start = self.len;
        for frame in frames {
            seal_frame(&mut bytes[frame.start..frame.end], self.segment, start + frame.start as u64);
        }
        if let Err(partial) = file.append_all(bytes) {
            self.lose();
            self.cut_back(&*file, start);
            return Err(partial.source);
        }
        self.set_len(start + bytes.len() as u64);
        if self.policy == SyncPolicy::Always {
            if let Err(error) = file.sync_data() {
                self.cut_back(&*file, start);
                self.abandon();
                return Err(error);
            }
        } else if self.policy != SyncPolicy::Never {
            for frame in frames {
                let payload = &bytes[frame.start + FRAME_HEADER_LEN..frame.end];
                self.unsynced.push(now, payload, frame.is_key);
            }
            // Without room for them the next write syncs first, and gives theirs back.
            let kept = self.unsynced.bytes().saturating_sub(self.unsynced_memory.bytes());
            self.is_over_budget = self.unsynced_memory.grow(kept).is_err();
        }
        let definitions = frames.last().map_or(0, |frame| frame.definitions);
        if self.len >= SEGMENT_BYTES_MAX.max(SEGMENT_PER_DEFINITIONS * definitions) {
            self.rotate();
        }
        Ok(())
    }

    /// Syncs if too much is kept in memory. On `Err` what was encoded so far must not be written.
    pub(crate) fn make_room(&mut self) -> io::Result<()> {
        if (self.unsynced.waiting_bytes() > UNSYNCED_BYTES_MAX || self.is_over_budget)
            && let Some(job) = self.begin_sync()
        {
            let done = job.run();
            self.finish_sync(job, done).inspect_err(|_| self.lose())?;
        }
        Ok(())
    }

    /// Notes that a frame which others may lean on is not in the log.
    fn lose(&self) {
        // Release: whoever reads the new number may not use what it learned before.
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// What a sync has to do now; `None` when everything is durable. Run it without holding the writer.
    pub(crate) fn begin_sync(&self) -> Option<SyncJob> {
        if self.unsynced.is_durable() {
            return None;
        }
        let files = self.unsynced_closed.iter().chain(&self.file).map(Arc::clone).collect();
        Some(SyncJob { files, frames: self.unsynced.unsynced(), segment: self.segment })
    }

    /// Notes the outcome of a sync.
    ///
    /// After a failed one the files are never trusted again: all unsynced frames are written to a new
    /// segment, and that one is synced.
    pub(crate) fn finish_sync(&mut self, job: SyncJob, done: io::Result<()>) -> io::Result<()> {
        if let Err(error) = done {
            tracing::warn!(segment = job.segment, %error, "log sync failed; unsynced frames go to a new segment");
            self.abandon();
            return self.rewrite_unsynced();
        }
        self.unsynced.synced(job.frames);
        self.settle_memory();
        self.unsynced_closed.retain(|closed| !job.files.iter().any(|file| Arc::ptr_eq(file, closed)));
        Ok(())
    }

    /// Makes the reservation what is still kept.
    fn settle_memory(&mut self) {
        self.unsynced_memory.shrink(self.unsynced_memory.bytes().saturating_sub(self.unsynced.bytes()));
        self.is_over_budget = false;
    }

    fn rewrite_unsynced(&mut self) -> io::Result<()> {
        let file = self.open()?;
        let start = self.len;
        let mut bytes = Vec::new();
        let mut at = 0;
        self.unsynced.encode_again(|payload| {
            bytes.resize(at + FRAME_HEADER_LEN, 0);
            bytes.extend_from_slice(payload);
            seal_frame(&mut bytes[at..], self.segment, start + at as u64);
            at = bytes.len();
        });
        if let Err(partial) = file.append_all(&bytes) {
            self.cut_back(&*file, start);
            return Err(partial.source);
        }
        self.set_len(start + bytes.len() as u64);
        if let Err(error) = file.sync_data() {
            self.abandon();
            return Err(error);
        }
        self.unsynced.clear();
        self.settle_memory();
        self.unsynced_closed.clear();
        Ok(())
    }

    /// Ends the segment, so that what follows stands in a new one; gives the position where it will begin.
    pub(crate) fn rotate(&mut self) -> LogPosition {
        if let Some(file) = self.file.clone() {
            if !self.unsynced.is_durable() {
                self.unsynced_closed.push(file);
            }
            self.abandon();
        }
        LogPosition { segment: self.segment + 1, offset: 0 }
    }

    /// Notes that closed segments of so many bytes were removed.
    pub(crate) fn removed(&mut self, bytes: u64) {
        self.closed_bytes = self.closed_bytes.saturating_sub(bytes);
        self.show_bytes();
    }

    fn open(&mut self) -> io::Result<Arc<dyn FsFile>> {
        if let Some(file) = &self.file {
            return Ok(Arc::clone(file));
        }
        let number = self.segment + 1;
        let path = self.dir.join(segment_name(number));
        let made = self.fs.create_new(&path).and_then(|file| {
            file.append_all(&segment_header(number)).map_err(|partial| partial.source)?;
            if self.policy != SyncPolicy::Never {
                file.sync_data()?;
                self.fs.sync_dir(&self.dir)?;
            }
            Ok(file)
        });
        // Whatever became of the file, its number is used up.
        self.segment = number;
        let file = made.inspect_err(|_| {
            // A leftover without a whole header holds no frame; a reader passes over it.
            let _ = self.fs.remove(&path);
        })?;
        self.set_len(SEGMENT_HEADER_LEN as u64);
        self.file = Some(Arc::clone(&file));
        Ok(file)
    }

    /// Cuts the file back to `len`; if even that fails it is left behind.
    fn cut_back(&mut self, file: &dyn FsFile, len: u64) {
        match file.set_len(len) {
            Ok(()) => self.set_len(len),
            Err(error) => {
                tracing::warn!(segment = self.segment, %error, "log segment could not be cut back and is left behind");
                self.abandon();
            }
        }
    }

    /// Never writes to the open file again.
    fn abandon(&mut self) {
        self.closed_bytes += self.len;
        self.file = None;
        self.len = 0;
        self.lose();
    }
}

/// Where a frame stands among those written with it, its header included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameSpan {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) is_key: bool,
    /// Bytes of definitions in its generation up to its end.
    pub(super) definitions: u64,
}

/// Files to sync, and how many frames are durable afterwards.
pub(crate) struct SyncJob {
    files: Vec<Arc<dyn FsFile>>,
    frames: usize,
    segment: u64,
}

impl SyncJob {
    /// Syncs the files. Slow; needs no lock.
    pub(crate) fn run(&self) -> io::Result<()> {
        self.files.iter().try_for_each(|file| file.sync_data())
    }
}

/// File name of a segment.
pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:020}.wal")
}

/// The number in a segment's file name.
pub(crate) fn segment_number(name: impl AsRef<Path>) -> Option<u64> {
    let name = name.as_ref().to_str()?.strip_suffix(".wal")?;
    (name.len() == 20 && name.bytes().all(|b| b.is_ascii_digit())).then(|| name.parse().ok())?
}

const _: () = assert!(FRAME_HEADER_LEN < SEGMENT_BYTES_MAX as usize);
