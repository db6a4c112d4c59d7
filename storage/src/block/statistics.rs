//! What the bytes of blocks are made of.

use std::collections::BTreeMap;

use kymo_core::SelectError;
use kymo_core::storage::Tier;

use super::read::{Block, BoundsCursor};
use super::series::SERIES_PER_PAGE;
use super::{CHUNK_CRC_LEN, Footer, SectionKind};
use crate::chunk::{Encoding, encoding_of};

/// What the bytes of blocks are made of: the sections add up to the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockStatistics {
    /// Files.
    pub blocks: u64,
    /// Series, one in several blocks counted in each.
    pub series: u64,
    /// Samples, one in several blocks counted in each.
    pub samples: u64,
    /// Bytes of encoded values, checksums of chunks included.
    pub value_bytes: u64,
    /// Bytes of timestamp columns.
    pub time_bytes: u64,
    /// Distinct timestamp columns.
    pub time_columns: u64,
    /// Bytes of symbols, series table (constants included), postings and the directory.
    pub index_bytes: u64,
    /// Bytes of exemplars and metadata.
    pub side_bytes: u64,
    /// Bytes of headers, footers and trailers.
    pub overhead_bytes: u64,
    /// Chunks by how their floats are written, in the order of the numbers on disk.
    pub encodings: Vec<EncodingStatistics>,
}

/// What a block file tells of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSummary {
    /// Which of all blocks that the directory ever had it is. At one timestamp the higher wins.
    pub sequence: u64,
    /// 0 as flushed, 1 as merged, 2 and above rollups.
    pub level: u64,
    /// What it holds: samples, or rollups.
    pub tier: Tier,
    /// Size of the file.
    pub bytes: u64,
    /// Oldest sample, milliseconds.
    pub min_time_ms: i64,
    /// Newest sample, milliseconds.
    pub max_time_ms: i64,
    /// Series in it.
    pub series: u64,
    /// Samples in it.
    pub samples: u64,
}

impl From<&Block> for BlockSummary {
    fn from(block: &Block) -> BlockSummary {
        let footer = block.footer();
        let Footer { sequence, level, min_time_ms, max_time_ms, series, samples, .. } = *footer;
        let (tier, bytes) = (footer.tier(), block.bytes());
        BlockSummary { sequence, level, tier, bytes, min_time_ms, max_time_ms, series, samples }
    }
}

/// Chunks of one encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodingStatistics {
    /// Its name.
    pub name: &'static str,
    /// Chunks written so.
    pub chunks: u64,
    /// Samples in them.
    pub samples: u64,
    /// Bytes in the section of chunks; those of constants stand in the series table, and are 0 here.
    pub bytes: u64,
}

impl BlockStatistics {
    /// Bytes of the files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.value_bytes + self.time_bytes + self.index_bytes + self.side_bytes + self.overhead_bytes
    }

    /// Adds what one block is made of; reads a byte of every chunk.
    pub(crate) fn add(&mut self, block: &Block) -> Result<(), SelectError> {
        let footer = block.footer();
        let len = |kind| footer.section(kind).len;
        let before = self.bytes();
        self.blocks += 1;
        self.series += footer.series;
        self.samples += footer.samples;
        self.value_bytes += len(SectionKind::Chunks);
        self.time_bytes += len(SectionKind::Times);
        self.time_columns += u64::from(block.directory.columns);
        self.index_bytes += len(SectionKind::Symbols)
            + len(SectionKind::Series)
            + len(SectionKind::Postings)
            + len(SectionKind::Directory);
        self.side_bytes += len(SectionKind::Exemplars) + len(SectionKind::Metadata);
        self.overhead_bytes += block.bytes() - (self.bytes() - before);

        let mut by_encoding: BTreeMap<Encoding, EncodingStatistics> = BTreeMap::new();
        let mut bounds = BoundsCursor::new(block);
        for page in 0..block.len().div_ceil(SERIES_PER_PAGE) {
            let page = block.load_series_page(page)?;
            for row in (0..page.len()).flat_map(|series| page.chunks(series)) {
                let (encoding, bytes) = if row.len == 0 {
                    (Encoding::Constant, 0)
                } else {
                    let chunk = bounds.chunk(row)?;
                    (block.with_payload(&chunk, encoding_of)?, u64::from(row.len + CHUNK_CRC_LEN))
                };
                let chunk = bounds.chunk(row)?;
                let name = encoding.as_str();
                let kept = by_encoding.entry(encoding);
                let kept = kept.or_insert(EncodingStatistics { name, chunks: 0, samples: 0, bytes: 0 });
                kept.chunks += 1;
                kept.samples += u64::from(chunk.samples);
                kept.bytes += bytes;
            }
        }
        for one in by_encoding.into_values() {
            match self.encodings.iter_mut().find(|kept| kept.name == one.name) {
                Some(kept) => {
                    kept.chunks += one.chunks;
                    kept.samples += one.samples;
                    kept.bytes += one.bytes;
                }
                None => self.encodings.push(one),
            }
        }
        Ok(())
    }
}
