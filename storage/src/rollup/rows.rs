//! Rows of rollups as chunks of a block, and back.
//!
//! Per series a group of seven chunks, in this order, or of one where there is nothing but staleness markers:
//!
//! | Chunk | Times | Holds |
//! |---|---|---|
//! | last | of the last sample of each bucket, and of a marker behind it | floats, histograms, markers |
//! | first | of the first sample | floats, histograms |
//! | count, sum, min, max, lost | of the last sample | floats; sum and lost of histograms; a marker where there is none |
//!
//! A bucket that holds floats and histograms has a row of each. Rows of one kind stand in one order everywhere, which is what
//! joins them. Mostly the last five share the times of the first chunk, so that they cost values only.

use kymo_core::SelectError;
use kymo_core::aggregate::rollup::Figures;
use kymo_core::storage::{ColumnValue, Columns, FloatRollup, HistogramRollup, RunKind, Tier};

use crate::block::{Block, BlockWriter, ChunkRef};
use crate::chunk::Samples;

/// Chunks of a group.
pub(crate) const GROUP: usize = 7;
/// Which figure each chunk of a group holds; the first is always read.
const COLUMNS: [Figures; GROUP] =
    [Figures::NONE, Figures::FIRST, Figures::COUNT, Figures::SUM, Figures::MIN, Figures::MAX, Figures::LOST];
/// Bytes of histograms in a group at about which it is cut; and rows, well below what a column of times may have.
const HISTOGRAM_BYTES_MAX: usize = 2 << 20;
const ROWS_MAX: usize = 3_000;

/// The columns of a group.
#[derive(Default)]
struct Group([Columns; GROUP]);

impl Group {
    fn of(rows: &Columns, range: std::ops::Range<usize>, at: &mut (usize, usize)) -> Group {
        let mut group = Group::default();
        let [last, first, count, sum, min, max, lost] = &mut group.0;
        // Firsts are sorted by their own times: of a bucket with floats and histograms the order may be another.
        let mut firsts: Vec<(i64, ColumnValue<'_>)> = Vec::new();
        for (time, value) in rows.iter().skip(range.start).take(range.len()) {
            last.push(time, 0, value);
            match value {
                ColumnValue::Float(_) => {
                    let of = &rows.rollups.floats[at.0];
                    at.0 += 1;
                    firsts.push((of.first_ms, ColumnValue::Float(of.first)));
                    count.push(time, 0, ColumnValue::Float(of.count));
                    sum.push(time, 0, ColumnValue::Float(of.sum));
                    min.push(time, 0, ColumnValue::Float(of.min));
                    max.push(time, 0, ColumnValue::Float(of.max));
                    lost.push(time, 0, ColumnValue::Float(of.lost));
                }
                ColumnValue::Histogram(_) => {
                    let of = &rows.rollups.histograms[at.1];
                    at.1 += 1;
                    firsts.push((of.first_ms, ColumnValue::Histogram(&of.first)));
                    count.push(time, 0, ColumnValue::Float(of.count));
                    sum.push(time, 0, of.sum.as_ref().map_or(ColumnValue::Stale, ColumnValue::Histogram));
                    min.push(time, 0, ColumnValue::Stale);
                    max.push(time, 0, ColumnValue::Stale);
                    lost.push(time, 0, of.lost.as_ref().map_or(ColumnValue::Stale, ColumnValue::Histogram));
                }
                ColumnValue::Stale => {}
            }
        }
        firsts.sort_by_key(|(time, _)| *time);
        firsts.into_iter().for_each(|(time, value)| first.push(time, 0, value));
        group
    }
}

/// Writes the rows of the current series.
pub(crate) fn write(rows: &Columns, writer: &mut BlockWriter) -> std::io::Result<()> {
    let mut cuts = vec![0];
    let (mut bytes, mut histogram) = (0, 0);
    for (row, (_, value)) in rows.iter().enumerate() {
        if let ColumnValue::Histogram(last) = value {
            let of = &rows.rollups.histograms[histogram];
            histogram += 1;
            let sums = [of.sum.as_ref(), of.lost.as_ref()].into_iter().flatten();
            bytes += last.bytes() + of.first.bytes() + sums.map(|sum| sum.bytes()).sum::<usize>();
        }
        let begin = cuts[cuts.len() - 1];
        if row > begin && (bytes > HISTOGRAM_BYTES_MAX || row - begin >= ROWS_MAX) {
            cuts.push(row);
            bytes = 0;
        }
    }
    cuts.push(rows.times.len());
    let mut at = (0, 0);
    for cut in cuts.windows(2).filter(|cut| cut[0] < cut[1]) {
        let group = Group::of(rows, cut[0]..cut[1], &mut at);
        // A lone chunk says that there is nothing but markers, so a group of a longer series is whole or left out.
        let is_bare = group.0[1].times.is_empty();
        if is_bare && cut[1] - cut[0] < rows.times.len() {
            continue;
        }
        let chunks = if is_bare { &group.0[..1] } else { &group.0[..] };
        chunks.iter().try_for_each(|columns| writer.chunk(Samples::all(columns)))?;
    }
    Ok(())
}

/// Where the payload of a chunk is read from.
pub(crate) trait Payloads {
    /// Appends the whole of chunk `number` of those given.
    fn read(&self, number: usize, chunk: &ChunkRef, columns: &mut Columns) -> Result<(), SelectError>;
}

/// Through the cache of the block.
pub(crate) struct Cached<'a>(pub(crate) &'a Block);

impl Payloads for Cached<'_> {
    fn read(&self, _: usize, chunk: &ChunkRef, columns: &mut Columns) -> Result<(), SelectError> {
        self.0.read(chunk, i64::MIN, i64::MAX, columns)
    }
}

/// Appends the rows that `chunks`, which are whole groups of a series in a block, hold, with these figures.
pub(crate) fn read(
    chunks: &[ChunkRef],
    tier: Tier,
    figures: Figures,
    payloads: &dyn Payloads,
    place: &dyn Fn() -> String,
    into: &mut Columns,
) -> Result<(), SelectError> {
    let damaged = |what: &str| SelectError::Damaged { place: place(), what: what.to_owned() };
    let size = if chunks.len() == 1 { 1 } else { GROUP };
    if !chunks.len().is_multiple_of(size) {
        return Err(damaged("chunks of rollups are no whole groups"));
    }
    let mut columns: [Columns; GROUP] = Default::default();
    for (group, begin) in chunks.chunks(size).zip((0..).step_by(size)) {
        for ((at, chunk), of) in group.iter().enumerate().zip(COLUMNS) {
            columns[at].clear();
            if figures.has(of) {
                payloads.read(begin + at, chunk, &mut columns[at])?;
            }
        }
        let [last, first, count, sum, min, max, lost] = &columns;
        let rows = last.floats.len() + last.histograms.len();
        let of_one = |c: &Columns| c.times.len() == rows;
        if size == 1 {
            if rows > 0 {
                return Err(damaged("a lone chunk of rollups holds samples"));
            }
        } else {
            let floats = last.floats.len();
            let is_read = |of: Figures, is_whole: bool| !figures.has(of) || is_whole;
            let all = |c: &Columns| of_one(c) && c.floats.len() == floats;
            let firsts = first.floats.len() == floats && first.histograms.len() == last.histograms.len();
            let is_whole = is_read(Figures::FIRST, firsts)
                && is_read(Figures::COUNT, count.floats.len() == rows)
                && is_read(Figures::MIN, all(min))
                && is_read(Figures::MAX, all(max))
                && is_read(Figures::SUM, all(sum))
                && is_read(Figures::LOST, all(lost));
            if !is_whole {
                return Err(damaged("chunks of rollups do not go together"));
            }
        }
        if into.times.last().is_some_and(|before| last.times.first().is_some_and(|first| first <= before)) {
            return Err(damaged("groups of rollups do not rise"));
        }
        let times_of = |kind: RunKind| {
            let mut at = 0;
            first.runs.iter().flat_map(move |run| {
                let range = at..at + run.len;
                at += run.len;
                if run.kind == kind { range } else { 0..0 }
            })
        };
        let (mut float_times, mut histogram_times) = (times_of(RunKind::Float), times_of(RunKind::Histogram));
        let (mut sums, mut losts, mut counts) = (sum.iter(), lost.iter(), count.floats.iter().copied());
        let (mut float, mut histogram) = (0, 0);
        for (time, value) in last.iter() {
            into.push(time, 0, value);
            if matches!(value, ColumnValue::Stale) {
                continue;
            }
            let (sum, lost, count) = (sums.next(), losts.next(), counts.next().unwrap_or(f64::NAN));
            let time_of = |row: Option<usize>| row.map_or(time, |row| first.times[row]);
            if matches!(value, ColumnValue::Float(_)) {
                let number = |value: Option<(i64, ColumnValue<'_>)>| match value {
                    Some((_, ColumnValue::Float(value))) => value,
                    _ => f64::NAN,
                };
                let at = |column: &Columns| column.floats.get(float).copied().unwrap_or(f64::NAN);
                into.rollups.floats.push(FloatRollup {
                    first_ms: time_of(float_times.next()),
                    first: at(first),
                    count,
                    sum: number(sum),
                    min: at(min),
                    max: at(max),
                    lost: number(lost),
                });
                float += 1;
            } else {
                let value = |value: Option<(i64, ColumnValue<'_>)>| match value {
                    Some((_, ColumnValue::Histogram(value))) => Some(value.clone()),
                    _ => None,
                };
                into.rollups.histograms.push(HistogramRollup {
                    first_ms: time_of(histogram_times.next()),
                    first: first.histograms.get(histogram).cloned().unwrap_or_default(),
                    count,
                    sum: value(sum),
                    lost: value(lost),
                });
                histogram += 1;
            }
        }
        into.rollups.add_rows(tier, last.times.len());
    }
    into.tier = tier;
    Ok(())
}
