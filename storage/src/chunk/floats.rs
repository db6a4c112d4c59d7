//! A column of floats, in the smallest of several encodings.

use std::ops::Range;

use pco::wrapped::{FileCompressor, FileDecompressor};
use pco::{ChunkConfig, PagingSpec};

use super::decimal::{self, POWERS};
use super::integers;
use super::pages::{self, page_lens};
use super::{Effort, Encoding, xor};
use crate::codec::{Malformed, Read, Reader, put_varint, put_zigzag};
use crate::frames::{FrameWriter, unpack};

/// Bytes of a varint at the most, which bounds what a frame of them may unpack to.
const VARINT_BYTES_MAX: usize = 10;
/// Fewer samples are not worth pco's tables.
const PACKED_SAMPLES_MIN: usize = 24;
/// With a larger share of zero residuals, zstd is never beaten by as much as pco costs in time.
const ZEROS_FOR_PACKED: f64 = 0.97;
/// With a smaller share of zero residuals, zstd never beats pco.
const ZEROS_FOR_FRAME: f64 = 0.2;
/// A run takes about this many bytes.
const RUN_BYTES: usize = 4;
/// Stands for the exponent of runs of floats that are no decimals.
const NO_EXPONENT: u8 = 0xff;

/// Buffers of encoding.
#[derive(Debug)]
pub(super) struct FloatEncoder {
    frames: FrameWriter,
    integers: Vec<i64>,
    scratch: Vec<i64>,
    header: Vec<u8>,
    body: Vec<u8>,
    packed: Vec<u8>,
}

impl FloatEncoder {
    pub(super) fn new() -> std::io::Result<FloatEncoder> {
        Ok(FloatEncoder {
            frames: FrameWriter::new(1)?,
            integers: Vec::new(),
            scratch: Vec::new(),
            header: Vec::new(),
            body: Vec::new(),
            packed: Vec::new(),
        })
    }

    /// Appends `values`; all but constants must be regular numbers (see [`decimal::is_regular`]).
    pub(super) fn encode(&mut self, values: &[f64], effort: Effort, out: &mut Vec<u8>) -> Encoding {
        let Some(first) = values.first() else { return Encoding::Empty };
        let runs = 1 + values.windows(2).filter(|w| w[0].to_bits() != w[1].to_bits()).count();
        if runs == 1 {
            out.extend_from_slice(&first.to_le_bytes());
            return Encoding::Constant;
        }
        let exponent = decimal::scale(values, &mut self.integers);
        if runs * RUN_BYTES * 4 <= values.len() {
            encode_runs(values, exponent.map(|e| (e, self.integers.as_slice())), runs, out);
            return Encoding::Runs;
        }
        match (exponent, effort) {
            (Some(exponent), Effort::Fast) => {
                let order = integers::estimate(&self.integers, &[1, 2], &mut self.scratch).order;
                self.varints(order, exponent);
                out.extend_from_slice(&self.header);
                out.extend_from_slice(&self.body);
                Encoding::Deltas
            }
            (Some(exponent), Effort::Small) => self.smallest(exponent, out),
            (None, Effort::Fast) => {
                xor::encode(values, out);
                Encoding::Xor
            }
            (None, Effort::Small) => {
                self.packed.clear();
                let config = ChunkConfig::default()
                    .with_compression_level(pages::PCO_LEVEL)
                    .with_paging_spec(PagingSpec::EqualPagesUpTo(pages::PAGE_SAMPLES_MAX));
                let compressor = FileCompressor::default().chunk_compressor(values, &config);
                pages::write(compressor.expect("the pages add up to the numbers"), &mut self.packed);
                self.body.clear();
                xor::encode(values, &mut self.body);
                let (bytes, encoding) = if self.packed.len() < self.body.len() {
                    (&self.packed, Encoding::PackedFloats)
                } else {
                    (&self.body, Encoding::Xor)
                };
                out.extend_from_slice(bytes);
                encoding
            }
        }
    }

    fn varints(&mut self, order: u8, exponent: u8) {
        self.header.clear();
        self.body.clear();
        integers::encode_varints(&self.integers, order, exponent, &mut self.scratch, &mut self.header, &mut self.body);
    }

    fn smallest(&mut self, exponent: u8, out: &mut Vec<u8>) -> Encoding {
        let estimate = integers::estimate(&self.integers, &[1, 2, 0], &mut self.scratch);
        self.packed.clear();
        if self.integers.len() >= PACKED_SAMPLES_MIN && estimate.zeros < ZEROS_FOR_PACKED {
            integers::encode_packed(&self.integers, estimate.order, exponent, &mut self.scratch, &mut self.packed);
            if estimate.zeros < ZEROS_FOR_FRAME {
                out.extend_from_slice(&self.packed);
                return Encoding::Packed;
            }
        }
        // Long stretches of zeroes are what varints and zstd are good at, and the second difference spoils them.
        let order = if estimate.order == 2 { 2 } else { 1 };
        self.varints(order, exponent);
        out.extend_from_slice(&self.header);
        let begin = out.len() - self.header.len();
        let frame = self.frames.frame(&self.body).unwrap_or(&self.body);
        let encoding = if frame.len() < self.body.len() {
            out.extend_from_slice(frame);
            Encoding::DeltasFrame
        } else {
            out.extend_from_slice(&self.body);
            Encoding::Deltas
        };
        if !self.packed.is_empty() && self.packed.len() < out.len() - begin {
            out.truncate(begin);
            out.extend_from_slice(&self.packed);
            return Encoding::Packed;
        }
        encoding
    }
}

fn encode_runs(values: &[f64], scaled: Option<(u8, &[i64])>, runs: usize, out: &mut Vec<u8>) {
    out.push(scaled.map_or(NO_EXPONENT, |(exponent, _)| exponent));
    put_varint(out, runs as u64);
    let (mut at, mut before) = (0, 0i64);
    for run in values.chunk_by(|a, b| a.to_bits() == b.to_bits()) {
        put_varint(out, run.len() as u64);
        match scaled {
            Some((_, integers)) => {
                put_zigzag(out, integers[at] - before);
                before = integers[at];
            }
            None => out.extend_from_slice(&run[0].to_le_bytes()),
        }
        at += run.len();
    }
}

/// Appends the values `range` of a column of `count` to `out`.
pub(super) fn decode(
    encoding: Encoding,
    from: &mut Reader<'_>,
    count: usize,
    range: Range<usize>,
    out: &mut Vec<f64>,
) -> Read<()> {
    debug_assert!(range.start <= range.end && range.end <= count);
    out.reserve(range.len());
    match encoding {
        Encoding::Empty if count == 0 => from.end(),
        Encoding::Empty => from.bad("values are missing"),
        _ if count == 0 => from.bad("values of nothing"),
        Encoding::Constant => {
            let value = from.f64()?;
            out.extend(std::iter::repeat_n(value, range.len()));
            from.end()
        }
        Encoding::Runs => decode_runs(from, count, range, out),
        Encoding::Deltas => {
            let header = integers::read_varint_header(from)?;
            decode_varints(header, from, count, range, out)
        }
        Encoding::DeltasFrame => {
            let header = integers::read_varint_header(from)?;
            let mut body = Vec::new();
            unpack(from.bytes(from.left())?, count * VARINT_BYTES_MAX, &mut body)?;
            decode_varints(header, &mut Reader::new(&body), count, range, out)
        }
        Encoding::Packed => integers::decode_packed(from, count, range, out),
        Encoding::PackedFloats => decode_packed_floats(from, count, range, out),
        Encoding::Xor => xor::decode(from, count, range.start, range.len(), out),
    }
}

fn decode_varints(
    header: integers::VarintHeader,
    body: &mut Reader<'_>,
    count: usize,
    range: Range<usize>,
    out: &mut Vec<f64>,
) -> Read<()> {
    let power = POWERS[usize::from(header.exponent())];
    integers::decode_varints(header, body, count, range.end, |at, integer| {
        if at >= range.start {
            out.push(integer as f64 / power);
        }
    })
}

fn decode_runs(from: &mut Reader<'_>, count: usize, range: Range<usize>, out: &mut Vec<f64>) -> Read<()> {
    let exponent = from.u8()?;
    let power = match exponent {
        NO_EXPONENT => None,
        e => match POWERS.get(usize::from(e)) {
            Some(power) => Some(*power),
            None => return from.bad("unknown exponent"),
        },
    };
    let (mut at, mut integer) = (0usize, 0i64);
    for _ in 0..from.count(2)? {
        let len = usize::try_from(from.varint()?).unwrap_or(usize::MAX);
        let value = match power {
            Some(power) => {
                integer = integer.wrapping_add(from.zigzag()?);
                integer as f64 / power
            }
            None => from.f64()?,
        };
        let (begin, end) = (at, at.saturating_add(len));
        if len == 0 || end > count {
            return from.bad("runs do not add up");
        }
        at = end;
        let kept = range.end.min(end).saturating_sub(range.start.max(begin));
        out.extend(std::iter::repeat_n(value, kept));
    }
    if at != count {
        return from.bad("runs do not add up");
    }
    from.end()
}

fn decode_packed_floats(from: &mut Reader<'_>, count: usize, range: Range<usize>, out: &mut Vec<f64>) -> Read<()> {
    let lens = page_lens(count);
    let layout = pages::read_layout(from, lens.len())?;
    let file = pages::file()?;
    let fault = |_| Malformed { what: "packed floats are malformed", offset: 0 };
    let (mut chunk, rest) = FileDecompressor::chunk_decompressor::<f64, _>(&file, layout.bytes).map_err(fault)?;
    let mut values = [0.0; pages::PAGE_SAMPLES_MAX];
    let mut at = 0;
    for (&len, bytes) in lens.iter().zip(layout.pages(rest)?) {
        let (begin, end) = (at, at + len);
        at = end;
        if range.end <= begin || range.start >= end {
            continue;
        }
        let values = &mut values[..len];
        let progress = chunk.page_decompressor(bytes, len).and_then(|mut page| page.read(values));
        if progress.map_err(fault)?.n_processed != len {
            return from.bad("packed floats are cut short");
        }
        out.extend_from_slice(&values[range.start.saturating_sub(begin)..range.end.min(end) - begin]);
    }
    Ok(())
}
