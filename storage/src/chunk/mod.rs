//! A chunk: an encoded run of samples of one series, times rising.
//!
//! The first byte names the encoding, so that a writer may choose and a reader need not be told.
//! There is one encoding so far, [`ENCODING_GORILLA`]: delta-of-delta varints for timestamps, a XOR bit
//! stream for floats, runs for the kinds of samples, and plain columns for the rest. Every bit of
//! every value survives. `docs/format/chunk.md` is the page.

mod xor;

use kymo_core::storage::{ColumnValue, Columns, Run, RunKind};

use crate::codec::{Malformed, Read, Reader, put_histogram, put_varint, put_zigzag, read_histogram};

/// Timestamps as delta-of-delta varints, floats as a XOR bit stream.
pub(crate) const ENCODING_GORILLA: u8 = 1;
/// Samples in a chunk at the most: a writer cuts there, a reader refuses more.
pub(crate) const CHUNK_SAMPLES_MAX: usize = 4_096;

const HAS_RUNS: u8 = 1;
const HAS_STARTS: u8 = 2;

/// Appends the encoded form of `columns`, which must hold 1 to [`CHUNK_SAMPLES_MAX`] samples.
pub(crate) fn encode(columns: &Columns, out: &mut Vec<u8>) {
    let count = columns.times.len();
    assert!((1..=CHUNK_SAMPLES_MAX).contains(&count), "a chunk holds 1 to {CHUNK_SAMPLES_MAX} samples");
    let all_floats = columns.floats.len() == count;
    let has_starts = columns.starts.iter().any(|s| *s != 0);
    out.push(ENCODING_GORILLA);
    out.push(if all_floats { 0 } else { HAS_RUNS } | if has_starts { HAS_STARTS } else { 0 });
    put_varint(out, count as u64);
    encode_times(&columns.times, out);
    if !all_floats {
        put_varint(out, columns.runs.len() as u64);
        for run in &columns.runs {
            out.push(kind_number(run.kind));
            put_varint(out, run.len as u64);
        }
    }
    if has_starts {
        let mut previous = 0i64;
        for &start in &columns.starts {
            put_zigzag(out, start.wrapping_sub(previous));
            previous = start;
        }
    }
    for histogram in &columns.histograms {
        put_histogram(out, histogram);
    }
    xor::encode(&columns.floats, out);
}

/// The samples of a chunk with `start < time <= end`, appended to `columns`, whose last time must lie below.
///
/// # Errors
/// [`Malformed`]; `columns` then holds what was read before.
pub(crate) fn decode(bytes: &[u8], start_ms: i64, end_ms: i64, columns: &mut Columns) -> Result<(), Malformed> {
    let from = &mut Reader::new(bytes);
    if from.u8()? != ENCODING_GORILLA {
        return from.bad("unknown chunk encoding");
    }
    let flags = from.u8()?;
    // A timestamp takes at least a byte.
    let count = from.count(1)?;
    if flags & !(HAS_RUNS | HAS_STARTS) != 0 || !(1..=CHUNK_SAMPLES_MAX).contains(&count) {
        return from.bad("chunk header is malformed");
    }
    let first_new = columns.times.len();
    decode_times(from, count, &mut columns.times)?;
    let times = &columns.times[first_new..];
    let low = times.partition_point(|t| *t <= start_ms);
    let high = times.partition_point(|t| *t <= end_ms).max(low);
    columns.times.truncate(first_new + high);
    columns.times.drain(first_new..first_new + low);

    let runs = read_runs(from, flags, count)?;
    read_starts(from, flags, count, low..high, first_new, columns)?;
    let (mut at, mut floats, mut skipped_floats, mut kept_floats) = (0, 0, 0, 0);
    for run in &runs {
        let (begin, end) = (at, at + run.len);
        at = end;
        let kept = high.min(end).saturating_sub(low.max(begin));
        match run.kind {
            RunKind::Float => {
                floats += run.len;
                kept_floats += kept;
                skipped_floats += low.min(end).saturating_sub(begin);
            }
            RunKind::Histogram => {
                for n in begin..end {
                    let histogram = read_histogram(from)?;
                    if (low..high).contains(&n) {
                        columns.histograms.push(histogram);
                    }
                }
            }
            RunKind::Stale => {}
        }
        push_run(&mut columns.runs, run.kind, kept);
    }
    xor::decode(from, floats, skipped_floats, kept_floats, &mut columns.floats)
}

/// Adds `len` samples of `kind`, joining the last run if it is of that kind.
pub(crate) fn push_run(runs: &mut Vec<Run>, kind: RunKind, len: usize) {
    match runs.last_mut() {
        _ if len == 0 => {}
        Some(last) if last.kind == kind => last.len += len,
        _ => runs.push(Run { kind, len }),
    }
}

fn kind_number(kind: RunKind) -> u8 {
    match kind {
        RunKind::Float => 0,
        RunKind::Histogram => 1,
        RunKind::Stale => 2,
    }
}

fn read_runs(from: &mut Reader<'_>, flags: u8, count: usize) -> Read<Vec<Run>> {
    if flags & HAS_RUNS == 0 {
        return Ok(vec![Run { kind: RunKind::Float, len: count }]);
    }
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

fn read_starts(
    from: &mut Reader<'_>,
    flags: u8,
    count: usize,
    kept: std::ops::Range<usize>,
    before: usize,
    columns: &mut Columns,
) -> Read<()> {
    if flags & HAS_STARTS != 0 {
        columns.starts.resize(before, 0);
        let mut start = 0i64;
        for n in 0..count {
            start = start.wrapping_add(from.zigzag()?);
            if kept.contains(&n) {
                columns.starts.push(start);
            }
        }
    } else if !columns.starts.is_empty() {
        columns.starts.resize(before + kept.len(), 0);
    }
    Ok(())
}

fn encode_times(times: &[i64], out: &mut Vec<u8>) {
    let (mut previous, mut delta) = (0i64, 0i64);
    for &time in times {
        let next = time.wrapping_sub(previous);
        put_zigzag(out, next.wrapping_sub(delta));
        (previous, delta) = (time, next);
    }
}

fn decode_times(from: &mut Reader<'_>, count: usize, times: &mut Vec<i64>) -> Read<()> {
    times.reserve(count);
    let (mut previous, mut delta) = (0i64, 0i64);
    let mut lowest = times.last().copied();
    for _ in 0..count {
        delta = delta.wrapping_add(from.zigzag()?);
        previous = previous.wrapping_add(delta);
        if lowest.is_some_and(|last| previous <= last) {
            return from.bad("timestamps do not rise");
        }
        lowest = Some(previous);
        times.push(previous);
    }
    Ok(())
}

/// The sample at exactly `time_ms`, for finding out whether a late sample is already there.
pub(crate) fn find(bytes: &[u8], time_ms: i64) -> Result<Option<crate::sample::Sample>, Malformed> {
    let mut columns = Columns::default();
    decode(bytes, time_ms.saturating_sub(1), time_ms, &mut columns)?;
    let start_ms = columns.starts.first().copied().unwrap_or(0);
    let found = columns.iter().find(|(time, _)| *time == time_ms);
    Ok(found.map(|(_, value)| match value {
        ColumnValue::Float(v) => crate::sample::Sample::float(time_ms, start_ms, v),
        ColumnValue::Histogram(h) => crate::sample::Sample::histogram(time_ms, start_ms, h.clone().into()),
        ColumnValue::Stale => crate::sample::Sample::stale(time_ms, start_ms),
    }))
}

#[cfg(test)]
mod tests;
