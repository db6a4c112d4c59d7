//! Reading a block from front to back, past the cache: what a merge does.

use std::sync::Arc;

use kymo_core::{Labels, SelectError};

use super::read::{Block, BoundsCursor, ChunkRef};
use super::series::{SERIES_PER_PAGE, SeriesPage};
use super::{CHUNK_CRC_LEN, SectionKind};

/// Bytes read at once.
const READ_BYTES: u64 = 256 << 10;

/// A position in the series of a block.
pub(crate) struct Scan {
    block: Arc<Block>,
    /// The next series.
    next: usize,
    page: Option<(usize, SeriesPage, Arc<[Labels]>)>,
    buffer: Vec<u8>,
    buffer_at: u64,
}

impl Scan {
    pub(crate) fn new(block: Arc<Block>) -> Scan {
        Scan { block, next: 0, page: None, buffer: Vec::new(), buffer_at: 0 }
    }

    pub(crate) fn block(&self) -> &Arc<Block> {
        &self.block
    }

    /// The number of the series at hand.
    pub(crate) fn number(&self) -> usize {
        self.next
    }

    /// The labels of the series at hand; `None` behind the last.
    pub(crate) fn labels(&mut self) -> Result<Option<&Labels>, SelectError> {
        if self.next >= self.block.len() {
            return Ok(None);
        }
        let at = self.next / SERIES_PER_PAGE;
        if self.page.as_ref().is_none_or(|page| page.0 != at) {
            let page = self.block.load_series_page(at)?;
            let labels = self.block.page_labels(&page)?;
            self.page = Some((at, page, labels));
        }
        Ok(self.page.as_ref().map(|(_, _, labels)| &labels[self.next % SERIES_PER_PAGE]))
    }

    /// Appends the chunks of the series at hand, and their payloads to `bytes`, and goes on to the next series.
    /// Each chunk comes with the end of its payload in `bytes`.
    pub(crate) fn take(&mut self, chunks: &mut Vec<(ChunkRef, usize)>, bytes: &mut Vec<u8>) -> Result<(), SelectError> {
        self.take_within((i64::MIN, i64::MAX), chunks, bytes)
    }

    /// The same of chunks that reach into a window, which is open to the left.
    pub(crate) fn take_within(
        &mut self,
        (start_ms, end_ms): (i64, i64),
        chunks: &mut Vec<(ChunkRef, usize)>,
        bytes: &mut Vec<u8>,
    ) -> Result<(), SelectError> {
        let series = self.next % SERIES_PER_PAGE;
        self.next += 1;
        let Some((_, page, _)) = &self.page else { return Ok(()) };
        let block = Arc::clone(&self.block);
        let mut bounds = BoundsCursor::new(&block);
        for row in page.chunks(series) {
            let chunk = bounds.chunk(row)?;
            if !chunk.reaches(start_ms, end_ms) {
                continue;
            }
            if row.len > 0 {
                let len = u64::from(row.len) + u64::from(CHUNK_CRC_LEN);
                let held = self.buffer_at..self.buffer_at + self.buffer.len() as u64;
                if row.offset < held.start || row.offset + len > held.end {
                    let section = block.footer().section(SectionKind::Chunks);
                    let end = (row.offset + len.max(READ_BYTES)).min(section.offset + section.len);
                    let place = || format!("{}: chunk at byte {}", block.path().display(), row.offset);
                    self.buffer = block.read_at(row.offset, end.saturating_sub(row.offset), place)?;
                    self.buffer_at = row.offset;
                }
                let begin = (row.offset - self.buffer_at) as usize;
                let raw = self.buffer.get(begin..begin + len as usize).unwrap_or_default();
                block.raw_chunk(&chunk, raw, bytes)?;
            }
            chunks.push((chunk, bytes.len()));
        }
        Ok(())
    }
}
