//! `io.prometheus.write.v2.Request`: strings stand once in a table of symbols, and series refer to them.
//!
//! The cache key of a series is its labels unfolded, each string behind its length as a varint. Symbols are
//! numbered anew in every request, so the references themselves say nothing.

use std::hash::BuildHasher;

use kymo_core::labels::METRIC_NAME;
use kymo_core::storage::RejectReason;
use kymo_core::{FamilyType, Metadata};

use super::Version;
use super::config::RemoteWriteConfig;
use super::error::{DecodeError, Reason};
use super::naming::Naming;
use super::rows::{Layout, Rows, refuse};
use super::v1::family_type;
use crate::proto::{Cursor, ProtoError, Span};
use crate::series_cache::{Hit, SeriesCache, Session, Sessions};

/// The first byte of packed label references: field 1, length-delimited.
const REFS_TAG: u8 = 0x0a;
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
    /// Fields of label references; one, packed, is usual.
    label_fields: usize,
    samples: usize,
    histograms: usize,
    exemplars: usize,
    metadata: Option<Span>,
}

impl Scan {
    /// Why the series is to be refused whole.
    fn fault(&self, declared: Option<Declared<'_>>) -> Option<Reason> {
        match (self.samples, self.histograms) {
            // Prometheus sends exemplars in series of their own, and metadata alone does no harm.
            (0, 0) if self.exemplars == 0 && declared.is_none() => Some(Reason::EmptySeries),
            (1.., 1..) => Some(Reason::MixedSeries),
            _ => None,
        }
    }
}

/// Counts what is in a series message.
fn scan(body: &[u8], message: Span) -> Result<Scan, ProtoError> {
    let mut scan = Scan::default();
    let mut fields = Cursor::over(body, message);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => scan.label_fields += 1,
            2 => scan.samples += 1,
            3 => scan.histograms += 1,
            4 => scan.exemplars += 1,
            5 => scan.metadata = Some(field.span()?),
            _ => {}
        }
    }
    Ok(scan)
}

/// Unfolds the labels of a series message into `rows.key`.
pub(super) fn key(
    body: &[u8],
    message: Span,
    rows: &mut Rows,
    config: &RemoteWriteConfig,
) -> Result<Result<(), Reason>, ProtoError> {
    let key = &mut rows.key;
    key.clear();
    Naming::Symbols(&rows.symbols).pairs(body, message, |name, value| {
        if key.len() + name.len() + value.len() > config.series_label_bytes_max {
            return Err(Reason::Row(RejectReason::LabelTooLong));
        }
        unfold(key, name);
        unfold(key, value);
        Ok(())
    })
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

/// Whether the labels of a series message, which stand in a single field, unfold to `key`.
///
/// Compares in place; `false` may also mean that the message is written in an unusual way.
#[inline]
fn unfolds_to(key: &[u8], body: &[u8], message: Span, symbols: &[Span]) -> bool {
    let bytes = message.of(body);
    // Packed, as the first field.
    let [REFS_TAG, len, rest @ ..] = bytes else { return false };
    let (len, mut key) = (usize::from(*len), key);
    if len >= 0x80 || len > rest.len() {
        return false;
    }
    let mut refs = Cursor::over(body, message.skip(2).first(len));
    while !refs.is_at_end() {
        let Ok(number) = refs.varint() else { return false };
        let symbol = usize::try_from(number).ok().and_then(|number| symbols.get(number));
        let Some(text) = symbol.and_then(|symbol| symbol.with_length(body)) else { return false };
        match key.strip_prefix(text) {
            Some(rest) => key = rest,
            None => return false,
        }
    }
    key.is_empty()
}

fn series<S: BuildHasher>(
    body: &[u8],
    message: Span,
    session: &mut Session<'_, S>,
    rows: &mut Rows,
    config: &RemoteWriteConfig,
) -> Result<(), DecodeError> {
    let scan = scan(body, message)?;
    let declared = match scan.metadata {
        Some(metadata) => declared(body, metadata, &rows.symbols)?,
        None => Ok(None),
    };
    let fault = declared.err().or(scan.fault(declared.ok().flatten()));
    let (hit, fault) = match fault {
        None => find(body, message, &scan, session, rows, config)?,
        Some(_) => (None, fault),
    };
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

/// Looks for the series in the cache; or says why its labels cannot be unfolded.
fn find<S: BuildHasher>(
    body: &[u8],
    message: Span,
    scan: &Scan,
    session: &mut Session<'_, S>,
    rows: &mut Rows,
    config: &RemoteWriteConfig,
) -> Result<(Option<Hit>, Option<Reason>), DecodeError> {
    if scan.label_fields == 1
        && let Some((slot, expected)) = session.predicted()
        && unfolds_to(expected, body, message, &rows.symbols)
    {
        rows.unfold(expected.len(), config)?;
        return Ok((session.hit(slot), None));
    }
    let unfolded = key(body, message, rows, config)?;
    rows.unfold(rows.key.len(), config)?;
    Ok(match unfolded {
        Ok(()) => (session.find(&rows.key), None),
        Err(reason) => (None, Some(reason)),
    })
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
