//! Writing a block: series in order, then everything that is known only at the end.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use kymo_core::Labels;
use kymo_core::batch::{Exemplar, Metadata};
use kymo_core::storage::{Columns, Run, RunKind, Tier};

use super::directory::Directory;
use super::series::{ChunkRow, Row};
use super::times::TimesWriter;
use super::{Footer, Section, SectionKind, header, postings, series, symbols};
use crate::chunk::{Effort, Samples, push_run};
use crate::codec::put_varint;
use crate::compressor::{self, Compressor};
use crate::fs::{Fs, FsFile};
use crate::wal::{put_exemplar, put_metadata};

/// Bytes collected before a write.
const BUFFER_BYTES: usize = 1 << 20;
/// Memory of the histograms of one chunk: it bounds what reading one takes.
const HISTOGRAM_BYTES_MAX: usize = 8 << 20;

/// How a block is cut and encoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Cuts fall on multiples of this, or on halves of halves of it, so that series scraped together are cut together.
    pub(crate) range_ms: i64,
    /// Samples of a chunk, give or take an eighth.
    pub(crate) chunk_samples: usize,
    pub(crate) effort: Effort,
    /// What it holds.
    pub(crate) tier: Tier,
}

/// Writes one block file.
pub(crate) struct BlockWriter {
    file: Arc<dyn FsFile>,
    shape: Shape,
    buffer: Vec<u8>,
    /// Where the next byte will stand.
    at: u64,
    crc: crc32fast::Hasher,
    section_start: u64,
    compressor: Box<dyn Compressor>,
    times: TimesWriter,
    symbols: HashMap<Box<str>, u32>,
    /// Names and values of all series as provisional symbol numbers.
    pairs: Vec<(u32, u32)>,
    chunks: Vec<ChunkRow>,
    /// End of each series in `pairs` and `chunks`.
    ends: Vec<(usize, usize)>,
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
    pub(crate) fn create(fs: &dyn Fs, path: &Path, sequence: u64, shape: Shape) -> io::Result<BlockWriter> {
        let file = fs.create_new(path)?;
        let level = match shape.tier {
            Tier::Raw => u64::from(shape.effort == Effort::Small),
            Tier::FiveMinutes => 2,
            Tier::OneHour => 3,
        };
        let footer = Footer { sequence, level, min_time_ms: i64::MAX, max_time_ms: i64::MIN, ..Footer::default() };
        let mut writer = BlockWriter {
            file,
            shape,
            buffer: Vec::with_capacity(BUFFER_BYTES + (64 << 10)),
            at: 0,
            crc: crc32fast::Hasher::new(),
            section_start: 0,
            compressor: compressor::of(shape.effort)?,
            times: TimesWriter::new()?,
            symbols: HashMap::new(),
            pairs: Vec::new(),
            chunks: Vec::new(),
            ends: Vec::new(),
            exemplars: Vec::new(),
            last: None,
            footer,
            encoded: Vec::new(),
        };
        writer.put(&header())?;
        writer.begin_section();
        Ok(writer)
    }

    /// Bytes written so far, or about to be.
    pub(crate) fn bytes(&self) -> u64 {
        self.at
    }

    /// Begins the next series; label sets must rise.
    pub(crate) fn series(&mut self, labels: &Labels) {
        let last = self.last.take();
        assert!(last.as_ref().is_none_or(|last| last < labels), "series are written in order");
        // Most labels are those of the series before.
        let begin = self.ends.len().checked_sub(1).map_or(0, |last| self.starts(last).0);
        let mut before = last.iter().flatten().zip(begin..);
        for (name, value) in labels {
            let pair = match before.next() {
                Some((same, at)) if same == (name, value) => self.pairs[at],
                Some((same, at)) if same.0 == name => (self.pairs[at].0, self.symbol(value)),
                _ => (self.symbol(name), self.symbol(value)),
            };
            self.pairs.push(pair);
        }
        self.ends.push((self.pairs.len(), self.chunks.len()));
        self.footer.series += 1;
        self.last = Some(labels.clone());
    }

    /// Where a series begins in `pairs` and `chunks`.
    fn starts(&self, series: usize) -> (usize, usize) {
        if series == 0 { (0, 0) } else { self.ends[series - 1] }
    }

    fn symbol(&mut self, text: &str) -> u32 {
        let next = self.symbols.len() as u32;
        match self.symbols.get(text) {
            Some(&number) => number,
            None => {
                self.symbols.insert(text.into(), next);
                next
            }
        }
    }

    /// How this block cuts a run of samples into chunks: where, as ranges of positions.
    pub(crate) fn cut(&self, times: &[i64]) -> Vec<Range<usize>> {
        cut(times, self.shape.range_ms, self.shape.chunk_samples)
    }

    /// Adds samples of the current series, above those added before.
    pub(crate) fn samples(&mut self, columns: &Columns) -> io::Result<()> {
        if columns.times.is_empty() {
            return Ok(());
        }
        let Columns { times, starts, runs, floats, histograms, .. } = columns;
        if times.len() <= longest(self.shape.chunk_samples) {
            return self.chunk(Samples { times, starts, runs, floats, histograms });
        }
        let mut pieces = Pieces::new(columns);
        for range in self.cut(times) {
            pieces.next(range.len());
            self.chunk(pieces.samples(range))?;
        }
        Ok(())
    }

    /// Adds samples of the current series as one chunk, or as several if their histograms are too large for one.
    pub(crate) fn chunk(&mut self, samples: Samples<'_>) -> io::Result<()> {
        let histogram_bytes: usize = samples.histograms.iter().map(|h| h.bytes()).sum();
        if histogram_bytes > HISTOGRAM_BYTES_MAX && samples.times.len() > 1 {
            let mut columns = Columns::default();
            columns.times.extend_from_slice(samples.times);
            columns.starts.extend_from_slice(samples.starts);
            columns.runs.extend_from_slice(samples.runs);
            columns.floats.extend_from_slice(samples.floats);
            columns.histograms.extend_from_slice(samples.histograms);
            let mut pieces = Pieces::new(&columns);
            let middle = samples.times.len() / 2;
            for range in [0..middle, middle..samples.times.len()] {
                pieces.next(range.len());
                self.chunk(pieces.samples(range))?;
            }
            return Ok(());
        }
        match samples.constant() {
            Some(value) => self.constant(samples.times, value),
            None => {
                let mut encoded = std::mem::take(&mut self.encoded);
                encoded.clear();
                self.compressor.compress(samples, &mut encoded);
                let done = self.payload(samples.times, &encoded);
                self.encoded = encoded;
                done
            }
        }
    }

    /// Adds a chunk of one value.
    pub(crate) fn constant(&mut self, times: &[i64], value: f64) -> io::Result<()> {
        let column = self.times.intern(times)?;
        self.add_chunk(times, ChunkRow { offset: 0, len: 0, column, constant: value });
        Ok(())
    }

    /// Adds a chunk that is encoded already.
    pub(crate) fn payload(&mut self, times: &[i64], payload: &[u8]) -> io::Result<()> {
        let column = self.times.intern(times)?;
        self.add_chunk(times, ChunkRow { offset: self.at, len: payload.len() as u32, column, constant: 0.0 });
        self.put(payload)?;
        self.put(&crc32fast::hash(payload).to_le_bytes())
    }

    fn add_chunk(&mut self, times: &[i64], row: ChunkRow) {
        self.chunks.push(row);
        self.ends.last_mut().expect("samples belong to a series").1 = self.chunks.len();
        self.footer.samples += times.len() as u64;
        self.reach(times[0]);
        self.reach(times[times.len() - 1]);
    }

    fn reach(&mut self, time_ms: i64) {
        self.footer.min_time_ms = self.footer.min_time_ms.min(time_ms);
        self.footer.max_time_ms = self.footer.max_time_ms.max(time_ms);
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
            self.reach(exemplar.time_ms);
        }
    }

    /// Writes the rest and syncs the file. `metadata` is families with their versions, newest first.
    pub(crate) fn finish(mut self, metadata: &[(String, Vec<Metadata>)]) -> io::Result<Footer> {
        self.end_section(SectionKind::Chunks);
        let is_bare = |series: &usize| self.starts(*series).1 == self.ends[*series].1;
        self.footer.bare_series = (0..self.ends.len()).filter(is_bare).count() as u64;
        let mut directory = Directory::default();
        let times = std::mem::replace(&mut self.times, TimesWriter::new()?);
        let bytes;
        (bytes, directory.times, directory.bounds, directory.columns) = times.finish()?;
        self.section(SectionKind::Times, &bytes)?;
        let exemplars = std::mem::take(&mut self.exemplars);
        self.section(SectionKind::Exemplars, &exemplars)?;
        let mut section = Vec::new();
        for (family, versions) in metadata {
            put_varint(&mut section, versions.len() as u64);
            versions.iter().for_each(|version| put_metadata(&mut section, family, version));
        }
        self.section(SectionKind::Metadata, &section)?;

        let mut sorted: Vec<(Box<str>, u32)> = std::mem::take(&mut self.symbols).into_iter().collect();
        sorted.sort_unstable();
        let mut renumbered = vec![0u32; sorted.len()];
        for (number, (_, provisional)) in sorted.iter().enumerate() {
            renumbered[*provisional as usize] = number as u32;
        }
        for (name, value) in &mut self.pairs {
            (*name, *value) = (renumbered[*name as usize], renumbered[*value as usize]);
        }
        directory.symbol_count = sorted.len() as u32;
        let bytes;
        (bytes, directory.symbols, directory.texts) = symbols::write(sorted.iter().map(|(text, _)| &**text))?;
        self.section(SectionKind::Symbols, &bytes)?;
        drop(sorted);

        let rows = (0..self.ends.len()).map(|series| {
            let ((pair, chunk), (pair_end, chunk_end)) = (self.starts(series), self.ends[series]);
            Row { pairs: &self.pairs[pair..pair_end], chunks: &self.chunks[chunk..chunk_end] }
        });
        let bytes;
        (bytes, directory.series, directory.pairs) = series::write(rows)?;
        let all_pairs = |take: &mut postings::Take<'_>| {
            for series in 0..self.ends.len() {
                take(series as u32, &self.pairs[self.starts(series).0..self.ends[series].0]);
            }
        };
        let posting_bytes;
        (posting_bytes, directory.postings, directory.names) = postings::write(directory.symbol_count, all_pairs)?;
        self.section(SectionKind::Series, &bytes)?;
        self.section(SectionKind::Postings, &posting_bytes)?;
        self.section(SectionKind::Directory, &directory.encode())?;
        let footer = self.footer.encode();
        self.put(&footer)?;
        self.write_buffer()?;
        self.file.sync_data()?;
        Ok(self.footer)
    }

    fn section(&mut self, kind: SectionKind, bytes: &[u8]) -> io::Result<()> {
        self.begin_section();
        self.put(bytes)?;
        self.end_section(kind);
        Ok(())
    }

    fn begin_section(&mut self) {
        self.section_start = self.at;
        self.crc = crc32fast::Hasher::new();
    }

    fn end_section(&mut self, kind: SectionKind) {
        let crc = std::mem::take(&mut self.crc).finalize();
        self.footer.sections[kind as usize - 1] =
            Section { offset: self.section_start, len: self.at - self.section_start, crc };
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

/// Takes columns apart, piece after piece.
pub(crate) struct Pieces<'a> {
    columns: &'a Columns,
    runs: Vec<Run>,
    /// Which run the next piece begins in, and how much of it is taken.
    run: usize,
    taken: usize,
    floats: Range<usize>,
    histograms: Range<usize>,
}

impl<'a> Pieces<'a> {
    pub(crate) fn new(columns: &'a Columns) -> Pieces<'a> {
        Pieces { columns, runs: Vec::new(), run: 0, taken: 0, floats: 0..0, histograms: 0..0 }
    }

    /// Goes on by `len` samples.
    pub(crate) fn next(&mut self, len: usize) {
        self.runs.clear();
        self.floats.start = self.floats.end;
        self.histograms.start = self.histograms.end;
        let mut left = len;
        while left > 0 {
            let Some(run) = self.columns.runs.get(self.run) else { break };
            let step = left.min(run.len - self.taken);
            push_run(&mut self.runs, run.kind, step);
            match run.kind {
                RunKind::Float => self.floats.end += step,
                RunKind::Histogram => self.histograms.end += step,
                RunKind::Stale => {}
            }
            left -= step;
            self.taken += step;
            if self.taken == run.len {
                self.run += 1;
                self.taken = 0;
            }
        }
    }

    /// The piece that was gone to last, at `range` of the samples.
    pub(crate) fn samples(&self, range: Range<usize>) -> Samples<'_> {
        Samples {
            starts: self.columns.starts.get(range.clone()).unwrap_or_default(),
            times: &self.columns.times[range],
            runs: &self.runs,
            floats: &self.columns.floats[self.floats.clone()],
            histograms: &self.columns.histograms[self.histograms.clone()],
        }
    }
}

/// The most samples that are not cut.
fn longest(target: usize) -> usize {
    target + target / 8
}

/// Halves a window of the time axis until a piece has about `target` samples. The windows depend on the clock and
/// `range_ms` alone, so a sample more or less moves no cut.
fn cut(times: &[i64], range_ms: i64, target: usize) -> Vec<Range<usize>> {
    let (Some(&first), Some(&last)) = (times.first(), times.last()) else { return Vec::new() };
    let (first, last) = (i128::from(first), i128::from(last));
    let mut len = i128::from(range_ms.max(1));
    // Below every time, and a multiple of every window that is tried: windows around 0 would else never join.
    let origin = -(len << 64);
    let window = |len: i128| origin + (first - origin).div_euclid(len) * len;
    while last >= window(len) + len {
        len *= 2;
    }
    let start = window(len);
    let mut pieces = Vec::new();
    halve(times, 0..times.len(), start, len, longest(target), &mut pieces);
    pieces
}

fn halve(times: &[i64], range: Range<usize>, start: i128, len: i128, most: usize, pieces: &mut Vec<Range<usize>>) {
    if range.is_empty() {
        return;
    }
    if range.len() <= most || len <= 1 {
        pieces.push(range);
        return;
    }
    let middle = start + len / 2;
    let at = range.start + times[range.clone()].partition_point(|time| i128::from(*time) < middle);
    halve(times, range.start..at, start, len / 2, most, pieces);
    halve(times, at..range.end, middle, len - len / 2, most, pieces);
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_HOURS: i64 = 7_200_000;

    #[test]
    fn cuts_fall_on_the_clock_and_a_hole_moves_none() {
        let scrapes: Vec<i64> = (0..2_400).map(|n| 1_700_000_000_000 + n * 15_000 + n % 7).collect();
        let bounds = |times: &[i64]| {
            let pieces = cut(times, TWO_HOURS, 480);
            assert_eq!(pieces.iter().map(Range::len).sum::<usize>(), times.len());
            pieces.into_iter().map(|p| (times[p.start].div_euclid(TWO_HOURS), p.len())).collect::<Vec<_>>()
        };
        let whole = bounds(&scrapes);
        assert_eq!(whole.len(), 6, "{whole:?}");
        assert!(whole[1..5].iter().all(|(_, len)| *len == 480), "{whole:?}");
        let holed: Vec<i64> = scrapes.iter().copied().filter(|t| *t != scrapes[700]).collect();
        let holed = bounds(&holed);
        let same = whole.iter().zip(&holed).filter(|(a, b)| a == b).count();
        assert_eq!((holed.len(), same), (6, 5));
    }

    #[test]
    fn long_series_make_chunks_of_a_bounded_length() {
        for step in [1, 1_000, 10_000, 15_000, 60_000, 3_600_000] {
            let times: Vec<i64> = (0..10_000).map(|n| -500_000 + n * step).collect();
            let pieces = cut(&times, TWO_HOURS, 960);
            assert!(pieces.iter().all(|p| p.len() <= 1_080), "{step}");
            assert!(pieces.len() <= 22, "{step}: {}", pieces.len());
        }
        assert_eq!(cut(&[i64::MIN, 0, i64::MAX], TWO_HOURS, 2).len(), 2);
        assert!(cut(&[], TWO_HOURS, 2).is_empty());
    }
}
