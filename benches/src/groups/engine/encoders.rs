//! What each class of the recording's series takes: bytes, ns to compact, ns to read, and which encoders it got; and what
//! each encoder takes by itself, on the columns that get it.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use kymo_core::{Columns, MetricStorage, QueryContext, Selector};
use kymo_storage::encoders::{BlockEncoder, RUN_SAMPLES, decode_chunk, decode_run, encode_run};

use super::bytes::check_bits;
use super::{folder, timed};
use crate::cases::append::{Appending, open};
use crate::groups::Setup;
use crate::load::{self, Load, RecordedSeries, SCRAPES_MEASURED, Shape};
use crate::report::{Goal, Report, Row};

/// Reads of everything; the best one counts, the first ones fill caches.
const READS: usize = 5;

/// What the values of a series are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Constant,
    Integers,
    Decimals,
    Floats,
}

const CLASSES: [(Class, &str); 4] = [
    (Class::Constant, "constant series"),
    (Class::Integers, "integers"),
    (Class::Decimals, "decimals"),
    (Class::Floats, "other floats"),
];

fn class(series: &RecordedSeries) -> Class {
    let mut bits = series.values.iter().flatten().map(|value| value.to_bits());
    let first = bits.next();
    if bits.all(|bits| Some(bits) == first) {
        return Class::Constant;
    }
    match series.decimals {
        Some(0) => Class::Integers,
        Some(_) => Class::Decimals,
        None => Class::Floats,
    }
}

/// Adds three rows per class, and a note on its encoders.
pub(super) fn run(setup: &Setup, report: &mut Report) -> Result<()> {
    let recording = load::recording()?;
    for (one, what) in CLASSES {
        let mut of_class = recording.clone();
        of_class.series.retain(|series| class(series) == one);
        if of_class.series.is_empty() {
            report.later(what, "the recording has no such series");
            continue;
        }
        let base_ms = load::base_ms_of_now();
        let shape = Shape { series: of_class.series.len(), scrapes: SCRAPES_MEASURED, base_ms };
        let load = Load::new(of_class, shape);
        let dir = folder(setup, &format!("class {what}"))?;
        let mut appending = Appending::new(&load, &dir)?;
        appending.append_up_to(&load, shape.scrapes)?;
        let ((), compacted) = timed(|| Ok(appending.engine().compact(|| true)?))?;
        appending.abandon();
        let (engine, _) = open(&dir)?;
        check_bits(&load, &engine)?;
        let samples = load.samples() as f64;
        let (mut columns, mut best) = (Columns::default(), f64::INFINITY);
        for _ in 0..READS {
            let ((), took) = timed(|| {
                let set = engine.select(&Selector::everything(), &QueryContext::unlimited())?;
                (0..set.len()).try_for_each(|number| set.read(number, &mut columns))?;
                Ok(())
            })?;
            best = best.min(took.as_nanos() as f64 / samples);
        }
        let statistics = engine.block_statistics()?;
        let raw = ("value as it is", 8.0);
        report.row(
            Row::new(format!("values, {what}"), "B/sample", statistics.value_bytes as f64 / samples)
                .floor(raw.0, raw.1),
        );
        report.row(Row::new(format!("flush and compact, {what}"), "ns/sample", compacted.as_nanos() as f64 / samples));
        report.row(Row::new(format!("select and decode, {what}"), "ns/sample", best));
        let shares: Vec<String> = statistics
            .encodings
            .iter()
            .map(|encoding| {
                let (share, bytes) = (encoding.samples as f64 / samples, encoding.bytes as f64);
                let each = bytes / (encoding.samples as f64).max(1.0);
                format!("{} {:.1} % of samples at {each:.3} B", encoding.name, 100.0 * share)
            })
            .collect();
        report.note(format!("Encoders of {what} ({} series): {}.", shape.series, shares.join(", ")));
    }
    Ok(())
}

/// Passes over all columns of an encoder; the best one counts.
const PASSES: usize = 15;
/// Samples of a chunk that a flush writes, and of one that a merge does.
const FLUSHED_SAMPLES: usize = 480;

/// Who encodes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Hot,
    Flushed,
    Merged,
}

/// Adds three rows per encoder: bytes, and ns to encode and to decode.
pub(super) fn one_by_one(_: &Setup, report: &mut Report) -> Result<()> {
    let recording = load::recording()?;
    let scrapes = SCRAPES_MEASURED;
    let shape = Shape { series: recording.series.len(), scrapes, base_ms: load::base_ms_of_now() };
    let load = Load::new(recording, shape);
    let columns: Vec<Vec<f64>> = (0..shape.series)
        .map(|series| (0..scrapes).filter_map(|scrape| load.sample(series, scrape).map(|(_, value)| value)).collect())
        .collect();
    let times: Vec<i64> = (0..scrapes as i64).map(|n| n * load::INTERVAL_MS).collect();
    let stages = [
        (Stage::Hot, "hot", RUN_SAMPLES),
        (Stage::Flushed, "flushed", FLUSHED_SAMPLES),
        (Stage::Merged, "merged", SCRAPES_MEASURED),
    ];
    for (stage, name, len) in stages {
        let mut coder = Coder { stage, blocks: BlockEncoder::new()?, times: &times };
        let mut by_encoder: BTreeMap<&str, Vec<&[f64]>> = BTreeMap::new();
        let mut out = Vec::new();
        for part in columns.iter().flat_map(|column| column.chunks(len)) {
            out.clear();
            by_encoder.entry(coder.encode(part, &mut out)).or_default().push(part);
        }
        for (encoder, parts) in by_encoder {
            let found = coder.measure(&parts)?;
            let what = format!("{name} {encoder}");
            report.row(Row::new(format!("{what}, {:.1} % of samples", found.share(&load)), "B/sample", found.bytes));
            let (encode, decode) = (Row::new(format!("{what}: encode"), "ns/sample", found.encode_ns), {
                Row::new(format!("{what}: decode"), "ns/sample", found.decode_ns)
            });
            match stage {
                Stage::Hot => {
                    report.row(encode.goal(Goal::AtMost(25.0)));
                    report.row(decode.goal(Goal::AtMost(4.0)));
                }
                Stage::Flushed | Stage::Merged => {
                    report.row(encode);
                    report.row(decode);
                }
            }
        }
    }
    Ok(())
}

struct Coder<'a> {
    stage: Stage,
    blocks: BlockEncoder,
    times: &'a [i64],
}

/// Per sample.
struct Found {
    samples: f64,
    bytes: f64,
    encode_ns: f64,
    decode_ns: f64,
}

impl Found {
    /// Per cent of the load.
    fn share(&self, load: &Load) -> f64 {
        100.0 * self.samples / load.samples() as f64
    }
}

impl Coder<'_> {
    fn encode(&mut self, floats: &[f64], out: &mut Vec<u8>) -> &'static str {
        match self.stage {
            Stage::Hot => {
                let mut bits = [0; RUN_SAMPLES];
                bits.iter_mut().zip(floats).for_each(|(bits, float)| *bits = float.to_bits());
                encode_run(&bits[..floats.len()], out)
            }
            Stage::Flushed => self.blocks.flushed(&self.times[..floats.len()], floats, out),
            Stage::Merged => self.blocks.merged(&self.times[..floats.len()], floats, out),
        }
    }

    fn decode(&self, encoded: &[u8], count: usize, columns: &mut Columns) -> Result<()> {
        columns.clear();
        columns.times.extend_from_slice(&self.times[..count]);
        let decoded = match self.stage {
            Stage::Hot => decode_run(encoded, count, columns),
            Stage::Flushed | Stage::Merged => decode_chunk(encoded, &self.times[..count], columns),
        };
        Ok(decoded?)
    }

    fn measure(&mut self, parts: &[&[f64]]) -> Result<Found> {
        let samples = parts.iter().map(|part| part.len()).sum::<usize>() as f64;
        let (mut encoded, mut ends) = (Vec::new(), Vec::new());
        let mut columns = Columns::default();
        let (mut encode_ns, mut decode_ns) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..PASSES {
            encoded.clear();
            ends.clear();
            let ((), took) = timed(|| {
                for part in parts {
                    self.encode(part, &mut encoded);
                    ends.push(encoded.len());
                }
                Ok(())
            })?;
            encode_ns = encode_ns.min(took.as_nanos() as f64 / samples);
            let begins = || std::iter::once(0).chain(ends.iter().copied());
            for ((part, begin), end) in parts.iter().zip(begins()).zip(&ends) {
                self.decode(&encoded[begin..*end], part.len(), &mut columns)?;
                let bits = |floats: &[f64]| floats.iter().map(|float| float.to_bits()).collect::<Vec<_>>();
                // Staleness markers are kinds to the head and values to a caller of the others; the recording has none.
                ensure!(bits(&columns.floats) == bits(part), "a column does not come back with its bits");
            }
            let ((), took) = timed(|| {
                for ((part, begin), end) in parts.iter().zip(begins()).zip(&ends) {
                    self.decode(&encoded[begin..*end], part.len(), &mut columns)?;
                }
                Ok(())
            })?;
            decode_ns = decode_ns.min(took.as_nanos() as f64 / samples);
        }
        Ok(Found { samples, bytes: encoded.len() as f64 / samples, encode_ns, decode_ns })
    }
}
