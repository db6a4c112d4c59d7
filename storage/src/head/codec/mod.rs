//! How a sealed run keeps its values in memory. Its times stand in a column that many runs share
//! ([`times`]).
//!
//! | Piece | Form |
//! |---|---|
//! | first byte | low four bits: the encoding of the floats; bit 6: odd pieces follow; bit 7: exceptions follow |
//! | odd pieces | start timestamps and histograms ([`odd`]) |
//! | exceptions | count, then position, tag and perhaps eight bytes each ([`floats`]) |
//! | floats | as the encoding says ([`floats`]) |
//!
//! The encoding is chosen by its size. Every bit of every value survives: what the integer encodings cannot hold
//! (staleness markers, NaN, infinities, −0.0) is an exception, so one marker does not turn integers into floats.
//!
//! These bytes never reach a disk, so they have no version. They are decoded with the same care as if they did.

mod floats;
mod odd;
pub(super) mod times;

use std::ops::Range;
use std::sync::Arc;

use kymo_core::NativeHistogram;
use kymo_core::histogram::STALE_NAN_BITS;
use kymo_core::storage::{Columns, RunKind};

use crate::codec::{Read, Reader};
use crate::sample::RUN_SAMPLES;

const ENCODING: u8 = 0x0f;
const HAS_ODD: u8 = 0x40;
const HAS_EXCEPTIONS: u8 = 0x80;

/// Room for the values of one run.
type Buffer<T> = [T; RUN_SAMPLES];

/// What a run holds beside its times.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunValues<'a> {
    /// Float bits; anything at the positions of histograms.
    pub(super) bits: &'a [u64],
    /// Empty, or start timestamps.
    pub(super) starts: &'a [i64],
    /// Histograms with their positions, rising.
    pub(super) histograms: &'a [(u8, Arc<NativeHistogram>)],
}

/// Appends the encoded form of 1 to [`RUN_SAMPLES`] values.
pub(super) fn encode(values: RunValues<'_>, out: &mut Vec<u8>) {
    let count = values.bits.len();
    assert!((1..=RUN_SAMPLES).contains(&count), "a run holds 1 to {RUN_SAMPLES} samples");
    let first = out.len();
    out.push(0);
    if values.starts.is_empty() && values.histograms.is_empty() {
        out[first] = floats::encode(values.bits, out);
        return;
    }
    odd::encode(values.starts, values.histograms, out);
    let mut bits: Buffer<u64> = [0; RUN_SAMPLES];
    let mut floats = 0;
    let mut histograms = values.histograms.iter().map(|(at, _)| usize::from(*at)).peekable();
    for (at, value) in values.bits.iter().enumerate() {
        if histograms.next_if_eq(&at).is_none() {
            bits[floats] = *value;
            floats += 1;
        }
    }
    out[first] = HAS_ODD | floats::encode(&bits[..floats], out);
}

/// Appends the values at the positions `kept` of a run of `count` to `columns`, which already has their times.
pub(super) fn decode(bytes: &[u8], count: usize, kept: Range<usize>, columns: &mut Columns) -> Read<()> {
    let from = &mut Reader::new(bytes);
    if count > RUN_SAMPLES || kept.end > count {
        return from.bad("run is too long");
    }
    let flags = from.u8()?;
    let before = columns.times.len() - kept.len();
    let odd = if flags & HAS_ODD != 0 { Some(odd::decode(from, count)?) } else { None };
    let histograms = odd.as_ref().map_or(0, |odd| odd.histograms.len());
    let mut buffer: Buffer<f64> = [0.0; RUN_SAMPLES];
    let values = &mut buffer[..count - histograms];
    let has_stale = floats::decode(flags & ENCODING, flags & HAS_EXCEPTIONS != 0, from, values)?;
    from.end()?;
    if odd.is_none() && !has_stale {
        if !columns.starts.is_empty() {
            columns.starts.resize(before + kept.len(), 0);
        }
        push_run(columns, RunKind::Float, kept.len());
        columns.floats.extend_from_slice(&buffer[kept]);
        return Ok(());
    }
    let odd = odd.unwrap_or_default();
    if !odd.starts.is_empty() {
        columns.starts.resize(before, 0);
        columns.starts.extend_from_slice(&odd.starts[kept.clone()]);
    } else if !columns.starts.is_empty() {
        columns.starts.resize(before + kept.len(), 0);
    }
    let mut histograms = odd.histograms.into_iter().peekable();
    let mut floats = 0;
    for at in 0..count {
        let is_kept = kept.contains(&at);
        if let Some((_, histogram)) = histograms.next_if(|(position, _)| usize::from(*position) == at) {
            if is_kept {
                push_run(columns, RunKind::Histogram, 1);
                columns.histograms.push(histogram);
            }
            continue;
        }
        let value = buffer[floats];
        floats += 1;
        if is_kept && value.to_bits() == STALE_NAN_BITS {
            push_run(columns, RunKind::Stale, 1);
        } else if is_kept {
            push_run(columns, RunKind::Float, 1);
            columns.floats.push(value);
        }
    }
    Ok(())
}

/// The name of a first byte's encoding.
#[cfg(feature = "encoders")]
pub(super) fn name(first: u8) -> &'static str {
    floats::NAMES.get(usize::from(first & ENCODING)).copied().unwrap_or("unknown")
}

/// Adds `len` samples of `kind`, joining the last run if it is of that kind.
pub(super) fn push_run(columns: &mut Columns, kind: RunKind, len: usize) {
    match columns.runs.last_mut() {
        _ if len == 0 => {}
        Some(last) if last.kind == kind => last.len += len,
        _ => columns.runs.push(kymo_core::storage::Run { kind, len }),
    }
}

#[cfg(test)]
mod tests;
