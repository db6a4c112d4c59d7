//! `io.prometheus.write.v2.Request`: strings stand once in a table of symbols, and series refer to them.
//!
//! The cache key of a series is its labels unfolded, each string behind its length as a varint. Symbols are
//! numbered anew in every request, so the references themselves say nothing.

use std::hash::BuildHasher;

use kymo_core::labels::METRIC_NAME;
use kymo_core::storage::RejectReason;
use kymo_core::{FamilyType, Metadata};

use super::Version;
use super::cache::{Hit, SeriesCache, Session};
use super::config::RemoteWriteConfig;
use super::error::{DecodeError, Reason};
use super::naming::{Naming, RefPairs};
use super::rows::{Layout, Rows, Sessions, refuse};
use super::v1::family_type;
use crate::proto::{Cursor, ProtoError, Span};

const LAYOUT: Layout = Layout { version: Version::V2, histograms: 3, exemplars: 4 };

pub(super) fn decode<S: BuildHasher>(
    body: &[u8],
    cache: &SeriesCache<S>,
    rows: &mut Rows,
    config: &RemoteWriteConfig,
) -> Result<(), DecodeError> {
    let series_count = symbols(body, rows)?;
    if series_count > 0 && rows.symbols.first().is_none_or(|first| !first.is_empty()) {
        return Err(DecodeError::Symbols);
    }
    let mut sessions = Sessions::new(cache);
    let mut fields = Cursor::new(body);
    while let Some(field) = fields.next()? {
        if field.number == 5 {
            series(body, field.span()?, sessions.next(), rows, config)?;
        }
    }
    Ok(())
}

/// Reads the symbol table, which may stand anywhere in the body. Returns the number of series.
fn symbols(body: &[u8], rows: &mut Rows) -> Result<usize, DecodeError> {
    let mut series_count = 0;
    let mut fields = Cursor::new(body);
    while let Some(field) = fields.next()? {
        match field.number {
            4 => {
                rows.meter.take(2 * size_of::<Span>())?;
                rows.symbols.push(field.span()?);
            }
            5 => series_count += 1,
            _ => {}
        }
    }
    Ok(series_count)
}

/// What a series message holds, before its elements are read.
#[derive(Default)]
struct Scan {
    samples: usize,
    histograms: usize,
    exemplars: usize,
    metadata: Option<Span>,
    labels: Option<Reason>,
}

impl Scan {
    /// Why the series is to be refused whole.
    fn fault(&self, declared: Option<Declared<'_>>) -> Option<Reason> {
        if self.labels.is_some() {
            return self.labels;
        }
        match (self.samples, self.histograms) {
            // Prometheus sends exemplars in series of their own, and metadata alone does no harm.
            (0, 0) if self.exemplars == 0 && declared.is_none() => Some(Reason::EmptySeries),
            (1.., 1..) => Some(Reason::MixedSeries),
            _ => None,
        }
    }
}

/// Counts what is in a series message and unfolds its labels into `rows.key`.
fn scan(body: &[u8], message: Span, rows: &mut Rows, config: &RemoteWriteConfig) -> Result<Scan, ProtoError> {
    let (symbols, key) = (&rows.symbols, &mut rows.key);
    key.clear();
    let (mut scan, mut pairs) = (Scan::default(), RefPairs::default());
    let mut fields = Cursor::over(body, message);
    while let Some(field) = fields.next()? {
        match field.number {
            1 if scan.labels.is_none() => {
                let unfolded = pairs.read(body, field, symbols, |name, value| {
                    if key.len() + name.len() + value.len() > config.series_label_bytes_max {
                        return Err(Reason::Row(RejectReason::LabelTooLong));
                    }
                    unfold(key, name);
                    unfold(key, value);
                    Ok(())
                })?;
                scan.labels = unfolded.err();
            }
            2 => scan.samples += 1,
            3 => scan.histograms += 1,
            4 => scan.exemplars += 1,
            5 => scan.metadata = Some(field.span()?),
            _ => {}
        }
    }
    scan.labels = scan.labels.or(pairs.end().err());
    Ok(scan)
}

/// Appends a string behind its length.
fn unfold(key: &mut Vec<u8>, text: &[u8]) {
    let mut len = text.len();
    while len >= 0x80 {
        key.push(len as u8 | 0x80);
        len >>= 7;
    }
    key.push(len as u8);
    key.extend_from_slice(text);
}

/// The cache key of a series message, unfolded into `rows.key`; whether it has one.
pub(super) fn key(body: &[u8], message: Span, rows: &mut Rows, config: &RemoteWriteConfig) -> bool {
    matches!(scan(body, message, rows, config), Ok(scan) if scan.labels.is_none())
}

fn series<S: BuildHasher>(
    body: &[u8],
    message: Span,
    session: &mut Session<'_, S>,
    rows: &mut Rows,
    config: &RemoteWriteConfig,
) -> Result<(), DecodeError> {
    let scan = scan(body, message, rows, config)?;
    rows.unfold(rows.key.len(), config)?;
    let declared = match scan.metadata {
        Some(metadata) => declared(body, metadata, &rows.symbols)?,
        None => Ok(None),
    };
    let fault = declared.err().or(scan.fault(declared.ok().flatten()));
    let hit = if fault.is_none() { find(&rows.key, session) } else { None };
    let target = match (fault, hit) {
        (Some(reason), _) => Err(reason),
        (None, Some(hit)) => Ok(hit.series.into()),
        (None, None) => rows.keep(Version::V2, body, message)?,
    };
    let metadata = match (declared, target) {
        (Ok(Some(declared)), Ok(_)) => declare(body, message, declared, &scan, hit, session, rows, config)?,
        _ => 0,
    };
    rows.open(message, hit, metadata)?;
    let refused = rows.elements(body, message, LAYOUT, target, config)?;
    if let Err(reason) = target {
        let naming = Naming::Symbols(&rows.symbols);
        refuse(&mut rows.refusals, reason, refused, || naming.example(body, message));
    }
    rows.close();
    Ok(())
}

fn find<S: BuildHasher>(key: &[u8], session: &mut Session<'_, S>) -> Option<Hit> {
    match session.predicted() {
        Some((slot, expected)) if expected == key => session.hit(slot),
        _ => session.find(key),
    }
}

/// Type, help and unit of a series, as sent.
#[derive(Clone, Copy, Hash)]
struct Declared<'b> {
    type_number: u32,
    help: &'b [u8],
    unit: &'b [u8],
}

/// Reads a `Metadata` message; `None` if it declares nothing.
fn declared<'b>(
    body: &'b [u8],
    message: Span,
    symbols: &[Span],
) -> Result<Result<Option<Declared<'b>>, Reason>, ProtoError> {
    let (mut type_number, mut help, mut unit) = (0, 0, 0);
    let mut fields = Cursor::over(body, message);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => type_number = field.uint32()?,
            3 => help = field.uint32()?,
            4 => unit = field.uint32()?,
            _ => {}
        }
    }
    let symbol = |number: u32| symbols.get(number as usize).map(|symbol| symbol.of(body));
    let (Some(help), Some(unit)) = (symbol(help), symbol(unit)) else { return Ok(Err(Reason::SymbolOutOfRange)) };
    let empty = type_number == 0 && help.is_empty() && unit.is_empty();
    Ok(Ok((!empty).then_some(Declared { type_number, help, unit })))
}

/// Puts metadata into the batch unless the engine has it from this series already. Returns its fingerprint if it did.
#[expect(clippy::too_many_arguments, reason = "what is known of one series, at its only caller")]
fn declare<S: BuildHasher>(
    body: &[u8],
    message: Span,
    declared: Declared<'_>,
    scan: &Scan,
    hit: Option<Hit>,
    session: &Session<'_, S>,
    rows: &mut Rows,
    config: &RemoteWriteConfig,
) -> Result<u64, DecodeError> {
    let fingerprint = session.fingerprint(declared);
    if hit.is_some_and(|hit| session.metadata(hit.slot) == fingerprint) {
        return Ok(0);
    }
    let name = Naming::Symbols(&rows.symbols).value(body, message, METRIC_NAME).unwrap_or_default();
    let family_type = family_type(declared.type_number);
    let family = if scan.histograms == 0 { family(name, family_type) } else { name };
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let metadata = Metadata { family_type, unit: text(declared.unit), help: text(declared.help) };
    let pushed = rows.batch.metadata().last();
    if pushed.is_none_or(|(last, of_last)| last != family || *of_last != metadata) {
        let bytes = family.len() + declared.help.len() + declared.unit.len();
        rows.unfold(bytes, config)?;
        rows.meter.take(bytes + 2 * size_of::<(String, Metadata)>())?;
        rows.batch.push_metadata(family, metadata);
    }
    Ok(fingerprint)
}

/// The family that a float series of this type belongs to: classic histograms and summaries have several series each.
fn family(name: &str, family_type: FamilyType) -> &str {
    let suffixes: &[&str] = match family_type {
        FamilyType::Histogram => &["_bucket", "_sum", "_count"],
        FamilyType::GaugeHistogram => &["_bucket", "_gsum", "_gcount", "_sum", "_count"],
        FamilyType::Summary => &["_sum", "_count"],
        _ => &[],
    };
    suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).filter(|family| !family.is_empty()).unwrap_or(name)
}
