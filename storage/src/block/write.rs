//! Writing a block: series in order, then everything that is known only at the end.

use std::io;
use std::path::Path;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use kymo_core::Labels;
use kymo_core::batch::{Exemplar, Metadata};
use kymo_core::storage::Columns;

use super::{ChunkMeta, Footer, Section, header};
use crate::chunk;
use crate::codec::{put_block, put_varint, put_zigzag};
use crate::fs::{Fs, FsFile};
use crate::wal::{put_exemplar, put_metadata};

/// Bytes collected before a write.
const BUFFER_BYTES: usize = 1 << 20;

/// Writes one block file.
pub(crate) struct BlockWriter {
    file: Arc<dyn FsFile>,
    buffer: Vec<u8>,
    /// Where the next byte will stand.
    at: u64,
    crc: crc32fast::Hasher,
    section_start: u64,
    symbols: HashMap<Box<str>, u32>,
    /// Per series the number of labels, then name and value as provisional symbol numbers.
    rows: Vec<u32>,
    chunks: Vec<ChunkMeta>,
    /// Chunks of each series.
    chunk_counts: Vec<u32>,
    exemplars: Vec<u8>,
    last: Option<Labels>,
    footer: Footer,
    encoded: Vec<u8>,
}

impl BlockWriter {
    /// Begins a new file.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn create(fs: &dyn Fs, path: &Path, sequence: u64) -> io::Result<BlockWriter> {
        let file = fs.create_new(path)?;
        let footer = Footer { sequence, min_time_ms: i64::MAX, max_time_ms: i64::MIN, ..Footer::default() };
        let mut writer = BlockWriter {
            file,
            buffer: Vec::with_capacity(BUFFER_BYTES + (64 << 10)),
            at: 0,
            crc: crc32fast::Hasher::new(),
            section_start: 0,
            symbols: HashMap::new(),
            rows: Vec::new(),
            chunks: Vec::new(),
            chunk_counts: Vec::new(),
            exemplars: Vec::new(),
            last: None,
            footer,
            encoded: Vec::new(),
        };
        writer.put(&header())?;
        writer.begin_section();
        Ok(writer)
    }

    /// Begins the next series; label sets must rise.
    pub(crate) fn series(&mut self, labels: &Labels) {
        assert!(self.last.as_ref().is_none_or(|last| last < labels), "series are written in order");
        self.rows.push(labels.len() as u32);
        for (name, value) in labels {
            for text in [name, value] {
                let next = self.symbols.len() as u32;
                let number = match self.symbols.get(text) {
                    Some(&number) => number,
                    None => {
                        self.symbols.insert(text.into(), next);
                        next
                    }
                };
                self.rows.push(number);
            }
        }
        self.chunk_counts.push(0);
        self.footer.series += 1;
        self.last = Some(labels.clone());
    }

    /// Adds samples of the current series, above those added before.
    pub(crate) fn samples(&mut self, columns: &Columns) -> io::Result<()> {
        let (Some(&first), Some(&last)) = (columns.times.first(), columns.times.last()) else { return Ok(()) };
        let mut encoded = std::mem::take(&mut self.encoded);
        encoded.clear();
        chunk::encode(columns, &mut encoded);
        self.chunks.push(ChunkMeta {
            offset: self.at,
            len: encoded.len() as u32,
            crc: crc32fast::hash(&encoded),
            min_time_ms: first,
            max_time_ms: last,
            samples: columns.times.len() as u32,
        });
        *self.chunk_counts.last_mut().expect("samples belong to a series") += 1;
        self.footer.samples += columns.times.len() as u64;
        self.footer.min_time_ms = self.footer.min_time_ms.min(first);
        self.footer.max_time_ms = self.footer.max_time_ms.max(last);
        let done = self.put(&encoded);
        self.encoded = encoded;
        done
    }

    /// Adds exemplars of the current series, sorted by time.
    pub(crate) fn exemplars(&mut self, exemplars: &[Exemplar]) {
        if exemplars.is_empty() {
            return;
        }
        put_varint(&mut self.exemplars, self.footer.series - 1);
        put_varint(&mut self.exemplars, exemplars.len() as u64);
        for exemplar in exemplars {
            put_exemplar(&mut self.exemplars, exemplar);
            self.footer.min_time_ms = self.footer.min_time_ms.min(exemplar.time_ms);
            self.footer.max_time_ms = self.footer.max_time_ms.max(exemplar.time_ms);
        }
    }

    /// Writes the rest and syncs the file. `metadata` is families with their versions, newest first.
    pub(crate) fn finish(mut self, metadata: &[(String, Vec<Metadata>)]) -> io::Result<Footer> {
        self.footer.chunks = self.end_section();
        let exemplars = std::mem::take(&mut self.exemplars);
        self.footer.exemplars = self.section(&exemplars)?;
        let mut section = Vec::new();
        for (family, versions) in metadata {
            put_varint(&mut section, versions.len() as u64);
            versions.iter().for_each(|version| put_metadata(&mut section, family, version));
        }
        self.footer.metadata = self.section(&section)?;

        let mut sorted: Vec<(Box<str>, u32)> = std::mem::take(&mut self.symbols).into_iter().collect();
        sorted.sort_unstable();
        let mut renumbered = vec![0u32; sorted.len()];
        section.clear();
        put_varint(&mut section, sorted.len() as u64);
        for (number, (text, provisional)) in sorted.iter().enumerate() {
            renumbered[*provisional as usize] = number as u32;
            put_block(&mut section, text.as_bytes());
        }
        self.footer.symbols = self.section(&section)?;

        section.clear();
        let (mut rows, mut chunks) = (self.rows.as_slice(), self.chunks.as_slice());
        put_varint(&mut section, self.footer.series);
        for &chunk_count in &self.chunk_counts {
            let labels = rows[0] as usize;
            put_varint(&mut section, labels as u64);
            for &provisional in &rows[1..1 + 2 * labels] {
                put_varint(&mut section, u64::from(renumbered[provisional as usize]));
            }
            rows = &rows[1 + 2 * labels..];
            put_varint(&mut section, u64::from(chunk_count));
            for meta in &chunks[..chunk_count as usize] {
                put_varint(&mut section, meta.offset);
                put_varint(&mut section, u64::from(meta.len));
                section.extend_from_slice(&meta.crc.to_le_bytes());
                put_zigzag(&mut section, meta.min_time_ms);
                put_varint(&mut section, meta.max_time_ms.wrapping_sub(meta.min_time_ms) as u64);
                put_varint(&mut section, u64::from(meta.samples));
            }
            chunks = &chunks[chunk_count as usize..];
        }
        self.footer.series_table = self.section(&section)?;
        let footer = self.footer.encode();
        self.put(&footer)?;
        self.write_buffer()?;
        self.file.sync_data()?;
        Ok(self.footer)
    }

    fn section(&mut self, bytes: &[u8]) -> io::Result<Section> {
        self.begin_section();
        self.put(bytes)?;
        Ok(self.end_section())
    }

    fn begin_section(&mut self) {
        self.section_start = self.at;
        self.crc = crc32fast::Hasher::new();
    }

    fn end_section(&mut self) -> Section {
        let crc = std::mem::take(&mut self.crc).finalize();
        Section { offset: self.section_start, len: self.at - self.section_start, crc }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc.update(bytes);
        self.buffer.extend_from_slice(bytes);
        self.at += bytes.len() as u64;
        if self.buffer.len() >= BUFFER_BYTES { self.write_buffer() } else { Ok(()) }
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        self.file.append_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}
