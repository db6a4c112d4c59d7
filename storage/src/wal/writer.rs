//! The open segment, and what to do when the disk fails under it.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kymo_core::Reservation;

use super::LogPosition;
use super::frame::{FRAME_HEADER_LEN, SEGMENT_HEADER_LEN, put_frame, segment_header};
use crate::fs::{Fs, FsFile};
use crate::options::SyncPolicy;

/// A segment is closed once it has passed this length, so that damage and re-reading stay local.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 64 << 20;
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
    /// Rises with every segment; definitions are written again in each.
    generation: Arc<AtomicU64>,
    /// Payloads since the last successful sync with the times of their writing, oldest first.
    unsynced: VecDeque<(Duration, Box<[u8]>)>,
    /// Their bytes, reserved as far as the budget has them.
    unsynced_memory: Reservation,
    /// Whether it did not have all.
    is_over_budget: bool,
    /// Closed segments that hold some of them.
    unsynced_closed: Vec<Arc<dyn FsFile>>,
    buffer: Vec<u8>,
    /// Bytes of closed segments that still exist.
    closed_bytes: u64,
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
            unsynced: VecDeque::new(),
            unsynced_memory: memory,
            is_over_budget: false,
            unsynced_closed: Vec::new(),
            buffer: Vec::new(),
            closed_bytes,
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

    /// Bytes of log files.
    pub(crate) fn bytes(&self) -> u64 {
        self.closed_bytes + self.len
    }

    /// When the oldest unsynced frame was written, on the monotonic clock.
    pub(crate) fn unsynced_since(&self) -> Option<Duration> {
        self.unsynced.front().map(|(since, _)| *since)
    }

    /// Writes all payloads as frames by one write, and syncs if the policy asks for it.
    ///
    /// On `Err` none of them is in the log (or only in a file that is cut back), and the next
    /// write may succeed.
    pub(crate) fn write(&mut self, payloads: &[&[u8]], now: Duration) -> io::Result<()> {
        if (self.unsynced_memory.bytes() > UNSYNCED_BYTES_MAX || self.is_over_budget)
            && let Some(job) = self.begin_sync()
        {
            let done = job.run();
            self.finish_sync(job, done)?;
        }
        let file = self.open()?;
        let start = self.len;
        self.buffer.clear();
        for payload in payloads {
            let offset = start + self.buffer.len() as u64;
            put_frame(&mut self.buffer, payload, self.segment, offset);
        }
        if let Err(partial) = file.append_all(&self.buffer) {
            self.cut_back(&*file, start);
            return Err(partial.source);
        }
        self.len = start + self.buffer.len() as u64;
        if self.policy == SyncPolicy::Always {
            if let Err(error) = file.sync_data() {
                self.cut_back(&*file, start);
                self.abandon();
                return Err(error);
            }
        } else if self.policy != SyncPolicy::Never {
            for payload in payloads {
                self.unsynced.push_back((now, (*payload).into()));
            }
            // Without room for them the next write syncs first, and gives theirs back.
            let kept = payloads.iter().map(|payload| payload.len() as u64).sum();
            self.is_over_budget = self.unsynced_memory.grow(kept).is_err();
        }
        if self.len >= SEGMENT_BYTES_MAX {
            self.rotate();
        }
        Ok(())
    }

    /// What a sync has to do now; `None` when everything is durable. Run it without holding the writer.
    pub(crate) fn begin_sync(&self) -> Option<SyncJob> {
        if self.unsynced.is_empty() {
            return None;
        }
        let files = self.unsynced_closed.iter().chain(&self.file).map(Arc::clone).collect();
        Some(SyncJob { files, frames: self.unsynced.len(), segment: self.segment })
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
        let durable = self.unsynced.drain(..job.frames.min(self.unsynced.len()));
        drop(durable);
        self.settle_memory();
        self.unsynced_closed.retain(|closed| !job.files.iter().any(|file| Arc::ptr_eq(file, closed)));
        Ok(())
    }

    /// Makes the reservation what is still kept.
    fn settle_memory(&mut self) {
        let kept: u64 = self.unsynced.iter().map(|(_, payload)| payload.len() as u64).sum();
        self.unsynced_memory.shrink(self.unsynced_memory.bytes().saturating_sub(kept));
        self.is_over_budget = false;
    }

    fn rewrite_unsynced(&mut self) -> io::Result<()> {
        let file = self.open()?;
        let start = self.len;
        self.buffer.clear();
        for (_, payload) in &self.unsynced {
            let offset = start + self.buffer.len() as u64;
            put_frame(&mut self.buffer, payload, self.segment, offset);
        }
        if let Err(partial) = file.append_all(&self.buffer) {
            self.cut_back(&*file, start);
            return Err(partial.source);
        }
        self.len = start + self.buffer.len() as u64;
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
            if !self.unsynced.is_empty() {
                self.unsynced_closed.push(file);
            }
            self.abandon();
        }
        LogPosition { segment: self.segment + 1, offset: 0 }
    }

    /// Notes that closed segments of so many bytes were removed.
    pub(crate) fn removed(&mut self, bytes: u64) {
        self.closed_bytes = self.closed_bytes.saturating_sub(bytes);
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
        self.len = SEGMENT_HEADER_LEN as u64;
        self.file = Some(Arc::clone(&file));
        Ok(file)
    }

    /// Cuts the file back to `len`; if even that fails it is left behind.
    fn cut_back(&mut self, file: &dyn FsFile, len: u64) {
        match file.set_len(len) {
            Ok(()) => self.len = len,
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
        // Release: whoever reads the new number may not use what it learned of the old segment.
        self.generation.fetch_add(1, Ordering::Release);
    }
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
