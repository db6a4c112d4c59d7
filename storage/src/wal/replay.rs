//! Reading the log back: frame by frame, in bounded memory, past damage.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::{
    FRAME_HEADER_LEN, FRAME_MAGIC, SEGMENT_HEADER_LEN, SEGMENT_VERSION, SegmentHeader, check_frame_header,
    check_segment_header,
};
use super::record::{Footing, is_key};
use crate::codec::is_sum;
use crate::error::StorageError;
use crate::fs::{Fs, FsFile, OpenMode};

/// Bytes read at once while looking for the next frame behind a damaged one.
const SEARCH_BYTES: usize = 1 << 20;

/// A stretch of a segment that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDamage {
    /// The segment's file.
    pub path: PathBuf,
    /// Where the damage begins.
    pub offset: u64,
    /// Bytes up to the next whole frame, or to the end.
    pub bytes: u64,
    /// What was found first.
    pub what: &'static str,
}

/// How a segment ended.
#[derive(Debug)]
pub(crate) enum ReplayEnd {
    /// With a whole frame, or empty.
    Clean,
    /// With bytes that are no whole frame, as a kill in the middle of a write leaves behind.
    Torn {
        /// Length of the part that is sound.
        keep: u64,
        /// Bytes after it.
        cut: u64,
    },
}

/// A whole frame.
#[derive(Debug)]
pub(crate) struct ReadFrame<'a> {
    pub(crate) payload: &'a [u8],
    /// Offset behind it.
    pub(crate) end: u64,
    /// Whether all is there that it leans on.
    pub(crate) footing: Footing,
}

/// Reads one segment.
pub(crate) struct SegmentReader {
    path: PathBuf,
    number: u64,
    file: Arc<dyn FsFile>,
    len: u64,
    at: u64,
    payload: Vec<u8>,
    /// Whether a frame is missing that the next ones may lean on.
    footing: Footing,
    /// Damaged stretches with a whole frame behind them, frames among them that lean on what is lost.
    pub(crate) damage: Vec<LogDamage>,
    pub(crate) end: ReplayEnd,
}

impl SegmentReader {
    /// Opens a segment and checks its header.
    ///
    /// # Errors
    /// [`StorageError::NewerVersion`], [`StorageError::OlderVersion`], or the disk's failure. A damaged header is damage like any other.
    pub(crate) fn open(fs: &dyn Fs, path: &Path, number: u64) -> Result<SegmentReader, StorageError> {
        let read = |source| StorageError::Io { path: path.to_owned(), doing: "reading the log", source };
        let file = fs.open(path, OpenMode::Read).map_err(read)?;
        let len = file.len().map_err(read)?;
        let mut reader = SegmentReader {
            path: path.to_owned(),
            number,
            file,
            len,
            at: SEGMENT_HEADER_LEN as u64,
            payload: Vec::new(),
            // Until the first key frame, with which a segment begins.
            footing: Footing::Lost,
            damage: Vec::new(),
            end: ReplayEnd::Clean,
        };
        if len < SEGMENT_HEADER_LEN as u64 {
            reader.at = 0;
            reader.torn(0);
            return Ok(reader);
        }
        let mut header = [0; SEGMENT_HEADER_LEN];
        reader.file.read_exact_at(&mut header, 0).map_err(read)?;
        match check_segment_header(&header, number) {
            SegmentHeader::Sound => {}
            SegmentHeader::Newer(version) => {
                return Err(StorageError::NewerVersion { path: path.to_owned(), version, supported: SEGMENT_VERSION });
            }
            SegmentHeader::Older(version) => {
                return Err(StorageError::OlderVersion { path: path.to_owned(), version, supported: SEGMENT_VERSION });
            }
            SegmentHeader::Damaged => {
                reader.at = 0;
                reader.resynchronise(0, "segment header is damaged").map_err(read)?;
            }
        }
        Ok(reader)
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// The disk's failure only; damage is noted and passed over.
    pub(crate) fn next(&mut self) -> Result<Option<ReadFrame<'_>>, StorageError> {
        let start = self.at;
        match self.advance() {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(source) => {
                return Err(StorageError::Io { path: self.path.clone(), doing: "reading the log", source });
            }
        }
        if is_key(&self.payload) {
            self.footing = Footing::Firm;
        } else if self.footing == Footing::Lost {
            // Its samples are lost with what they lean on.
            let frame = (FRAME_HEADER_LEN + self.payload.len()) as u64;
            match self.damage.last_mut().filter(|last| last.offset + last.bytes == self.at - frame) {
                Some(last) => last.bytes += frame,
                None => self.note(start, frame, "the frames before are missing"),
            }
        }
        Ok(Some(ReadFrame { payload: &self.payload, end: self.at, footing: self.footing }))
    }

    /// Notes that a frame whose checksums hold makes no sense.
    pub(crate) fn note_malformed(&mut self, what: &'static str) {
        let bytes = (FRAME_HEADER_LEN + self.payload.len()) as u64;
        self.note(self.at - bytes, bytes, what);
    }

    fn note(&mut self, offset: u64, bytes: u64, what: &'static str) {
        self.footing = Footing::Lost;
        self.damage.push(LogDamage { path: self.path.clone(), offset, bytes, what });
    }

    fn advance(&mut self) -> io::Result<bool> {
        while self.at < self.len {
            match self.read_frame(self.at)? {
                Ok(end) => {
                    self.at = end;
                    return Ok(true);
                }
                Err(what) => {
                    let at = self.at;
                    self.resynchronise(at, what)?;
                }
            }
        }
        Ok(false)
    }

    /// Reads the frame at `at` into `payload`; gives the offset behind it, or what is wrong.
    fn read_frame(&mut self, at: u64) -> io::Result<Result<u64, &'static str>> {
        let mut header = [0; FRAME_HEADER_LEN];
        if self.len - at < FRAME_HEADER_LEN as u64 {
            return Ok(Err("frame header is cut short"));
        }
        self.file.read_exact_at(&mut header, at)?;
        let frame = match check_frame_header(&header, self.number, at) {
            Ok(frame) => frame,
            Err(fault) => return Ok(Err(fault.what)),
        };
        let start = at + FRAME_HEADER_LEN as u64;
        if self.len - start < frame.payload_len as u64 {
            return Ok(Err("frame payload is cut short"));
        }
        self.payload.resize(frame.payload_len, 0);
        self.file.read_exact_at(&mut self.payload, start)?;
        if !is_sum(crc32fast::hash(&self.payload), frame.payload_crc) {
            return Ok(Err("frame payload's checksum is wrong"));
        }
        Ok(Ok(start + frame.payload_len as u64))
    }

    /// Goes on at the next whole frame behind `from`; without one the rest is a torn tail.
    fn resynchronise(&mut self, from: u64, what: &'static str) -> io::Result<()> {
        let mut search = from + 1;
        let mut window = Vec::new();
        while search + FRAME_HEADER_LEN as u64 <= self.len {
            let len = (self.len - search).min(SEARCH_BYTES as u64) as usize;
            window.resize(len, 0);
            self.file.read_exact_at(&mut window, search)?;
            let hits = window.windows(FRAME_MAGIC.len()).enumerate().filter(|(_, w)| *w == FRAME_MAGIC);
            let hits: Vec<u64> = hits.map(|(at, _)| search + at as u64).collect();
            for hit in hits {
                if self.read_frame(hit)?.is_ok() {
                    self.note(from, hit - from, what);
                    self.at = hit;
                    return Ok(());
                }
            }
            // A magic may lie across the border of two windows.
            search += (len - (FRAME_MAGIC.len() - 1)).max(1) as u64;
        }
        self.torn(from);
        Ok(())
    }

    fn torn(&mut self, keep: u64) {
        self.end = ReplayEnd::Torn { keep, cut: self.len - keep };
        self.at = self.len;
    }
}

/// Cuts a torn tail off, so that it is not met again.
pub(crate) fn cut_tail(fs: &dyn Fs, path: &Path, keep: u64) -> Result<(), StorageError> {
    let cut = || {
        let file = fs.open(path, OpenMode::Append)?;
        file.set_len(keep)?;
        file.sync_data()
    };
    cut().map_err(|source| StorageError::Io { path: path.to_owned(), doing: "cutting the log's torn tail", source })
}
