//! A chunk of a block: the values of a run of samples of one series. Their times stand elsewhere in the block, once
//! for all chunks that share them.
//!
//! The first byte names the encoding of the floats and says what else there is, so that a writer may choose and a
//! reader need not be told. Kinds of samples are runs beside the values, and numbers that no column of integers can
//! hold (NaN, infinities, −0.0) are exceptions, so neither a staleness marker nor a NaN makes floats of an integer
//! chunk. Every bit of every value survives. `docs/format/chunk.md` is the page.

mod decimal;
mod floats;
mod histograms;
mod integers;
mod pages;
mod xor;

use std::ops::Range;

use kymo_core::NativeHistogram;
use kymo_core::storage::{Columns, Run, RunKind};

use crate::codec::{Read, Reader, put_varint, put_zigzag};

/// Samples in a chunk at the most: a writer cuts before, a reader refuses more.
pub(crate) const CHUNK_SAMPLES_MAX: usize = 4_096;

/// How the floats of a chunk are written; the number is the lower half of its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum Encoding {
    /// There are none.
    Empty = 0,
    /// One value over and over.
    Constant = 1,
    /// Runs of equal values.
    Runs = 2,
    /// Differences as varints.
    Deltas = 3,
    /// The same in a zstd frame.
    DeltasFrame = 4,
    /// Differences of decimals, packed by pco.
    Packed = 5,
    /// Floats packed by pco.
    PackedFloats = 6,
    /// Each value XOR the one before.
    Xor = 7,
}

impl Encoding {
    /// All of them, by number.
    pub(crate) const ALL: [Encoding; 8] = [
        Encoding::Empty,
        Encoding::Constant,
        Encoding::Runs,
        Encoding::Deltas,
        Encoding::DeltasFrame,
        Encoding::Packed,
        Encoding::PackedFloats,
        Encoding::Xor,
    ];

    /// A name for statistics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Encoding::Empty => "empty",
            Encoding::Constant => "constant",
            Encoding::Runs => "runs",
            Encoding::Deltas => "deltas",
            Encoding::DeltasFrame => "deltas_zstd",
            Encoding::Packed => "decimals_pco",
            Encoding::PackedFloats => "floats_pco",
            Encoding::Xor => "xor",
        }
    }
}

const ENCODING_BITS: u8 = 0x0f;
const HAS_EXCEPTIONS: u8 = 0x10;
const HAS_RUNS: u8 = 0x20;
const HAS_STARTS: u8 = 0x40;

/// What encoding may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// A few nanoseconds per sample: for what is merged soon.
    Fast,
    /// For what stays.
    Small,
}

/// The samples of a chunk, borrowed from [`Columns`].
#[derive(Debug, Clone, Copy)]
pub struct Samples<'a> {
    /// Milliseconds; not kept by a chunk, but starts may be told by them.
    pub times: &'a [i64],
    /// Empty, or as long as `times`.
    pub starts: &'a [i64],
    /// Kinds in time order.
    pub runs: &'a [Run],
    /// Values of the float runs.
    pub floats: &'a [f64],
    /// Values of the histogram runs.
    pub histograms: &'a [NativeHistogram],
}

impl<'a> Samples<'a> {
    /// All that columns hold.
    #[must_use]
    pub fn all(columns: &'a Columns) -> Samples<'a> {
        Samples {
            times: &columns.times,
            starts: &columns.starts,
            runs: &columns.runs,
            floats: &columns.floats,
            histograms: &columns.histograms,
        }
    }

    /// The one value of a chunk that holds nothing else.
    pub(crate) fn constant(&self) -> Option<f64> {
        let first = *self.floats.first()?;
        let is_plain = self.floats.len() == self.times.len() && self.starts.iter().all(|s| *s == 0);
        (is_plain && self.floats.iter().all(|v| v.to_bits() == first.to_bits())).then_some(first)
    }
}

/// Encodes chunks; holds buffers and compressors.
#[derive(Debug)]
pub(crate) struct ChunkEncoder {
    floats: floats::FloatEncoder,
    histograms: histograms::HistogramEncoder,
    regular: Vec<f64>,
    exceptions: Vec<(usize, f64)>,
    body: Vec<u8>,
}

impl ChunkEncoder {
    /// # Errors
    /// Out of memory.
    pub(crate) fn new() -> std::io::Result<ChunkEncoder> {
        Ok(ChunkEncoder {
            floats: floats::FloatEncoder::new()?,
            histograms: histograms::HistogramEncoder::new()?,
            regular: Vec::new(),
            exceptions: Vec::new(),
            body: Vec::new(),
        })
    }

    /// Appends the encoded form of 1 to [`CHUNK_SAMPLES_MAX`] samples.
    pub(crate) fn encode(&mut self, samples: Samples<'_>, effort: Effort, out: &mut Vec<u8>) -> Encoding {
        let count = samples.times.len();
        assert!((1..=CHUNK_SAMPLES_MAX).contains(&count), "a chunk holds 1 to {CHUNK_SAMPLES_MAX} samples");
        let values = self.take_exceptions(samples.floats);
        self.body.clear();
        let values = if values { &self.regular } else { samples.floats };
        let encoding = self.floats.encode(values, effort, &mut self.body);
        let has_runs = samples.floats.len() != count;
        let has_starts = samples.starts.iter().any(|s| *s != 0);
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        out.push(
            encoding as u8
                | flag(!self.exceptions.is_empty(), HAS_EXCEPTIONS)
                | flag(has_runs, HAS_RUNS)
                | flag(has_starts, HAS_STARTS),
        );
        if has_runs {
            put_varint(out, samples.runs.len() as u64);
            for run in samples.runs {
                out.push(kind_number(run.kind));
                put_varint(out, run.len as u64);
            }
        }
        if has_starts {
            encode_starts(samples.times, samples.starts, out);
        }
        if !samples.histograms.is_empty() {
            self.histograms.encode(samples.histograms, out);
        }
        if !self.exceptions.is_empty() {
            put_varint(out, self.exceptions.len() as u64);
            let mut next = 0;
            for &(at, value) in &self.exceptions {
                put_varint(out, (at - next) as u64);
                out.extend_from_slice(&value.to_le_bytes());
                next = at + 1;
            }
        }
        out.extend_from_slice(&self.body);
        encoding
    }

    /// Sets numbers aside that are none an integer can stand for, leaving `regular`; `false` if there are none, or if
    /// the column is constant as it is.
    fn take_exceptions(&mut self, floats: &[f64]) -> bool {
        self.exceptions.clear();
        if floats.iter().all(|v| decimal::is_regular(*v)) {
            return false;
        }
        if floats.windows(2).all(|w| w[0].to_bits() == w[1].to_bits()) {
            return false;
        }
        self.regular.clear();
        // The value before stands in, so that no difference is spoilt.
        let mut stand_in = floats.iter().copied().find(|v| decimal::is_regular(*v)).unwrap_or(0.0);
        for (at, &value) in floats.iter().enumerate() {
            if decimal::is_regular(value) {
                stand_in = value;
            } else {
                self.exceptions.push((at, value));
            }
            self.regular.push(stand_in);
        }
        true
    }
}

/// The encoding of a chunk's floats.
///
/// # Errors
/// [`Malformed`](crate::Malformed) if there is no such encoding.
pub(crate) fn encoding_of(payload: &[u8]) -> Read<Encoding> {
    let from = &mut Reader::new(payload);
    let head = from.u8()?;
    match Encoding::ALL.get(usize::from(head & ENCODING_BITS)) {
        Some(encoding) if head & 0x80 == 0 => Ok(*encoding),
        _ => from.bad("unknown chunk encoding"),
    }
}

/// Appends to `columns` the values of the samples `range` of a chunk of `times.len()`. The times themselves are
/// appended by the caller, before.
///
/// # Errors
/// [`Malformed`](crate::Malformed); `columns` then holds what was read before.
pub(crate) fn decode(payload: &[u8], times: &[i64], range: Range<usize>, columns: &mut Columns) -> Read<()> {
    let encoding = encoding_of(payload)?;
    let count = times.len();
    let from = &mut Reader::new(payload);
    let head = from.u8()?;
    let runs = if head & HAS_RUNS != 0 { Some(read_runs(from, count)?) } else { None };
    // The caller has appended the times of the range.
    let before = columns.times.len() - range.len();
    if head & HAS_STARTS != 0 {
        read_starts(from, times, &range, before, columns)?;
    } else if !columns.starts.is_empty() {
        columns.starts.resize(before + range.len(), 0);
    }
    // Where the range begins and ends in the columns of floats and histograms.
    let (mut floats, mut histograms) = (Place::default(), Place::default());
    match &runs {
        None => {
            floats = Place { count, range: range.clone() };
            push_run(&mut columns.runs, RunKind::Float, range.len());
        }
        Some(runs) => {
            let mut at = 0;
            for run in runs {
                let (begin, end) = (at, at + run.len);
                at = end;
                let kept = range.end.min(end).saturating_sub(range.start.max(begin));
                let skipped = range.start.min(end).saturating_sub(begin);
                match run.kind {
                    RunKind::Float => floats.add(run.len, skipped, kept),
                    RunKind::Histogram => histograms.add(run.len, skipped, kept),
                    RunKind::Stale => {}
                }
                push_run(&mut columns.runs, run.kind, kept);
            }
        }
    }
    if histograms.count > 0 {
        histograms::decode(from, histograms.count, histograms.range, &mut columns.histograms)?;
    }
    if head & HAS_EXCEPTIONS == 0 {
        return floats::decode(encoding, from, floats.count, floats.range, &mut columns.floats);
    }
    let mut exceptions = Vec::new();
    let mut next = 0usize;
    for _ in 0..from.count(9)? {
        let at = next.saturating_add(usize::try_from(from.varint()?).unwrap_or(usize::MAX));
        if at >= floats.count {
            return from.bad("exceptions do not rise");
        }
        exceptions.push((at, from.f64()?));
        next = at + 1;
    }
    let first = columns.floats.len();
    floats::decode(encoding, from, floats.count, floats.range.clone(), &mut columns.floats)?;
    for (at, value) in exceptions.into_iter().filter(|(at, _)| floats.range.contains(at)) {
        columns.floats[first + at - floats.range.start] = value;
    }
    Ok(())
}

/// Adds `len` samples of `kind`, joining the last run if it is of that kind.
pub(crate) fn push_run(runs: &mut Vec<Run>, kind: RunKind, len: usize) {
    match runs.last_mut() {
        _ if len == 0 => {}
        Some(last) if last.kind == kind => last.len += len,
        _ => runs.push(Run { kind, len }),
    }
}

/// Where a range of samples lies in the column of one kind.
#[derive(Debug, Default)]
struct Place {
    count: usize,
    range: Range<usize>,
}

impl Place {
    fn add(&mut self, len: usize, skipped: usize, kept: usize) {
        self.count += len;
        self.range.start += skipped;
        self.range.end += skipped + kept;
    }
}

fn kind_number(kind: RunKind) -> u8 {
    match kind {
        RunKind::Float => 0,
        RunKind::Histogram => 1,
        RunKind::Stale => 2,
    }
}

fn read_runs(from: &mut Reader<'_>, count: usize) -> Read<Vec<Run>> {
    let n = from.count(2)?;
    let mut runs = Vec::with_capacity(n.min(count));
    let mut total = 0usize;
    for _ in 0..n {
        let kind = match from.u8()? {
            0 => RunKind::Float,
            1 => RunKind::Histogram,
            2 => RunKind::Stale,
            _ => return from.bad("unknown kind of sample"),
        };
        let len = usize::try_from(from.varint()?).unwrap_or(usize::MAX);
        total = total.saturating_add(len);
        if len == 0 || total > count {
            return from.bad("runs do not add up");
        }
        runs.push(Run { kind, len });
    }
    if total == count { Ok(runs) } else { from.bad("runs do not add up") }
}

/// Starts that stand still are runs as they are; those that go with the samples are runs of time − start.
const STARTS_ABSOLUTE: u8 = 0;
const STARTS_BEFORE_TIME: u8 = 1;

fn encode_starts(times: &[i64], starts: &[i64], out: &mut Vec<u8>) {
    let changes = |value: &dyn Fn(usize) -> i64| (1..times.len()).filter(|&n| value(n) != value(n - 1)).count();
    let absolute = |n: usize| starts[n];
    let before_time = |n: usize| times[n].wrapping_sub(starts[n]);
    let is_absolute = changes(&absolute) <= changes(&before_time);
    let value: &dyn Fn(usize) -> i64 = if is_absolute { &absolute } else { &before_time };
    out.push(if is_absolute { STARTS_ABSOLUTE } else { STARTS_BEFORE_TIME });
    put_varint(out, changes(value) as u64 + 1);
    let (mut begin, mut before) = (0, 0i64);
    for end in 1..=times.len() {
        if end == times.len() || value(end) != value(begin) {
            put_varint(out, (end - begin) as u64);
            put_zigzag(out, value(begin).wrapping_sub(before));
            before = value(begin);
            begin = end;
        }
    }
}

fn read_starts(
    from: &mut Reader<'_>,
    times: &[i64],
    range: &Range<usize>,
    before: usize,
    columns: &mut Columns,
) -> Read<()> {
    let is_absolute = match from.u8()? {
        STARTS_ABSOLUTE => true,
        STARTS_BEFORE_TIME => false,
        _ => return from.bad("unknown form of start timestamps"),
    };
    columns.starts.resize(before, 0);
    let (mut at, mut value) = (0usize, 0i64);
    for _ in 0..from.count(2)? {
        let len = usize::try_from(from.varint()?).unwrap_or(usize::MAX);
        value = value.wrapping_add(from.zigzag()?);
        let end = at.saturating_add(len);
        if len == 0 || end > times.len() {
            return from.bad("start timestamps do not add up");
        }
        let kept = at.clamp(range.start, range.end)..end.clamp(range.start, range.end);
        let start = |time: &i64| if is_absolute { value } else { time.wrapping_sub(value) };
        columns.starts.extend(times[kept].iter().map(start));
        at = end;
    }
    if at == times.len() { Ok(()) } else { from.bad("start timestamps do not add up") }
}

#[cfg(test)]
mod tests;
